//! One image's anomaly map beside its ground-truth mask.

use super::MetricError;

/// An anomaly map and the mask of the true defects, both row-major, `height × width`.
///
/// Checked when it is made: both have the stated extent, and every score is finite.
#[derive(Clone, Copy, Debug)]
pub struct LabelledMap<'a> {
    scores: &'a [f32],
    mask: &'a [bool],
    width: usize,
    height: usize,
}

impl<'a> LabelledMap<'a> {
    /// Pairs a map with its mask; a good image has a mask without a `true`.
    ///
    /// # Errors
    /// [`MetricError::WrongExtent`] if either is not `width × height`, [`MetricError::TooManyPixels`] beyond 2³² − 1
    /// pixels, [`MetricError::NotFinite`] (the index is the pixel's, row-major).
    pub fn new(
        scores: &'a [f32],
        mask: &'a [bool],
        width: usize,
        height: usize,
    ) -> Result<Self, MetricError> {
        super::regions::check_extent(scores.len(), width, height)?;
        super::regions::check_extent(mask.len(), width, height)?;
        super::check_finite(scores)?;
        Ok(Self { scores, mask, width, height })
    }

    /// The anomaly map.
    pub fn scores(&self) -> &'a [f32] {
        self.scores
    }

    /// `true` where the image is defective.
    pub fn mask(&self) -> &'a [bool] {
        self.mask
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_that_does_not_fit_its_image_is_refused() {
        let wrong = |elements| Some(MetricError::WrongExtent { width: 2, height: 3, elements });
        assert_eq!(LabelledMap::new(&[0.0; 5], &[true; 6], 2, 3).err(), wrong(5));
        assert_eq!(LabelledMap::new(&[0.0; 6], &[true; 7], 2, 3).err(), wrong(7));
        assert_eq!(
            LabelledMap::new(&[], &[], 1 << 32, 1 << 32).err(),
            Some(MetricError::TooManyPixels { width: 1 << 32, height: 1 << 32 })
        );
        let refused = LabelledMap::new(&[0.0, f32::INFINITY], &[true; 2], 2, 1).err();
        assert_eq!(refused, Some(MetricError::NotFinite { index: 1, value: f64::INFINITY }));
    }
}
