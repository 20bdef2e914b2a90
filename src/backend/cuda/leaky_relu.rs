//! `leaky_relu` and its gradient.

use super::context::Context;
use super::launch::{Grid, Kernel, kernels};
use super::memory::{CudaTensor, ElementType};
use crate::backend::{DeviceTensor, Result};

/// `x` where positive, `slope·x` elsewhere.
pub(super) fn leaky_relu(context: &Context, input: &CudaTensor, slope: f64) -> Result<CudaTensor> {
    let mut out = context.tensor(input.shape(), ElementType::F32)?;
    let count = out.len() as u64;
    kernels::LeakyRelu { input: input.read(), out: out.write(), count, slope: slope as f32 }
        .launch(context, Grid::threads(count.div_ceil(4)))?;
    Ok(out)
}

/// `dy` where the input was positive, `slope·dy` elsewhere.
pub(super) fn leaky_relu_backward(
    context: &Context,
    gradient: &CudaTensor,
    input: &CudaTensor,
    slope: f64,
) -> Result<CudaTensor> {
    assert_eq!(gradient.shape(), input.shape(), "a gradient for every input");
    let mut out = context.tensor(input.shape(), ElementType::F32)?;
    let count = out.len() as u64;
    kernels::LeakyReluBackward {
        gradient: gradient.read(),
        input: input.read(),
        out: out.write(),
        count,
        slope: slope as f32,
    }
    .launch(context, Grid::threads(count.div_ceil(4)))?;
    Ok(out)
}
