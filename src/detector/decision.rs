//! From a score and a map to a verdict and a place.

use super::Thresholds;
use crate::data::Geometry;
use crate::metrics::regions;
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

/// The verdict of an image; none without a threshold. A score that is no number is a defect: it is never passed.
pub fn verdict(score: f32, thresholds: &Thresholds) -> Option<Verdict> {
    let threshold = thresholds.image?;
    Some(if score <= threshold { Verdict::Ok } else { Verdict::Defect })
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
    let above = |threshold: f32| -> Vec<bool> { map.iter().map(|&value| value > threshold).collect() };
    let largest = |mask: &[bool]| {
        let found = regions(mask, side, side);
        found
            .into_iter()
            .max_by_key(|region| (region.area, std::cmp::Reverse((region.rect.y0, region.rect.x0))))
    };
    let by_threshold = thresholds.map.and_then(|threshold| largest(&above(threshold)));
    let region = by_threshold.or_else(|| {
        if verdict != Some(Verdict::Defect) {
            return None;
        }
        let (peak, &maximum) = map.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1))?;
        let mean = map.iter().sum::<f32>() / map.len() as f32;
        let (x, y) = ((peak % side) as u32, (peak / side) as u32);
        let around = regions(&above(mean + (maximum - mean) / 2.0), side, side);
        around.into_iter().filter(|region| region.rect.contains(x, y)).min_by_key(|region| region.area)
    })?;
    Some(geometry.rect_to_original(region.rect))
}
