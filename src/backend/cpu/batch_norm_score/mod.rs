//! `batch_norm_score`: BatchNorm1d, LeakyReLU and the last linear layer of `[hidden ; hidden + shift]` with its batch's
//! own statistics, and the gradients of that.
//!
//! Each direction reads the two matrices twice: for the statistics and for the scores, for two sums a column and for
//! the gradients. What lies between input and scores exists in registers only. A BatchNorm subtracts whatever is
//! added to all rows, so the bias appears nowhere but in the running mean.

mod columns;

use super::ROWS_PER_TASK;
use super::batch_norm::inverse_std;
use super::instructions::{Instructions, Vectorized};
use super::linear::add_in_order;
use super::memory::{CpuTensor, Pool};
use crate::backend::{BatchNormSaved, BatchNormScore, BatchNormScoreGradients, RunningStatistics};
use crate::tensor::Scalar;
use columns::{Activation, GradientTask, Group, MomentsTask, SumsTask};
use rayon::prelude::*;
use std::sync::Arc;

/// Partial sums of a dot product: enough independent chains to fill the vector units, in an order that is part of
/// the program and not of the machine.
const LANES: usize = 32;

/// The scores, `[2R]`, and what the backward pass needs; moves the running statistics (unbiased variance, as PyTorch).
pub(super) fn batch_norm_score<T: Scalar>(
    pool: &Arc<Pool<T>>,
    hidden: &CpuTensor<T>,
    shift: &CpuTensor<T>,
    layers: &BatchNormScore<'_, CpuTensor<T>>,
    running: RunningStatistics<'_, CpuTensor<T>>,
) -> (CpuTensor<T>, BatchNormSaved<CpuTensor<T>>) {
    let [rows, channels] = hidden.axes();
    assert_eq!(shift.axes(), [rows, channels], "a shift for every hidden feature");
    let (mean, variance) = moments(hidden.data(), shift.data(), channels);
    let rows_of_both = 2.0 * rows as f64;
    let unbiased = rows_of_both / (rows_of_both - 1.0);
    let (keep, momentum) = (1.0 - layers.constants.momentum, layers.constants.momentum);
    for c in 0..channels {
        let moved = |old: T, new: f64| T::from_f64(keep * old.to_f64() + momentum * new);
        let running_mean = &mut running.mean.data_mut()[c];
        *running_mean = moved(*running_mean, mean[c] + layers.bias.data()[c].to_f64());
        let running_var = &mut running.var.data_mut()[c];
        *running_var = moved(*running_var, variance[c] * unbiased);
    }
    let mut saved = BatchNormSaved { mean: pool.tensor(&[channels]), inverse_std: pool.tensor(&[channels]) };
    saved.mean.data_mut().iter_mut().zip(&mean).for_each(|(saved, &mean)| *saved = T::from_f64(mean));
    saved.inverse_std.data_mut().copy_from_slice(&inverse_std(&variance, layers.constants.epsilon));

    let mut out = pool.tensor(&[2 * rows]);
    let activation = Activation::new(layers, &saved);
    let weight = layers.weight.data();
    let instructions = Instructions::detect();
    let (normal, anomalous) = out.data_mut().split_at_mut(rows);
    normal
        .par_chunks_mut(ROWS_PER_TASK)
        .zip(anomalous.par_chunks_mut(ROWS_PER_TASK))
        .zip(hidden.data().par_chunks(ROWS_PER_TASK * channels))
        .zip(shift.data().par_chunks(ROWS_PER_TASK * channels))
        .for_each(|(((normal, anomalous), hidden), shift)| {
            let activation = &activation;
            instructions.run(ScoresTask { hidden, shift, activation, weight, normal, anomalous });
        });
    (out, saved)
}

/// Mean and biased variance of every column, over both halves.
///
/// Deviations from a group's first row are of the size of what distinguishes rows, whatever the mean: their sum and
/// that of their squares, about one pass, give the group's moments. The groups are joined by Chan's formula (Chan,
/// Golub, LeVeque 1983) in `f64`, in order, their means counted from the first one's. No difference of large squares
/// appears anywhere.
fn moments<T: Scalar>(hidden: &[T], shift: &[T], channels: usize) -> (Vec<f64>, Vec<f64>) {
    let instructions = Instructions::detect();
    let values_per_task = channels * ROWS_PER_TASK;
    let groups: Vec<[Group<T>; 2]> = hidden
        .par_chunks(values_per_task)
        .zip(shift.par_chunks(values_per_task))
        .map(|(hidden, shift)| {
            let mut groups = [
                Group::new(hidden.len() / channels, channels),
                Group::new(hidden.len() / channels, channels),
            ];
            instructions.run(MomentsTask { hidden, shift, channels, groups: &mut groups });
            groups
        })
        .collect();

    let first = &groups[0][0].origin;
    let (mut total, mut mean, mut squares) = (0.0, vec![0.0; channels], vec![0.0; channels]);
    for group in groups.iter().flatten() {
        let count = group.count as f64;
        let joined = total + count;
        for c in 0..channels {
            let rest = group.deviations[c].to_f64();
            let group_mean = group.origin[c].to_f64() - first[c].to_f64() + rest / count;
            // Of a constant column nothing remains but rounding, of either sign; NaN stays NaN.
            let group_squares = group.squares[c].to_f64() - rest * rest / count;
            let group_squares = if group_squares < 0.0 { 0.0 } else { group_squares };
            let difference = group_mean - mean[c];
            mean[c] += difference * count / joined;
            squares[c] += group_squares + difference * difference * total * count / joined;
        }
        total = joined;
    }
    mean.iter_mut().zip(first).for_each(|(mean, first)| *mean += first.to_f64());
    squares.iter_mut().for_each(|square| *square /= total);
    (mean, squares)
}

/// The scores of a group of rows, in both halves.
struct ScoresTask<'a, T> {
    hidden: &'a [T],
    shift: &'a [T],
    activation: &'a Activation<T>,
    weight: &'a [T],
    normal: &'a mut [T],
    anomalous: &'a mut [T],
}

impl<T: Scalar> Vectorized for ScoresTask<'_, T> {
    #[inline(always)]
    fn run(self) {
        let channels = self.weight.len();
        let rows = self.hidden.chunks_exact(channels).zip(self.shift.chunks_exact(channels));
        for ((hidden, shift), (normal, anomalous)) in rows.zip(self.normal.iter_mut().zip(self.anomalous)) {
            let mut sums = [[T::ZERO; LANES]; 2];
            let whole = channels - channels % LANES;
            for first in (0..whole).step_by(LANES) {
                let activation = self.activation.columns::<LANES>(first);
                let [hidden, shift, weight] =
                    [hidden, shift, self.weight].map(|values| columns::lanes::<T, LANES>(values, first));
                for lane in 0..LANES {
                    let values = [hidden[lane], hidden[lane] + shift[lane]];
                    for half in 0..2 {
                        let (deviation, factor) = activation.at(lane, values[half]);
                        sums[half][lane] += activation.normalised(lane, deviation) * factor * weight[lane];
                    }
                }
            }
            let mut totals = sums.map(|sums| sums.into_iter().sum::<T>());
            for c in whole..channels {
                let activation = self.activation.columns::<1>(c);
                let values = [hidden[c], hidden[c] + shift[c]];
                for half in 0..2 {
                    let (deviation, factor) = activation.at(0, values[half]);
                    totals[half] += activation.normalised(0, deviation) * factor * self.weight[c];
                }
            }
            [*normal, *anomalous] = totals;
        }
    }
}

/// With ds the gradient of a row's score, f LeakyReLU's derivative there, and `d = x − mean`: over all rows of both
/// halves, `P = Σ ds·f` and `Q = Σ ds·f·d` give everything that is summed over rows. With `s = 1/√(var + ε)`, N rows
/// and the weight w,
///
/// ```text
/// dβ = w·P    dγ = w·s·Q    dw = γ·s·Q + β·P
/// dx = γ·s·w·(ds·f − P/N − d·s²·Q/N)
/// ```
pub(super) fn batch_norm_score_backward<T: Scalar>(
    pool: &Arc<Pool<T>>,
    gradient: &CpuTensor<T>,
    hidden: &CpuTensor<T>,
    shift: &CpuTensor<T>,
    layers: &BatchNormScore<'_, CpuTensor<T>>,
    saved: &BatchNormSaved<CpuTensor<T>>,
) -> BatchNormScoreGradients<CpuTensor<T>> {
    let [rows, channels] = hidden.axes();
    assert_eq!(gradient.axes(), [2 * rows], "a gradient for every score");
    let values_per_task = channels * ROWS_PER_TASK;
    let activation = Activation::new(layers, saved);
    let instructions = Instructions::detect();
    let (normal, anomalous) = gradient.data().split_at(rows);

    // In f64: what dx should lose here, the bias before this layer would follow.
    let partials: Vec<Vec<f64>> = hidden
        .data()
        .par_chunks(values_per_task)
        .zip(shift.data().par_chunks(values_per_task))
        .zip(normal.par_chunks(ROWS_PER_TASK).zip(anomalous.par_chunks(ROWS_PER_TASK)))
        .map(|((hidden, shift), (normal, anomalous))| {
            let mut sums = vec![0.0; 2 * channels];
            let (of_factors, of_deviations) = sums.split_at_mut(channels);
            let gradient = [normal, anomalous];
            instructions.run(SumsTask {
                hidden,
                shift,
                gradient,
                activation: &activation,
                of_factors,
                of_deviations,
            });
            sums
        })
        .collect();
    let sums: Vec<f64> = add_in_order(&partials);
    let (of_factors, of_deviations) = sums.split_at(channels);

    let vector = |shape: &[usize], f: &dyn Fn(usize) -> f64| {
        let mut out = pool.tensor(shape);
        out.data_mut().iter_mut().enumerate().for_each(|(c, out)| *out = T::from_f64(f(c)));
        out
    };
    let [gamma, beta, weight, inverse_std] =
        [layers.gamma, layers.beta, layers.weight, &saved.inverse_std].map(|tensor| tensor.data());
    let scale = |c: usize| gamma[c].to_f64() * inverse_std[c].to_f64();
    let share = 0.5 / rows as f64;
    let factor = vector(&[channels], &|c| scale(c) * weight[c].to_f64());
    let mean_factor = vector(&[channels], &|c| of_factors[c] * share);
    let mean_product = vector(&[channels], &|c| of_deviations[c] * share * inverse_std[c].to_f64().powi(2));

    let mut grad_hidden = pool.tensor(&[rows, channels]);
    let mut grad_shift = pool.tensor(&[rows, channels]);
    let partials: Vec<Vec<f64>> = grad_hidden
        .data_mut()
        .par_chunks_mut(values_per_task)
        .zip(grad_shift.data_mut().par_chunks_mut(values_per_task))
        .zip(hidden.data().par_chunks(values_per_task).zip(shift.data().par_chunks(values_per_task)))
        .zip(normal.par_chunks(ROWS_PER_TASK).zip(anomalous.par_chunks(ROWS_PER_TASK)))
        .map(|(((grad_hidden, grad_shift), (hidden, shift)), (normal, anomalous))| {
            let mut grad_bias = vec![0.0; channels];
            instructions.run(GradientTask {
                hidden,
                shift,
                gradient: [normal, anomalous],
                activation: &activation,
                factor: factor.data(),
                mean_factor: mean_factor.data(),
                mean_product: mean_product.data(),
                grad_hidden,
                grad_shift,
                grad_bias: &mut grad_bias,
            });
            grad_bias
        })
        .collect();
    let grad_bias: Vec<f64> = add_in_order(&partials);

    BatchNormScoreGradients {
        hidden: grad_hidden,
        shift: grad_shift,
        bias: vector(&[channels], &|c| grad_bias[c]),
        gamma: vector(&[channels], &|c| weight[c].to_f64() * inverse_std[c].to_f64() * of_deviations[c]),
        beta: vector(&[channels], &|c| weight[c].to_f64() * of_factors[c]),
        weight: vector(&[1, channels], &|c| scale(c) * of_deviations[c] + beta[c].to_f64() * of_factors[c]),
    }
}
