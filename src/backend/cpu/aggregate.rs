//! `aggregate`: neighbourhood means of every level, on one grid, side by side (Eq. 1–4).
//!
//! Two passes: each level is averaged on its own grid (the unfolded neighbourhoods exist for one position at a time,
//! never as a tensor), then resized and laid into its channels of the result. Resizing works channel by channel, so
//! averaging before it gives the same as the authors' order, which resizes the unfolded tensor.

use super::instructions::{Instructions, Vectorized};
use super::memory::{CpuTensor, Pool};
use crate::backend::{Aggregation, AggregationMode, Interpolation};
use crate::tensor::Scalar;
use rayon::prelude::*;
use std::sync::Arc;

/// `[N, Hₗ, Wₗ, Cₗ]… → [N, H0, W0, C]`.
pub(super) fn aggregate<T: Scalar>(
    pool: &Arc<Pool<T>>,
    levels: &[&CpuTensor<T>],
    aggregation: &Aggregation,
) -> CpuTensor<T> {
    let [n, height, width, _] = levels[0].axes();
    let channels: Vec<usize> = levels.iter().map(|level| level.axes::<4>()[3]).collect();
    let total = aggregation.output_channels(&channels);
    let mut out = pool.tensor(&[n, height, width, total]);

    let mut offset = 0;
    for level in levels {
        let pooled = aggregate_level(pool, level, aggregation, levels.len());
        resize_into(&pooled, &mut out, offset);
        offset += pooled.axes::<4>()[3];
    }
    out
}

/// What one of `levels` levels contributes, on its own grid.
pub(super) fn aggregate_level<T: Scalar>(
    pool: &Arc<Pool<T>>,
    level: &CpuTensor<T>,
    aggregation: &Aggregation,
    levels: usize,
) -> CpuTensor<T> {
    match aggregation.mode {
        AggregationMode::Mean => neighbourhood_mean(pool, level, aggregation.patch),
        AggregationMode::PatchCore => {
            let [_, _, _, channels] = level.axes();
            let bins = aggregation.patchcore_bins(channels, levels);
            neighbourhood_bins(pool, level, aggregation.patch, &bins, levels)
        }
    }
}

/// `avg_pool2d(p, stride 1, padding p/2, count_include_pad)`: zeros outside count, so the sum is over p² always.
fn neighbourhood_mean<T: Scalar>(pool: &Arc<Pool<T>>, level: &CpuTensor<T>, patch: usize) -> CpuTensor<T> {
    let shape = level.axes();
    let [n, h, w, channels] = shape;
    let mut out = pool.tensor(&[n, h, w, channels]);
    let (input, instructions) = (level.data(), Instructions::detect());
    out.data_mut().par_chunks_mut(w * channels).enumerate().for_each(|(row, out)| {
        instructions.run(MeanLine { input, shape, patch, row, out });
    });
    out
}

/// One line of neighbourhood means.
struct MeanLine<'a, T> {
    input: &'a [T],
    shape: [usize; 4],
    patch: usize,
    /// Which, over all images.
    row: usize,
    out: &'a mut [T],
}

impl<T: Scalar> Vectorized for MeanLine<'_, T> {
    #[inline(always)]
    fn run(self) {
        let [_, h, w, channels] = self.shape;
        let (image, y, radius) = (self.row / h, self.row % h, self.patch / 2);
        let scale = T::ONE / T::from_f64((self.patch * self.patch) as f64);
        for (x, out) in self.out.chunks_exact_mut(channels).enumerate() {
            out.fill(T::ZERO);
            for source_y in y.saturating_sub(radius)..(y + radius + 1).min(h) {
                for source_x in x.saturating_sub(radius)..(x + radius + 1).min(w) {
                    let position = (image * h + source_y) * w + source_x;
                    let source = &self.input[position * channels..][..channels];
                    out.iter_mut().zip(source).for_each(|(out, &value)| *out += value);
                }
            }
            out.iter_mut().for_each(|out| *out *= scale);
        }
    }
}

/// Means of `bins` over the unfolded `(c, kh, kw)` vector of every position, then means of `group` neighbours.
fn neighbourhood_bins<T: Scalar>(
    pool: &Arc<Pool<T>>,
    level: &CpuTensor<T>,
    patch: usize,
    bins: &[std::ops::Range<usize>],
    group: usize,
) -> CpuTensor<T> {
    let [n, h, w, channels] = level.axes();
    let (input, radius, area) = (level.data(), patch / 2, patch * patch);
    let outputs = bins.len() / group;
    let mut out = pool.tensor(&[n, h, w, outputs]);
    out.data_mut().par_chunks_mut(w * outputs).enumerate().for_each(|(row, line)| {
        let (image, y) = (row / h, row % h);
        let mut unfolded = vec![T::ZERO; channels * area];
        for (x, out) in line.chunks_exact_mut(outputs).enumerate() {
            for tap in 0..area {
                // Shifted by the radius, so that they are never negative.
                let (source_y, source_x) = (y + tap / patch, x + tap % patch);
                let inside =
                    (radius..h + radius).contains(&source_y) && (radius..w + radius).contains(&source_x);
                if inside {
                    let position = (image * h + source_y - radius) * w + source_x - radius;
                    let source = &input[position * channels..][..channels];
                    unfolded[tap..].iter_mut().step_by(area).zip(source).for_each(|(u, &value)| *u = value);
                } else {
                    unfolded[tap..].iter_mut().step_by(area).for_each(|u| *u = T::ZERO);
                }
            }
            for (out, bins) in out.iter_mut().zip(bins.chunks_exact(group)) {
                let mean = |bin: &std::ops::Range<usize>| {
                    unfolded[bin.clone()].iter().copied().sum::<T>() / T::from_f64(bin.len() as f64)
                };
                *out = bins.iter().map(mean).sum::<T>() / T::from_f64(group as f64);
            }
        }
    });
    out
}

/// Resizes bilinearly (`align_corners = false`) to the grid of `out`, into its channels from `offset`.
fn resize_into<T: Scalar>(level: &CpuTensor<T>, out: &mut CpuTensor<T>, offset: usize) {
    let [_, level_h, level_w, channels] = level.axes();
    let [_, height, width, total] = out.axes();
    let (rows, columns) = (Interpolation::axis(level_h, height), Interpolation::axis(level_w, width));
    let input = level.data();
    out.data_mut().par_chunks_mut(width * total).enumerate().for_each(|(row, line)| {
        let (image, vertical) = (row / height, rows[row % height]);
        let at = |y: usize, x: usize| &input[((image * level_h + y) * level_w + x) * channels..][..channels];
        for (out, horizontal) in line.chunks_exact_mut(total).zip(&columns) {
            let out = &mut out[offset..][..channels];
            if vertical.weight == 0.0 && horizontal.weight == 0.0 {
                out.copy_from_slice(at(vertical.low, horizontal.low));
                continue;
            }
            let weight_y = T::from_f64(vertical.weight);
            let weight_x = T::from_f64(horizontal.weight);
            let (keep_y, keep_x) = (T::ONE - weight_y, T::ONE - weight_x);
            let corners = [
                at(vertical.low, horizontal.low),
                at(vertical.low, horizontal.high),
                at(vertical.high, horizontal.low),
                at(vertical.high, horizontal.high),
            ];
            for (channel, out) in out.iter_mut().enumerate() {
                let [a, b, c, d] = corners.map(|corner| corner[channel]);
                *out = keep_y * (keep_x * a + weight_x * b) + weight_y * (keep_x * c + weight_x * d);
            }
        }
    });
}
