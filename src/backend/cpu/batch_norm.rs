//! `batch_norm_inference`: BatchNorm1d over rows with given statistics.

use super::ROWS_PER_TASK;
use crate::tensor::Scalar;
use rayon::prelude::*;

/// `1/√(var + ε)`, in `f64`.
pub(super) fn inverse_std<V: Scalar, T: Scalar>(variance: &[V], epsilon: f64) -> Vec<T> {
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
