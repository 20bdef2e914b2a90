//! `anomaly_map`: upsampling and smoothing as one separable linear map (Eq. 10–11).

use super::matmul::{Destination, Matrix, multiply};
use super::memory::{CpuTensor, Pool};
use crate::tensor::Scalar;
use std::sync::Arc;

/// `A·s·Bᵀ` for every image, and the maximum of its raw grid.
pub(super) fn anomaly_map<T: Scalar>(
    pool: &Arc<Pool<T>>,
    scores: &CpuTensor<T>,
    rows: &CpuTensor<T>,
    columns: &CpuTensor<T>,
) -> (CpuTensor<T>, CpuTensor<T>) {
    let [n, grid_h, grid_w] = scores.axes();
    let ([height, _], [width, _]) = (rows.axes(), columns.axes());
    let mut maps = pool.tensor(&[n, height, width]);
    let mut maxima = pool.tensor(&[n]);
    let mut half = pool.tensor(&[height, grid_w]);
    let left = Matrix::new(rows.data(), height, grid_h);
    let right = Matrix::new(columns.data(), width, grid_w).transposed();
    for ((map, maximum), grid) in maps
        .data_mut()
        .chunks_exact_mut(height * width)
        .zip(maxima.data_mut())
        .zip(scores.data().chunks_exact(grid_h * grid_w))
    {
        multiply(half.data_mut(), left, Matrix::new(grid, grid_h, grid_w), Destination::Overwrite);
        multiply(map, Matrix::new(half.data(), height, grid_w), right, Destination::Overwrite);
        *maximum = grid.iter().copied().fold(T::from_f64(f64::NEG_INFINITY), T::max);
    }
    (maps, maxima)
}
