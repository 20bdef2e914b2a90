//! How an image becomes the network's input.

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::resize;
use super::{DataError, Geometry, Mask};

/// How a picture that is not square becomes the square the network sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// Resize the shorter side, cut the centre out: torchvision's `Resize` and `CenterCrop`, as the paper does.
    #[default]
    Crop,
    /// Resize straight to the network's size: nothing is cut off, the aspect ratio changes.
    Stretch,
}

/// The steps from a decoded image to the network's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preprocess {
    /// What becomes of the borders.
    pub fit: Fit,
    /// The shorter side after resizing; of no effect under [`Fit::Stretch`].
    pub resize: u32,
    /// The side of the network's input.
    pub crop: u32,
}

impl Default for Preprocess {
    /// The paper's: 256, then 224.
    fn default() -> Self {
        Self { fit: Fit::Crop, resize: 256, crop: 224 }
    }
}

impl Preprocess {
    /// The same for a network input of `side` pixels. The paper resizes to 8/7 of the crop; so does this.
    pub fn with_side(self, side: u32) -> Self {
        Self { crop: side, resize: (u64::from(side) * 8 / 7) as u32, ..self }
    }

    /// Whether these sizes make sense together. To be asked once, where they come from a user or a file.
    ///
    /// # Errors
    /// [`DataError::Preprocess`] if the crop is empty or larger than the resized image: torchvision would pad with
    /// black there, which the network would report as the defect.
    pub fn validate(&self) -> Result<(), DataError> {
        let fits = self.fit == Fit::Stretch || self.crop <= self.resize;
        if self.crop > 0 && fits {
            Ok(())
        } else {
            Err(DataError::Preprocess { resize: self.resize, crop: self.crop })
        }
    }

    /// Where each pixel of an image of this size (width, height) goes.
    ///
    /// # Panics
    /// If the image has no pixels, or [`validate`](Self::validate) would have refused these settings.
    pub fn geometry(&self, (width, height): (u32, u32)) -> Geometry {
        assert!(width > 0 && height > 0, "an image without pixels has no geometry");
        assert!(self.validate().is_ok(), "{self:?} was not validated");
        let resized = match self.fit {
            Fit::Stretch => (u64::from(self.crop), u64::from(self.crop)),
            Fit::Crop => {
                // torchvision: int(resize * long / short), a quotient in double precision, cut off.
                let scaled = |long: u32, short: u32| {
                    (f64::from(self.resize) * f64::from(long) / f64::from(short)) as u64
                };
                let short = u64::from(self.resize);
                if width <= height { (short, scaled(height, width)) } else { (scaled(width, height), short) }
            }
        };
        let offset = |side: u64| round_half_even_of_half(side - u64::from(self.crop));
        Geometry {
            original: (width, height),
            resized,
            left: offset(resized.0),
            top: offset(resized.1),
            size: self.crop,
        }
    }

    /// The network's input, `crop × crop`, and the way back.
    ///
    /// Equals resizing the whole image and cropping then, bit for bit, but computes the cropped part alone.
    ///
    /// # Panics
    /// As [`geometry`](Self::geometry).
    pub fn apply(&self, image: &RgbImage) -> (RgbImage, Geometry) {
        let geometry = self.geometry(image.dimensions());
        (resize::bilinear(image, geometry.resized, geometry.window()), geometry)
    }

    /// The mask as the network's input would show it, row-major `crop × crop`: resized to the nearest pixel and cropped.
    ///
    /// # Panics
    /// As [`geometry`](Self::geometry).
    pub fn apply_mask(&self, mask: &Mask) -> Vec<bool> {
        let geometry = self.geometry(mask.dimensions());
        let mask = resize::nearest(mask.as_image(), geometry.resized, geometry.window());
        mask.iter().map(|&value| value > 0).collect()
    }
}

/// `int(round(rest / 2))` as Python rounds: a half goes to the even neighbour.
fn round_half_even_of_half(rest: u64) -> u64 {
    let down = rest / 2;
    if rest % 2 == 1 && down % 2 == 1 { down + 1 } else { down }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::fixtures::{self, mask_pattern, number, pattern, sha256};

    #[test]
    fn input_and_mask_equal_torchvision_bit_for_bit() {
        let rows = fixtures::expected("preprocess");
        assert!(rows.len() > 50);
        for row in rows {
            let (image, mask) = (
                pattern(number(&row["width"]), number(&row["height"])),
                mask_pattern(number(&row["width"]), number(&row["height"])),
            );
            for (fit, name) in [(Fit::Crop, "crop"), (Fit::Stretch, "stretch")] {
                let preprocess =
                    Preprocess { fit, resize: number(&row["resize"]), crop: number(&row["crop"]) };
                let (input, geometry) = preprocess.apply(&image);
                assert_eq!(
                    sha256(&input),
                    row[format!("{name}_sha256")].as_str().unwrap(),
                    "{preprocess:?} {row}"
                );
                let mask = Mask::from_fn(mask.width(), mask.height(), |x, y| mask.get_pixel(x, y).0[0] > 127);
                let mask: Vec<u8> = preprocess.apply_mask(&mask).into_iter().map(u8::from).collect();
                assert_eq!(
                    sha256(&mask),
                    row[format!("{name}_mask_sha256")].as_str().unwrap(),
                    "{preprocess:?} {row}"
                );
                if fit == Fit::Crop {
                    let resized =
                        [&row["resized"][0], &row["resized"][1]].map(|side| u64::from(number(side)));
                    assert_eq!(<[u64; 2]>::from(geometry.resized_size()), resized);
                }
            }
        }
    }

    #[test]
    fn settings_that_would_need_padding_are_refused() {
        let preprocess = |fit, resize, crop| Preprocess { fit, resize, crop };
        assert!(preprocess(Fit::Crop, 224, 224).validate().is_ok());
        assert!(preprocess(Fit::Stretch, 0, 224).validate().is_ok());
        assert!(preprocess(Fit::Crop, 223, 224).validate().unwrap_err().to_string().contains("223"));
        assert!(preprocess(Fit::Stretch, 256, 0).validate().is_err());
        assert_eq!(
            serde_json::to_string(&preprocess(Fit::Stretch, 256, 224)).unwrap(),
            r#"{"fit":"stretch","resize":256,"crop":224}"#
        );
    }
}
