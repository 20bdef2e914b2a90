//! Labelled scores, sorted once: what AUROC, average precision and F1-max all read.

use super::{LabelledMap, MetricError};
use rayon::slice::ParallelSliceMut;

/// Scores of both classes in order, from which [`auroc`](Ranking::auroc),
/// [`average_precision`](Ranking::average_precision) and [`f1_max`](Ranking::f1_max) follow in one pass each.
///
/// Both classes are present and every score is finite: a `Ranking` that exists has all three metrics.
///
/// Each class is kept apart as a sorted list of 32-bit keys, so the label costs nothing: memory is 4 bytes a score
/// (80 MB for 20 million pixels) and the sort is in place. Equal keys are indistinguishable, so the parallel,
/// unstable sort gives the same list whatever the number of threads. Building is O(n log n), reading O(n).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranking {
    positives: Vec<u32>,
    negatives: Vec<u32>,
}

/// All samples that share one score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tie {
    /// The score.
    pub score: f32,
    /// Defective samples that have it.
    pub positives: u64,
    /// Good samples that have it.
    pub negatives: u64,
}

impl Ranking {
    /// Ranks `scores`, where `labels[i]` says whether sample `i` is defective.
    ///
    /// # Errors
    /// [`MetricError::LengthMismatch`], [`MetricError::Empty`], [`MetricError::NotFinite`] or
    /// [`MetricError::OnlyOneClass`].
    pub fn new(scores: &[f32], labels: &[bool]) -> Result<Self, MetricError> {
        if scores.len() != labels.len() {
            return Err(MetricError::LengthMismatch { left: scores.len(), right: labels.len() });
        }
        super::check_finite(scores)?;
        Self::of_checked([(scores, labels)].into_iter())
    }

    /// Ranks every pixel of every map, without joining the maps first.
    ///
    /// # Errors
    /// [`MetricError::Empty`] or [`MetricError::OnlyOneClass`].
    pub fn of_pixels(maps: &[LabelledMap<'_>]) -> Result<Self, MetricError> {
        Self::of_checked(maps.iter().map(|map| (map.scores(), map.mask())))
    }

    /// Ranks parts whose lengths agree and whose scores are finite.
    fn of_checked<'a>(
        parts: impl Iterator<Item = (&'a [f32], &'a [bool])> + Clone,
    ) -> Result<Self, MetricError> {
        // Counted first, so that each list is allocated once, at its final size.
        let total: usize = parts.clone().map(|(_, labels)| labels.len()).sum();
        let defective: usize =
            parts.clone().map(|(_, labels)| labels.iter().filter(|&&label| label).count()).sum();
        if total == 0 {
            return Err(MetricError::Empty);
        }
        if defective == 0 || defective == total {
            return Err(MetricError::OnlyOneClass {
                positives: defective as u64,
                negatives: (total - defective) as u64,
            });
        }
        let mut positives = Vec::with_capacity(defective);
        let mut negatives = Vec::with_capacity(total - defective);
        for (scores, labels) in parts {
            for (&score, &label) in scores.iter().zip(labels) {
                if label { &mut positives } else { &mut negatives }.push(sort_key(score));
            }
        }
        positives.par_sort_unstable();
        negatives.par_sort_unstable();
        Ok(Self { positives, negatives })
    }

    /// The number of defective samples, at least 1.
    pub fn positives(&self) -> u64 {
        self.positives.len() as u64
    }

    /// The number of good samples, at least 1.
    pub fn negatives(&self) -> u64 {
        self.negatives.len() as u64
    }

    /// The distinct scores from the highest to the lowest, with the samples that have them.
    pub fn ties(&self) -> impl Iterator<Item = Tie> + '_ {
        let (mut positives, mut negatives) = (self.positives.as_slice(), self.negatives.as_slice());
        std::iter::from_fn(move || {
            let key = positives.last().max(negatives.last()).copied()?;
            Some(Tie {
                score: score_of(key),
                positives: take_equal(&mut positives, key),
                negatives: take_equal(&mut negatives, key),
            })
        })
    }

    /// The good samples' keys, ascending.
    pub(super) fn negative_keys(&self) -> &[u32] {
        &self.negatives
    }
}

/// Cuts all copies of `key` off the end of an ascending list and returns how many there were.
#[inline]
pub(super) fn take_equal(ascending: &mut &[u32], key: u32) -> u64 {
    let mut count = 0;
    while let [rest @ .., last] = *ascending
        && *last == key
    {
        *ascending = rest;
        count += 1;
    }
    count
}

/// Maps a finite score to an integer of the same order: `a < b ⇔ sort_key(a) < sort_key(b)`.
///
/// IEEE 754 numbers order like sign-magnitude integers, so a negative one is inverted and a positive one moved
/// above them. `+ 0.0` turns −0 into 0, which compare equal and must tie.
#[inline]
pub(super) fn sort_key(score: f32) -> u32 {
    const SIGN: u32 = 1 << 31;
    let bits = (score + 0.0).to_bits();
    if bits & SIGN == 0 { bits | SIGN } else { !bits }
}

/// The score of a key (0 for the key of −0).
#[inline]
fn score_of(key: u32) -> f32 {
    const SIGN: u32 = 1 << 31;
    f32::from_bits(if key & SIGN == 0 { !key } else { key & !SIGN })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_order_as_scores_do_and_lead_back() {
        let ascending = [f32::MIN, -1.5, -1e-45, 0.0, 1e-45, f32::MIN_POSITIVE, 0.1, 1.0, f32::MAX];
        assert!(ascending.windows(2).all(|pair| sort_key(pair[0]) < sort_key(pair[1])));
        assert!(ascending.iter().all(|&score| score_of(sort_key(score)) == score));
        assert_eq!(sort_key(-0.0), sort_key(0.0));
    }

    #[test]
    fn ties_come_from_the_highest_score_down() {
        let ranking =
            Ranking::new(&[1.0, 3.0, -0.0, 3.0, 0.0, 3.0], &[false, true, true, false, false, true]).unwrap();
        let ties: Vec<_> = ranking.ties().map(|tie| (tie.score, tie.positives, tie.negatives)).collect();
        assert_eq!(ties, [(3.0, 2, 1), (1.0, 0, 1), (0.0, 1, 1)]);
    }

    #[test]
    fn input_without_an_answer_is_refused() {
        let refused = |scores: &[f32], labels: &[bool]| Ranking::new(scores, labels).unwrap_err();
        assert_eq!(refused(&[], &[]), MetricError::Empty);
        assert_eq!(refused(&[1.0], &[]), MetricError::LengthMismatch { left: 1, right: 0 });
        assert_eq!(
            refused(&[1.0, 2.0], &[true, true]),
            MetricError::OnlyOneClass { positives: 2, negatives: 0 }
        );
        assert_eq!(refused(&[1.0], &[false]), MetricError::OnlyOneClass { positives: 0, negatives: 1 });
        assert!(matches!(
            refused(&[1.0, f32::NAN], &[true, false]),
            MetricError::NotFinite { index: 1, value } if value.is_nan()
        ));
        assert_eq!(
            refused(&[f32::NEG_INFINITY, 0.0], &[true, false]),
            MetricError::NotFinite { index: 0, value: f64::NEG_INFINITY }
        );
    }

    proptest! {
        #[test]
        fn any_two_finite_scores_compare_as_their_keys(a in any::<f32>(), b in any::<f32>()) {
            prop_assume!(a.is_finite() && b.is_finite());
            prop_assert_eq!(a.partial_cmp(&b), Some(sort_key(a).cmp(&sort_key(b))));
            prop_assert_eq!(score_of(sort_key(a)), a);
        }

        #[test]
        fn the_ties_hold_every_sample(samples in prop::collection::vec((-5i8..5, any::<bool>()), 1..200)) {
            let (scores, labels): (Vec<f32>, Vec<bool>) =
                samples.iter().map(|&(score, label)| (f32::from(score), label)).unzip();
            if let Ok(ranking) = Ranking::new(&scores, &labels) {
                let ties: Vec<Tie> = ranking.ties().collect();
                prop_assert!(ties.windows(2).all(|pair| pair[0].score > pair[1].score));
                prop_assert_eq!(ties.iter().map(|tie| tie.positives).sum::<u64>(), ranking.positives());
                prop_assert_eq!(ties.iter().map(|tie| tie.negatives).sum::<u64>(), ranking.negatives());
                prop_assert_eq!(ranking.positives() + ranking.negatives(), samples.len() as u64);
            }
        }
    }
}
