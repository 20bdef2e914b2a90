//! From scores to colours: one scale for a whole run, and a heat map that grows in lightness with the score.

use std::sync::LazyLock;

/// Where a score stands between what good images look like and what is rejected.
///
/// The scale belongs to a run, not to an image: the same colour means the same score in every picture, and a good
/// image is not stretched until its noise looks like a defect.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ColorScale {
    typical: f32,
    threshold: f32,
}

impl ColorScale {
    /// The scale of a run. `typical` is the median of the smoothed maps of good images ([`median`]), `threshold`
    /// the threshold that regions are cut at.
    pub fn new(typical: f32, threshold: f32) -> Self {
        Self { typical, threshold }
    }

    /// A scale for a map that comes without a threshold: its median at 0, its maximum at 1.
    ///
    /// Colours then compare within this map alone. A map without a finite score gives a scale at 0.
    pub fn within(values: &[f32]) -> Self {
        let mut finite: Vec<f32> = values.iter().copied().filter(|value| value.is_finite()).collect();
        let highest = finite.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        match median(&mut finite) {
            Some(typical) => Self { typical, threshold: typical + 0.5 * (highest - typical) },
            None => Self { typical: 0.0, threshold: 0.0 },
        }
    }

    /// The place of a score in 0..1: `½ (s − typical) / (threshold − typical)`, clamped.
    ///
    /// So the typical level of good images is 0, the threshold ½, and twice the distance saturates. Where
    /// the threshold is not above the typical level there is no distance to measure in, and the scale is a step:
    /// 0 below the threshold, ½ at it, 1 above. A NaN counts as the highest score: a fault is to be seen.
    pub fn position(&self, score: f32) -> f32 {
        let span = self.threshold - self.typical;
        if score.is_nan() {
            1.0
        } else if span > 0.0 && span.is_finite() {
            (0.5 * ((score - self.typical) / span)).clamp(0.0, 1.0)
        } else if score == self.threshold {
            0.5
        } else {
            f32::from(score > self.threshold)
        }
    }
}

/// The median (the lower of two middle values) of `values`, which are reordered; none where there is no value.
///
/// NaN sorts above every number.
pub fn median(values: &mut [f32]) -> Option<f32> {
    let middle = values.len().checked_sub(1)? / 2;
    Some(*values.select_nth_unstable_by(middle, f32::total_cmp).1)
}

/// The colour of a position in 0..1 (clamped), as 8-bit sRGB.
pub fn color(position: f32) -> [u8; 3] {
    // `as` saturates and takes NaN to 0.
    TABLE[(position.clamp(0.0, 1.0) * 255.0).round() as usize]
}

/// The colour of a position that was rounded to 8 bits.
pub fn color_of_byte(position: u8) -> [u8; 3] {
    TABLE[usize::from(position)]
}

/// 256 colours from near black through violet, red and orange to a light yellow.
///
/// Computed, not drawn: in OKLCh (B. Ottosson, "A perceptual color space for image processing", 2020) the lightness
/// rises linearly from 0.14 to 0.97, so equal steps of score are equal steps of lightness, in print and to the
/// colour-blind too. The hue turns linearly from 285° (violet) over 360° to 468° = 108° (yellow). The chroma is
/// 0.16 (1 − (2t − 1)⁴) + 0.04, cut to the largest that sRGB can show at that lightness and hue.
static TABLE: LazyLock<[[u8; 3]; 256]> = LazyLock::new(|| {
    std::array::from_fn(|index| {
        let t = index as f64 / 255.0;
        let lightness = 0.14 + 0.83 * t;
        let hue = (285.0 + 183.0 * t).to_radians();
        let wanted = 0.16 * (1.0 - (2.0 * t - 1.0).powi(4)) + 0.04;
        in_gamut(lightness, wanted, hue)
    })
});

/// The sRGB colour of OKLCh `(lightness, c, hue)` with the largest `c ≤ chroma` that sRGB can show.
fn in_gamut(lightness: f64, chroma: f64, hue: f64) -> [u8; 3] {
    let fits = |c: f64| {
        oklab_to_linear(lightness, c * hue.cos(), c * hue.sin())
            .iter()
            .all(|x| (-1e-6..=1.000_001).contains(x))
    };
    let (mut low, mut high) = (0.0, chroma);
    if fits(high) {
        low = high;
    } else {
        // Grey of this lightness always fits; 30 halvings find the border far below one step of 8 bits.
        for _ in 0..30 {
            let middle = 0.5 * (low + high);
            if fits(middle) { low = middle } else { high = middle }
        }
    }
    oklab_to_linear(lightness, low * hue.cos(), low * hue.sin()).map(|x| {
        let x = x.clamp(0.0, 1.0);
        let encoded = if x <= 0.003_130_8 { 12.92 * x } else { 1.055 * x.powf(1.0 / 2.4) - 0.055 };
        (255.0 * encoded).round() as u8
    })
}

/// OKLab to linear sRGB, by the two matrices of Ottosson's definition.
fn oklab_to_linear(lightness: f64, a: f64, b: f64) -> [f64; 3] {
    let l = (lightness + 0.396_337_777_4 * a + 0.215_803_757_3 * b).powi(3);
    let m = (lightness - 0.105_561_345_8 * a - 0.063_854_172_8 * b).powi(3);
    let s = (lightness - 0.089_484_177_5 * a - 1.291_485_548_0 * b).powi(3);
    [
        4.076_741_662_1 * l - 3.307_711_591_3 * m + 0.230_969_929_2 * s,
        -1.268_438_004_6 * l + 2.609_757_401_1 * m - 0.341_319_396_5 * s,
        -0.004_196_086_3 * l - 0.703_418_614_7 * m + 1.707_614_701_0 * s,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CIE lightness needs only the luminance, so it checks the table by a route that OKLab had no part in.
    fn luminance([r, g, b]: [u8; 3]) -> f64 {
        let linear = |x: u8| {
            let x = f64::from(x) / 255.0;
            if x <= 0.040_45 { x / 12.92 } else { ((x + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b)
    }

    #[test]
    fn the_map_grows_lighter_all_the_way() {
        let luminances: Vec<f64> = (0..=255).map(|i| luminance(color_of_byte(i))).collect();
        for (index, pair) in luminances.windows(8).enumerate() {
            assert!(pair[7] > pair[0], "not monotone at {index}");
        }
        assert!(luminances[0] < 0.01 && luminances[255] > 0.85, "{} {}", luminances[0], luminances[255]);
        assert_eq!(color(f32::NAN), color(0.0));
        assert_eq!((color(-1.0), color(2.0)), (color_of_byte(0), color_of_byte(255)));
    }

    #[test]
    fn neighbouring_colours_are_close() {
        for i in 0..255_u8 {
            let (a, b) = (color_of_byte(i), color_of_byte(i + 1));
            for (x, y) in a.into_iter().zip(b) {
                assert!(x.abs_diff(y) <= 8, "a jump from {a:?} to {b:?} at {i}");
            }
        }
    }

    #[test]
    fn the_threshold_is_the_middle_of_the_scale() {
        let scale = ColorScale::new(-0.5, 0.5);
        let positions = [-9.0, -0.5, 0.0, 0.5, 1.5, 9.0, f32::NAN].map(|score| scale.position(score));
        assert_eq!(positions, [0.0, 0.0, 0.25, 0.5, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn a_scale_without_extent_is_a_step() {
        for scale in [ColorScale::new(0.5, 0.5), ColorScale::new(0.9, 0.5), ColorScale::within(&[0.5; 4])] {
            assert_eq!([0.4, 0.5, 0.6].map(|score| scale.position(score)), [0.0, 0.5, 1.0]);
        }
        assert_eq!(ColorScale::within(&[f32::NAN]).position(-1.0), 0.0);
        assert_eq!(ColorScale::within(&[0.0, 0.0, 0.0, 2.0]).position(1.0), 0.5);
    }

    #[test]
    fn medians() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut [4.0, 3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut []), None);
    }
}
