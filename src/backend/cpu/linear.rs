//! `linear` and its gradients.

use super::ROWS_PER_TASK;
use super::matmul::{Destination, Matrix, multiply};
use super::memory::CpuTensor;
use crate::backend::DeviceTensor;
use crate::tensor::Scalar;
use rayon::prelude::*;

/// A tensor of two axes, or a vector as one row.
fn matrix<T: Scalar>(tensor: &CpuTensor<T>) -> Matrix<'_, T> {
    let (rows, columns) = match *tensor.shape() {
        [columns] => (1, columns),
        [rows, columns] => (rows, columns),
        ref shape => panic!("expected a vector or a matrix, got shape {shape:?}"),
    };
    Matrix::new(tensor.data(), rows, columns)
}

/// `x·Wᵀ + b`.
pub(super) fn linear<T: Scalar>(
    input: &CpuTensor<T>,
    weight: &CpuTensor<T>,
    bias: Option<&CpuTensor<T>>,
    out: &mut [T],
) {
    let destination = match bias {
        Some(bias) => {
            let bias = bias.data();
            out.par_chunks_mut(bias.len() * ROWS_PER_TASK)
                .for_each(|rows| rows.chunks_exact_mut(bias.len()).for_each(|row| row.copy_from_slice(bias)));
            Destination::Accumulate
        }
        None => Destination::Overwrite,
    };
    multiply(out, matrix(input), matrix(weight).transposed(), destination);
}

/// `dy·W`.
pub(super) fn linear_grad_input<T: Scalar>(gradient: &CpuTensor<T>, weight: &CpuTensor<T>, out: &mut [T]) {
    multiply(out, matrix(gradient), matrix(weight), Destination::Overwrite);
}

/// `dyᵀ·x`.
pub(super) fn linear_grad_weight<T: Scalar>(gradient: &CpuTensor<T>, input: &CpuTensor<T>, out: &mut [T]) {
    multiply(out, matrix(gradient).transposed(), matrix(input), Destination::Overwrite);
}

/// The sum of every column: partial sums of fixed groups of rows, added up in order.
///
/// In `f64` throughout: the gradient of a bias before BatchNorm is zero, the sum of thousands of values that cancel,
/// and Adam makes full steps of whatever rounding leaves.
pub(super) fn column_sums<T: Scalar>(values: &[T], columns: usize) -> Vec<T> {
    let partials: Vec<Vec<f64>> = values
        .par_chunks(columns * ROWS_PER_TASK)
        .map(|rows| {
            let mut sums = vec![0.0; columns];
            for row in rows.chunks_exact(columns) {
                sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += value.to_f64());
            }
            sums
        })
        .collect();
    add_in_order(&partials)
}

/// The element-wise sum of partial results, in `f64`, in their order.
pub(super) fn add_in_order<P: Scalar, T: Scalar>(partials: &[Vec<P>]) -> Vec<T> {
    let mut sums = vec![0.0; partials.first().map_or(0, Vec::len)];
    for partial in partials {
        sums.iter_mut().zip(partial).for_each(|(sum, &value): (&mut f64, _)| *sum += value.to_f64());
    }
    sums.into_iter().map(T::from_f64).collect()
}
