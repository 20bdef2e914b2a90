//! `conv2d`: convolution as matrix products.
//!
//! A 1×1 convolution of an NHWC tensor is a plain product `[N·H·W, I]·[O, I]ᵀ`. Every other one gathers its patches
//! (im2col) a bounded tile of output rows at a time and multiplies the tile. Bias, residual and ReLU are one pass
//! over the tile while it is warm.

use super::matmul::{Destination, Matrix, multiply};
use super::memory::{CpuTensor, Pool};
use crate::backend::{ConvolutionGeometry, ConvolutionWeights};
use crate::tensor::Scalar;
use rayon::prelude::*;
use std::sync::Arc;

/// Bytes of gathered patches held at a time. Large enough that packing the weights for each tile's product costs
/// little beside the product, small enough to stay within the last-level cache.
const TILE_BYTES: usize = 8 << 20;

/// Convolution weights in the CPU's layout: `[O, kh·kw·I]` and `[O]`.
#[derive(Debug)]
pub struct CpuConvolution<T> {
    /// Shape, stride and padding; the values live below in `T`.
    geometry: ConvolutionGeometry,
    weight: Vec<T>,
    bias: Vec<T>,
}

impl<T: Scalar> CpuConvolution<T> {
    pub(super) fn new(weights: &ConvolutionWeights) -> Self {
        let cast = |values: &[f32]| values.iter().map(|&value| T::from_f32(value)).collect();
        Self { weight: cast(weights.weight.data()), bias: cast(&weights.bias), geometry: weights.geometry() }
    }
}

/// `[N, H, W, I] → [N, H', W', O]`.
pub(super) fn conv2d<T: Scalar>(
    pool: &Arc<Pool<T>>,
    input: &CpuTensor<T>,
    convolution: &CpuConvolution<T>,
    residual: Option<&CpuTensor<T>>,
    relu: bool,
) -> CpuTensor<T> {
    let [n, h, w, inputs] = input.axes();
    let ConvolutionGeometry { outputs, kernel: (kernel_h, kernel_w), inputs: weight_inputs, stride, padding } =
        convolution.geometry;
    assert_eq!(inputs, weight_inputs, "the convolution reads as many channels as the tensor has");
    let (out_h, out_w) = convolution.geometry.output_size(h, w);
    let mut out = pool.tensor(&[n, out_h, out_w, outputs]);
    if let Some(residual) = residual {
        assert_eq!(residual.data().len(), out.data().len(), "a residual has the shape of the output");
    }

    let patch = kernel_h * kernel_w * inputs;
    let rows = n * out_h * out_w;
    let pointwise = kernel_h * kernel_w == 1 && stride == 1 && padding == 0;
    let tile_rows =
        if pointwise { rows } else { (TILE_BYTES / (patch * size_of::<T>())).clamp(64, rows.max(64)) };
    let weight = Matrix::new(&convolution.weight, outputs, patch).transposed();
    let geometry = Geometry { h, w, inputs, kernel_h, kernel_w, out_h, out_w, stride, padding };

    for (tile, out) in out.data_mut().chunks_mut(tile_rows * outputs).enumerate() {
        let first = tile * tile_rows;
        let count = out.len() / outputs;
        if pointwise {
            let left = Matrix::new(&input.data()[first * patch..][..count * patch], count, patch);
            multiply(out, left, weight, Destination::Overwrite);
        } else {
            let mut columns = pool.tensor(&[count, patch]);
            im2col(input.data(), &geometry, first, columns.data_mut());
            multiply(out, Matrix::new(columns.data(), count, patch), weight, Destination::Overwrite);
        }
        let residual = residual.map(|residual| &residual.data()[first * outputs..][..out.len()]);
        epilogue(out, &convolution.bias, residual, relu);
    }
    out
}

/// The sizes im2col needs.
struct Geometry {
    h: usize,
    w: usize,
    inputs: usize,
    kernel_h: usize,
    kernel_w: usize,
    out_h: usize,
    out_w: usize,
    stride: usize,
    padding: usize,
}

/// Gathers the patches of output positions `first …` into rows of `[kh, kw, I]`, zeros where a patch leaves the
/// image. `columns` holds as many rows as are wanted.
fn im2col<T: Scalar>(input: &[T], g: &Geometry, first: usize, columns: &mut [T]) {
    let patch = g.kernel_h * g.kernel_w * g.inputs;
    columns.par_chunks_mut(patch * 32).enumerate().for_each(|(task, columns)| {
        for (offset, row) in columns.chunks_exact_mut(patch).enumerate() {
            let position = first + task * 32 + offset;
            let (image, out_y, out_x) =
                (position / (g.out_h * g.out_w), position / g.out_w % g.out_h, position % g.out_w);
            // In coordinates shifted by the padding, so that they are never negative.
            let (top, left) = (out_y * g.stride, out_x * g.stride);
            for (ky, line) in row.chunks_exact_mut(g.kernel_w * g.inputs).enumerate() {
                let y = top + ky;
                if y < g.padding || y >= g.h + g.padding {
                    line.fill(T::ZERO);
                    continue;
                }
                let source_row = (image * g.h + y - g.padding) * g.w;
                // Taps x in [begin, end) lie inside the image: one contiguous copy.
                let begin = g.padding.saturating_sub(left).min(g.kernel_w);
                let end = (g.w + g.padding).saturating_sub(left).clamp(begin, g.kernel_w);
                line[..begin * g.inputs].fill(T::ZERO);
                line[end * g.inputs..].fill(T::ZERO);
                if begin < end {
                    let source = (source_row + left + begin - g.padding) * g.inputs;
                    line[begin * g.inputs..end * g.inputs]
                        .copy_from_slice(&input[source..][..(end - begin) * g.inputs]);
                }
            }
        }
    });
}

/// `out = relu(out + bias + residual)` in one pass. A NaN stays one (`value < floor` is false for it): a broken input
/// must not come out as features of zero.
fn epilogue<T: Scalar>(out: &mut [T], bias: &[T], residual: Option<&[T]>, relu: bool) {
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
