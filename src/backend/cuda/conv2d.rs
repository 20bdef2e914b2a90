//! `conv2d`: convolution as matrix products.
//!
//! A 1×1 convolution of an NHWC tensor is a plain product `[N·H·W, I]·[O, I]ᵀ`. Every other one is computed in one of
//! several ways ([`Implementation`]): by gathering its patches (im2col) a bounded tile of output positions at a time and
//! multiplying the tile. Bias, residual and ReLU are part of the product, or one pass over its result where cuBLASLt
//! does not offer that.

use super::context::Context;
use super::convolutions::{Implementation, Shape, is_pointwise, tile_rows};
use super::error::CudaError;
use super::launch::{Grid, In, Kernel, Out, kernels};
use super::memory::{CudaTensor, Element, ElementType, by_element};
use super::products::{Epilogue, Matrix, Product};
use crate::backend::{ConvolutionGeometry, ConvolutionWeights, DeviceTensor, Result};
use half::f16;
use half::slice::HalfFloatSliceExt;
use std::ops::Range;

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
    geometry: ConvolutionGeometry,
    /// `[O, K]`: `(kh, kw, I)` flattened, and zeros up to a multiple of [`COLUMNS`] where patches are gathered.
    weight: CudaTensor,
    /// `[O]`.
    bias: CudaTensor,
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
    let call = Call { context, input, convolution, residual, relu };
    let (shape, row_bytes) = (call.shape(), call.columns() * element.bytes());
    let mut run = |way| call.run(way).map(drop);
    let implementation = context.convolutions.implementation(context, &shape, row_bytes, &mut run)?;
    Ok(call.run(implementation)?)
}

/// The elements rounded to half precision.
fn to_half(context: &Context, input: &CudaTensor) -> Result<CudaTensor> {
    let mut out = context.tensor(input.shape(), ElementType::F16)?;
    let count = out.len() as u64;
    kernels::ToHalf { input: input.read(), out: out.write(), count }
        .launch(context, Grid::threads(count.div_ceil(f16::PACKET as u64)))?;
    Ok(out)
}

/// A convolution and its operands, all of one element type.
#[derive(Debug)]
struct Call<'a> {
    context: &'a Context,
    input: &'a CudaTensor,
    convolution: &'a CudaConvolution,
    residual: Option<&'a CudaTensor>,
    relu: bool,
}

impl Call<'_> {
    fn shape(&self) -> Shape {
        let geometry = self.convolution.geometry;
        let [n, h, w, channels] = self.input.axes();
        assert_eq!(channels, geometry.inputs, "the convolution reads as many channels as the tensor has");
        let element = self.convolution.weight.element();
        Shape { geometry, element, input: [n, h, w], residual: self.residual.is_some(), relu: self.relu }
    }

    /// Elements of a row of the patch matrix.
    fn columns(&self) -> usize {
        self.convolution.weight.axes::<2>()[1]
    }

    /// Enqueues the whole.
    fn run(&self, implementation: Implementation) -> std::result::Result<CudaTensor, CudaError> {
        match implementation {
            Implementation::Product => by_element!(self.input.element(), T => self.product::<T>()),
            Implementation::Im2col { tile_bytes } => {
                by_element!(self.input.element(), T => self.im2col::<T>(tile_bytes))
            }
        }
    }

    /// `[N, H', W', O]`, to be written.
    fn output(&self) -> std::result::Result<CudaTensor, CudaError> {
        let geometry = self.convolution.geometry;
        let [n, h, w, _] = self.input.axes();
        let (out_h, out_w) = geometry.output_size(h, w);
        let out = self.context.tensor(&[n, out_h, out_w, geometry.outputs], self.input.element())?;
        if let Some(residual) = self.residual {
            assert_eq!(residual.shape(), out.shape(), "a residual has the shape of the output");
        }
        Ok(out)
    }

    /// One product: the patches are the pixels.
    fn product<T: Element>(&self) -> std::result::Result<CudaTensor, CudaError> {
        let mut out = self.output()?;
        self.multiply::<T>(self.input.read(), &mut out, 0..self.shape().rows())?;
        Ok(out)
    }

    /// A product a tile of gathered patches.
    fn im2col<T: Element>(&self, tile_bytes: usize) -> std::result::Result<CudaTensor, CudaError> {
        let mut out = self.output()?;
        let (rows, columns) = (self.shape().rows(), self.columns());
        let sizes = patches(self.input, &self.convolution.geometry, columns);
        let tile_rows = tile_rows(tile_bytes, columns * size_of::<T>()).min(rows);
        let mut tile = self.context.scratch::<T>(tile_rows * columns)?;
        for first in (0..rows).step_by(tile_rows.max(1)) {
            let rows = first..rows.min(first + tile_rows);
            im2col(self.context, self.input.read::<T>(), tile.write(), sizes, rows.clone())?;
            self.multiply(tile.read(), &mut out, rows)?;
        }
        Ok(out)
    }

    /// These rows of the output, from those of the patch matrix.
    fn multiply<T: Element>(
        &self,
        patches: In<'_, T>,
        out: &mut CudaTensor,
        rows: Range<usize>,
    ) -> std::result::Result<(), CudaError> {
        let CudaConvolution { geometry, weight, bias } = self.convolution;
        let (outputs, columns) = (geometry.outputs, self.columns());
        let epilogue = Epilogue {
            bias: Some(bias.read()),
            residual: self.residual.map(|residual| residual.read().from(rows.start * outputs)),
            relu: self.relu,
        };
        let left = Matrix::new(patches, rows.len(), columns);
        let right = Matrix::new(weight.read(), outputs, columns).transposed();
        let out = out.write().from(rows.start * outputs).first(rows.len() * outputs);
        self.context.products.multiply(self.context, Product { left, right, out, epilogue })
    }
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
    rows: Range<usize>,
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
