//! From a score and a map to a verdict and a place.

use super::Thresholds;
use crate::data::Geometry;
use crate::metrics::{Region, label_regions};
use crate::rect::Rect;

/// What the detector says of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Accepted.
    Ok,
    /// Rejected.
    Defect,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Ok => "OK",
            Self::Defect => "DEFECT",
        })
    }
}

/// The verdict of an image; none without a threshold. A score that is no finite number is a defect: it is never
/// passed.
pub fn verdict(score: f32, thresholds: &Thresholds) -> Option<Verdict> {
    let threshold = thresholds.image?;
    Some(if score.is_finite() && score <= threshold { Verdict::Ok } else { Verdict::Defect })
}

/// The box of the largest region of `map` (the network's size, row-major) above the map's threshold, in pixels of
/// the original image.
///
/// A rejected image always gets a box: if no pixel passes the threshold, or none is set, the region around the map's
/// maximum that lies above the middle between the map's mean and its maximum. An accepted image gets one only where
/// pixels pass the threshold.
pub fn region(
    map: &[f32],
    geometry: &Geometry,
    thresholds: &Thresholds,
    verdict: Option<Verdict>,
) -> Option<Rect> {
    let side = geometry.input_size() as usize;
    let above = |threshold: f32| {
        let mask: Vec<bool> = map.iter().map(|&value| value > threshold).collect();
        // A map of the network's size has its extent by construction.
        label_regions(&mask, side, side).ok()
    };
    let by_threshold = thresholds.map.and_then(|threshold| above(threshold)?.largest().copied());
    let region = by_threshold.or_else(|| {
        if verdict != Some(Verdict::Defect) {
            return None;
        }
        let (peak, &maximum) = map.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1))?;
        let mean = map.iter().sum::<f32>() / map.len() as f32;
        let around = above(mean + (maximum - mean) / 2.0)?;
        // A map without any relief has no region above its mean: its peak is then its first pixel.
        let (x, y) = ((peak % side) as u32, (peak / side) as u32);
        let pixel = Region { area: 1, rect: Rect { x0: x, y0: y, x1: x + 1, y1: y + 1 } };
        Some(around.region_of(peak).copied().unwrap_or(pixel))
    })?;
    Some(geometry.rect_to_original(region.rect))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Fit, Preprocess};

    const SIDE: usize = 32;

    fn geometry() -> Geometry {
        Preprocess { fit: Fit::Stretch, resize: SIDE as u32, crop: SIDE as u32 }.geometry((64, 32))
    }

    /// Zero but for a block of 4×3 pixels at (10, 20) and a single brighter pixel at (2, 2).
    fn map() -> Vec<f32> {
        let mut map = vec![0.0; SIDE * SIDE];
        for y in 20..23 {
            map[y * SIDE + 10..y * SIDE + 14].fill(1.0);
        }
        map[2 * SIDE + 2] = 2.0;
        map
    }

    #[test]
    fn verdicts_follow_the_threshold_and_a_nan_never_passes() {
        let thresholds = Thresholds { image: Some(0.5), ..Thresholds::default() };
        assert_eq!(verdict(0.5, &thresholds), Some(Verdict::Ok));
        assert_eq!(verdict(0.51, &thresholds), Some(Verdict::Defect));
        for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(verdict(broken, &thresholds), Some(Verdict::Defect));
        }
        assert_eq!(verdict(9.0, &Thresholds::default()), None);
    }

    #[test]
    fn the_box_is_the_largest_region_in_pixels_of_the_original() {
        let thresholds = Thresholds { image: Some(0.5), map: Some(0.5), ..Thresholds::default() };
        let found = region(&map(), &geometry(), &thresholds, Some(Verdict::Defect));
        assert_eq!(found, Some(Rect { x0: 20, y0: 20, x1: 28, y1: 23 }));
    }

    #[test]
    fn a_rejected_image_always_gets_a_box() {
        let high = Thresholds { image: Some(0.5), map: Some(9.0), ..Thresholds::default() };
        let around_the_peak = Some(Rect { x0: 4, y0: 2, x1: 6, y1: 3 });
        assert_eq!(region(&map(), &geometry(), &high, Some(Verdict::Defect)), around_the_peak);
        assert_eq!(region(&map(), &geometry(), &high, Some(Verdict::Ok)), None);
        let flat = vec![0.25; SIDE * SIDE];
        assert!(region(&flat, &geometry(), &high, Some(Verdict::Defect)).is_some());
    }
}
