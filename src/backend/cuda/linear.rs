//! `linear` and its gradients: products of row-major matrices.

use super::context::Context;
use super::memory::{CudaTensor, ElementType};
use super::products::{Epilogue, Matrix, Product};
use crate::backend::{DeviceTensor, Result, with_last_axis};

/// Rows and columns; a vector is one row.
fn extent(tensor: &CudaTensor) -> [usize; 2] {
    match *tensor.shape() {
        [columns] => [1, columns],
        [rows, columns] => [rows, columns],
        ref shape => panic!("expected a vector or a matrix, got shape {shape:?}"),
    }
}

fn matrix(tensor: &CudaTensor) -> Matrix<'_, f32> {
    let [rows, columns] = extent(tensor);
    Matrix::new(tensor.read(), rows, columns)
}

fn product(
    context: &Context,
    shape: &[usize],
    left: Matrix<'_, f32>,
    right: Matrix<'_, f32>,
    bias: Option<&CudaTensor>,
) -> Result<CudaTensor> {
    let mut out = context.tensor(shape, ElementType::F32)?;
    let epilogue = Epilogue { bias: bias.map(CudaTensor::read), ..Epilogue::none() };
    context.products.multiply(context, Product { left, right, out: out.write(), epilogue })?;
    Ok(out)
}

/// `x·Wᵀ + b`.
pub(super) fn linear(
    context: &Context,
    input: &CudaTensor,
    weight: &CudaTensor,
    bias: Option<&CudaTensor>,
) -> Result<CudaTensor> {
    let [outputs, _] = weight.axes();
    product(
        context,
        &with_last_axis(input.shape(), outputs),
        matrix(input),
        matrix(weight).transposed(),
        bias,
    )
}

/// `dy·W`.
pub(super) fn linear_grad_input(
    context: &Context,
    gradient: &CudaTensor,
    weight: &CudaTensor,
) -> Result<CudaTensor> {
    let [_, inputs] = weight.axes();
    product(context, &with_last_axis(gradient.shape(), inputs), matrix(gradient), matrix(weight), None)
}

/// `dyᵀ·x`.
pub(super) fn linear_grad_weight(
    context: &Context,
    gradient: &CudaTensor,
    input: &CudaTensor,
) -> Result<CudaTensor> {
    let ([_, outputs], [_, inputs]) = (extent(gradient), extent(input));
    product(context, &[outputs, inputs], matrix(gradient).transposed(), matrix(input), None)
}
