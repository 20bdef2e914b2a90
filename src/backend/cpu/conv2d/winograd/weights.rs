//! The weights of Winograd's algorithm.

use super::scheme::{MATRICES, Scheme, TAPS, transform_kernel};
use super::stride1::Stride1;
use super::stride2::Stride2;
use super::vector::{Portable, Vector};
use crate::backend::cpu::instructions::Instructions;
use crate::backend::cpu::operand::Operand;
use crate::backend::cpu::panels::Panels;
use crate::backend::{ConvolutionGeometry, ConvolutionWeights};
use crate::tensor::Scalar;
use rayon::prelude::*;

/// Taps of a kernel.
const KERNEL: usize = TAPS * TAPS;

/// Transformed weights: for every panel 36 matrices `[I, PANEL]`, one after the other in the order in which they are
/// read.
#[derive(Debug)]
pub(in super::super) struct TransformedWeights<O> {
    /// `[36·I, O]` in panels.
    panels: Panels<O>,
}

impl<O: Operand> TransformedWeights<O> {
    /// Transforms the weights in `f64`, rounds them once and lays them out for these instructions.
    pub(in super::super) fn new(instructions: Instructions, weights: &ConvolutionWeights) -> Self {
        let ConvolutionGeometry { outputs, inputs, stride, .. } = weights.geometry();
        let transform =
            if stride == Stride2::STRIDE { matrices_of::<Stride2, _> } else { matrices_of::<Stride1, _> };
        let values = weights.weight.data();
        let transformed: Vec<[f64; MATRICES]> = (0..outputs * inputs)
            .into_par_iter()
            .map(|pair| {
                let (output, input) = (pair / inputs, pair % inputs);
                transform(std::array::from_fn(|tap| {
                    f64::from(values[(output * KERNEL + tap) * inputs + input])
                }))
            })
            .collect();
        let padded = inputs.next_multiple_of(O::NUMBERS);
        let panels = Panels::new(instructions, MATRICES, MATRICES * padded, outputs, |k, output| {
            let (matrix, input) = (k / padded, k % padded);
            if input == inputs {
                return O::Sum::ZERO;
            }
            O::Sum::from_f64(transformed[output * inputs + input][matrix])
        });
        Self { panels }
    }

    /// `[36·I, O]` in panels.
    pub(super) fn panels(&self) -> &Panels<O> {
        &self.panels
    }
}

/// One kernel, transformed.
fn matrices_of<S: Scheme<LINE>, const LINE: usize>(taps: [f64; KERNEL]) -> [f64; MATRICES] {
    let mut values = [0.0; MATRICES];
    // SAFETY: these vectors need no instructions of their own.
    unsafe {
        transform_kernel::<f64, Portable<f64>, S, LINE>(
            |row, column| Portable::splat(taps[row * TAPS + column]),
            |matrix, value| values[matrix] = value.first(),
        );
    }
    values
}
