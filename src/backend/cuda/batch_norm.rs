//! `batch_norm_inference`: BatchNorm1d over rows with given statistics.

use super::column_sums::Extents;
use super::context::Context;
use super::error::CudaError;
use super::launch::{Grid, Kernel, kernels};
use super::memory::{CudaTensor, ElementType};
use crate::backend::Result;

/// Columns and rows that one thread normalises: a packet, and `THREAD_ROWS` of `kernels/batch_norm.cu`.
const THREAD_COLUMNS: u32 = 4;
const THREAD_ROWS: u32 = 4;

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
