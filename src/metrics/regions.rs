//! Connected regions of a mask, 8-connected.

use crate::rect::Rect;

/// One region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Number of pixels.
    pub area: usize,
    /// The smallest rectangle around it.
    pub rect: Rect,
}

/// A mask with its regions told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelled {
    /// For every pixel the number of its region, counted from 1 in reading order; 0 outside.
    pub labels: Vec<u32>,
    /// Region `label − 1`.
    pub regions: Vec<Region>,
}

/// The regions of a mask.
pub fn regions(mask: &[bool], width: usize, height: usize) -> Vec<Region> {
    label_regions(mask, width, height).regions
}

/// Labels a mask in two passes: provisional labels joined by union–find, then numbers in reading order.
///
/// # Panics
/// If `mask` does not hold `width · height` values.
pub fn label_regions(mask: &[bool], width: usize, height: usize) -> Labelled {
    assert_eq!(mask.len(), width * height, "a mask has one value a pixel");
    let mut labels = vec![0u32; mask.len()];
    // parents[l] leads to the smallest label of l's region; parents[0] is unused.
    let mut parents = vec![0u32];
    for y in 0..height {
        for x in 0..width {
            let here = y * width + x;
            if !mask[here] {
                continue;
            }
            // The four neighbours that came before: left, and the three above.
            let mut label = 0;
            let mut meet = |other: u32, parents: &mut Vec<u32>| {
                if other != 0 {
                    label = if label == 0 { find(parents, other) } else { union(parents, label, other) };
                }
            };
            if x > 0 {
                meet(labels[here - 1], &mut parents);
            }
            if y > 0 {
                for above in x.saturating_sub(1)..(x + 2).min(width) {
                    meet(labels[here - width - x + above], &mut parents);
                }
            }
            if label == 0 {
                label = parents.len() as u32;
                parents.push(label);
            }
            labels[here] = label;
        }
    }

    let mut numbers = vec![0u32; parents.len()];
    let mut regions: Vec<Region> = Vec::new();
    for y in 0..height {
        for x in 0..width {
            let label = &mut labels[y * width + x];
            if *label == 0 {
                continue;
            }
            let root = find(&mut parents, *label) as usize;
            let (x, y) = (x as u32, y as u32);
            if numbers[root] == 0 {
                regions.push(Region { area: 0, rect: Rect { x0: x, y0: y, x1: x + 1, y1: y + 1 } });
                numbers[root] = regions.len() as u32;
            }
            *label = numbers[root];
            let region = &mut regions[*label as usize - 1];
            region.area += 1;
            let rect = &mut region.rect;
            (rect.x0, rect.x1, rect.y1) = (rect.x0.min(x), rect.x1.max(x + 1), y + 1);
        }
    }
    Labelled { labels, regions }
}

fn find(parents: &mut [u32], mut label: u32) -> u32 {
    while parents[label as usize] != label {
        let grandparent = parents[parents[label as usize] as usize];
        parents[label as usize] = grandparent;
        label = grandparent;
    }
    label
}

fn union(parents: &mut [u32], a: u32, b: u32) -> u32 {
    let (a, b) = (find(parents, a), find(parents, b));
    let (low, high) = (a.min(b), a.max(b));
    parents[high as usize] = low;
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mask(rows: &[&str]) -> (Vec<bool>, usize, usize) {
        let pixels = rows.iter().flat_map(|row| row.bytes().map(|byte| byte == b'#')).collect();
        (pixels, rows[0].len(), rows.len())
    }

    #[test]
    fn diagonals_connect_and_arms_join_late() {
        let (pixels, width, height) = mask(&["#...#.#", ".#..#.#", "....###", "#......"]);
        let labelled = label_regions(&pixels, width, height);
        let areas: Vec<usize> = labelled.regions.iter().map(|region| region.area).collect();
        assert_eq!(areas, [2, 7, 1]);
        assert_eq!(labelled.regions[1].rect, Rect { x0: 4, y0: 0, x1: 7, y1: 3 });
        assert_eq!(labelled.labels[6], 2);
        assert!(regions(&[], 0, 0).is_empty());
    }

    proptest! {
        /// Two pixels have one label exactly if a flood fill connects them.
        #[test]
        fn labels_equal_a_flood_fill(pixels in proptest::collection::vec(any::<bool>(), 42)) {
            let (width, height) = (7, 6);
            let labelled = label_regions(&pixels, width, height);
            let mut seen = vec![0u32; pixels.len()];
            let mut count = 0;
            for start in 0..pixels.len() {
                if !pixels[start] || seen[start] != 0 {
                    continue;
                }
                count += 1;
                let mut stack = vec![start];
                while let Some(at) = stack.pop() {
                    if seen[at] != 0 {
                        continue;
                    }
                    seen[at] = count;
                    let (x, y) = ((at % width) as i32, (at / width) as i32);
                    for (dx, dy) in (-1..=1).flat_map(|dx| (-1..=1).map(move |dy| (dx, dy))) {
                        let (nx, ny) = (x + dx, y + dy);
                        if (0..width as i32).contains(&nx) && (0..height as i32).contains(&ny) {
                            let next = ny as usize * width + nx as usize;
                            if pixels[next] {
                                stack.push(next);
                            }
                        }
                    }
                }
            }
            prop_assert_eq!(labelled.labels, seen);
            prop_assert_eq!(labelled.regions.len() as u32, count);
        }
    }
}
