//! `add`: where two operations read the same tensor, their gradients add.

use super::context::Context;
use super::launch::{Grid, Kernel, kernels};
use super::memory::CudaTensor;
use crate::backend::{DeviceTensor, Result};

/// `sum + term` into `sum`.
pub(super) fn add(context: &Context, sum: &mut CudaTensor, term: &CudaTensor) -> Result<()> {
    assert_eq!(sum.shape(), term.shape(), "a term for every element");
    let count = sum.len() as u64;
    kernels::Add { sum: sum.write(), term: term.read(), count }
        .launch(context, Grid::threads(count.div_ceil(4)))?;
    Ok(())
}
