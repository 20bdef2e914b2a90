//! The best F1 score any threshold reaches.

use super::{MetricError, Ranking};

/// The best F1 score over all thresholds, and where it is reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct F1Max {
    /// The F1 score, in (0, 1].
    pub f1: f64,
    /// Calling defective what scores `≥ threshold` gives it. Of several such thresholds the highest: it raises the
    /// fewest alarms.
    pub threshold: f32,
    /// The share of the flagged samples that are defective, at that threshold.
    pub precision: f64,
    /// The share of the defective samples that are flagged, at that threshold.
    pub recall: f64,
}

/// [`Ranking::f1_max`] of labelled scores (`true` is defective).
///
/// # Errors
/// As [`Ranking::new`].
pub fn f1_max(scores: &[f32], labels: &[bool]) -> Result<F1Max, MetricError> {
    Ok(Ranking::new(scores, labels)?.f1_max())
}

impl Ranking {
    /// The maximum of `F1 = 2·TP / (2·TP + FP + FN) = 2·TP / (flagged + P)` over all thresholds.
    ///
    /// Equals the maximum of `2PR/(P+R)` over scikit-learn's `precision_recall_curve`. The threshold is chosen on the
    /// test set itself: this measures how separable the scores are, and is no way to set a detector's threshold.
    pub fn f1_max(&self) -> F1Max {
        let (mut true_positives, mut flagged) = (0, 0);
        // Half of F1 as the fraction best_hits / best_size, compared by cross-multiplication: exact, so a tie
        // between two thresholds is seen as one.
        let (mut best_hits, mut best_flagged, mut best_size, mut threshold) = (0, 0, 1, f32::INFINITY);
        for tie in self.ties() {
            true_positives += tie.positives;
            flagged += tie.positives + tie.negatives;
            let size = flagged + self.positives();
            if u128::from(true_positives) * u128::from(best_size) > u128::from(best_hits) * u128::from(size) {
                (best_hits, best_flagged, best_size, threshold) = (true_positives, flagged, size, tie.score);
            }
        }
        // The lowest threshold flags everything and has hits, so the start value is always replaced.
        F1Max {
            f1: (2 * best_hits) as f64 / best_size as f64,
            threshold,
            precision: best_hits as f64 / best_flagged as f64,
            recall: best_hits as f64 / self.positives() as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn of_equal_maxima_the_highest_threshold_is_taken() {
        // F1 at 4: 2/3, at 3: 1/2, at 2: 2/5, at 1: 4/6.
        let best = f1_max(&[4.0, 3.0, 2.0, 1.0], &[true, false, false, true]).unwrap();
        assert_eq!(best, F1Max { f1: 2.0 / 3.0, threshold: 4.0, precision: 1.0, recall: 0.5 });
    }

    proptest! {
        #[test]
        fn no_threshold_does_better(samples in prop::collection::vec((-9i8..9, any::<bool>()), 2..120)) {
            let (scores, labels): (Vec<f32>, Vec<bool>) =
                samples.iter().map(|&(score, label)| (f32::from(score), label)).unzip();
            let Ok(ranking) = Ranking::new(&scores, &labels) else { return Ok(()) };
            let best = ranking.f1_max();
            let f1_at = |threshold: f32| {
                let count = |flagged: bool, label: bool| {
                    scores.iter().zip(&labels).filter(|&(&s, &l)| (s >= threshold) == flagged && l == label).count()
                };
                let (tp, fp, missed) = (count(true, true), count(true, false), count(false, true));
                (2 * tp) as f64 / (2 * tp + fp + missed) as f64
            };
            prop_assert_eq!(f1_at(best.threshold), best.f1);
            prop_assert!(scores.iter().all(|&threshold| f1_at(threshold) <= best.f1));
            // Flagging everything is always possible.
            let (p, n) = (ranking.positives() as f64, ranking.negatives() as f64);
            prop_assert!(best.f1 >= 2.0 * p / (2.0 * p + n));
            let harmonic = 2.0 * best.precision * best.recall / (best.precision + best.recall);
            prop_assert!((harmonic - best.f1).abs() < 1e-15);
        }
    }
}
