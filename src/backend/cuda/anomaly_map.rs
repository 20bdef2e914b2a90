//! `anomaly_map`: upsampling and smoothing as one separable linear map, and the maximum of the raw grid (Eq. 10–11).

use super::context::Context;
use super::launch::{Grid, Kernel, SHARED_MEMORY, THREADS, kernels};
use super::memory::{CudaTensor, ElementType};
use crate::backend::Result;

/// Most lines of a map that a block computes: `STRIP` of `kernels/anomaly_map.cu`.
const STRIP: usize = 8;
/// Bytes of shared memory for the maximum: a float a warp.
const MAXIMA: usize = 4 * 8;

/// `A·s·Bᵀ` for every image, and the maximum of its grid: `[N, H0, W0], [H, H0], [W, W0] → [N, H, W], [N]`.
///
/// # Errors
/// [`LaunchTooLarge`](super::CudaError::LaunchTooLarge) for a grid of which not one line fits a block's memory: more than
/// 12280 columns.
pub(super) fn anomaly_map(
    context: &Context,
    scores: &CudaTensor,
    rows: &CudaTensor,
    columns: &CudaTensor,
) -> Result<(CudaTensor, CudaTensor)> {
    let [n, h, w] = scores.extents();
    let ([out_h, rows_h], [out_w, columns_w]) = (rows.extents(), columns.extents());
    assert_eq!((rows_h, columns_w), (h, w), "a weight for every row and column of the grid");
    assert!(h.checked_mul(w).is_some(), "a grid has fewer than 2³² scores");
    let mut maps = context.tensor(&[n as usize, out_h as usize, out_w as usize], ElementType::F32)?;
    let mut maxima = context.tensor(&[n as usize], ElementType::F32)?;
    let (strip, shared) = strip(w as usize);
    let blocks = u64::from(n) * (out_h as usize).div_ceil(strip) as u64;
    kernels::AnomalyMap {
        scores: scores.read(),
        rows: rows.read(),
        columns: columns.read(),
        out: maps.write(),
        maxima: maxima.write(),
        h,
        w,
        out_h,
        out_w,
        strip: strip as u32,
    }
    .launch(context, Grid::blocks(blocks, THREADS).shared(shared))?;
    Ok((maps, maxima))
}

/// The lines that a block computes of maps of grids `w` wide, and the bytes of shared memory it takes. Where not even one
/// line fits, the launch is refused.
fn strip(w: usize) -> (usize, usize) {
    let line = w.next_multiple_of(4) * 4;
    let lines = ((SHARED_MEMORY - MAXIMA) / line).clamp(1, STRIP);
    (lines, MAXIMA + lines * line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strip_is_as_large_as_shared_memory_allows() {
        assert_eq!(strip(28), (8, 32 + 8 * 112));
        assert_eq!(strip(1534), (7, 32 + 7 * 6144));
        assert_eq!(strip(12_280), (1, SHARED_MEMORY));
        assert!(strip(12_281).1 > SHARED_MEMORY, "refused at the launch");
    }
}
