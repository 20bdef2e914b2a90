//! Where the tiles of a batch lie, and their order.
//!
//! An axis on which two outputs or fewer are left ends with a short tile, which has some of the products only. The tiles of
//! all images come sorted by what is short of them: x, nothing, y, both. So those that have a product are neighbours,
//! whichever it is.

use super::scheme::ends_short;
use std::ops::Range;

/// The tiles of a batch.
#[derive(Clone, Copy)]
pub(super) struct Grid {
    /// Outputs of a tile along one axis, if it is not short.
    outputs: usize,
    /// Tiles of an image that are not short, along y and x: a short one may follow.
    full: (usize, usize),
    /// Rows and columns of an image's tiles of each kind.
    extents: [(usize, usize); 4],
    /// Where each kind ends.
    ends: [usize; 4],
}

/// One tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tile {
    pub(super) image: usize,
    /// Its first output.
    pub(super) y: usize,
    pub(super) x: usize,
    /// Along y and x.
    pub(super) short: (bool, bool),
}

/// What is short of a tile, in the tiles' order.
const ORDER: [(bool, bool); 4] = [(false, true), (false, false), (true, false), (true, true)];

impl Grid {
    pub(super) fn new(outputs: usize, images: usize, out_h: usize, out_w: usize) -> Self {
        let short = [out_h, out_w].map(|size| usize::from(ends_short(size, outputs)));
        let full = [out_h.div_ceil(outputs) - short[0], out_w.div_ceil(outputs) - short[1]];
        let along = |axis: usize, is_short: bool| if is_short { short[axis] } else { full[axis] };
        let extents = ORDER.map(|(y, x)| (along(0, y), along(1, x)));
        let mut end = 0;
        let ends = extents.map(|(rows, columns)| {
            end += images * rows * columns;
            end
        });
        Self { outputs, full: full.into(), extents, ends }
    }

    pub(super) fn tiles(&self) -> usize {
        self.ends[3]
    }

    pub(super) fn tile(&self, index: usize) -> Tile {
        assert!(index < self.tiles(), "the batch has such a tile");
        let kind = self.ends.iter().take_while(|&&end| end <= index).count();
        let (short, (rows, columns)) = (ORDER[kind], self.extents[kind]);
        let index = index - self.begin(kind);
        let row = if short.0 { self.full.0 } else { index / columns % rows };
        let column = if short.1 { self.full.1 } else { index % columns };
        let image = index / (rows * columns);
        Tile { image, y: row * self.outputs, x: column * self.outputs, short }
    }

    /// Where a kind begins.
    fn begin(&self, kind: usize) -> usize {
        if kind == 0 { 0 } else { self.ends[kind - 1] }
    }

    /// Which of `tiles` are of one kind.
    pub(super) fn of_kind(&self, tiles: &Range<usize>, short: (bool, bool)) -> Range<usize> {
        let kind = ORDER.iter().take_while(|&&other| other != short).count();
        within(tiles, self.begin(kind), self.ends[kind])
    }

    /// Which of `tiles` have a product: all, or those that are not short along an axis where it takes that.
    pub(super) fn having(&self, tiles: &Range<usize>, (full_y, full_x): (bool, bool)) -> Range<usize> {
        let first = if full_x { self.ends[0] } else { 0 };
        let last = match (full_y, full_x) {
            (true, _) => self.ends[1],
            (false, true) => self.ends[2],
            (false, false) => self.ends[3],
        };
        within(tiles, first, last)
    }
}

/// Those of `tiles` from `first` on and before `last`.
fn within(tiles: &Range<usize>, first: usize, last: usize) -> Range<usize> {
    let start = tiles.start.max(first).min(tiles.end);
    start..tiles.end.min(last).max(start)
}

#[cfg(test)]
mod tests {
    use super::super::scheme::SHORT_OUTPUTS;
    use super::*;

    /// Every output is in one tile, and the tiles that have a product are the neighbours that `having` names.
    #[test]
    fn tiles_cover_every_output_once() {
        let sizes = [(1, 14, 14), (3, 14, 5), (2, 3, 18), (1, 1, 1), (2, 8, 7), (2, 2, 12)];
        for (full_outputs, (images, out_h, out_w)) in
            sizes.into_iter().flat_map(|size| [(3, size), (4, size)])
        {
            let grid = Grid::new(full_outputs, images, out_h, out_w);
            let tiles: Vec<Tile> = (0..grid.tiles()).map(|index| grid.tile(index)).collect();
            let mut covered = vec![0; images * out_h * out_w];
            for tile in &tiles {
                let outputs = |short| if short { SHORT_OUTPUTS } else { full_outputs };
                for y in tile.y..(tile.y + outputs(tile.short.0)).min(out_h) {
                    for x in tile.x..(tile.x + outputs(tile.short.1)).min(out_w) {
                        covered[(tile.image * out_h + y) * out_w + x] += 1;
                    }
                }
            }
            assert!(covered.iter().all(|&times| times == 1), "{images} × {out_h} × {out_w}");
            let all = tiles.len();
            for some in [0..all, 0..all / 2, all / 3..all, all / 3..all / 2] {
                for full in ORDER {
                    let has = |tile: &Tile| !(full.0 && tile.short.0 || full.1 && tile.short.1);
                    let expected: Vec<usize> = some.clone().filter(|&index| has(&tiles[index])).collect();
                    let having: Vec<usize> = grid.having(&some, full).collect();
                    assert_eq!(having, expected, "{images} × {out_h} × {out_w}, {some:?}, {full:?}");
                    let expected: Vec<usize> =
                        some.clone().filter(|&index| tiles[index].short == full).collect();
                    let of_kind: Vec<usize> = grid.of_kind(&some, full).collect();
                    assert_eq!(of_kind, expected, "{images} × {out_h} × {out_w}, {some:?}, {full:?}");
                }
            }
        }
    }
}
