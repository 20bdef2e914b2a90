//! The weights of Winograd's algorithm.

use super::transform::{PRODUCTS, TAPS, transform_kernel};
use super::vector::{Portable, Vector};
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
    /// Transforms the weights in `f64` and rounds them once.
    pub(in super::super) fn new(weights: &ConvolutionWeights) -> Self {
        let ConvolutionGeometry { outputs, inputs, .. } = weights.geometry();
        let values = weights.weight.data();
        let transformed: Vec<[f64; PRODUCTS]> = (0..outputs * inputs)
            .into_par_iter()
            .map(|pair| {
                let (output, input) = (pair / inputs, pair % inputs);
                kernel_at_points(std::array::from_fn(|tap| {
                    f64::from(values[(output * KERNEL + tap) * inputs + input])
                }))
            })
            .collect();
        let padded = inputs.next_multiple_of(O::NUMBERS);
        let panels = Panels::new(PRODUCTS * padded, outputs, |k, output| {
            let (product, input) = (k / padded, k % padded);
            if input == inputs {
                return O::Sum::ZERO;
            }
            O::Sum::from_f64(transformed[output * inputs + input][product])
        });
        Self { panels }
    }

    /// `[36·I, O]` in panels.
    pub(super) fn panels(&self) -> &Panels<O> {
        &self.panels
    }
}

/// One kernel, transformed.
fn kernel_at_points(taps: [f64; KERNEL]) -> [f64; PRODUCTS] {
    let mut values = [0.0; PRODUCTS];
    // SAFETY: these vectors need no instructions of their own.
    unsafe {
        transform_kernel::<f64, Portable<f64>>(
            |tap| Portable::splat(taps[tap]),
            |product, value| values[product] = value.first(),
        );
    }
    values
}
