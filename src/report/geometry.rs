//! Score maps in the geometry of the original image.

pub use crate::rect::Rect;

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
