//! Metrics of a ranking: AUROC, average precision, the best F1. One sort serves all.

use super::{MetricError, order_key, score_of_key};
use rayon::prelude::*;

/// Scores with labels, sorted from the highest score to the lowest, equal scores in one step.
///
/// Memory: 8 bytes a sample while sorting, 20 bytes a distinct score after it.
#[derive(Clone, Debug)]
pub struct Ranking {
    steps: Vec<Step>,
    positives: u64,
    negatives: u64,
}

/// All samples of one score and above.
#[derive(Clone, Copy, Debug)]
struct Step {
    score: f32,
    true_positives: u64,
    false_positives: u64,
}

/// The best F1 over all thresholds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct F1Max {
    /// `2·precision·recall / (precision + recall)`.
    pub f1: f64,
    /// Samples scored at least this are called positive.
    pub threshold: f32,
}

impl Ranking {
    /// Sorts `scores`; `labels` says which samples are positive (defective).
    pub fn new(scores: &[f32], labels: &[bool]) -> Result<Self, MetricError> {
        if scores.len() != labels.len() {
            return Err(MetricError::LengthMismatch { scores: scores.len(), labels: labels.len() });
        }
        if scores.is_empty() {
            return Err(MetricError::Empty);
        }
        if let Some(index) = scores.iter().position(|score| score.is_nan()) {
            return Err(MetricError::NotANumber { index });
        }
        let mut keys: Vec<u64> = scores
            .par_iter()
            .zip(labels)
            .map(|(&score, &label)| u64::from(order_key(score)) << 1 | u64::from(label))
            .collect();
        keys.par_sort_unstable_by(|a, b| b.cmp(a));

        let mut steps: Vec<Step> = Vec::new();
        let (mut positives, mut negatives) = (0, 0);
        for group in keys.chunk_by(|a, b| a >> 1 == b >> 1) {
            let positive = group.iter().filter(|&&key| key & 1 == 1).count() as u64;
            positives += positive;
            negatives += group.len() as u64 - positive;
            steps.push(Step {
                score: score_of_key((group[0] >> 1) as u32),
                true_positives: positives,
                false_positives: negatives,
            });
        }
        if positives == 0 || negatives == 0 {
            return Err(MetricError::OnlyOneClass { count: scores.len(), positive: positives > 0 });
        }
        Ok(Self { steps, positives, negatives })
    }

    /// Steps with the counts before each.
    fn transitions(&self) -> impl Iterator<Item = (u64, u64, Step)> + '_ {
        let mut before = (0, 0);
        self.steps.iter().map(move |&step| {
            let (tp, fp) = std::mem::replace(&mut before, (step.true_positives, step.false_positives));
            (tp, fp, step)
        })
    }

    /// Area under the ROC curve: the probability that a positive scores above a negative, ties counting half
    /// (Mann–Whitney U / PN). Counts are integers, so ties of any weight are exact.
    pub fn auroc(&self) -> f64 {
        // Twice U, to keep the halves of ties whole.
        let mut twice: u128 = 0;
        for (tp, fp, step) in self.transitions() {
            let positives = u128::from(step.true_positives - tp);
            let tied = u128::from(step.false_positives - fp);
            let below = u128::from(self.negatives - step.false_positives);
            twice += positives * (2 * below + tied);
        }
        twice as f64 / (2.0 * self.positives as f64 * self.negatives as f64)
    }

    /// `Σ (Rₙ − Rₙ₋₁)·Pₙ` over distinct scores (`sklearn.metrics.average_precision_score`).
    pub fn average_precision(&self) -> f64 {
        let sum: f64 = self
            .transitions()
            .map(|(tp, _, step)| {
                let precision =
                    step.true_positives as f64 / (step.true_positives + step.false_positives) as f64;
                (step.true_positives - tp) as f64 * precision
            })
            .sum();
        sum / self.positives as f64
    }

    /// The largest F1 over all thresholds, and the highest threshold that reaches it.
    pub fn f1_max(&self) -> F1Max {
        let mut best = F1Max { f1: 0.0, threshold: f32::INFINITY };
        for step in &self.steps {
            let called = step.true_positives + step.false_positives;
            let f1 = 2.0 * step.true_positives as f64 / (called + self.positives) as f64;
            if f1 > best.f1 {
                best = F1Max { f1, threshold: step.score };
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn samples() -> impl Strategy<Value = (Vec<f32>, Vec<bool>)> {
        // Few distinct scores: heavy ties.
        proptest::collection::vec((-4i8..4, any::<bool>()), 2..60)
            .prop_filter("both classes", |s| s.iter().any(|x| x.1) && s.iter().any(|x| !x.1))
            .prop_map(|s| s.into_iter().map(|(score, label)| (f32::from(score) / 3.0, label)).unzip())
    }

    proptest! {
        #[test]
        fn auroc_equals_its_definition((scores, labels) in samples()) {
            let (mut wins, mut pairs) = (0.0, 0.0);
            for (i, &a) in scores.iter().enumerate().filter(|(i, _)| labels[*i]) {
                for (j, &b) in scores.iter().enumerate().filter(|(j, _)| !labels[*j]) {
                    prop_assert_ne!(i, j);
                    pairs += 1.0;
                    wins += if a > b { 1.0 } else if a == b { 0.5 } else { 0.0 };
                }
            }
            let ranking = Ranking::new(&scores, &labels).unwrap();
            prop_assert!((ranking.auroc() - wins / pairs).abs() < 1e-12);
        }

        #[test]
        fn reversing_the_scores_mirrors_the_auroc((scores, labels) in samples()) {
            let reversed: Vec<f32> = scores.iter().map(|score| -score).collect();
            let (a, b) = (Ranking::new(&scores, &labels).unwrap(), Ranking::new(&reversed, &labels).unwrap());
            prop_assert!((a.auroc() + b.auroc() - 1.0).abs() < 1e-12);
        }

        #[test]
        fn the_best_threshold_gives_the_best_f1((scores, labels) in samples()) {
            let best = Ranking::new(&scores, &labels).unwrap().f1_max();
            let f1 = |threshold: f32| {
                let hit = scores.iter().zip(&labels).filter(|(s, l)| **s >= threshold && **l).count() as f64;
                let called = scores.iter().filter(|s| **s >= threshold).count() as f64;
                2.0 * hit / (called + labels.iter().filter(|l| **l).count() as f64)
            };
            prop_assert!((best.f1 - f1(best.threshold)).abs() < 1e-12);
            prop_assert!(scores.iter().all(|&threshold| f1(threshold) <= best.f1 + 1e-12));
        }
    }

    #[test]
    fn what_cannot_be_ranked_is_an_error() {
        assert_eq!(Ranking::new(&[], &[]).unwrap_err(), MetricError::Empty);
        let one_class = Ranking::new(&[1.0, 2.0], &[true, true]).unwrap_err();
        assert_eq!(one_class, MetricError::OnlyOneClass { count: 2, positive: true });
        let mismatch = Ranking::new(&[1.0], &[]).unwrap_err();
        assert_eq!(mismatch, MetricError::LengthMismatch { scores: 1, labels: 0 });
        let nan = Ranking::new(&[1.0, f32::NAN], &[true, false]).unwrap_err();
        assert_eq!(nan, MetricError::NotANumber { index: 1 });
    }
}
