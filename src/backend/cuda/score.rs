//! `score`: the discriminator's last layer, one dot product a row.

use super::column_sums::Extents;
use super::context::Context;
use super::launch::{Grid, Kernel, kernels};
use super::memory::{CudaTensor, ElementType};
use crate::backend::Result;

/// Threads of a warp, which takes one row.
const WARP: u64 = 32;

/// `[R, C], [1, C] → [R]`.
pub(super) fn score(context: &Context, input: &CudaTensor, weight: &CudaTensor) -> Result<CudaTensor> {
    let Extents { rows, columns } = extents(input, weight);
    let mut out = context.tensor(&[rows as usize], ElementType::F32)?;
    kernels::Score { input: input.read(), weight: weight.read(), out: out.write(), rows, columns }
        .launch(context, Grid::threads(WARP * u64::from(rows)))?;
    Ok(out)
}

/// The same of `leaky_relu(input)`, which is not written.
pub(super) fn leaky_relu_score(
    context: &Context,
    input: &CudaTensor,
    slope: f64,
    weight: &CudaTensor,
) -> Result<CudaTensor> {
    let Extents { rows, columns } = extents(input, weight);
    let mut out = context.tensor(&[rows as usize], ElementType::F32)?;
    let slope = slope as f32;
    kernels::LeakyReluScore {
        input: input.read(),
        weight: weight.read(),
        out: out.write(),
        rows,
        columns,
        slope,
    }
    .launch(context, Grid::threads(WARP * u64::from(rows)))?;
    Ok(out)
}

fn extents(input: &CudaTensor, weight: &CudaTensor) -> Extents {
    let extents = Extents::of(input);
    assert_eq!(weight.len(), extents.columns as usize, "a weight for every column");
    extents
}
