//! `add_noise`: the anomaly features of Eq. 6 below the normal ones, and the gradient of that.

use super::context::Context;
use super::launch::{Grid, Kernel, kernels};
use super::memory::{CudaTensor, ElementType};
use super::schedule::CudaSchedule;
use crate::backend::{Noise, Result};

/// `q` above `q + ε`, `[R, C] → [2R, C]`.
pub(super) fn add_noise(
    context: &Context,
    input: &CudaTensor,
    noise: Noise<'_, CudaSchedule>,
) -> Result<CudaTensor> {
    let [rows, channels] = input.axes();
    let mut out = context.tensor(&[2 * rows, channels], ElementType::F32)?;
    let count = input.len() as u64;
    kernels::AddNoise {
        input: input.read(),
        out: out.write(),
        cursor: noise.schedule.cursor(),
        count,
        sigma: noise.sigma as f32,
        seed_low: noise.seed as u32,
        seed_high: (noise.seed >> 32) as u32,
    }
    .launch(context, Grid::threads(count.div_ceil(4)))?;
    Ok(out)
}

/// The halves added, `[2R, C] → [R, C]`.
pub(super) fn add_noise_backward(context: &Context, gradient: &CudaTensor) -> Result<CudaTensor> {
    let [rows, channels] = gradient.axes();
    assert!(rows.is_multiple_of(2), "two halves");
    let mut out = context.tensor(&[rows / 2, channels], ElementType::F32)?;
    let count = out.len() as u64;
    kernels::AddNoiseBackward { gradient: gradient.read(), out: out.write(), count }
        .launch(context, Grid::threads(count.div_ceil(4)))?;
    Ok(out)
}
