//! Which pixels of an image are defect.

use std::path::Path;

use image::{DynamicImage, GrayImage, ImageBuffer, Luma};

use super::convert::into_grey;
use super::decode::open;
use super::{DataError, Exif};

/// Which pixels of a defective image are defect: 255 where they are, 0 elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask(GrayImage);

impl Mask {
    /// Reads a mask as a picture, where what is brighter than one half is defect, or as labels: where nothing is that bright,
    /// every pixel but 0 is. Colours become grey as by Pillow's `convert("L")`; grey of 16 bits is looked at as it is.
    ///
    /// # Errors
    /// As [`decode`](super::decode), [`DataError::MaskSize`] (a mask of another size than its image's would be cut and placed by
    /// another geometry) and [`DataError::MaskEmpty`].
    pub fn load(path: &Path, exif: Exif, original_size: (u32, u32)) -> Result<Self, DataError> {
        let mask = match open(path, exif)? {
            deep @ (DynamicImage::ImageLuma16(_) | DynamicImage::ImageLumaA16(_)) => {
                Self::marked(&deep.into_luma16(), u16::MAX / 2)
            }
            other => Self::marked(&into_grey(other), u8::MAX / 2),
        };
        if mask.dimensions() != original_size {
            return Err(DataError::MaskSize {
                path: path.to_owned(),
                mask: mask.dimensions(),
                image: original_size,
            });
        }
        if !mask.pixels().any(|defect| defect) {
            return Err(DataError::MaskEmpty { path: path.to_owned() });
        }
        Ok(mask)
    }

    /// `width × height` pixels, row by row.
    pub fn from_fn(width: u32, height: u32, mut is_defect: impl FnMut(u32, u32) -> bool) -> Self {
        Self(GrayImage::from_fn(width, height, |x, y| Luma([if is_defect(x, y) { 255 } else { 0 }])))
    }

    /// What is above `half` of the values that there may be, or above 0 where nothing is.
    fn marked<T: image::Primitive>(values: &ImageBuffer<Luma<T>, Vec<T>>, half: T) -> Self {
        let is_picture = values.iter().any(|&value| value > half);
        let above = if is_picture { half } else { T::DEFAULT_MIN_VALUE };
        Self::from_fn(values.width(), values.height(), |x, y| values.get_pixel(x, y).0[0] > above)
    }

    /// Width and height.
    pub fn dimensions(&self) -> (u32, u32) {
        self.0.dimensions()
    }

    /// Whether each pixel is defect, row by row.
    pub fn pixels(&self) -> impl Iterator<Item = bool> + '_ {
        self.0.iter().map(|&value| value > 0)
    }

    /// 255 where a pixel is defect, 0 elsewhere.
    pub fn as_image(&self) -> &GrayImage {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::fixtures;

    fn load(image: impl Into<DynamicImage>) -> Result<Vec<bool>, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mask.png");
        let image: DynamicImage = image.into();
        image.save(&path).unwrap();
        Mask::load(&path, Exif::Apply, (image.width(), image.height())).map(|mask| mask.pixels().collect())
    }

    fn grey(values: &[u8]) -> GrayImage {
        GrayImage::from_raw(values.len() as u32, 1, values.to_vec()).unwrap()
    }

    fn deep(values: &[u16]) -> DynamicImage {
        ImageBuffer::<Luma<u16>, _>::from_raw(values.len() as u32, 1, values.to_vec()).unwrap().into()
    }

    #[test]
    fn a_picture_marks_what_is_brighter_than_one_half() {
        assert_eq!(load(grey(&[0, 1, 127, 128, 255])).unwrap(), [false, false, false, true, true]);
        assert_eq!(load(deep(&[0, 1, 32767, 32768])).unwrap(), [false, false, false, true]);
        // Red and green as grey: 76 and 150.
        let colours = image::RgbImage::from_raw(2, 1, vec![255, 0, 0, 0, 255, 0]).unwrap();
        assert_eq!(load(colours).unwrap(), [false, true]);
    }

    #[test]
    fn labels_mark_all_but_zero() {
        assert_eq!(load(grey(&[0, 1, 2, 0])).unwrap(), [false, true, true, false]);
        assert_eq!(load(deep(&[0, 1, 300])).unwrap(), [false, true, true]);
    }

    #[test]
    fn a_mask_that_marks_nothing_is_none() {
        for error in [load(grey(&[0; 6])).unwrap_err(), load(deep(&[0; 6])).unwrap_err()] {
            assert!(matches!(error, DataError::MaskEmpty { .. }), "{error}");
            assert!(error.to_string().contains("mask.png marks no pixel"), "{error}");
        }
    }

    #[test]
    fn a_mask_of_another_size_is_refused() {
        let path = fixtures::path("grey.png");
        let error = Mask::load(&path, Exif::Apply, (24, 17)).unwrap_err().to_string();
        assert!(error.contains("23x17") && error.contains("24x17") && error.contains("grey.png"), "{error}");
        assert_eq!(Mask::load(&path, Exif::Apply, (23, 17)).unwrap().dimensions(), (23, 17));
    }
}
