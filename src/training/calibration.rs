//! Thresholds from good images that the scoring head has not seen.
//!
//! The shipped head trains on all good images; its scores of them are biased low. A calibration head trained on four
//! fifths scores the remaining fifth (one fold), or five heads score every image once (full cross-fitting). What
//! they give to images they never saw is what a good image will get in use.

use crate::metrics::{clopper_pearson_upper, upper_quantile};
use crate::random::philox::{Philox, Stream};
use serde::{Deserialize, Serialize};

/// The folds the good images are cut into; a calibration uses one of them or all.
pub const FOLDS: usize = 5;
/// Quantile of held-out scores that becomes the threshold.
pub const THRESHOLD_QUANTILE: f64 = 0.995;
/// Confidence of the bound on the false-reject rate.
pub const CONFIDENCE: f64 = 0.95;
/// With fewer held-out images the bound on the false-reject rate says little. (Up to 200 images the 0.995 quantile is
/// their maximum.)
pub const FEW_IMAGES: usize = 20;

/// How many folds are scored by a head of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CalibrationPlan {
    /// No calibration: the model has no threshold until one is set.
    None,
    /// One head on four fifths scores one fifth.
    HoldOut,
    /// K heads, each on all but its fold, score every image once.
    CrossFit(usize),
}

/// The split of one calibration head.
#[derive(Clone, Debug, PartialEq)]
pub struct Fold {
    /// Images it learns from.
    pub train: Vec<u32>,
    /// Images it scores.
    pub held_out: Vec<u32>,
}

impl CalibrationPlan {
    /// The folds for `images` good images, drawn by `seed`. Empty where there is nothing to hold out: one image, or
    /// `None`.
    pub fn folds(self, images: usize, seed: u64) -> Vec<Fold> {
        let (parts, used) = match self {
            CalibrationPlan::None => return Vec::new(),
            CalibrationPlan::HoldOut => (FOLDS, 1),
            CalibrationPlan::CrossFit(folds) => (folds, folds),
        };
        let parts = parts.min(images);
        if parts < 2 {
            return Vec::new();
        }
        let order = Philox::new(seed, Stream::Calibration, 0).permutation(images);
        let pick = |part: usize, inside: bool| {
            let mut chosen: Vec<u32> = order
                .iter()
                .enumerate()
                .filter(|(position, _)| (position % parts == part) == inside)
                .map(|(_, &image)| image)
                .collect();
            chosen.sort_unstable();
            chosen
        };
        (0..used.min(parts))
            .map(|part| Fold { train: pick(part, false), held_out: pick(part, true) })
            .collect()
    }
}

/// What held-out good images said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HeldOut {
    /// Image scores, in the order they were made.
    pub scores: Vec<f32>,
    /// Maxima of their smoothed maps.
    pub map_maxima: Vec<f32>,
    /// Medians of their smoothed maps: the level of good material.
    pub map_medians: Vec<f32>,
}

/// Both thresholds and where they come from: stored in the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// How the images were held out.
    pub plan: CalibrationPlan,
    /// The scores themselves, so that another quantile can be taken later.
    pub held_out: HeldOut,
    /// On the image score: larger is a defect.
    pub image_threshold: f32,
    /// On the smoothed map: larger is a defective region.
    pub map_threshold: f32,
    /// Quantile both were taken at.
    pub quantile: f64,
    /// Held-out images above the image threshold.
    pub rejected: usize,
    /// Upper bound (Clopper–Pearson, one-sided) on the share of good images that will be rejected.
    pub false_reject_bound: f64,
    /// Confidence of that bound.
    pub confidence: f64,
}

impl Calibration {
    /// Takes the thresholds from held-out scores at `at`; `None` if there are no scores, or one is not finite.
    pub fn new(plan: CalibrationPlan, held_out: HeldOut, at: f64) -> Option<Self> {
        let image_threshold = upper_quantile(&held_out.scores, at).ok()? as f32;
        let map_threshold = upper_quantile(&held_out.map_maxima, at).ok()? as f32;
        let rejected = held_out.scores.iter().filter(|&&score| score > image_threshold).count();
        let total = held_out.scores.len();
        Some(Self {
            plan,
            image_threshold,
            map_threshold,
            quantile: at,
            rejected,
            false_reject_bound: clopper_pearson_upper(rejected as u64, total as u64, CONFIDENCE),
            confidence: CONFIDENCE,
            held_out,
        })
    }

    /// Whether so few images were held out that their high quantiles are their maximum, which says little.
    pub fn is_weak(&self) -> bool {
        self.held_out.scores.len() < FEW_IMAGES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_partition_the_images() {
        for images in [2, 3, 7, 31, 100] {
            let folds = CalibrationPlan::CrossFit(5).folds(images, 3);
            assert_eq!(folds.len(), 5.min(images));
            let mut all: Vec<u32> = folds.iter().flat_map(|fold| fold.held_out.clone()).collect();
            all.sort_unstable();
            assert_eq!(all, (0..images as u32).collect::<Vec<_>>());
            for fold in &folds {
                assert!(fold.held_out.iter().all(|image| !fold.train.contains(image)));
                assert_eq!(fold.train.len() + fold.held_out.len(), images);
            }
            let hold_out = CalibrationPlan::HoldOut.folds(images, 3);
            assert_eq!(hold_out.len(), 1);
            assert_eq!(hold_out[0].held_out.len(), images.div_ceil(FOLDS.min(images)));
        }
        assert!(CalibrationPlan::HoldOut.folds(1, 3).is_empty());
        assert!(CalibrationPlan::None.folds(100, 3).is_empty());
    }

    #[test]
    fn the_threshold_is_the_quantile_and_the_bound_counts_what_lies_above() {
        let scores: Vec<f32> = (0..1000u16).map(f32::from).collect();
        let held_out = HeldOut { map_maxima: scores.clone(), map_medians: scores.clone(), scores };
        let calibration = Calibration::new(CalibrationPlan::HoldOut, held_out, 0.995).unwrap();
        // numpy.quantile(range(1000), 0.995, method="higher") = 995; four scores lie above.
        assert_eq!(calibration.image_threshold, 995.0);
        assert_eq!(calibration.rejected, 4);
        // scipy.stats.beta.ppf(0.95, 5, 996) = 0.009129…
        assert!((calibration.false_reject_bound - 0.009_129).abs() < 1e-5);
        assert!(Calibration::new(CalibrationPlan::HoldOut, HeldOut::default(), 0.995).is_none());
    }
}
