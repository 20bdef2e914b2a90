//! A convolution's weights, laid out for the tile unit.

use crate::backend::ConvolutionGeometry;
use crate::backend::cpu::amx::{COLUMNS, STEP, STEP_PAIRS, STEP_WEIGHTS, Unit};
use crate::backend::cpu::memory::Buffer;
use crate::backend::cpu::operand::{Bf16Pair, Operand};
use crate::tensor::Scalar;
use rayon::prelude::*;

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
    /// `[⌈O/32⌉, step, half of the columns, pair, column]`, filled up with zeros.
    pub(super) tiles: Buffer<Bf16Pair<T>>,
    pub(super) rows: Rows,
    pub(super) steps: usize,
    pub(super) unit: Unit,
}

impl<T: Scalar> TiledWeights<T> {
    /// Lays out the weights `[kh·kw·I, O]` of `element(k, o)`.
    pub(in super::super) fn new(
        geometry: &ConvolutionGeometry,
        unit: Unit,
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
        let mut tiles = Buffer::zeros(outputs.div_ceil(COLUMNS) * steps * STEP_WEIGHTS);
        tiles.par_chunks_mut(STEP_WEIGHTS).enumerate().for_each(|(index, tiles)| {
            let (panel, step) = (index / steps, index % steps);
            let (run, first) = (step * STEP / padded, step * STEP % padded);
            for (i, pair) in tiles.iter_mut().enumerate() {
                let columns = COLUMNS / 2;
                let (half, row, column) = (i / (STEP_PAIRS * columns), i / columns % STEP_PAIRS, i % columns);
                let output = panel * COLUMNS + half * columns + column;
                let number = |k: usize| {
                    if k < numbers && output < outputs { element(run * numbers + k, output) } else { T::ZERO }
                };
                let k = first + 2 * row;
                *pair = Bf16Pair::of(&[number(k), number(k + 1)]);
            }
        });
        Self { tiles, rows, steps, unit }
    }

    pub(super) fn panels(&self) -> usize {
        self.tiles.len() / (self.steps * STEP_WEIGHTS)
    }

    /// One panel's weights, `[step, half of the columns, pair, column]`.
    pub(super) fn panel(&self, index: usize) -> &[Bf16Pair<T>] {
        let len = self.steps * STEP_WEIGHTS;
        &self.tiles[index * len..][..len]
    }
}
