//! Rectangles and score maps, both in the geometry of the original image.

use serde::{Deserialize, Serialize};

/// A rectangle of pixels, half-open: columns `x0..x1`, rows `y0..y1`. In JSON `[x0, y0, x1, y1]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "[u32; 4]", into = "[u32; 4]")]
pub struct Rect {
    /// The first column.
    pub x0: u32,
    /// The first row.
    pub y0: u32,
    /// One past the last column.
    pub x1: u32,
    /// One past the last row.
    pub y1: u32,
}

impl From<[u32; 4]> for Rect {
    fn from([x0, y0, x1, y1]: [u32; 4]) -> Self {
        Self { x0, y0, x1, y1 }
    }
}

impl From<Rect> for [u32; 4] {
    fn from(rect: Rect) -> Self {
        [rect.x0, rect.y0, rect.x1, rect.y1]
    }
}

/// Anomaly scores, one a pixel, row-major.
#[derive(Clone, Copy, Debug)]
pub struct ScoreMap<'a> {
    values: &'a [f32],
    width: u32,
    height: u32,
}

impl<'a> ScoreMap<'a> {
    /// A view of `values` as `height` rows of `width` scores.
    ///
    /// # Panics
    /// If the map is empty or `values` does not hold exactly `width · height` scores: a fault of the caller,
    /// since every map is computed for an image that was decoded.
    pub fn new(values: &'a [f32], width: u32, height: u32) -> Self {
        assert!(width > 0 && height > 0, "a score map has at least one pixel");
        assert_eq!(
            values.len(),
            width as usize * height as usize,
            "{width}×{height} does not fit the scores"
        );
        Self { values, width, height }
    }

    /// The scores, row-major.
    pub fn values(&self) -> &'a [f32] {
        self.values
    }

    /// Columns.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> u32 {
        self.height
    }
}
