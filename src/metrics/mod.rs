//! How good a detector is, in the field's numbers, and the statistics the reports need.
//!
//! | question | here |
//! | --- | --- |
//! | does the score separate good from defective? | [`auroc()`], [`average_precision()`], [`f1_max()`], all from one [`Ranking`] |
//! | does the map find every defect, small ones too? | [`aupro()`], [`pixel_metrics`] |
//! | where are the defects? | [`label_regions`] |
//! | which threshold, and how many good parts will it reject? | [`quantile()`], [`clopper_pearson_upper`] |
//! | how much do seeds or devices differ? | [`mean_and_std`], [`spearman()`] |
//! | how much does each dimension of features spread? | [`ColumnSpread`] |
//! | how exact is a mean of few measurements? | [`student_t()`] |
//!
//! Conventions of the whole module: a higher score means more defective; label `true` is defective (the positive
//! class); a threshold `t` calls defective what scores `≥ t`. Equal scores are never ordered by chance: they enter
//! together. A metric that is undefined for its input is a [`MetricError`], never NaN. Scores are compared
//! exactly, counts are integers, sums of many terms are compensated and run in one fixed order, so results depend
//! neither on the order of the samples (beyond the last bits of [`mean_and_std`]) nor on the number of threads.

mod aupro;
mod auroc;
mod average_precision;
mod clopper_pearson;
mod column_spread;
mod compensated_sum;
mod f1_max;
mod labelled_map;
mod mean_and_std;
mod quantile;
mod ranking;
mod regions;
mod spearman;
mod student_t;

#[cfg(test)]
mod tests;

pub use aupro::{AUPRO_FPR_LIMIT, PixelMetrics, aupro, pixel_metrics};
pub use auroc::auroc;
pub use average_precision::average_precision;
pub use clopper_pearson::clopper_pearson_upper;
pub use column_spread::ColumnSpread;
pub use f1_max::{F1Max, f1_max};
pub use labelled_map::LabelledMap;
pub use mean_and_std::{MeanAndStd, mean_and_std};
pub use quantile::{quantile, upper_quantile};
pub use ranking::{Ranking, Tie};
pub use regions::{Region, Regions, label_regions};
pub use spearman::spearman;
pub use student_t::student_t;

/// Why a metric has no value for its input.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum MetricError {
    /// Nothing was given.
    #[error("there is nothing to measure: the input is empty; check that the test set was found")]
    Empty,
    /// Two inputs that belong together element by element differ in length.
    #[error("{left} values were given for {right} counterparts; both sides need the same number of elements")]
    LengthMismatch {
        /// Elements on the left-hand side (scores).
        left: usize,
        /// Elements on the right-hand side (labels, or the other scores).
        right: usize,
    },
    /// A map or a mask does not have the extent that was stated for it.
    #[error("a {width}×{height} image cannot have {elements} pixels; map, mask and image must have one size")]
    WrongExtent {
        /// Stated width in pixels.
        width: usize,
        /// Stated height in pixels.
        height: usize,
        /// Elements found.
        elements: usize,
    },
    /// A map of more than 2³² − 1 pixels.
    #[error("a {width}×{height} image is too large to be measured whole; cut it into tiles")]
    TooManyPixels {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
    },
    /// The metric compares defective with good samples, and one kind is absent.
    #[error(
        "{positives} defective and {negatives} good samples were given, but at least one of each is needed; \
         add the missing kind to the test set"
    )]
    OnlyOneClass {
        /// Defective samples (images or pixels).
        positives: u64,
        /// Good samples (images or pixels).
        negatives: u64,
    },
    /// A score is NaN or infinite. Infinity is refused as well: it is an overflow, and all that overflowed would tie.
    #[error("value number {index} is {value}, not a finite number; the computation that made it overflowed")]
    NotFinite {
        /// Position in the input, from 0.
        index: usize,
        /// What stands there.
        value: f64,
    },
    /// A level (of a quantile, or of AUPRO's integration) lies outside its range.
    #[error("the level {level} is outside {range}; choose one inside")]
    LevelOutOfRange {
        /// What was asked for.
        level: f64,
        /// The range that is allowed, in mathematical notation.
        range: &'static str,
    },
    /// A correlation with an input that does not vary.
    #[error("a correlation is undefined because all values of one side are equal; give samples that differ")]
    Constant,
}

/// Refuses the first value that is not finite.
fn check_finite<T: crate::tensor::Scalar>(values: &[T]) -> Result<(), MetricError> {
    match values.iter().position(|value| !value.to_f64().is_finite()) {
        Some(index) => Err(MetricError::NotFinite { index, value: values[index].to_f64() }),
        None => Ok(()),
    }
}
