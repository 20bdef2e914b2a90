//! `column_sums`, and what all operations share that sum over the rows of a matrix: the grids of the two stages.
//!
//! The first stage sums groups of rows, the second joins the groups; `kernels/common.cuh` says how.

use super::context::Context;
use super::error::CudaError;
use super::launch::{Grid, Kernel, THREADS, kernels};
use super::memory::{CudaTensor, ElementType, Scratch};
use crate::backend::Result;

/// Neighbouring columns of a block: `COLUMNS` of `kernels/common.cuh`.
const BLOCK_COLUMNS: u32 = 32;
/// Rows that a block of the first stage sums: `GROUP_ROWS` of `kernels/common.cuh`.
const GROUP_ROWS: u32 = 128;

/// The extents of a matrix, as kernels take them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extents {
    pub(super) rows: u32,
    pub(super) columns: u32,
}

impl Extents {
    /// Of a tensor of two axes.
    pub(super) fn of(matrix: &CudaTensor) -> Self {
        let [rows, columns] = matrix.axes::<2>().map(|extent| {
            assert!(u32::try_from(extent).is_ok(), "an axis has fewer than 2³² elements, not {extent}");
            extent as u32
        });
        Self { rows, columns }
    }

    /// Groups of rows.
    pub(super) fn groups(self) -> u32 {
        self.rows.div_ceil(GROUP_ROWS)
    }

    /// The number of partial sums, `[groups, columns]`.
    pub(super) fn partials(self) -> usize {
        self.groups() as usize * self.columns as usize
    }

    /// The first stage.
    pub(super) fn grid_of_groups(self) -> Grid {
        Grid::plane(self.column_blocks(), u64::from(self.groups()), THREADS)
    }

    /// The second stage.
    pub(super) fn grid_of_columns(self) -> Grid {
        Grid::blocks(self.column_blocks(), THREADS)
    }

    fn column_blocks(self) -> u64 {
        u64::from(self.columns.div_ceil(BLOCK_COLUMNS))
    }
}

/// The sum of every column, `[R, C] → [C]`.
pub(super) fn column_sums(context: &Context, input: &CudaTensor) -> Result<CudaTensor> {
    let extents @ Extents { rows, columns } = Extents::of(input);
    let mut partials = context.scratch(extents.partials())?;
    kernels::ColumnSumsOfGroups { input: input.read(), partials: partials.write(), rows, columns }
        .launch(context, extents.grid_of_groups())?;
    Ok(join_groups(context, &partials, extents)?)
}

/// The second stage alone: the partial sums of a matrix, `[groups, C]`, to `[C]`.
pub(super) fn join_groups(
    context: &Context,
    partials: &Scratch<f64>,
    extents: Extents,
) -> std::result::Result<CudaTensor, CudaError> {
    let (groups, columns) = (extents.groups(), extents.columns);
    assert_eq!(partials.read().len(), extents.partials(), "a sum for every group and column");
    let mut out = context.tensor(&[columns as usize], ElementType::F32)?;
    kernels::ColumnSums { partials: partials.read(), out: out.write(), groups, columns }
        .launch(context, extents.grid_of_columns())?;
    Ok(out)
}
