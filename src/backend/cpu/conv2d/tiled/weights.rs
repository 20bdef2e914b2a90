//! A convolution's weights, laid out for the tile unit.

use crate::backend::ConvolutionGeometry;
use crate::backend::cpu::amx::{COLUMNS, STEP, STEP_PAIRS, STEP_WEIGHTS, Unit, Written};
use crate::backend::cpu::memory::Buffer;
use crate::backend::cpu::operand::{Bf16Pair, Operand};
use crate::tensor::Scalar;
use rayon::prelude::*;
use std::slice::from_mut;

/// How the rows of the left matrix arise from the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rows {
    /// Pixels as they are.
    Pixels,
    /// Gathered patches.
    Patches,
    /// Taps are offsets into planes.
    Planes,
}

/// A convolution's weights in tiles.
#[derive(Debug)]
pub(in super::super) struct TiledWeights<T> {
    /// `[⌈O/32⌉, step, part, half of the columns, pair, column]`, filled up with zeros.
    pub(super) tiles: Buffer<Bf16Pair<T>>,
    pub(super) rows: Rows,
    pub(super) steps: usize,
    pub(super) written: Written,
    pub(super) unit: Unit,
}

impl<T: Scalar> TiledWeights<T> {
    /// Lays out the weights `[kh·kw·I, O]` of `element(k, o)`.
    pub(in super::super) fn new(
        geometry: &ConvolutionGeometry,
        (unit, written): (Unit, Written),
        element: impl Fn(usize, usize) -> T + Sync,
    ) -> Self {
        let ConvolutionGeometry { outputs, kernel: (kernel_h, kernel_w), inputs, stride, padding } =
            *geometry;
        let taps = kernel_h * kernel_w;
        let rows = match (taps, stride, padding) {
            (1, 1, 0) => Rows::Pixels,
            _ if inputs.is_multiple_of(STEP) => Rows::Planes,
            _ => Rows::Patches,
        };
        // What steps run through without a break.
        let numbers = if rows == Rows::Patches { taps * inputs } else { inputs };
        let padded = numbers.next_multiple_of(STEP);
        let steps = taps * inputs / numbers * padded / STEP;
        let step_weights = written.parts() * STEP_WEIGHTS;
        let mut tiles = Buffer::zeros(outputs.div_ceil(COLUMNS) * steps * step_weights);
        tiles.par_chunks_mut(step_weights).enumerate().for_each(|(index, tiles)| {
            let (panel, step) = (index / steps, index % steps);
            let (run, first) = (step * STEP / padded, step * STEP % padded);
            let (high, low) = tiles.split_at_mut(STEP_WEIGHTS);
            for (i, high) in high.iter_mut().enumerate() {
                let columns = COLUMNS / 2;
                let (half, row, column) = (i / (STEP_PAIRS * columns), i / columns % STEP_PAIRS, i % columns);
                let output = panel * COLUMNS + half * columns + column;
                let number = |k: usize| {
                    if k < numbers && output < outputs { element(run * numbers + k, output) } else { T::ZERO }
                };
                let k = first + 2 * row;
                let numbers = [number(k), number(k + 1)];
                match low.get_mut(i) {
                    Some(low) => Bf16Pair::split(&numbers, from_mut(high), from_mut(low)),
                    None => *high = Bf16Pair::of(&numbers),
                }
            }
        });
        Self { tiles, rows, steps, written, unit }
    }

    pub(super) fn panels(&self) -> usize {
        self.tiles.len() / self.panel_len()
    }

    fn panel_len(&self) -> usize {
        self.steps * self.written.parts() * STEP_WEIGHTS
    }

    /// One panel's weights, `[step, part, half of the columns, pair, column]`.
    pub(super) fn panel(&self, index: usize) -> &[Bf16Pair<T>] {
        let len = self.panel_len();
        &self.tiles[index * len..][..len]
    }
}
