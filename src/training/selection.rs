//! `--select holdout`: the epoch after which held-out good images score most alike.
//!
//! # The measure
//!
//! A head is useful if it gives good images it never saw like scores, and anomalies others. Only good images are looked
//! at, so the second half is what training itself aims at: the gap between good features and those with noise.
//! The spread after an epoch is
//!
//! ```text
//!            Σ_f Σ_i |s_fi − median_i(s_fi)| / gap_f
//! spread = ———————————————————————————————————————————      f: folds, i: the held-out good images of fold f
//!                           Σ_f n_f
//! ```
//!
//! * **The median** is the fold's own: heads of different folds put zero in different places.
//! * **The absolute deviation** lets every image count, since each could be a false alarm, but does not square: one
//!   mislabelled image must not decide alone.
//! * **The gap** makes epochs comparable. Scores have no unit of their own: a head that has learned nothing gives all images
//!   nearly the same score, and in plain units would win. [`gap`] derives it from the epoch's loss, at no further cost.
//! * **Epochs before anything is learned** ([`has_learned`]) do not stand for choice, for the quotient of two small numbers
//!   is noise.
//!
//! # The choice
//!
//! The spread of a single epoch is also chance, of a head that is not the one that is shipped. Only its trend holds for
//! another head, so the epoch with the least mean over itself and two neighbours on either side is taken; of equals, the
//! earliest. If nothing was learned in any epoch, it is the last.

use super::trace::Trace;
use crate::backend::Loss;

/// Epochs on either side that are averaged with an epoch's own spread.
const NEIGHBOURS: usize = 2;

/// How far apart good features and those with noise score: between a head's constant scores of the one and of the other, if
/// that head has the loss `value`. For the truncated loss that is the mean distance of the scores, those beyond their
/// margins counted at the margins.
pub(super) fn gap(loss: Loss, value: f64) -> f64 {
    match loss {
        Loss::TruncatedL1(_) => loss.of_equal_scores() - value,
        // value = ln(1 + e^(−gap/2)), for good features and for those with noise
        Loss::CrossEntropy(_) => -2.0 * value.exp_m1().ln(),
    }
}

/// Whether an epoch's loss is below half of what a head reaches that tells nothing apart.
pub(super) fn has_learned(loss: Loss, value: f64) -> bool {
    value < 0.5 * loss.of_equal_scores()
}

/// One calibration head: its loss after each epoch, and what its held-out images scored.
#[derive(Clone, Copy, Debug)]
pub(super) struct FoldTraining<'a> {
    /// Losses, of the first epoch first.
    pub(super) losses: &'a [f64],
    /// Scores.
    pub(super) scores: Trace<'a>,
}

/// The spread after an epoch, counted from 1, over all folds; `None` where one of them has learned nothing yet.
pub(super) fn spread(folds: &[FoldTraining<'_>], epoch: u32, loss: Loss) -> Option<f64> {
    let (mut sum, mut images) = (0.0, 0);
    for fold in folds {
        let scores = fold.scores.scores(epoch);
        sum += deviations(scores, loss, fold.losses[epoch as usize - 1])?;
        images += scores.len();
    }
    Some(sum / images as f64)
}

/// The deviations of a fold's scores from their median, added, in units of the gap that a loss of `value` tells of; `None`
/// where it says that nothing is learned yet.
pub(super) fn deviations(scores: &[f32], loss: Loss, value: f64) -> Option<f64> {
    let middle = median(scores);
    let sum = scores.iter().map(|&score| (f64::from(score) - middle).abs()).sum::<f64>();
    has_learned(loss, value).then(|| sum / gap(loss, value)).filter(|sum| sum.is_finite())
}

/// The chosen one of the first `epochs` epochs.
pub(super) fn choose(folds: &[FoldTraining<'_>], epochs: u32, loss: Loss) -> u32 {
    let spreads: Vec<Option<f64>> = (1..=epochs).map(|epoch| spread(folds, epoch, loss)).collect();
    let smoothed = |index: usize| {
        let around = &spreads[index.saturating_sub(NEIGHBOURS)..(index + NEIGHBOURS + 1).min(spreads.len())];
        let known: Vec<f64> = around.iter().copied().flatten().collect();
        known.iter().sum::<f64>() / known.len() as f64
    };
    let standing = (0..spreads.len()).filter(|&index| spreads[index].is_some());
    // The first of equals: `min_by` keeps it.
    let least =
        standing.map(|index| (index, smoothed(index))).min_by(|(_, one), (_, other)| one.total_cmp(other));
    least.map_or(epochs, |(index, _)| index as u32 + 1)
}

fn median(scores: &[f32]) -> f64 {
    let mut sorted = scores.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    let (below, above) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
    0.5 * (f64::from(below) + f64::from(above))
}

#[cfg(test)]
mod tests {
    use super::super::trace::tests::kept;
    use super::*;
    use crate::backend::Margins;

    const MARGINS: Margins = Margins { positive: 0.5, negative: -0.5 };
    const LOSS: Loss = Loss::TruncatedL1(MARGINS);

    /// The choice over folds that are given by loss and spread of every epoch, with scores ±spread around a level of
    /// their own.
    fn chosen(folds: &[&[(f64, f32)]]) -> u32 {
        let scores = folds.iter().enumerate().map(|(fold, epochs)| {
            let level = fold as f32;
            epochs.iter().map(|&(_, spread)| vec![level - spread, level, level + spread]).collect()
        });
        let kept = kept(&scores.collect::<Vec<_>>());
        let losses: Vec<Vec<f64>> =
            folds.iter().map(|epochs| epochs.iter().map(|&(loss, _)| loss).collect()).collect();
        let folds: Vec<FoldTraining<'_>> = losses
            .iter()
            .enumerate()
            .map(|(fold, losses)| FoldTraining { losses, scores: Trace::of(&kept, fold).unwrap() })
            .collect();
        choose(&folds, folds[0].losses.len() as u32, LOSS)
    }

    #[test]
    fn a_head_of_constant_scores_has_its_gap() {
        // D = ±g/2: the truncated loss is 1 − g up to the margins, cross-entropy ln(1 + e^(−g/2)).
        for g in [0.25, 0.5, 1.0] {
            assert!((gap(LOSS, 1.0 - g) - g).abs() < 1e-12);
            let value = (-g / 2.0).exp().ln_1p();
            assert!((gap(Loss::CrossEntropy(MARGINS), value) - g).abs() < 1e-12);
        }
        for loss in [LOSS, Loss::CrossEntropy(MARGINS)] {
            assert!(gap(loss, loss.of_equal_scores()).abs() < 1e-12);
        }
        assert!(!has_learned(LOSS, 0.5) && has_learned(LOSS, 0.49));
    }

    #[test]
    fn the_spread_is_the_mean_deviation_in_units_of_the_gap() {
        let kept = kept(&[vec![vec![1.0, 2.0, 4.0]], vec![vec![-1.0, -2.0]], vec![vec![9.0]]]);
        let fold = |index, losses| FoldTraining { losses, scores: Trace::of(&kept, index).unwrap() };
        // Deviations 1 + 0 + 2 in units of 0.75, 0.5 + 0.5 in units of 0.5, and none of a single image.
        let folds = [fold(0, &[0.25]), fold(1, &[0.4999999999]), fold(2, &[0.0])];
        let expected = (3.0 / 0.75 + 1.0 / 0.5) / 6.0;
        assert!((spread(&folds, 1, LOSS).unwrap() - expected).abs() < 1e-6);
        // One fold that has learned nothing yet leaves the epoch out.
        assert_eq!(spread(&[fold(0, &[0.25]), fold(1, &[0.5])], 1, LOSS), None);
    }

    #[test]
    fn the_trend_decides() {
        let falling: Vec<(f64, f32)> = (0..20u8).map(|e| (0.2, 1.0 - 0.02 * f32::from(e))).collect();
        assert_eq!(chosen(&[&falling]), 20);
        let rising: Vec<(f64, f32)> = falling.iter().rev().copied().collect();
        assert_eq!(chosen(&[&rising]), 1);
        // A valley at epoch 11, and a single epoch that is better by chance.
        let mut valley: Vec<(f64, f32)> =
            (0..20i8).map(|e| (0.2, 0.5 + 0.02 * f32::from((e - 10).abs()))).collect();
        assert_eq!(chosen(&[&valley]), 11);
        valley[3].1 = 0.45;
        assert_eq!(chosen(&[&valley]), 11);
        // Of equals, the first.
        assert_eq!(chosen(&[&[(0.2, 0.5); 9]]), 1);
    }

    #[test]
    fn a_wide_gap_excuses_a_wide_spread_and_folds_are_pooled() {
        // Twice the spread over four times the gap is better.
        let learning: Vec<(f64, f32)> =
            (0..12).map(|e| if e < 6 { (0.49, 0.1) } else { (0.02, 0.15) }).collect();
        assert!(chosen(&[&learning]) >= 9);
        // Before anything is learned all scores are alike, which is no merit.
        let blind: Vec<(f64, f32)> = (0..12).map(|e| if e < 6 { (0.99, 0.0) } else { (0.2, 0.5) }).collect();
        assert_eq!(chosen(&[&blind]), 7);
        assert_eq!(chosen(&[&[(0.9, 0.5); 4]]), 4);
        // Two folds that disagree: the one with the larger differences has its way.
        let rising: Vec<(f64, f32)> = (0..10u8).map(|e| (0.2, 0.5 + 0.1 * f32::from(e))).collect();
        let falling: Vec<(f64, f32)> = (0..10u8).map(|e| (0.2, 0.5 - 0.01 * f32::from(e))).collect();
        assert_eq!(chosen(&[&rising, &falling]), 1);
    }
}
