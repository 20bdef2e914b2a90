//! `linear` and its gradients: products of row-major matrices.

use super::context::Context;
use super::memory::{CudaTensor, ElementType};
use super::products::{Epilogue, Matrix, Product};
use crate::backend::Result;

fn matrix(tensor: &CudaTensor) -> Matrix<'_, f32> {
    let [rows, columns] = tensor.axes();
    Matrix::new(tensor.read(), rows, columns)
}

fn product(
    context: &Context,
    shape: [usize; 2],
    left: Matrix<'_, f32>,
    right: Matrix<'_, f32>,
    bias: Option<&CudaTensor>,
) -> Result<CudaTensor> {
    let mut out = context.tensor(&shape, ElementType::F32)?;
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
    let ([rows, _], [outputs, _]) = (input.axes(), weight.axes());
    product(context, [rows, outputs], matrix(input), matrix(weight).transposed(), bias)
}

/// `dy·W`.
pub(super) fn linear_grad_input(
    context: &Context,
    gradient: &CudaTensor,
    weight: &CudaTensor,
) -> Result<CudaTensor> {
    let ([rows, _], [_, inputs]) = (gradient.axes(), weight.axes());
    product(context, [rows, inputs], matrix(gradient), matrix(weight), None)
}

/// `dyᵀ·x`.
pub(super) fn linear_grad_weight(
    context: &Context,
    gradient: &CudaTensor,
    input: &CudaTensor,
) -> Result<CudaTensor> {
    let ([_, outputs], [_, inputs]) = (gradient.axes(), input.axes());
    product(context, [outputs, inputs], matrix(gradient).transposed(), matrix(input), None)
}
