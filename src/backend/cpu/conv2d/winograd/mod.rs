//! 3×3 convolutions by Winograd's algorithm.
//!
//! The output is cut into tiles of 4×4 pixels. What a tile reads is transformed, which leaves independent products
//! `[tiles, I]·[I, O]`, and the products of a tile are transformed back. How many there are is the [`scheme`]'s, of which each
//! stride has one: 36 where it is 1 ([`stride1`]), or 25 for tiles of 3×3 where weights cost more than products
//! ([`stride1_narrow`]), and 81 where it is 2 ([`stride2`]). The definition has 144 for as many outputs.
//!
//! Work goes in two steps ([`step`]). First inputs are transformed, `[block, product, tile, I]`. Then a block of tiles and a
//! few panels of output channels go through all products, back to pixels and through bias, residual and ReLU, without leaving the
//! core's second-level cache. With few input channels one core does both for a block; with many, all cores do the
//! first step for a bounded number of blocks, and then the second.

mod grid;
mod scheme;
mod step;
mod stride1;
mod stride1_narrow;
mod stride2;
#[cfg(test)]
mod tests;
mod vector;
mod weights;

pub(super) use weights::TransformedWeights;

use super::Call;
use super::disjoint::Disjoint;
use super::epilogue::Epilogue;
use super::im2col::Geometry;
use crate::backend::ConvolutionGeometry;
use crate::backend::cpu::operand::Operand;
use crate::backend::cpu::panels::Panels;
use grid::Grid;
use rayon::prelude::*;
use scheme::{Scheme, products_along};
use std::marker::PhantomData;
use step::{Layout, Step};
use stride1::Stride1;
use stride1_narrow::Stride1Narrow;
use stride2::Stride2;
use vector::MOST_LANES;

/// Bytes of transformed inputs held at a time: as many as there are of weights, within these bounds. Both stay within
/// the last-level cache; small weights are read again sooner than large ones.
const LEAST_TRANSFORMED: usize = 2 << 20;
const MOST_TRANSFORMED: usize = 12 << 20;
/// Tiles of a block at most, two products of AVX-512 and one of AVX2: their products with one panel take 129 KB, 290 KB where the
/// stride is 2.
const BLOCK_TILES: usize = 28;
/// Bytes of a block's transformed inputs that leave room in a core's second-level cache of a megabyte.
const RESIDENT_BYTES: usize = 640 << 10;
/// Panels that a task takes, so that a block's transformed inputs are brought half as often.
const PANELS_TOGETHER: usize = 2;
/// Tasks a thread at least, so that threads finish together.
const TASKS_PER_THREAD: usize = 4;
/// Blocks that a core takes through both steps come in multiples of this, so that few cores finish together.
const BLOCKS_MULTIPLE: usize = 4;
/// Bytes of weights that no cache keeps from one image to the next.
const FROM_MEMORY: usize = 16 << 20;
/// Fewer input channels leave too little to multiply beside the transforms.
const FEWEST_INPUTS: usize = 16;

/// Whether the algorithm computes such a convolution.
pub(super) fn serves(geometry: &ConvolutionGeometry) -> bool {
    geometry.kernel == (3, 3) && matches!(geometry.stride, 1 | 2) && geometry.inputs >= FEWEST_INPUTS
}

pub(super) fn conv2d<O: Operand>(
    call: &Call<'_, O::Sum>,
    weights: &TransformedWeights<O>,
    out: &mut [O::Sum],
) {
    let Geometry { stride, out_h, out_w, .. } = call.geometry;
    match stride {
        Stride1Narrow::STRIDE if weights.panels().bytes() >= FROM_MEMORY && narrow_is_near(out_h, out_w) => {
            by_scheme::<O, Stride1Narrow, _>(call, weights.panels(), out);
        }
        Stride1::STRIDE => by_scheme::<O, Stride1, _>(call, weights.panels(), out),
        Stride2::STRIDE => by_scheme::<O, Stride2, _>(call, weights.panels(), out),
        stride => unreachable!("no scheme serves a stride of {stride}"),
    }
}

/// Whether tiles of 3×3 outputs take a quarter more products at most than those of 4×4. For every batch the same, so that an
/// image's bits do not depend on the others.
fn narrow_is_near(out_h: usize, out_w: usize) -> bool {
    let narrow = [out_h, out_w].map(products_along::<Stride1Narrow, _>);
    let wide = [out_h, out_w].map(products_along::<Stride1, _>);
    4 * narrow[0] * narrow[1] <= 5 * wide[0] * wide[1]
}

fn by_scheme<O: Operand, S: Scheme<LINE>, const LINE: usize>(
    call: &Call<'_, O::Sum>,
    panels: &Panels<O>,
    out: &mut [O::Sum],
) {
    let g = &call.geometry;
    let grid = Grid::new(S::OUTPUTS, out.len() / (g.out_h * g.out_w * call.bias.len()), g.out_h, g.out_w);
    let tiles = grid.tiles();
    let tile_bytes = S::PRODUCTS * g.inputs.next_multiple_of(MOST_LANES) / O::NUMBERS * size_of::<O>();
    let epilogue = Epilogue::new(call.bias, call.residual, call.relu);
    let out = Disjoint::new(out);

    // A core does both steps for a block whose inputs stay in its second-level cache beside a panel's products, if
    // there are tiles enough to fill blocks.
    if BLOCK_TILES * tile_bytes <= RESIDENT_BYTES && tiles >= BLOCKS_MULTIPLE * BLOCK_TILES / 2 {
        let blocks = tiles.div_ceil(BLOCK_TILES).next_multiple_of(BLOCKS_MULTIPLE);
        let block_tiles = tiles.div_ceil(blocks);
        (0..tiles.div_ceil(block_tiles)).into_par_iter().with_max_len(1).for_each(|block| {
            let first = block * block_tiles;
            let tiles = first..(first + block_tiles).min(tiles);
            let layout = Layout::new::<O>(S::PRODUCTS, g.inputs, block_tiles);
            let mut transformed = call.pool.tensor(&[layout.block * O::NUMBERS]);
            let step = Step { call, grid, tiles, layout, scheme: PhantomData::<S> };
            let transformed: &mut [O] = bytemuck::cast_slice_mut(transformed.data_mut());
            let shared = Disjoint::new(transformed);
            (0..step.tiles.len()).for_each(|tile| step.transform_input(tile, &shared));
            (0..panels.count())
                .for_each(|panel| step.multiply(0, panel..panel + 1, transformed, panels, epilogue, &out));
        });
        return;
    }
    let pass_bytes = panels.bytes().clamp(LEAST_TRANSFORMED, MOST_TRANSFORMED);
    let pass_tiles = (pass_bytes / tile_bytes / BLOCK_TILES).max(1) * BLOCK_TILES;
    for first in (0..tiles).step_by(pass_tiles) {
        let tiles = first..(first + pass_tiles).min(tiles);
        let blocks = tiles.len().div_ceil(BLOCK_TILES);
        let layout = Layout::new::<O>(S::PRODUCTS, g.inputs, tiles.len().div_ceil(blocks));
        let mut transformed = call.pool.tensor(&[blocks, layout.block * O::NUMBERS]);
        let step = Step { call, grid, tiles, layout, scheme: PhantomData::<S> };
        let transformed: &mut [O] = bytemuck::cast_slice_mut(transformed.data_mut());
        let shared = Disjoint::new(transformed);
        (0..step.tiles.len()).into_par_iter().for_each(|tile| step.transform_input(tile, &shared));
        // Unless some of the threads would be left without a task.
        let many =
            blocks * panels.count() >= TASKS_PER_THREAD * PANELS_TOGETHER * rayon::current_num_threads();
        let together = if many { PANELS_TOGETHER } else { 1 };
        let groups = panels.count().div_ceil(together);
        // Neighbouring tasks share their panels.
        (0..blocks * groups).into_par_iter().with_max_len(1).for_each(|task| {
            let (block, first) = (task % blocks, task / blocks * together);
            let chosen = first..(first + together).min(panels.count());
            step.multiply(block, chosen, transformed, panels, epilogue, &out);
        });
    }
}
