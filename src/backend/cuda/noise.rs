//! `noise`: what distinguishes the anomaly features of Eq. 6 from the normal ones.

use super::context::Context;
use super::launch::{Grid, Kernel, kernels};
use super::memory::{CudaTensor, ElementType};
use super::schedule::CudaSchedule;
use crate::backend::{Noise, Result};

/// `σ·ε`, of that shape, σ as the noise's mixture has it.
pub(super) fn noise(
    context: &Context,
    shape: [usize; 2],
    noise: Noise<'_, CudaSchedule>,
) -> Result<CudaTensor> {
    assert!(noise.mixtures > 0, "noise has a component");
    let mut out = context.tensor(&shape, ElementType::F32)?;
    let [_rows, channels] = out.extents();
    let count = out.len() as u64;
    kernels::Noise {
        out: out.write(),
        cursor: noise.schedule.cursor(),
        count,
        channels,
        mixtures: noise.mixtures,
        sigma: noise.sigma,
        seed_low: noise.seed as u32,
        seed_high: (noise.seed >> 32) as u32,
    }
    .launch(context, Grid::threads(count.div_ceil(4)))?;
    Ok(out)
}
