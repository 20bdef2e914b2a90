//! `conv2d`: convolution as matrix products.
//!
//! A 1×1 convolution of an NHWC tensor is a plain product `[N·H·W, I]·[O, I]ᵀ`. Every other one gathers its patches
//! (im2col) a bounded tile of output positions at a time and multiplies the tile. Bias, residual and ReLU are part of
//! the product, or one pass over its result where cuBLASLt does not offer that.

use super::context::Context;
use super::conv2d_implicit;
use super::error::CudaError;
use super::launch::{Grid, In, Kernel, Out, kernels};
use super::memory::{CudaTensor, Element, ElementType, by_element};
use super::products::{Epilogue, Matrix, Product};
use crate::backend::{ConvolutionGeometry, ConvolutionWeights, DeviceTensor, Result};
use half::f16;
use half::slice::HalfFloatSliceExt;

/// Bytes of gathered patches held at a time: enough rows for a product to fill the device, few enough for the product
/// to find most of them in its second-level cache.
const TILE_BYTES: usize = 32 << 20;
/// Products are cut into blocks of 128 rows: a tile of whole ones leaves none half empty.
const TILE_ROWS: usize = 128;
/// The row of a patch is filled up with zeros to a multiple of this many elements: sixteen bytes of either type.
const COLUMNS: usize = 8;
/// Neighbouring rows of a thread of `im2col` and of `im2col_scalar`: `PACKET_ROWS` and `SCALAR_ROWS` of
/// `kernels/conv2d.cu`.
const PACKET_ROWS: usize = 4;
const SCALAR_ROWS: usize = 2;

/// The sizes of a convolution as `im2col` takes them; see `kernels/conv2d.cu`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Patches {
    h: u32,
    w: u32,
    channels: u32,
    kernel_h: u32,
    kernel_w: u32,
    out_h: u32,
    out_w: u32,
    stride: u32,
    padding: u32,
    columns: u32,
}

const _: () = assert!(size_of::<Patches>() == 40, "Patches of kernels/conv2d.cu");

/// Convolution weights on the device, in the backbone's element type.
#[derive(Debug)]
pub struct CudaConvolution {
    pub(super) geometry: ConvolutionGeometry,
    /// `[O, K]`: `(kh, kw, I)` flattened, and zeros up to a multiple of [`COLUMNS`] where patches are gathered.
    pub(super) weight: CudaTensor,
    /// `[O]`.
    pub(super) bias: CudaTensor,
}

/// Whether the patches of a convolution are the pixels of its input.
fn is_pointwise(geometry: &ConvolutionGeometry) -> bool {
    geometry.kernel == (1, 1) && geometry.stride == 1 && geometry.padding == 0
}

/// Lays out weights and copies them to the device.
pub(super) fn convolution(context: &Context, weights: &ConvolutionWeights) -> Result<CudaConvolution> {
    let geometry = weights.geometry();
    let patch = geometry.kernel.0 * geometry.kernel.1 * geometry.inputs;
    let columns = if is_pointwise(&geometry) { patch } else { patch.next_multiple_of(COLUMNS) };
    let mut padded = vec![0.0; geometry.outputs * columns];
    for (row, values) in padded.chunks_exact_mut(columns).zip(weights.weight.data().chunks_exact(patch)) {
        row[..patch].copy_from_slice(values);
    }
    let weight = upload(context, &[geometry.outputs, columns], &padded)?;
    let bias = upload(context, &[geometry.outputs], &weights.bias)?;
    Ok(CudaConvolution { geometry, weight, bias })
}

/// Copies values to the device in the backbone's element type.
fn upload(context: &Context, shape: &[usize], values: &[f32]) -> Result<CudaTensor> {
    let out = context.tensor(shape, context.activation())?;
    assert_eq!(values.len(), out.len(), "a value for every element");
    match out.element() {
        ElementType::F32 => context.staging().upload(bytemuck::must_cast_slice(values), out.buffer())?,
        ElementType::F16 => {
            let mut halves = vec![f16::ZERO; values.len()];
            halves.convert_from_f32_slice(values);
            context.staging().upload(bytemuck::must_cast_slice(&halves), out.buffer())?;
        }
    }
    Ok(out)
}

/// `[N, H, W, I] → [N, H', W', O]`, in the element type of the weights.
pub(super) fn conv2d(
    context: &Context,
    input: &CudaTensor,
    convolution: &CudaConvolution,
    residual: Option<&CudaTensor>,
    relu: bool,
) -> Result<CudaTensor> {
    let element = convolution.weight.element();
    let converted = |tensor: &CudaTensor| match (tensor.element(), element) {
        (ElementType::F32, ElementType::F16) => to_half(context, tensor).map(Some),
        _ => Ok(None),
    };
    let half_input = converted(input)?;
    let half_residual = residual.map(converted).transpose()?.flatten();
    let input = half_input.as_ref().unwrap_or(input);
    let residual = half_residual.as_ref().or(residual);
    if conv2d_implicit::serves(context, convolution)? {
        return Ok(conv2d_implicit::conv2d_implicit(context, input, convolution, residual, relu)?);
    }
    by_element!(element, T => run::<T>(context, input, convolution, residual, relu))
}

/// The elements rounded to half precision.
fn to_half(context: &Context, input: &CudaTensor) -> Result<CudaTensor> {
    let mut out = context.tensor(input.shape(), ElementType::F16)?;
    let count = out.len() as u64;
    kernels::ToHalf { input: input.read(), out: out.write(), count }
        .launch(context, Grid::threads(count.div_ceil(f16::PACKET as u64)))?;
    Ok(out)
}

fn run<T: Element>(
    context: &Context,
    input: &CudaTensor,
    convolution: &CudaConvolution,
    residual: Option<&CudaTensor>,
    relu: bool,
) -> Result<CudaTensor> {
    let CudaConvolution { geometry, weight, bias } = convolution;
    let [n, h, w, channels] = input.axes();
    assert_eq!(channels, geometry.inputs, "the convolution reads as many channels as the tensor has");
    let (out_h, out_w) = geometry.output_size(h, w);
    let ([outputs, columns], rows) = (weight.axes(), n * out_h * out_w);
    let mut out = context.tensor(&[n, out_h, out_w, outputs], T::TYPE)?;
    if let Some(residual) = residual {
        assert_eq!(residual.shape(), out.shape(), "a residual has the shape of the output");
    }

    // Rows [first, first + count) of the output from those of the patch matrix.
    let mut multiply = |patches: In<'_, T>, first: usize, count: usize| {
        let epilogue = Epilogue {
            bias: Some(bias.read()),
            residual: residual.map(|residual| residual.read().from(first * outputs)),
            relu,
        };
        let left = Matrix::new(patches, count, columns);
        let right = Matrix::new(weight.read(), outputs, columns).transposed();
        let out = out.write().from(first * outputs).first(count * outputs);
        context.products.multiply(context, Product { left, right, out, epilogue })
    };

    if is_pointwise(geometry) {
        multiply(input.read(), 0, rows)?;
    } else {
        let sizes = patches(input, geometry, columns);
        let tile_rows = tile_rows(columns * size_of::<T>()).min(rows);
        let mut tile = context.scratch::<T>(tile_rows * columns)?;
        for first in (0..rows).step_by(tile_rows.max(1)) {
            let count = tile_rows.min(rows - first);
            im2col(context, input.read::<T>(), tile.write(), sizes, first..first + count)?;
            multiply(tile.read(), first, count)?;
        }
    }
    Ok(out)
}

/// The rows of a tile whose rows have `bytes` bytes.
fn tile_rows(bytes: usize) -> usize {
    (TILE_BYTES / bytes / TILE_ROWS).max(1) * TILE_ROWS
}

fn patches(input: &CudaTensor, geometry: &ConvolutionGeometry, columns: usize) -> Patches {
    let [_, h, w, channels] = input.extents();
    let (out_h, out_w) = geometry.output_size(h as usize, w as usize);
    assert!(
        out_h * out_w < 1 << 31,
        "an image of {out_h} × {out_w} positions is larger than the kernel counts"
    );
    Patches {
        h,
        w,
        channels,
        kernel_h: geometry.kernel.0 as u32,
        kernel_w: geometry.kernel.1 as u32,
        out_h: out_h as u32,
        out_w: out_w as u32,
        stride: geometry.stride as u32,
        padding: geometry.padding as u32,
        columns: columns as u32,
    }
}

/// Gathers rows of the patch matrix, the first of them at the start of `patches`.
fn im2col<T: Element>(
    context: &Context,
    input: In<'_, T>,
    patches: Out<'_, T>,
    sizes: Patches,
    rows: std::ops::Range<usize>,
) -> std::result::Result<(), CudaError> {
    let count = rows.len();
    assert!(patches.len() >= count * sizes.columns as usize, "room for {count} rows");
    let packets = sizes.columns as usize / T::PACKET;
    let grid = |thread_rows: usize| {
        let threads = count.div_ceil(thread_rows) * packets;
        assert!(threads < 1 << 32, "{threads} threads are more than the kernel counts");
        Grid::threads(threads as u64)
    };
    let area = sizes.out_h as usize * sizes.out_w as usize;
    let (first_image, first_position) = ((rows.start / area) as u32, (rows.start % area) as u32);
    let rows = count as u32;
    if (sizes.channels as usize).is_multiple_of(T::PACKET) {
        kernels::Im2col { input, patches, sizes, first_image, first_position, rows }
            .launch(context, grid(PACKET_ROWS))
    } else {
        kernels::Im2colScalar { input, patches, sizes, first_image, first_position, rows }
            .launch(context, grid(SCALAR_ROWS))
    }
}

/// `out = relu(out + bias + residual)` of rows of `columns` elements, for products that cuBLASLt does not fuse with it.
pub(super) fn epilogue<T: Element>(
    context: &Context,
    out: Out<'_, T>,
    columns: usize,
    epilogue: Epilogue<'_, T>,
) -> std::result::Result<(), CudaError> {
    let Epilogue { bias, residual, relu } = epilogue;
    let bias = bias.unwrap_or_else(In::absent);
    let residual = residual.unwrap_or_else(In::absent);
    let count = out.len() as u64;
    assert!(out.len().is_multiple_of(columns), "whole rows");
    assert!(bias.pointer() == 0 || bias.len() >= columns, "a bias for every column");
    assert!(residual.pointer() == 0 || residual.len() >= out.len(), "a residual for every result");
    kernels::Conv2dEpilogue { out, bias, residual, count, columns: columns as u32, relu: u32::from(relu) }
        .launch(context, Grid::threads(count.div_ceil(T::PACKET as u64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_is_bounded_and_of_whole_blocks() {
        for bytes in [16, 304, 2304, 9216, 18432, TILE_BYTES] {
            let rows = tile_rows(bytes);
            assert!(rows.is_multiple_of(TILE_ROWS));
            assert!(rows * bytes <= TILE_BYTES || rows == TILE_ROWS, "{bytes}");
        }
    }
}
