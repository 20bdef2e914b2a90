//! The outline of what lies above a level, by marching squares.

use crate::data::Mask;

use super::geometry::ScoreMap;

/// A piece of a line. Coordinates are continuous: pixel (x, y) covers `[x, x + 1] × [y, y + 1]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Segment {
    /// One end, as (x, y).
    pub from: [f32; 2],
    /// The other end, as (x, y).
    pub to: [f32; 2],
}

impl Segment {
    /// The segment in a picture scaled by `scale` and then moved by `offset`.
    pub fn placed(self, scale: [f32; 2], offset: [f32; 2]) -> Self {
        let place = |[x, y]: [f32; 2]| [x * scale[0] + offset[0], y * scale[1] + offset[1]];
        Self { from: place(self.from), to: place(self.to) }
    }
}

/// The outline of the pixels whose score is above `level`, as segments in no particular order.
///
/// Between two pixel centres the line lies where linear interpolation reaches the level. Where a region touches
/// the border of the map the line runs along the border, so every outline is closed. NaN counts as below. Of the
/// two ways to join a saddle, the mean of its four corners decides.
pub fn contours(map: ScoreMap<'_>, level: f32) -> Vec<Segment> {
    let (width, height) = (map.width() as usize, map.height() as usize);
    let values = map.values();
    // The score at the pixel left of column x and above row y; none outside the map.
    let at = |x: usize, y: usize| {
        let on_map = (1..=width).contains(&x) && (1..=height).contains(&y);
        on_map.then(|| values[(y - 1) * width + x - 1])
    };
    let mut segments = Vec::new();
    for y in 0..=height {
        let mut left = [at(0, y), at(0, y + 1)];
        for x in 0..=width {
            let right = [at(x + 1, y), at(x + 1, y + 1)];
            // Round the cell: top left, top right, bottom right, bottom left.
            cell([left[0], right[0], right[1], left[1]], level, [x as f32, y as f32], &mut segments);
            left = right;
        }
    }
    segments
}

/// The outline of what is defect.
pub fn mask_outline(mask: &Mask) -> Vec<Segment> {
    let (width, height) = mask.dimensions();
    if width == 0 || height == 0 {
        return Vec::new();
    }
    let values: Vec<f32> = mask.pixels().map(|defect| f32::from(u8::from(defect))).collect();
    contours(ScoreMap::new(&values, width, height), 0.5)
}

/// The segments inside the cell whose corners are the centres of four neighbouring pixels; `[x, y]` is the point
/// where these pixels meet.
fn cell(corners: [Option<f32>; 4], level: f32, [x, y]: [f32; 2], segments: &mut Vec<Segment>) {
    let inside = corners.map(|corner| corner.is_some_and(|value| value > level));
    if inside == [inside[0]; 4] {
        return;
    }
    const CENTRES: [[f32; 2]; 4] = [[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]];
    // Where the line crosses the edge from corner k to the next.
    let crossing = |k: usize| {
        let next = (k + 1) % 4;
        let t = match (corners[k], corners[next]) {
            (Some(a), Some(b)) if a.is_finite() && b.is_finite() => ((level - a) / (b - a)).clamp(0.0, 1.0),
            // Half-way is the border of the map, which is the border of its outermost pixels.
            _ => 0.5,
        };
        let along = |axis: usize| CENTRES[k][axis] + t * (CENTRES[next][axis] - CENTRES[k][axis]);
        [x + along(0), y + along(1)]
    };
    let mut join = |a: usize, b: usize| segments.push(Segment { from: crossing(a), to: crossing(b) });
    let crossed: Vec<usize> = (0..4).filter(|&k| inside[k] != inside[(k + 1) % 4]).collect();
    if let [a, b] = crossed[..] {
        join(a, b);
    } else {
        let sum: f32 = corners.iter().map(|corner| corner.unwrap_or(f32::NEG_INFINITY)).sum();
        let centre_inside = sum / 4.0 > level;
        if inside[0] == centre_inside {
            // The first and third corner belong to the centre: cut off the second and the fourth.
            join(0, 1);
            join(2, 3);
        } else {
            join(3, 0);
            join(1, 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Twice the area enclosed, by the shoelace formula over unordered segments: orientation is not kept, so each
    /// segment is turned to see the inside on the same hand by the caller's choice of convex shapes around `c`.
    fn area_around(segments: &[Segment], c: [f32; 2]) -> f32 {
        let cross =
            |s: &Segment| (s.from[0] - c[0]) * (s.to[1] - c[1]) - (s.to[0] - c[0]) * (s.from[1] - c[1]);
        segments.iter().map(|s| 0.5 * cross(s).abs()).sum()
    }

    #[test]
    fn one_pixel_gives_a_diamond_where_interpolation_puts_it() {
        let mut values = [0.0; 9];
        values[4] = 1.0;
        let segments = contours(ScoreMap::new(&values, 3, 3), 0.5);
        assert_eq!(segments.len(), 4);
        assert!((area_around(&segments, [1.5, 1.5]) - 0.5).abs() < 1e-6);
        let segments = contours(ScoreMap::new(&values, 3, 3), 0.75);
        assert!((area_around(&segments, [1.5, 1.5]) - 0.125).abs() < 1e-6);
    }

    #[test]
    fn a_map_above_the_level_everywhere_is_outlined_along_its_border() {
        let segments = contours(ScoreMap::new(&[1.0; 12], 4, 3), 0.5);
        let on_border = |[x, y]: [f32; 2]| x == 0.0 || x == 4.0 || y == 0.0 || y == 3.0;
        assert!(segments.iter().all(|s| on_border(s.from) && on_border(s.to)));
        assert_eq!(segments.len(), 2 * (4 + 3));
    }

    #[test]
    fn equal_and_missing_values_give_no_line() {
        assert!(contours(ScoreMap::new(&[0.5; 12], 4, 3), 0.5).is_empty());
        assert!(contours(ScoreMap::new(&[f32::NAN; 12], 4, 3), 0.5).is_empty());
        assert!(contours(ScoreMap::new(&[0.5], 1, 1), 0.7).is_empty());
    }

    #[test]
    fn every_end_meets_another() {
        // Arbitrary values with saddles, NaN and regions at the border.
        let values: Vec<f32> = (0..63).map(|i| ((i * 37 % 11) as f32) / 10.0).collect();
        let mut values = values;
        values[30] = f32::NAN;
        let segments = contours(ScoreMap::new(&values, 9, 7), 0.45);
        let ends: Vec<[f32; 2]> = segments.iter().flat_map(|s| [s.from, s.to]).collect();
        assert!(!ends.is_empty());
        for end in &ends {
            let same = ends.iter().filter(|e| (e[0] - end[0]).abs() + (e[1] - end[1]).abs() < 1e-5).count();
            assert_eq!(same % 2, 0, "an open end at {end:?}");
        }
    }

    #[test]
    fn a_mask_is_outlined() {
        let mask = Mask::from_fn(3, 1, |x, _| x == 1);
        let segments = mask_outline(&mask);
        assert_eq!(segments.len(), 4);
        assert!((area_around(&segments, [1.5, 0.5]) - 0.5).abs() < 1e-6);
        assert!(mask_outline(&Mask::from_fn(0, 0, |_, _| false)).is_empty());
    }
}
