//! `batch_norm`: BatchNorm1d over rows, forward and backward.

use super::column_sums::Extents;
use super::context::Context;
use super::error::CudaError;
use super::launch::{Grid, Kernel, kernels};
use super::memory::{CudaTensor, ElementType};
use crate::backend::{BatchNormConstants, BatchNormSaved, BatchNormState, Result};

/// Columns and rows that one thread normalises: a packet, and `THREAD_ROWS` of `kernels/batch_norm.cu`.
const THREAD_COLUMNS: u32 = 4;
const THREAD_ROWS: u32 = 4;

/// Normalises with the batch's statistics and moves the running ones.
pub(super) fn batch_norm(
    context: &Context,
    input: &CudaTensor,
    state: BatchNormState<'_, CudaTensor>,
    constants: BatchNormConstants,
) -> Result<(CudaTensor, BatchNormSaved<CudaTensor>)> {
    let extents @ Extents { rows, columns } = Extents::of(input);
    assert!(rows > 1, "one row has no variance to normalise with");
    expect_columns(extents, [&*state.running_mean, &*state.running_var]);

    let mut means = context.scratch(extents.partials())?;
    let mut deviations = context.scratch(extents.partials())?;
    let mut squares = context.scratch(extents.partials())?;
    kernels::BatchNormMoments {
        input: input.read(),
        means: means.write(),
        deviations: deviations.write(),
        squares: squares.write(),
        rows,
        columns,
    }
    .launch(context, extents.grid_of_groups())?;

    let mut mean = column_tensor(context, extents)?;
    let mut inverse_std = column_tensor(context, extents)?;
    kernels::BatchNormStatistics {
        means: means.read(),
        deviations: deviations.read(),
        squares: squares.read(),
        mean: mean.write(),
        inverse_std: inverse_std.write(),
        running_mean: state.running_mean.write(),
        running_var: state.running_var.write(),
        rows,
        columns,
        epsilon: constants.epsilon,
        momentum: constants.momentum,
    }
    .launch(context, extents.grid_of_columns())?;

    let saved = BatchNormSaved { mean, inverse_std };
    let out = apply(context, input, state.gamma, state.beta, &saved.mean, &saved.inverse_std)?;
    Ok((out, saved))
}

/// Normalises with given statistics.
pub(super) fn batch_norm_inference(
    context: &Context,
    input: &CudaTensor,
    gamma: &CudaTensor,
    beta: &CudaTensor,
    mean: &CudaTensor,
    variance: &CudaTensor,
    epsilon: f64,
) -> Result<CudaTensor> {
    let extents @ Extents { columns, .. } = Extents::of(input);
    expect_columns(extents, [variance]);
    let mut inverse_std = column_tensor(context, extents)?;
    kernels::BatchNormInverseStd {
        variance: variance.read(),
        inverse_std: inverse_std.write(),
        columns,
        epsilon,
    }
    .launch(context, Grid::threads(u64::from(columns)))?;
    apply(context, input, gamma, beta, mean, &inverse_std)
}

/// `(x − mean)·γ·inverse_std + β`.
fn apply(
    context: &Context,
    input: &CudaTensor,
    gamma: &CudaTensor,
    beta: &CudaTensor,
    mean: &CudaTensor,
    inverse_std: &CudaTensor,
) -> Result<CudaTensor> {
    let extents @ Extents { rows, columns } = Extents::of(input);
    expect_columns(extents, [gamma, beta, mean, inverse_std]);
    let mut out = context.tensor(&input.axes::<2>(), ElementType::F32)?;
    kernels::BatchNormApply {
        input: input.read(),
        gamma: gamma.read(),
        beta: beta.read(),
        mean: mean.read(),
        inverse_std: inverse_std.read(),
        out: out.write(),
        rows,
        columns,
    }
    .launch(context, grid_of_packets(extents))?;
    Ok(out)
}

/// Gradients with respect to input, gamma and beta.
pub(super) fn batch_norm_backward(
    context: &Context,
    gradient: &CudaTensor,
    input: &CudaTensor,
    gamma: &CudaTensor,
    saved: &BatchNormSaved<CudaTensor>,
) -> Result<(CudaTensor, CudaTensor, CudaTensor)> {
    let extents @ Extents { rows, columns } = Extents::of(input);
    let BatchNormSaved { mean, inverse_std } = saved;
    assert_eq!(gradient.axes::<2>(), input.axes::<2>(), "a gradient for every input");
    expect_columns(extents, [gamma, mean, inverse_std]);

    let mut sums_gamma = context.scratch(extents.partials())?;
    let mut sums_beta = context.scratch(extents.partials())?;
    kernels::BatchNormBackwardOfGroups {
        gradient: gradient.read(),
        input: input.read(),
        mean: mean.read(),
        inverse_std: inverse_std.read(),
        sums_gamma: sums_gamma.write(),
        sums_beta: sums_beta.write(),
        rows,
        columns,
    }
    .launch(context, extents.grid_of_groups())?;

    let mut grad_gamma = column_tensor(context, extents)?;
    let mut grad_beta = column_tensor(context, extents)?;
    let mut scale = context.scratch(columns as usize)?;
    let mut mean_gradient = context.scratch(columns as usize)?;
    let mut mean_product = context.scratch(columns as usize)?;
    kernels::BatchNormBackwardConstants {
        sums_gamma: sums_gamma.read(),
        sums_beta: sums_beta.read(),
        gamma: gamma.read(),
        inverse_std: inverse_std.read(),
        grad_gamma: grad_gamma.write(),
        grad_beta: grad_beta.write(),
        scale: scale.write(),
        mean_gradient: mean_gradient.write(),
        mean_product: mean_product.write(),
        rows,
        columns,
    }
    .launch(context, extents.grid_of_columns())?;

    let mut out = context.tensor(&input.axes::<2>(), ElementType::F32)?;
    kernels::BatchNormBackward {
        gradient: gradient.read(),
        input: input.read(),
        mean: mean.read(),
        scale: scale.read(),
        mean_gradient: mean_gradient.read(),
        mean_product: mean_product.read(),
        out: out.write(),
        rows,
        columns,
    }
    .launch(context, grid_of_packets(extents))?;
    Ok((out, grad_gamma, grad_beta))
}

/// A thread for every packet of columns and rows.
fn grid_of_packets(extents: Extents) -> Grid {
    let Extents { rows, columns } = extents;
    Grid::threads(u64::from(columns.div_ceil(THREAD_COLUMNS)) * u64::from(rows.div_ceil(THREAD_ROWS)))
}

fn column_tensor(context: &Context, extents: Extents) -> std::result::Result<CudaTensor, CudaError> {
    context.tensor(&[extents.columns as usize], ElementType::F32)
}

fn expect_columns<const TENSORS: usize>(extents: Extents, tensors: [&CudaTensor; TENSORS]) {
    for tensor in tensors {
        assert_eq!(tensor.axes(), [extents.columns as usize], "a value for every column");
    }
}
