//! How well scores tell defects from good material, and what a sample of scores says about the next one.

mod aupro;
mod quantile;
mod ranking;
mod regions;
mod spread;

pub use aupro::{PixelMap, aupro};
pub use quantile::{clopper_pearson_upper, quantile};
pub use ranking::{F1Max, Ranking};
pub use regions::{Labelled, Region, label_regions, regions};
pub use spread::{mean_and_std, spearman};

/// Why a metric does not exist.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MetricError {
    /// No scores at all.
    #[error("there are no scores to measure")]
    Empty,
    /// A ranking needs both.
    #[error("all {count} samples are {}; a ranking needs both good and defective ones", if *positive { "defective" } else { "good" })]
    OnlyOneClass {
        /// Number of samples.
        count: usize,
        /// Which class they are of.
        positive: bool,
    },
    /// Not one label a score.
    #[error("{scores} scores have {labels} labels")]
    LengthMismatch {
        /// Number of scores.
        scores: usize,
        /// Number of labels.
        labels: usize,
    },
    /// A score that is no number cannot be ranked.
    #[error("score number {index} is not a number")]
    NotANumber {
        /// Its position.
        index: usize,
    },
}

/// Maps a score to an integer of the same order (−0 and +0 alike), so that sorting is a sort of integers.
fn order_key(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

/// The score of an [`order_key`].
fn score_of_key(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 { key & !(1 << 31) } else { !key })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_order_as_scores_do() {
        let scores = [f32::NEG_INFINITY, -3.5, -1e-40, 0.0, 1e-40, 2.0, f32::INFINITY];
        assert!(scores.windows(2).all(|pair| order_key(pair[0]) < order_key(pair[1])));
        assert_eq!(order_key(-0.0), order_key(0.0));
        assert!(scores.iter().all(|&score| score_of_key(order_key(score)) == score));
    }
}
