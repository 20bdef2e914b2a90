//! Rectangles of pixels.

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

impl Rect {
    /// Whether the pixel at column `x`, row `y` lies inside.
    pub fn contains(&self, x: u32, y: u32) -> bool {
        (self.x0..self.x1).contains(&x) && (self.y0..self.y1).contains(&y)
    }
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
