//! What follows a convolution's products: bias, residual and ReLU.

use crate::backend::cpu::panels::{Finish, Residual};
use crate::tensor::Scalar;
use rayon::prelude::*;

/// `out = relu(out + bias + residual)` in one pass. A NaN stays one (`value < floor` is false for it): a broken input
/// must not come out as features of zero.
pub(super) fn epilogue<T: Scalar>(out: &mut [T], bias: &[T], residual: Option<&[T]>, relu: bool) {
    let channels = bias.len();
    let values_per_task = channels * 64;
    let floor = if relu { T::ZERO } else { T::from_f64(f64::NEG_INFINITY) };
    out.par_chunks_mut(values_per_task).enumerate().for_each(|(task, out)| {
        let residual = residual.map(|residual| &residual[task * values_per_task..][..out.len()]);
        for (row, out) in out.chunks_exact_mut(channels).enumerate() {
            match residual {
                Some(residual) => {
                    let residual = &residual[row * channels..][..channels];
                    for ((out, &bias), &residual) in out.iter_mut().zip(bias).zip(residual) {
                        let value = *out + bias + residual;
                        *out = if value < floor { floor } else { value };
                    }
                }
                None => {
                    for (out, &bias) in out.iter_mut().zip(bias) {
                        let value = *out + bias;
                        *out = if value < floor { floor } else { value };
                    }
                }
            }
        }
    });
}

/// The same for products that finish their sums themselves.
#[derive(Clone, Copy)]
pub(super) struct Epilogue<'a, T> {
    bias: &'a [T],
    residual: Residual<'a, T>,
    floor: T,
}

impl<'a, T: Scalar> Epilogue<'a, T> {
    pub(super) fn new(bias: &'a [T], residual: Residual<'a, T>, relu: bool) -> Self {
        let floor = if relu { T::ZERO } else { T::from_f64(f64::NEG_INFINITY) };
        Self { bias, residual, floor }
    }

    /// Channels of the output.
    #[inline(always)]
    pub(super) fn channels(&self) -> usize {
        self.bias.len()
    }

    /// What happens to the output's channels from `channel` on, from pixel `row` on.
    #[inline(always)]
    pub(super) fn at(&self, row: usize, channel: usize) -> Finish<'a, T> {
        Finish {
            bias: &self.bias[channel..],
            residual: match self.residual {
                Residual::Of(residual) => Residual::Of(&residual[row * self.bias.len() + channel..]),
                other => other,
            },
            floor: self.floor,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relu_keeps_nan() {
        let residual = [0.0; 4];
        for residual in [None, Some(&residual[..])] {
            let mut out = [f32::NAN, -3.0, 2.0, -0.5];
            epilogue(&mut out, &[1.0, 1.0], residual, true);
            assert!(out[0].is_nan());
            assert_eq!(out[1..], [0.0, 3.0, 0.5]);
        }
    }
}
