//! `noise`: what distinguishes the anomaly features of Eq. 6 from the normal ones.

use super::context::Context;
use super::launch::{Grid, Kernel, kernels};
use super::memory::{CudaTensor, ElementType};
use crate::backend::{Noise, Result};

/// `σ·ε`, of that shape.
pub(super) fn noise(context: &Context, shape: [usize; 2], noise: Noise) -> Result<CudaTensor> {
    let mut out = context.tensor(&shape, ElementType::F32)?;
    let count = out.len() as u64;
    kernels::Noise {
        out: out.write(),
        count,
        sigma: noise.sigma as f32,
        seed_low: noise.seed as u32,
        seed_high: (noise.seed >> 32) as u32,
        step: noise.step,
    }
    .launch(context, Grid::threads(count.div_ceil(4)))?;
    Ok(out)
}
