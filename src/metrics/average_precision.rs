//! Average precision.

use super::compensated_sum::CompensatedSum;
use super::{MetricError, Ranking};

/// [`Ranking::average_precision`] of labelled scores (`true` is defective).
///
/// # Errors
/// As [`Ranking::new`].
pub fn average_precision(scores: &[f32], labels: &[bool]) -> Result<f64, MetricError> {
    Ok(Ranking::new(scores, labels)?.average_precision())
}

impl Ranking {
    /// The precision at each distinct threshold, weighted by the recall gained there:
    /// `AP = Σₙ (Rₙ − Rₙ₋₁)·Pₙ`.
    ///
    /// This is scikit-learn's `average_precision_score`: a step sum without interpolation, equal scores entering
    /// together. (The trapezoid area under the precision–recall curve is another, larger number.)
    pub fn average_precision(&self) -> f64 {
        let (mut true_positives, mut flagged) = (0, 0);
        let sum: CompensatedSum = self
            .ties()
            .map(|tie| {
                true_positives += tie.positives;
                flagged += tie.positives + tie.negatives;
                tie.positives as f64 * (true_positives as f64 / flagged as f64)
            })
            .collect();
        sum.value() / self.positives() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_case_by_hand() {
        // From the top: ✓ (1/1), ✗, then a tie of ✓ and ✗ (2/4).
        let ap = average_precision(&[0.9, 0.8, 0.7, 0.7], &[true, false, true, false]).unwrap();
        assert_eq!(ap, 0.5 * 1.0 + 0.5 * 0.5);
        let prevalence = average_precision(&[0.5; 4], &[true, false, false, false]).unwrap();
        assert_eq!(prevalence, 0.25, "scores that say nothing give the share of positives");
    }

    proptest! {
        #[test]
        fn it_lies_between_the_worst_order_and_one(
            samples in prop::collection::vec((-9i8..9, any::<bool>()), 2..120),
        ) {
            let (scores, labels): (Vec<f32>, Vec<bool>) =
                samples.iter().map(|&(score, label)| (f32::from(score), label)).unzip();
            let Ok(ranking) = Ranking::new(&scores, &labels) else { return Ok(()) };
            let ap = ranking.average_precision();
            // Worst is every negative above every positive: the i-th positive then has precision i / (N + i).
            let (p, n) = (ranking.positives(), ranking.negatives());
            let worst = (1..=p).map(|i| i as f64 / (n + i) as f64).sum::<f64>() / p as f64;
            prop_assert!(ap >= worst - 1e-12 && ap <= 1.0 + 1e-15, "{worst} {ap}");
            if ranking.auroc() == 1.0 {
                prop_assert_eq!(ap, 1.0);
            }
        }
    }
}
