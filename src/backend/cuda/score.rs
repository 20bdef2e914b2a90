//! `score`: the discriminator's last layer, one dot product a row, and its gradients.

use super::column_sums::{Extents, join_groups};
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

/// Gradients with respect to the input, `[R, C]`, and to the weight, `[1, C]`.
pub(super) fn score_backward(
    context: &Context,
    gradient: &CudaTensor,
    input: &CudaTensor,
    weight: &CudaTensor,
) -> Result<(CudaTensor, CudaTensor)> {
    let extents @ Extents { rows, columns } = extents(input, weight);
    assert_eq!(gradient.axes(), [rows as usize], "a gradient for every row");
    let mut grad_input = context.tensor(&input.axes::<2>(), ElementType::F32)?;
    let mut partials = context.scratch(extents.partials())?;
    kernels::ScoreBackward {
        gradient: gradient.read(),
        input: input.read(),
        weight: weight.read(),
        grad_input: grad_input.write(),
        partials: partials.write(),
        rows,
        columns,
    }
    .launch(context, extents.grid_of_groups())?;
    let grad_weight = join_groups(context, &partials, extents)?;
    Ok((grad_input, grad_weight.with_shape(&[1, columns as usize])))
}

fn extents(input: &CudaTensor, weight: &CudaTensor) -> Extents {
    let extents = Extents::of(input);
    assert_eq!(weight.len(), extents.columns as usize, "a weight for every column");
    extents
}
