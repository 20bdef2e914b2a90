//! The two steps of a convolution: inputs to what products multiply, and through products to outputs.

use super::Call;
use super::grid::{Grid, Tile};
use super::scheme::{MATRICES, MOST_OUTPUTS, MOST_PRODUCTS, Scheme, transform_input, transform_output};
use super::vector::{self, MOST_LANES, Transform, Vector};
use crate::backend::cpu::conv2d::direct::GAP;
use crate::backend::cpu::conv2d::disjoint::Disjoint;
use crate::backend::cpu::conv2d::epilogue::Epilogue;
use crate::backend::cpu::operand::Operand;
use crate::backend::cpu::panels::{
    Finish, PANEL, Panels, Residual, Rows, Store, lines_ahead, most_rows, multiply_panel, part, share,
};
use crate::tensor::Scalar;
use std::marker::PhantomData;
use std::ops::Range;

/// How a block's transformed inputs lie, `[product, tile, I]`, in operands.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    /// Tiles of a block.
    tiles: usize,
    /// From one tile to the next.
    stride: usize,
    /// From one product to the next.
    plane: usize,
    /// From one block to the next.
    pub(super) block: usize,
}

impl Layout {
    pub(super) fn new<O: Operand>(products: usize, inputs: usize, tiles: usize) -> Self {
        let stride = inputs.next_multiple_of(MOST_LANES) / O::NUMBERS + GAP;
        // Planes of a power of two of bytes would all want the same place in a cache.
        let plane = tiles * stride + GAP;
        Self { tiles, stride, plane, block: products * plane }
    }
}

/// Some of the tiles on their way through both steps.
pub(super) struct Step<'a, T: Scalar, S, const LINE: usize> {
    pub(super) call: &'a Call<'a, T>,
    pub(super) grid: Grid,
    pub(super) tiles: Range<usize>,
    pub(super) layout: Layout,
    pub(super) scheme: PhantomData<S>,
}

impl<T: Scalar, S: Scheme<LINE>, const LINE: usize> Step<'_, T, S, LINE> {
    /// `[N, H, W, I] → [block, product, tile, I]`, for one of the tiles.
    pub(super) fn transform_input<O: Operand<Sum = T>>(&self, tile: usize, transformed: &Disjoint<'_, O>) {
        let at = self.grid.tile(self.tiles.start + tile);
        // Each kind has a task of its own: a closure that is called in several places is not compiled into them.
        match at.short {
            (false, false) => self.run_input::<O, false, false>(tile, at, transformed),
            (false, true) => self.run_input::<O, false, true>(tile, at, transformed),
            (true, false) => self.run_input::<O, true, false>(tile, at, transformed),
            (true, true) => self.run_input::<O, true, true>(tile, at, transformed),
        }
    }

    fn run_input<O: Operand<Sum = T>, const Y: bool, const X: bool>(
        &self,
        tile: usize,
        at: Tile,
        transformed: &Disjoint<'_, O>,
    ) {
        let task = InputTask::<O, S, LINE, Y, X> { step: self, tile, at, transformed };
        vector::run(self.call.instructions, task);
    }

    /// One block of tiles by some panels.
    pub(super) fn multiply<O: Operand<Sum = T>>(
        &self,
        block: usize,
        chosen: Range<usize>,
        transformed: &[O],
        panels: &Panels<O>,
        epilogue: Epilogue<'_, T>,
        out: &Disjoint<'_, T>,
    ) {
        let first = block * self.layout.tiles;
        let count = self.layout.tiles.min(self.tiles.len() - first);
        let mut products = self.call.pool.tensor(&[chosen.len(), S::PRODUCTS, count, PANEL]);
        let transformed = &transformed[block * self.layout.block..][..self.layout.block];
        let tiles = self.tiles.start + first..self.tiles.start + first + count;
        self.multiply_planes(&tiles, transformed, panels, chosen.clone(), products.data_mut());
        for (panel, data) in chosen.zip(products.data().chunks_exact(S::PRODUCTS * count * PANEL)) {
            let products = Products { data, tiles: tiles.clone(), channel: panel * PANEL };
            self.transform_output::<false, false>(&products, epilogue, out);
            self.transform_output::<false, true>(&products, epilogue, out);
            self.transform_output::<true, false>(&products, epilogue, out);
            self.transform_output::<true, true>(&products, epilogue, out);
        }
    }

    /// The outputs of the block's tiles of one kind.
    fn transform_output<const Y: bool, const X: bool>(
        &self,
        products: &Products<'_, T>,
        epilogue: Epilogue<'_, T>,
        out: &Disjoint<'_, T>,
    ) {
        let tiles = self.grid.of_kind(&products.tiles, (Y, X));
        if !tiles.is_empty() {
            let task = OutputTask::<T, S, LINE, Y, X> { step: self, products, tiles, epilogue, out };
            vector::run(self.call.instructions, task);
        }
    }

    /// The products of a block's tiles with some panels, `[panel, product, tile, PANEL]`, as far as tiles have them. A panel's
    /// weights are `[36, I, PANEL]`. The panels follow one another for every product, whose rows come from afar.
    fn multiply_planes<O: Operand<Sum = T>>(
        &self,
        tiles: &Range<usize>,
        transformed: &[O],
        panels: &Panels<O>,
        chosen: Range<usize>,
        products: &mut [T],
    ) {
        let Layout { stride, plane, .. } = self.layout;
        let matrix = panels.depth() / MATRICES * PANEL;
        // Weights of one block only come from memory, and are all that counts.
        let several_blocks = self.tiles.len() > tiles.len();
        let plane_products = tiles.len() * PANEL;
        for i in 0..S::PRODUCTS {
            let (row, column) = S::place(i);
            let having = self.grid.having(tiles, (!S::SHORT[row], !S::SHORT[column]));
            if having.is_empty() {
                continue;
            }
            let (first, count) = (having.start - tiles.start, having.len());
            let next_rows = transformed.get((i + 1) * plane + first * stride..).unwrap_or_default();
            let next_rows = &next_rows[..(count * stride).min(next_rows.len())];
            let groups = count.div_ceil(most_rows(self.call.instructions));
            let group = count.div_ceil(groups);
            // Whether one of the two that a product fetches can be the whole next matrix, two lines a row: the other is rows then.
            let room = groups * lines_ahead(self.call.instructions, group) > 1;
            for panel in chosen.clone() {
                let weights = &panels.panel(panel)[S::matrix(i) * matrix..][..matrix];
                // Behind the last panel's matrix comes the first one's next, and behind its last another task's first.
                let next = match (panel + 1 < chosen.end, i + 1 < S::PRODUCTS) {
                    (true, _) => panels.panels_from(panel + 1).get(S::matrix(i) * matrix..),
                    (false, true) => panels.panels_from(chosen.start).get(S::matrix(i + 1) * matrix..),
                    (false, false) => panels.panels_from(chosen.end).get(..),
                };
                let next = next.and_then(|next| next.get(..matrix)).unwrap_or_default();
                let place = ((panel - chosen.start) * S::PRODUCTS + i) * plane_products + first * PANEL;
                let products = &mut products[place..][..count * PANEL];
                for (index, products) in products.chunks_mut(group * PANEL).enumerate() {
                    let from = i * plane + (first + index * group) * stride;
                    let rows = Rows::unbroken(&transformed[from..], stride, products.len() / PANEL);
                    let store =
                        Store { out: products.as_mut_ptr(), stride: PANEL, width: PANEL, finish: None };
                    let ahead = if room && several_blocks {
                        [part(next, index, groups), part(next_rows, index, groups)]
                    } else {
                        share(next, index, groups)
                    };
                    // SAFETY: `products` is borrowed mutably and holds the rows.
                    unsafe { multiply_panel(self.call.instructions, rows, weights, ahead, store) };
                }
            }
        }
    }
}

/// One tile of the input, all channels.
struct InputTask<'a, O: Operand, S, const LINE: usize, const Y: bool, const X: bool> {
    step: &'a Step<'a, O::Sum, S, LINE>,
    /// Its place among the step's.
    tile: usize,
    at: Tile,
    transformed: &'a Disjoint<'a, O>,
}

impl<O: Operand, S: Scheme<LINE>, const LINE: usize, const Y: bool, const X: bool> Transform<O::Sum>
    for InputTask<'_, O, S, LINE, Y, X>
{
    #[inline(always)]
    unsafe fn run<V: Vector<O::Sum>>(self) {
        let Step { call, layout, .. } = self.step;
        let g = &call.geometry;
        let Tile { image, y, x, .. } = self.at;
        let (block, place) = (self.tile / layout.tiles, self.tile % layout.tiles);
        // In coordinates shifted by the padding, so that they are never negative.
        let (top, left) = (y * S::STRIDE, x * S::STRIDE);
        let inside = |position: usize, size: usize| (g.padding..g.padding + size).contains(&position);
        // Where the tile's pixels begin, as far as they are inside the image.
        let mut pixels = [None; MOST_PRODUCTS];
        for (i, pixel) in pixels[..S::PRODUCTS].iter_mut().enumerate() {
            let (y, x) = (top + i / LINE, left + i % LINE);
            if inside(y, g.h) && inside(x, g.w) {
                *pixel = Some(((image * g.h + y - g.padding) * g.w + x - g.padding) * g.inputs);
            }
        }
        let last = pixels.iter().flatten().max();
        assert!(last.is_none_or(|last| last + g.inputs <= call.input.len()), "pixels are inside the input");
        for channel in (0..g.inputs).step_by(V::LANES) {
            let count = V::LANES.min(g.inputs - channel);
            let load = |row: usize, column: usize| {
                let Some(pixel) = pixels[row * LINE + column] else {
                    // SAFETY: the caller has the instructions.
                    return unsafe { V::splat(O::Sum::ZERO) };
                };
                if count == V::LANES {
                    // SAFETY: as above; the pixel has `count` channels from this one on.
                    return unsafe { V::load(call.input.as_ptr().add(pixel + channel)) };
                }
                let mut lanes = [O::Sum::ZERO; MOST_LANES];
                lanes[..count].copy_from_slice(&call.input[pixel + channel..][..count]);
                // SAFETY: as above; no vector has more lanes.
                unsafe { V::load(lanes.as_ptr()) }
            };
            let first = block * layout.block + place * layout.stride + channel / O::NUMBERS;
            let to = self.transformed.rows(first, S::PRODUCTS, layout.plane, V::LANES / O::NUMBERS);
            let store = |i: usize, value: V| {
                // SAFETY: no other task has this tile; `rows` checked the extents.
                unsafe { store_operands::<O, V>(value, to.add(i * layout.plane)) };
            };
            // SAFETY: the caller has the instructions.
            unsafe { transform_input::<_, _, S, LINE, Y, X>(load, store) };
        }
    }
}

/// Rounds a vector into operands.
///
/// # Safety
/// They can be written.
#[inline(always)]
unsafe fn store_operands<O: Operand, V: Vector<O::Sum>>(value: V, to: *mut O) {
    if O::NUMBERS == 1 {
        // SAFETY: the caller's promise; an operand of one number is a number.
        unsafe { value.store(to.cast()) };
        return;
    }
    let mut lanes = [O::Sum::ZERO; MOST_LANES];
    // SAFETY: no vector has more lanes.
    unsafe { value.store(lanes.as_mut_ptr()) };
    // SAFETY: the caller's promise.
    let to = unsafe { std::slice::from_raw_parts_mut(to, V::LANES / O::NUMBERS) };
    O::pack(&lanes[..V::LANES], to);
}

/// The products of a block of tiles with a panel.
struct Products<'a, T> {
    /// `[product, tile, PANEL]`.
    data: &'a [T],
    tiles: Range<usize>,
    /// The panel's first.
    channel: usize,
}

/// The outputs of some of the tiles.
struct OutputTask<'a, T: Scalar, S, const LINE: usize, const Y: bool, const X: bool> {
    step: &'a Step<'a, T, S, LINE>,
    products: &'a Products<'a, T>,
    tiles: Range<usize>,
    epilogue: Epilogue<'a, T>,
    out: &'a Disjoint<'a, T>,
}

impl<T: Scalar, S: Scheme<LINE>, const LINE: usize, const Y: bool, const X: bool> Transform<T>
    for OutputTask<'_, T, S, LINE, Y, X>
{
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        let g = &self.step.call.geometry;
        let Products { data, tiles, channel: first_channel } = self.products;
        let (count, outputs) = (tiles.len(), self.epilogue.channels());
        assert!(data.len() >= S::PRODUCTS * count * PANEL, "every tile has its products");
        assert!(self.tiles.start >= tiles.start && self.tiles.end <= tiles.end, "the tiles are the block's");
        for tile in self.tiles.clone() {
            let Tile { image, y: top, x: left, .. } = self.step.grid.tile(tile);
            let place = tile - tiles.start;
            for offset in (0..PANEL.min(outputs - first_channel)).step_by(V::LANES) {
                let channel = first_channel + offset;
                let width = V::LANES.min(outputs - channel);
                let products = &data[place * PANEL + offset..];
                // SAFETY: the caller has the instructions; the assertions above bound the products.
                let load = |i: usize| unsafe { V::load(products.as_ptr().add(i * count * PANEL)) };
                let store = |row: usize, line: [V; MOST_OUTPUTS]| {
                    if top + row >= g.out_h {
                        return;
                    }
                    for (column, value) in line.into_iter().take(S::OUTPUTS).enumerate() {
                        if left + column >= g.out_w {
                            break;
                        }
                        let pixel = (image * g.out_h + top + row) * g.out_w + left + column;
                        // SAFETY: no other task has this tile and this panel.
                        let out = unsafe { self.out.part(pixel * outputs + channel, width) };
                        // SAFETY: the caller has the instructions.
                        unsafe { finish(value, &self.epilogue.at(pixel, channel), out) };
                    }
                };
                // SAFETY: the caller has the instructions.
                unsafe { transform_output::<_, _, S, LINE, Y, X>(load, store) };
            }
        }
    }
}

/// Takes a vector of sums through bias, residual and ReLU.
///
/// # Safety
/// The machine has the vectors' instructions.
#[inline(always)]
unsafe fn finish<T: Scalar, V: Vector<T>>(sums: V, finish: &Finish<'_, T>, out: &mut [T]) {
    if out.len() < V::LANES {
        let mut lanes = [T::ZERO; MOST_LANES];
        // SAFETY: no vector has more lanes.
        unsafe { sums.store(lanes.as_mut_ptr()) };
        finish.apply(0, &lanes, out);
        return;
    }
    // SAFETY: the caller's promise; the slices have a vector's length.
    unsafe {
        let mut sums = sums.add(V::load(finish.bias[..V::LANES].as_ptr()));
        match finish.residual {
            Residual::None => {}
            Residual::Of(residual) => sums = sums.add(V::load(residual[..V::LANES].as_ptr())),
            Residual::InPlace => sums = sums.add(V::load(out[..V::LANES].as_ptr())),
        }
        sums.at_least(V::splat(finish.floor)).store(out[..V::LANES].as_mut_ptr());
    }
}
