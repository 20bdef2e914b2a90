//! Area under the receiver operating characteristic.

use super::{MetricError, Ranking};

/// [`Ranking::auroc`] of labelled scores (`true` is defective).
///
/// # Errors
/// As [`Ranking::new`].
pub fn auroc(scores: &[f32], labels: &[bool]) -> Result<f64, MetricError> {
    Ok(Ranking::new(scores, labels)?.auroc())
}

impl Ranking {
    /// The area under the ROC curve: the probability that a defective sample scores higher than a good one, where
    /// a tie counts half.
    ///
    /// `AUROC = U / (P·N)`, `U = Σ over pairs of [s⁺ > s⁻] + ½[s⁺ = s⁻]` (Mann–Whitney). That is the trapezoid area of
    /// scikit-learn's `roc_auc_score`. `2U` is an integer and is counted exactly, so the result is the true value
    /// rounded.
    pub fn auroc(&self) -> f64 {
        let mut negatives_below = self.negatives();
        let mut twice_u: u128 = 0;
        for tie in self.ties() {
            negatives_below -= tie.negatives;
            twice_u += u128::from(tie.positives) * u128::from(2 * negatives_below + tie.negatives);
        }
        let twice_pairs = 2 * u128::from(self.positives()) * u128::from(self.negatives());
        twice_u as f64 / twice_pairs as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_extremes() {
        assert_eq!(auroc(&[1.0, 2.0, 3.0, 4.0], &[false, false, true, true]), Ok(1.0));
        assert_eq!(auroc(&[4.0, 3.0, 2.0, 1.0], &[false, false, true, true]), Ok(0.0));
        assert_eq!(auroc(&[7.0; 4], &[false, true, true, true]), Ok(0.5));
    }

    proptest! {
        /// Small integers make heavy ties, and let the maps below be exact, so equality may be asked for.
        #[test]
        fn it_depends_on_the_order_alone(
            samples in prop::collection::vec((-9i8..9, any::<bool>()), 2..120),
        ) {
            let (scores, labels): (Vec<f32>, Vec<bool>) =
                samples.iter().map(|&(score, label)| (f32::from(score), label)).unzip();
            let Ok(area) = auroc(&scores, &labels) else { return Ok(()) };

            let mapped = |map: fn(f32) -> f32| {
                auroc(&scores.iter().map(|&score| map(score)).collect::<Vec<f32>>(), &labels).unwrap()
            };
            prop_assert_eq!(mapped(|s| s * s * s), area);
            prop_assert_eq!(mapped(|s| (0.5 * s).exp()), area);
            prop_assert_eq!(mapped(|s| s * 1e-44), area, "subnormal scores are scores");
            prop_assert!((mapped(|s| -s) - (1.0 - area)).abs() < 1e-15);

            let swapped: Vec<bool> = labels.iter().map(|&label| !label).collect();
            prop_assert!((auroc(&scores, &swapped).unwrap() - (1.0 - area)).abs() < 1e-15);

            let mut pairs = Vec::new();
            for positive in samples.iter().filter(|sample| sample.1) {
                for negative in samples.iter().filter(|sample| !sample.1) {
                    pairs.push(match positive.0.cmp(&negative.0) {
                        std::cmp::Ordering::Less => 0.0,
                        std::cmp::Ordering::Equal => 0.5,
                        std::cmp::Ordering::Greater => 1.0,
                    });
                }
            }
            prop_assert_eq!(pairs.iter().sum::<f64>() / pairs.len() as f64, area);
        }
    }
}
