//! Convolution by its definition, on the matrix products of the `gemm` crate.
//!
//! A 1×1 convolution of an NHWC tensor is a plain product `[N·H·W, I]·[O, I]ᵀ`. Every other one gathers its patches
//! (im2col) a bounded tile of output rows at a time and multiplies the tile. Bias, residual and ReLU are one pass
//! over the tile while it is warm.

use super::Call;
use super::epilogue::epilogue;
use super::im2col::im2col;
use crate::backend::cpu::matmul::{Destination, Matrix, multiply};
use crate::backend::cpu::panels::Residual;
use crate::tensor::Scalar;

/// Bytes of gathered patches held at a time. Large enough that packing the weights for each tile's product costs
/// little beside the product, small enough to stay within the last-level cache.
const TILE_BYTES: usize = 8 << 20;

/// `weight` is `[O, kh·kw·I]`.
pub(super) fn conv2d<T: Scalar>(call: &Call<'_, T>, weight: &[T], out: &mut [T]) {
    let g = &call.geometry;
    let (patch, outputs) = (g.patch(), call.bias.len());
    let rows = out.len() / outputs;
    let pointwise = g.is_pointwise();
    let tile_rows =
        if pointwise { rows } else { (TILE_BYTES / (patch * size_of::<T>())).clamp(64, rows.max(64)) };
    let weight = Matrix::new(weight, outputs, patch).transposed();

    for (tile, out) in out.chunks_mut(tile_rows * outputs).enumerate() {
        let first = tile * tile_rows;
        let count = out.len() / outputs;
        if pointwise {
            let left = Matrix::new(&call.input[first * patch..][..count * patch], count, patch);
            multiply(out, left, weight, Destination::Overwrite);
        } else {
            let mut columns = call.pool.tensor(&[count, patch]);
            im2col(call.input, g, first, columns.data_mut());
            multiply(out, Matrix::new(columns.data(), count, patch), weight, Destination::Overwrite);
        }
        let residual = match call.residual {
            Residual::None => None,
            Residual::Of(residual) => Some(&residual[first * outputs..][..out.len()]),
            Residual::InPlace => unreachable!("products overwrite the output"),
        };
        epilogue(out, call.bias, residual, call.relu);
    }
}
