//! Where the buffers of a recorded piece of work lie: one block of memory, shared by those that do not live together.
//!
//! A recording allocates in the same order every time, so sizes and lifetimes are known before it is captured. Buffers
//! are placed from the largest to the smallest, each at the lowest offset that none of its contemporaries covers
//! (Pisarchyk and Lee, *Efficient Memory Management for Deep Neural Net Inference*, 2020, "greedy by size").

/// Addresses are multiples of this many bytes, as those of the driver's own allocations are.
const ALIGNMENT: usize = 256;

/// A buffer on its way through a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) bytes: usize,
    /// When it was allocated, counted in allocations and releases of the trace.
    pub(super) born: usize,
    /// When it was released; `usize::MAX` for one that outlives the trace.
    pub(super) dead: usize,
}

impl Block {
    fn meets(&self, other: &Block) -> bool {
        self.born < other.dead && other.born < self.dead
    }

    fn room(&self) -> usize {
        self.bytes.next_multiple_of(ALIGNMENT)
    }
}

/// The allocations of a trace, in order, and the place of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// Size and offset of every allocation.
    pub(super) places: Vec<Place>,
    /// Bytes of the whole arena.
    pub(super) bytes: usize,
}

/// Where one allocation lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) bytes: usize,
    pub(super) offset: usize,
}

/// Places every block so that no two that live at the same time overlap.
pub(super) fn layout(blocks: &[Block]) -> Layout {
    let mut order: Vec<usize> = (0..blocks.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(blocks[i].bytes));
    let mut places = vec![Place { bytes: 0, offset: 0 }; blocks.len()];
    let mut placed: Vec<usize> = Vec::with_capacity(blocks.len());
    let mut total = 0;
    for index in order {
        let block = &blocks[index];
        let mut neighbours: Vec<(usize, usize)> = placed
            .iter()
            .filter(|&&other| blocks[other].meets(block))
            .map(|&other| (places[other].offset, blocks[other].room()))
            .collect();
        neighbours.sort_unstable();
        let mut offset = 0;
        for (start, room) in neighbours {
            if start >= offset + block.room() {
                break;
            }
            offset = offset.max(start + room);
        }
        places[index] = Place { bytes: block.bytes, offset };
        total = total.max(offset + block.room());
        placed.push(index);
    }
    Layout { places, bytes: total }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block(bytes: usize, born: usize, dead: usize) -> Block {
        Block { bytes, born, dead }
    }

    /// The most bytes that live at any one time: no layout can do with less.
    fn floor(blocks: &[Block]) -> usize {
        let alive = |time: usize| {
            blocks.iter().filter(|b| b.born <= time && time < b.dead).map(Block::room).sum::<usize>()
        };
        blocks.iter().map(|block| alive(block.born)).max().unwrap_or(0)
    }

    #[test]
    fn a_chain_of_layers_needs_two_buffers() {
        // Each layer's output lives until the next one is computed.
        let blocks: Vec<Block> = (0..20).map(|i| block(1 << 20, 2 * i, 2 * i + 3)).collect();
        assert_eq!(layout(&blocks).bytes, 2 << 20);
    }

    #[test]
    fn a_shortcut_keeps_its_place_while_the_branch_passes() {
        let blocks = [
            block(4096, 0, 10),
            block(1024, 1, 4),
            block(1024, 3, 6),
            block(4096, 5, usize::MAX),
            block(512, 11, 12),
        ];
        let layout = layout(&blocks);
        assert_eq!(layout.bytes, 4096 + 4096 + 1024);
        assert_eq!(layout.bytes, floor(&blocks));
    }

    proptest! {
        #[test]
        fn blocks_that_live_together_never_overlap(
            raw in prop::collection::vec((1usize..5000, 0usize..60, 1usize..40), 0..40)
        ) {
            let blocks: Vec<Block> = raw.iter().map(|&(bytes, born, life)| block(bytes, born, born + life)).collect();
            let layout = layout(&blocks);
            prop_assert!(layout.bytes >= floor(&blocks));
            prop_assert!(layout.bytes <= blocks.iter().map(Block::room).sum());
            for (i, (a, at)) in blocks.iter().zip(&layout.places).enumerate() {
                prop_assert_eq!(at.offset % ALIGNMENT, 0);
                prop_assert_eq!(at.bytes, a.bytes);
                prop_assert!(at.offset + a.bytes <= layout.bytes);
                for (b, other) in blocks.iter().zip(&layout.places).skip(i + 1) {
                    let apart = at.offset + a.bytes <= other.offset || other.offset + b.bytes <= at.offset;
                    prop_assert!(apart || !a.meets(b), "{:?} at {} and {:?} at {}", a, at.offset, b, other.offset);
                }
            }
        }
    }
}
