//! Shapes of defects: irregular blobs and curved strokes.

use super::geometry::{Vec2, mix, smoothstep};
use super::noise::{Draws, Field};

/// A blob with an irregular outline, longer than wide.
#[derive(Clone, Debug)]
pub(super) struct Blob {
    centre: Vec2,
    axis: Vec2,
    radius: f64,
    stretch: f64,
    roughness: f64,
    layer: u32,
}

impl Blob {
    /// A blob of this radius (in pixels, along the middle of its two axes) around a centre. `roughness` is how far
    /// the outline may leave the ellipse, as a share of the radius.
    pub(super) fn new(draws: &mut Draws, centre: Vec2, radius: f64, roughness: f64) -> Self {
        let axis = Vec2::unit(draws.range(0.0, 1.0));
        let (stretch, layer) = (draws.range(1.0, 1.35), 54 + draws.below(8) as u32);
        Self { centre, axis, radius, stretch, roughness, layer }
    }

    /// 0 in the middle, 1 on the outline, growing in proportion beyond. Every ray from the centre meets the outline
    /// once: a blob has neither holes nor islands.
    pub(super) fn level(&self, field: &Field, at: Vec2) -> f64 {
        let local = (at - self.centre).in_frame(self.axis) * (1.0 / self.radius);
        let ellipse = Vec2::new(local.x / self.stretch, local.y * self.stretch).length();
        let ray = local * (1.0 / local.length().max(1e-6));
        let coarse = field.at(self.layer, 1.2 * ray.x, 1.2 * ray.y);
        let fine = field.at(self.layer + 1, 3.5 * ray.x, 3.5 * ray.y);
        ellipse * (1.0 + self.roughness * (0.7 * coarse + 0.3 * fine))
    }
}

/// A stroke along a quadratic Bézier curve, thin at its ends.
#[derive(Clone, Debug)]
pub(super) struct Stroke {
    points: Vec<Vec2>,
    half_width: f64,
    middle: Vec2,
    reach: f64,
}

/// Where a point lies beside a stroke.
pub(super) struct Beside {
    /// Along the stroke: 0 at its start, 1 at its end.
    pub(super) along: f64,
    /// Distance from the middle line in half widths, negative on one side.
    pub(super) across: f64,
}

impl Stroke {
    const SEGMENTS: usize = 16;

    /// How far to the side of its middle line a stroke is felt, in half widths.
    const REACH: f64 = 3.0;

    /// A stroke from `start` to `end`, pulled towards `bend` in the middle, `half_width` pixels to either side.
    pub(super) fn new(start: Vec2, bend: Vec2, end: Vec2, half_width: f64) -> Self {
        let points: Vec<Vec2> = (0..=Self::SEGMENTS)
            .map(|i| {
                let t = i as f64 / Self::SEGMENTS as f64;
                start * ((1.0 - t) * (1.0 - t)) + bend * (2.0 * t * (1.0 - t)) + end * (t * t)
            })
            .collect();
        let middle = points[Self::SEGMENTS / 2];
        let furthest = points.iter().map(|&point| (point - middle).length()).fold(0.0, f64::max);
        Self { points, half_width, middle, reach: furthest + Self::REACH * half_width }
    }

    /// The place of a point beside the stroke; `None` further than three half widths away.
    pub(super) fn beside(&self, at: Vec2) -> Option<Beside> {
        if (at - self.middle).length() > self.reach {
            return None;
        }
        let mut nearest: Option<(f64, Beside)> = None;
        for (i, pair) in self.points.windows(2).enumerate() {
            let (step, offset) = (pair[1] - pair[0], at - pair[0]);
            let t = (offset.dot(step) / step.dot(step)).clamp(0.0, 1.0);
            let gap = offset - step * t;
            let distance = gap.length();
            if nearest.as_ref().is_none_or(|(least, _)| distance < *least) {
                let along = (i as f64 + t) / Self::SEGMENTS as f64;
                // Thin at both ends, full from a fifth of the length on.
                let taper = smoothstep(-0.02, 0.2, along) * smoothstep(1.02, 0.8, along);
                let side = if gap.dot(step.perpendicular()) < 0.0 { -1.0 } else { 1.0 };
                let across = side * distance / (self.half_width * mix(0.25, 1.0, taper));
                nearest = Some((distance, Beside { along, across }));
            }
        }
        nearest.map(|(_, beside)| beside).filter(|beside| beside.across.abs() < Self::REACH)
    }
}
