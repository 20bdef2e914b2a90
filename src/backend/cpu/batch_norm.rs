//! `batch_norm`: BatchNorm1d over rows, forward and backward.

use super::ROWS_PER_TASK;
use super::linear::add_in_order;
use super::memory::CpuTensor;
use crate::backend::{BatchNormConstants, BatchNormSaved, BatchNormState};
use crate::tensor::Scalar;
use rayon::prelude::*;

/// `1/√(var + ε)`, in `f64`.
pub(super) fn inverse_std<T: Scalar>(variance: &[T], epsilon: f64) -> Vec<T> {
    variance.iter().map(|&v| T::from_f64(1.0 / (v.to_f64() + epsilon).sqrt())).collect()
}

/// A BatchNorm with known statistics, as `(x − mean)·scale + shift`.
pub(super) struct Affine<T> {
    mean: Vec<T>,
    scale: Vec<T>,
    shift: Vec<T>,
}

impl<T: Scalar> Affine<T> {
    pub(super) fn new(gamma: &[T], beta: &[T], mean: &[T], inverse_std: &[T]) -> Self {
        let scale = gamma.iter().zip(inverse_std).map(|(&gamma, &inverse)| gamma * inverse).collect();
        Self { mean: mean.to_vec(), scale, shift: beta.to_vec() }
    }

    /// Subtracting the mean first keeps what distinguishes rows; one multiply-add with a folded shift would cancel.
    pub(super) fn apply(&self, input: &[T], out: &mut [T]) {
        let channels = self.mean.len();
        let values_per_task = channels * ROWS_PER_TASK;
        out.par_chunks_mut(values_per_task).zip(input.par_chunks(values_per_task)).for_each(
            |(out, input)| {
                for (out, x) in out.chunks_exact_mut(channels).zip(input.chunks_exact(channels)) {
                    for c in 0..channels {
                        out[c] = (x[c] - self.mean[c]) * self.scale[c] + self.shift[c];
                    }
                }
            },
        );
    }
}

/// Mean and biased variance of every column.
///
/// A group of rows fits the cache, so its mean and its deviations from that mean cost one trip to memory. A mean
/// summed in `T` is off by some units of its own size, which is much where the mean is large beside what distinguishes
/// the rows; the deviations are small, so their own sum tells by how much, and corrects mean and squares (Chan, Golub,
/// LeVeque 1983). The groups are joined by Chan's formula in `f64`, in order, their means counted from the first
/// one's. No difference of large squares appears anywhere.
fn moments<T: Scalar>(input: &[T], channels: usize) -> (Vec<f64>, Vec<f64>) {
    let groups: Vec<Group<T>> =
        input.par_chunks(channels * ROWS_PER_TASK).map(|rows| Group::of(rows, channels)).collect();

    let origin: Vec<f64> = groups[0].mean.iter().map(|mean| mean.to_f64()).collect();
    let (mut total, mut mean, mut squares) = (0.0, vec![0.0; channels], vec![0.0; channels]);
    for group in &groups {
        let count = group.count as f64;
        let joined = total + count;
        for c in 0..channels {
            let rest = group.deviations[c].to_f64();
            let group_mean = group.mean[c].to_f64() - origin[c] + rest / count;
            // Of a constant column nothing remains but rounding, of either sign; NaN stays NaN.
            let group_squares = group.squares[c].to_f64() - rest * rest / count;
            let group_squares = if group_squares < 0.0 { 0.0 } else { group_squares };
            let difference = group_mean - mean[c];
            mean[c] += difference * count / joined;
            squares[c] += group_squares + difference * difference * total * count / joined;
        }
        total = joined;
    }
    mean.iter_mut().zip(&origin).for_each(|(mean, origin)| *mean += origin);
    squares.iter_mut().for_each(|square| *square /= total);
    (mean, squares)
}

/// Sums over a group of rows, for every column.
struct Group<T> {
    count: usize,
    /// The mean, as summed in `T`.
    mean: Vec<T>,
    /// Σ (x − mean): zero, had the mean been exact.
    deviations: Vec<T>,
    /// Σ (x − mean)².
    squares: Vec<T>,
}

impl<T: Scalar> Group<T> {
    fn of(rows: &[T], channels: usize) -> Self {
        let count = rows.len() / channels;
        let [mut mean, mut deviations, mut squares] = std::array::from_fn(|_| vec![T::ZERO; channels]);
        for row in rows.chunks_exact(channels) {
            mean.iter_mut().zip(row).for_each(|(mean, &x)| *mean += x);
        }
        let share = T::from_f64(1.0 / count as f64);
        mean.iter_mut().for_each(|mean| *mean *= share);
        for row in rows.chunks_exact(channels) {
            for c in 0..channels {
                let deviation = row[c] - mean[c];
                deviations[c] += deviation;
                squares[c] += deviation * deviation;
            }
        }
        Self { count, mean, deviations, squares }
    }
}

/// Normalises with the batch's statistics and moves the running ones (unbiased variance, as PyTorch).
pub(super) fn batch_norm<T: Scalar>(
    input: &[T],
    state: BatchNormState<'_, CpuTensor<T>>,
    constants: BatchNormConstants,
    saved: &mut BatchNormSaved<CpuTensor<T>>,
    out: &mut [T],
) {
    let gamma = state.gamma.data();
    let channels = gamma.len();
    let (mean, variance) = moments(input, channels);
    let rows = (input.len() / channels) as f64;
    assert!(rows > 1.0, "one row has no variance to normalise with");

    let unbiased = rows / (rows - 1.0);
    let (keep, momentum) = (1.0 - constants.momentum, constants.momentum);
    for c in 0..channels {
        let running = &mut state.running_mean.data_mut()[c];
        *running = T::from_f64(keep * running.to_f64() + momentum * mean[c]);
        let running = &mut state.running_var.data_mut()[c];
        *running = T::from_f64(keep * running.to_f64() + momentum * variance[c] * unbiased);
    }
    for c in 0..channels {
        saved.mean.data_mut()[c] = T::from_f64(mean[c]);
        saved.inverse_std.data_mut()[c] = T::from_f64(1.0 / (variance[c] + constants.epsilon).sqrt());
    }
    Affine::new(gamma, state.beta.data(), saved.mean.data(), saved.inverse_std.data()).apply(input, out);
}

/// `dx = γ·s·(dy − mean(dy) − x̂·mean(dy·x̂))` with `x̂ = (x − mean)·s`; returns `dγ = Σ dy·x̂` and `dβ = Σ dy`.
pub(super) fn batch_norm_backward<T: Scalar>(
    gradient: &[T],
    input: &[T],
    gamma: &[T],
    saved: &BatchNormSaved<CpuTensor<T>>,
    out: &mut [T],
) -> (Vec<T>, Vec<T>) {
    let channels = gamma.len();
    let values_per_task = channels * ROWS_PER_TASK;
    let (mean, inverse_std) = (saved.mean.data(), saved.inverse_std.data());

    // Summed in f64, as in `column_sums`: what dx should lose here, the bias before this layer would follow.
    let partials: Vec<Vec<f64>> = gradient
        .par_chunks(values_per_task)
        .zip(input.par_chunks(values_per_task))
        .map(|(gradient, input)| {
            let mut sums = vec![0.0; 2 * channels];
            let (sum_gamma, sum_beta) = sums.split_at_mut(channels);
            for (dy, x) in gradient.chunks_exact(channels).zip(input.chunks_exact(channels)) {
                for c in 0..channels {
                    sum_gamma[c] += (dy[c] * ((x[c] - mean[c]) * inverse_std[c])).to_f64();
                    sum_beta[c] += dy[c].to_f64();
                }
            }
            sums
        })
        .collect();
    let mut grad_gamma: Vec<T> = add_in_order(&partials);
    let grad_beta = grad_gamma.split_off(channels);

    // dx = a·dy − b − x̄·d with per-channel constants.
    let share = 1.0 / (input.len() / channels) as f64;
    let constant = |f: &dyn Fn(usize) -> f64| (0..channels).map(|c| T::from_f64(f(c))).collect::<Vec<T>>();
    let scale = constant(&|c| gamma[c].to_f64() * inverse_std[c].to_f64());
    let mean_gradient = constant(&|c| grad_beta[c].to_f64() * share);
    let mean_product = constant(&|c| grad_gamma[c].to_f64() * share * inverse_std[c].to_f64());
    out.par_chunks_mut(values_per_task)
        .zip(gradient.par_chunks(values_per_task))
        .zip(input.par_chunks(values_per_task))
        .for_each(|((out, gradient), input)| {
            for ((out, dy), x) in out
                .chunks_exact_mut(channels)
                .zip(gradient.chunks_exact(channels))
                .zip(input.chunks_exact(channels))
            {
                for c in 0..channels {
                    out[c] = scale[c] * (dy[c] - mean_gradient[c] - (x[c] - mean[c]) * mean_product[c]);
                }
            }
        });
    (grad_gamma, grad_beta)
}
