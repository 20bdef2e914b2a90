//! `batch_norm_score`: BatchNorm1d, LeakyReLU and the last linear layer of `[hidden ; hidden + shift]`, and the gradients
//! of that.

use super::column_sums::{Extents, join_groups};
use super::context::Context;
use super::error::CudaError;
use super::launch::{Grid, Kernel, kernels};
use super::memory::{CudaTensor, ElementType};
use crate::backend::{BatchNormSaved, BatchNormScore, BatchNormScoreGradients, Result, RunningStatistics};

/// Threads of a warp, and rows of either half that it scores: `WARP_ROWS` of `kernels/batch_norm_score.cu`.
const WARP: u64 = 32;
const WARP_ROWS: u32 = 4;
/// Normal and anomalous rows, each in groups of their own.
const HALVES: usize = 2;

/// The scores, `[2R]`, and what the backward pass needs; moves the running statistics.
pub(super) fn batch_norm_score(
    context: &Context,
    hidden: &CudaTensor,
    shift: &CudaTensor,
    layers: &BatchNormScore<'_, CudaTensor>,
    running: RunningStatistics<'_, CudaTensor>,
) -> Result<(CudaTensor, BatchNormSaved<CudaTensor>)> {
    let extents @ Extents { rows, columns } = extents(hidden, shift, layers);
    assert_eq!((running.mean.len(), running.var.len()), (columns as usize, columns as usize));

    let mut means = context.scratch(HALVES * extents.partials())?;
    let mut deviations = context.scratch(HALVES * extents.partials())?;
    let mut squares = context.scratch(HALVES * extents.partials())?;
    kernels::BatchNormScoreMoments {
        hidden: hidden.read(),
        shift: shift.read(),
        means: means.write(),
        deviations: deviations.write(),
        squares: squares.write(),
        rows,
        columns,
    }
    .launch(context, extents.grid_of_groups())?;

    let mut mean = column_tensor(context, extents)?;
    let mut inverse_std = column_tensor(context, extents)?;
    kernels::BatchNormScoreStatistics {
        means: means.read(),
        deviations: deviations.read(),
        squares: squares.read(),
        bias: layers.bias.read(),
        mean: mean.write(),
        inverse_std: inverse_std.write(),
        running_mean: running.mean.write(),
        running_var: running.var.write(),
        rows,
        columns,
        epsilon: layers.constants.epsilon,
        momentum: layers.constants.momentum,
    }
    .launch(context, extents.grid_of_columns())?;

    let mut out = context.tensor(&[HALVES * rows as usize], ElementType::F32)?;
    kernels::BatchNormScore {
        hidden: hidden.read(),
        shift: shift.read(),
        gamma: layers.gamma.read(),
        beta: layers.beta.read(),
        weight: layers.weight.read(),
        mean: mean.read(),
        inverse_std: inverse_std.read(),
        out: out.write(),
        rows,
        columns,
        slope: layers.slope as f32,
    }
    .launch(context, Grid::threads(WARP * u64::from(rows.div_ceil(WARP_ROWS))))?;
    Ok((out, BatchNormSaved { mean, inverse_std }))
}

/// Gradients, given that of the scores.
pub(super) fn batch_norm_score_backward(
    context: &Context,
    gradient: &CudaTensor,
    hidden: &CudaTensor,
    shift: &CudaTensor,
    layers: &BatchNormScore<'_, CudaTensor>,
    saved: &BatchNormSaved<CudaTensor>,
) -> Result<BatchNormScoreGradients<CudaTensor>> {
    let extents @ Extents { rows, columns } = extents(hidden, shift, layers);
    let BatchNormSaved { mean, inverse_std } = saved;
    let slope = layers.slope as f32;
    assert_eq!(gradient.axes(), [HALVES * rows as usize], "a gradient for every score");
    assert_eq!((mean.len(), inverse_std.len()), (columns as usize, columns as usize));

    let mut of_factors = context.scratch(extents.partials())?;
    let mut of_deviations = context.scratch(extents.partials())?;
    kernels::BatchNormScoreBackwardOfGroups {
        gradient: gradient.read(),
        hidden: hidden.read(),
        shift: shift.read(),
        gamma: layers.gamma.read(),
        beta: layers.beta.read(),
        mean: mean.read(),
        inverse_std: inverse_std.read(),
        of_factors: of_factors.write(),
        of_deviations: of_deviations.write(),
        rows,
        columns,
        slope,
    }
    .launch(context, extents.grid_of_groups())?;

    let mut grad_gamma = column_tensor(context, extents)?;
    let mut grad_beta = column_tensor(context, extents)?;
    let mut grad_weight = context.tensor(&[1, columns as usize], ElementType::F32)?;
    let mut factor = context.scratch(columns as usize)?;
    let mut mean_factor = context.scratch(columns as usize)?;
    let mut mean_product = context.scratch(columns as usize)?;
    kernels::BatchNormScoreBackwardConstants {
        of_factors: of_factors.read(),
        of_deviations: of_deviations.read(),
        gamma: layers.gamma.read(),
        beta: layers.beta.read(),
        weight: layers.weight.read(),
        inverse_std: inverse_std.read(),
        grad_gamma: grad_gamma.write(),
        grad_beta: grad_beta.write(),
        grad_weight: grad_weight.write(),
        factor: factor.write(),
        mean_factor: mean_factor.write(),
        mean_product: mean_product.write(),
        rows,
        columns,
    }
    .launch(context, extents.grid_of_columns())?;

    let mut grad_hidden = context.tensor(&hidden.axes::<2>(), ElementType::F32)?;
    let mut grad_shift = context.tensor(&hidden.axes::<2>(), ElementType::F32)?;
    let mut partials = context.scratch(extents.partials())?;
    kernels::BatchNormScoreBackward {
        gradient: gradient.read(),
        hidden: hidden.read(),
        shift: shift.read(),
        gamma: layers.gamma.read(),
        beta: layers.beta.read(),
        mean: mean.read(),
        inverse_std: inverse_std.read(),
        factor: factor.read(),
        mean_factor: mean_factor.read(),
        mean_product: mean_product.read(),
        grad_hidden: grad_hidden.write(),
        grad_shift: grad_shift.write(),
        partials: partials.write(),
        rows,
        columns,
        slope,
    }
    .launch(context, extents.grid_of_groups())?;
    Ok(BatchNormScoreGradients {
        hidden: grad_hidden,
        shift: grad_shift,
        bias: join_groups(context, &partials, extents)?,
        gamma: grad_gamma,
        beta: grad_beta,
        weight: grad_weight,
    })
}

/// The extents of either half, with a value for every column.
fn extents(hidden: &CudaTensor, shift: &CudaTensor, layers: &BatchNormScore<'_, CudaTensor>) -> Extents {
    let extents @ Extents { rows, columns } = Extents::of(hidden);
    assert!(rows > 0, "no row has statistics");
    assert_eq!(shift.axes::<2>(), hidden.axes::<2>(), "a shift for every hidden feature");
    for tensor in [layers.bias, layers.gamma, layers.beta, layers.weight] {
        assert_eq!(tensor.len(), columns as usize, "a value for every column");
    }
    extents
}

fn column_tensor(context: &Context, extents: Extents) -> std::result::Result<CudaTensor, CudaError> {
    context.tensor(&[extents.columns as usize], ElementType::F32)
}
