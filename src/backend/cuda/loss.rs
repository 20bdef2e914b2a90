//! `loss`: truncated L1 (Eq. 7–8) and cross-entropy, with their gradients.

use super::context::Context;
use super::launch::{Grid, Kernel, kernels};
use super::memory::{CudaTensor, ElementType};
use crate::backend::{LOSS_TOTALS, Loss, Result, TOTAL_LOSS, TOTAL_NEGATIVE, TOTAL_POSITIVE, TOTAL_ROWS};

/// Threads of the one block: `LOSS_THREADS` of `kernels/loss.cu`.
const LOSS_THREADS: u32 = 1024;

// The order of the totals, as the kernel knows it.
const _: () = assert!(TOTAL_LOSS == 0 && TOTAL_POSITIVE == 1 && TOTAL_NEGATIVE == 2 && TOTAL_ROWS == 3);

/// The gradient of the loss of `[2R]` scores, normal rows first; adds to `totals`.
pub(super) fn loss(
    context: &Context,
    scores: &CudaTensor,
    loss: Loss,
    images: usize,
    totals: &mut CudaTensor,
) -> Result<CudaTensor> {
    let [count] = scores.axes();
    assert!(count.is_multiple_of(2) && totals.len() == LOSS_TOTALS, "two halves, and room for the totals");
    assert!(u32::try_from(count.max(images)).is_ok(), "sizes below 2³²");
    let mut gradient = context.tensor(&[count], ElementType::F32)?;
    let margins = loss.margins();
    kernels::Loss {
        scores: scores.read(),
        gradient: gradient.write(),
        totals: totals.write(),
        rows: (count / 2) as u32,
        images: images as u32,
        kind: match loss {
            Loss::TruncatedL1(_) => 0,
            Loss::CrossEntropy(_) => 1,
        },
        margin_positive: margins.positive,
        margin_negative: margins.negative,
    }
    .launch(context, Grid::blocks(1, LOSS_THREADS))?;
    Ok(gradient)
}
