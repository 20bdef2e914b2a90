//! The metrics of a run, by name, and their averages.

use serde::Serialize;

use super::results::CategoryResult;
use crate::metrics::{MeanAndStd, mean_and_std};

/// A metric that results are reported in; all lie in 0..1, higher is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Area under the ROC curve of image scores.
    IAuroc,
    /// Area under the ROC curve of pixel scores.
    PAuroc,
    /// Area under the per-region overlap curve up to a false positive rate of 0.3, scaled to 0..1.
    Aupro,
    /// Average precision of image scores.
    IAp,
    /// The best F1 over all thresholds on image scores.
    IF1Max,
    /// Average precision of pixel scores.
    PAp,
    /// The best F1 over all thresholds on pixel scores.
    PF1Max,
}

impl Metric {
    /// Every metric, in the order of columns.
    pub const ALL: [Self; 7] =
        [Self::IAuroc, Self::PAuroc, Self::Aupro, Self::IAp, Self::IF1Max, Self::PAp, Self::PF1Max];

    /// The name in CSV and JSON.
    pub fn key(self) -> &'static str {
        match self {
            Self::IAuroc => "i_auroc",
            Self::PAuroc => "p_auroc",
            Self::Aupro => "aupro",
            Self::IAp => "i_ap",
            Self::IF1Max => "i_f1max",
            Self::PAp => "p_ap",
            Self::PF1Max => "p_f1max",
        }
    }

    /// The name in tables.
    pub fn label(self) -> &'static str {
        match self {
            Self::IAuroc => "I-AUROC",
            Self::PAuroc => "P-AUROC",
            Self::Aupro => "AUPRO",
            Self::IAp => "I-AP",
            Self::IF1Max => "I-F1max",
            Self::PAp => "P-AP",
            Self::PF1Max => "P-F1max",
        }
    }

    /// What the metric says, in one plain sentence.
    pub fn explanation(self) -> &'static str {
        match self {
            Self::IAuroc => "The chance that a defective image scores higher than a good one.",
            Self::PAuroc => "The chance that a defective pixel scores higher than a good one.",
            Self::Aupro => {
                "How much of each defect is covered, every defect counting alike, at up to 30 % false pixels."
            }
            Self::IAp => "Average precision when images are ranked by score.",
            Self::IF1Max => "The best F1 that any image threshold could reach; known only after the test.",
            Self::PAp => "Average precision when pixels are ranked by score.",
            Self::PF1Max => "The best F1 that any pixel threshold could reach; known only after the test.",
        }
    }

    /// Whether the metric looks at pixels, and so needs masks.
    pub fn is_pixel(self) -> bool {
        matches!(self, Self::PAuroc | Self::Aupro | Self::PAp | Self::PF1Max)
    }

    /// The metric of a result; none where it was not computed or is no finite number.
    pub fn of(self, result: &CategoryResult) -> Option<f64> {
        match self {
            Self::IAuroc => result.i_auroc,
            Self::PAuroc => result.p_auroc,
            Self::Aupro => result.aupro,
            Self::IAp => result.i_ap,
            Self::IF1Max => result.i_f1max,
            Self::PAp => result.p_ap,
            Self::PF1Max => result.p_f1max,
        }
        .filter(|value| value.is_finite())
    }

    /// Why a result lacks this metric, as the end of a sentence.
    pub fn reason_absent(self, result: &CategoryResult) -> &'static str {
        if result.test_good + result.test_defective == 0 {
            "no test set"
        } else if result.test_defective == 0 {
            "the test set has no defective image"
        } else if self.is_pixel() && result.without_mask >= result.test_defective {
            "no defective image has a mask"
        } else if !self.is_pixel() && result.test_good == 0 {
            "the test set has no good image"
        } else {
            "not computed in this run"
        }
    }
}

/// The mean of some numbers and how they scatter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MeanStd {
    /// The arithmetic mean.
    pub mean: f64,
    /// The sample standard deviation (divided by n − 1); none for a single number.
    pub std: Option<f64>,
    /// How many numbers were averaged.
    pub count: usize,
}

impl MeanStd {
    /// The statistics of `values`; none where there is no value, or one is not finite.
    pub fn of(values: &[f64]) -> Option<Self> {
        let MeanAndStd { mean, std } = mean_and_std(values).ok()?;
        Some(Self { mean, std, count: values.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `numpy.std([0.99, 0.98, 1.0, 0.97, 0.985], ddof=1)` = 0.01118033988749895.
    #[test]
    fn the_deviation_is_that_of_a_sample() {
        let stats = MeanStd::of(&[0.99, 0.98, 1.0, 0.97, 0.985]).unwrap();
        assert!((stats.mean - 0.985).abs() < 1e-15);
        assert!((stats.std.unwrap() - 0.011_180_339_887_498_95).abs() < 1e-15);
        assert_eq!(MeanStd::of(&[0.5]), Some(MeanStd { mean: 0.5, std: None, count: 1 }));
        assert_eq!(MeanStd::of(&[0.99; 3]), Some(MeanStd { mean: 0.99, std: Some(0.0), count: 3 }));
        assert_eq!(MeanStd::of(&[]), None);
    }

    #[test]
    fn a_metric_that_is_no_number_does_not_exist() {
        let result = CategoryResult { i_auroc: Some(f64::NAN), p_ap: Some(0.5), ..Default::default() };
        assert_eq!(Metric::IAuroc.of(&result), None);
        assert_eq!(Metric::PAp.of(&result), Some(0.5));
        assert_eq!(Metric::IAuroc.reason_absent(&result), "no test set");
    }
}
