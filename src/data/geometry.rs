//! The way back: where the network's input lies in the original image.

use serde::{Deserialize, Serialize};

use crate::rect::Rect;

use super::resize::Window;

/// Where an image's pixels lie in the network's input.
///
/// A point at `x` of the original (pixel i covers i … i + 1) lies at `x · resized / original − left` of the input;
/// likewise downwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Geometry {
    pub(super) original: (u32, u32),
    pub(super) resized: (u64, u64),
    pub(super) left: u64,
    pub(super) top: u64,
    pub(super) size: u32,
}

impl Geometry {
    /// Width and height of the original image.
    pub fn original_size(&self) -> (u32, u32) {
        self.original
    }

    /// The side of the network's input.
    pub fn input_size(&self) -> u32 {
        self.size
    }

    /// Width and height of the resized image that the input is a part of.
    pub fn resized_size(&self) -> (u64, u64) {
        self.resized
    }

    /// The part of the resized image that is the input.
    pub(super) fn window(&self) -> Window {
        Window { left: self.left, top: self.top, width: self.size, height: self.size }
    }

    fn axes(&self) -> (Axis, Axis) {
        let size = self.size;
        (
            Axis { original: self.original.0, resized: self.resized.0, first: self.left, size },
            Axis { original: self.original.1, resized: self.resized.1, first: self.top, size },
        )
    }

    /// A map of the network's size, row-major, in the original's geometry, row-major.
    ///
    /// Bilinear between the centres of the map's pixels (half-pixel, `align_corners = false`), the nearest value
    /// beyond the outermost centres. Pixels outside [`inspected_rect`](Self::inspected_rect) get the map's minimum.
    ///
    /// # Panics
    /// If `map` is not of the network's size.
    pub fn to_original(&self, map: &[f32]) -> Vec<f32> {
        let size = self.size as usize;
        assert_eq!(map.len(), size * size, "a map has the size of the network's input");
        let (horizontal, vertical) = self.axes();
        let Rect { x0, y0, x1, y1 } = self.inspected_rect();
        let minimum = map.iter().copied().fold(f32::INFINITY, f32::min);
        let minimum = if minimum.is_finite() { minimum } else { 0.0 };

        let columns: Vec<Between> = (x0..x1).map(|x| horizontal.between(x)).collect();
        let width = self.original.0 as usize;
        let mut out = vec![minimum; width * self.original.1 as usize];
        let mut blended = vec![0.0; size];
        for y in y0..y1 {
            let row = vertical.between(y);
            let (above, below) = (&map[row.low * size..][..size], &map[row.high * size..][..size]);
            for ((to, &above), &below) in blended.iter_mut().zip(above).zip(below) {
                *to = above + row.fraction * (below - above);
            }
            let to = &mut out[y as usize * width..][x0 as usize..x1 as usize];
            for (to, column) in to.iter_mut().zip(&columns) {
                let (low, high) = (blended[column.low], blended[column.high]);
                *to = low + column.fraction * (high - low);
            }
        }
        out
    }

    /// How much of the original's area the network sees, in 0 … 1.
    pub fn inspected_fraction(&self) -> f64 {
        let part = |resized: u64| f64::from(self.size) / resized as f64;
        part(self.resized.0) * part(self.resized.1)
    }

    /// The original's pixels whose centres the network sees; at least one.
    pub fn inspected_rect(&self) -> Rect {
        let (horizontal, vertical) = self.axes();
        let ((x0, x1), (y0, y1)) = (horizontal.inspected(), vertical.inspected());
        Rect { x0, y0, x1, y1 }
    }

    /// The original's pixels that a rectangle of the network's input touches.
    pub fn rect_to_original(&self, rect: Rect) -> Rect {
        let (horizontal, vertical) = self.axes();
        let ((x0, x1), (y0, y1)) = (horizontal.touched(rect.x0, rect.x1), vertical.touched(rect.y0, rect.y1));
        Rect { x0, y0, x1, y1 }
    }
}

/// One direction of a [`Geometry`]. Borders are computed in whole numbers, so that they never depend on rounding.
#[derive(Clone, Copy)]
struct Axis {
    original: u32,
    resized: u64,
    first: u64,
    size: u32,
}

/// A position between two neighbours of the map.
#[derive(Clone, Copy)]
struct Between {
    low: usize,
    high: usize,
    fraction: f32,
}

impl Axis {
    /// Where the centre of original pixel `pixel` lies between the centres of the input's pixels.
    fn between(&self, pixel: u32) -> Between {
        let scale = self.resized as f64 / f64::from(self.original);
        let last = self.size as usize - 1;
        let position = (f64::from(pixel) + 0.5) * scale - self.first as f64 - 0.5;
        let position = position.clamp(0.0, last as f64);
        let low = position as usize;
        Between { low, high: (low + 1).min(last), fraction: (position - low as f64) as f32 }
    }

    /// First and past-the-last original pixel whose centre lies in the window.
    fn inspected(&self) -> (u32, u32) {
        let (original, resized) = (i128::from(self.original), i128::from(self.resized));
        // The first pixel x with (x + ½) · resized / original ≥ edge.
        let first_from = |edge: u64| {
            let numerator = 2 * i128::from(edge) * original - resized;
            -(-numerator).div_euclid(2 * resized)
        };
        let begin = first_from(self.first).clamp(0, original - 1);
        let end = first_from(self.first + u64::from(self.size)).clamp(begin + 1, original);
        (begin as u32, end as u32)
    }

    /// First and past-the-last original pixel that `from … to` of the input touches.
    fn touched(&self, from: u32, to: u32) -> (u32, u32) {
        let (original, resized) = (u128::from(self.original), u128::from(self.resized));
        let scaled = |edge: u32| u128::from(self.first + u64::from(edge)) * original;
        let begin = (scaled(from) / resized).min(original - 1);
        let end = scaled(to).div_ceil(resized).clamp(begin + 1, original);
        (begin as u32, end as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::fixtures::{self, number};
    use crate::data::{Fit, Preprocess};
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    #[test]
    fn without_a_crop_a_map_is_torch_interpolate() {
        for row in fixtures::expected("maps") {
            let floats = |name: &str| -> Vec<f32> { serde_json::from_value(row[name].clone()).unwrap() };
            let stretch = Preprocess { fit: Fit::Stretch, resize: 0, crop: 6 };
            let geometry = stretch.geometry((number(&row["width"]), number(&row["height"])));
            let original = geometry.to_original(&floats("map"));
            let expected = floats("original");
            assert_eq!(original.len(), expected.len());
            for (out, reference) in original.iter().zip(expected) {
                assert!((out - reference).abs() < 1e-6, "{out} is not {reference} in {row}");
            }
            assert_eq!(geometry.inspected_fraction(), 1.0);
        }
    }

    /// The paper's sizes on a 900×600 image, by hand: 384×256, of which columns 80–304 and rows 16–240 are kept;
    /// 187.5–712.5 and 37.5–562.5 of the original.
    #[test]
    fn a_known_crop() {
        let geometry = Preprocess::default().geometry((900, 600));
        assert_eq!(geometry.inspected_rect(), Rect { x0: 187, y0: 37, x1: 712, y1: 562 });
        assert!((geometry.inspected_fraction() - 525.0 * 525.0 / (900.0 * 600.0)).abs() < 1e-12);
        let whole = Rect { x0: 0, y0: 0, x1: 224, y1: 224 };
        assert_eq!(geometry.rect_to_original(whole), Rect { x0: 187, y0: 37, x1: 713, y1: 563 });
        let saved = serde_json::to_string(&geometry).unwrap();
        assert_eq!(serde_json::from_str::<Geometry>(&saved).unwrap(), geometry);
    }

    /// A map that rises evenly must rise evenly in the original too, at the place where the crop lies.
    #[test]
    fn a_ramp_comes_back_where_it_was() {
        let preprocess = Preprocess { fit: Fit::Crop, resize: 40, crop: 31 };
        let (width, height) = (90, 57);
        let geometry = preprocess.geometry((width, height));
        let map: Vec<f32> = (0..31 * 31).map(|i| (i % 31) as f32 + 100.0 * (i / 31) as f32).collect();
        let original = geometry.to_original(&map);
        let Rect { x0, y0, x1, y1 } = geometry.inspected_rect();
        // torchvision: int(40 · 90 / 57) = 63 wide, left = 16, top = round(4.5) = 4.
        assert_eq!((geometry.resized, geometry.left, geometry.top), ((63, 40), 16, 4));
        for y in 0..height {
            for x in 0..width {
                let value = original[(y * width + x) as usize];
                let inside = (x0..x1).contains(&x) && (y0..y1).contains(&y);
                let along = |pixel: u32, resized: f32, side: u32, first: f32| {
                    ((pixel as f32 + 0.5) * resized / side as f32 - first - 0.5).clamp(0.0, 30.0)
                };
                let ramp = along(x, 63.0, width, 16.0) + 100.0 * along(y, 40.0, height, 4.0);
                assert!((value - if inside { ramp } else { 0.0 }).abs() < 1e-3, "{value} at {x}, {y}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]
        #[test]
        fn every_image_has_a_way_there_and_back(
            width in 1u32..400, height in 1u32..400, extreme in 0u32..3,
            stretch in any::<bool>(), crop in 1u32..20, more in 0u32..9, peak in any::<proptest::sample::Index>(),
        ) {
            let (width, height) = match extreme {
                1 => (width * 50, height.min(3)),
                2 => (width.min(3), height * 50),
                _ => (width, height),
            };
            let fit = if stretch { Fit::Stretch } else { Fit::Crop };
            let geometry = Preprocess { fit, resize: crop + more, crop }.geometry((width, height));
            let Rect { x0, y0, x1, y1 } = geometry.inspected_rect();
            prop_assert!(x0 < x1 && x1 <= width && y0 < y1 && y1 <= height);
            prop_assert!(geometry.inspected_fraction() > 0.0 && geometry.inspected_fraction() <= 1.0);
            let side = crop as usize;
            let mut map = vec![0.25; side * side];
            let peak = peak.index(map.len());
            map[peak] = 1.0;
            let original = geometry.to_original(&map);
            prop_assert_eq!(original.len(), (width * height) as usize);
            prop_assert!(original.iter().all(|value| (0.2499..=1.0001).contains(value)));
            // What lies outside has the minimum, and the pixel under the peak's centre, if any, feels it.
            let (x, y) = ((peak % side) as u32, (peak / side) as u32);
            let under = geometry.rect_to_original(Rect { x0: x, y0: y, x1: x + 1, y1: y + 1 });
            prop_assert!(under.x0 < under.x1 && under.x1 <= width && under.y0 < under.y1 && under.y1 <= height);
            for (i, &value) in (0u32..).zip(&original) {
                let (x, y) = (i % width, i / width);
                if !((x0..x1).contains(&x) && (y0..y1).contains(&y)) {
                    prop_assert!(value <= 0.25 || side == 1);
                }
            }
        }
    }
}
