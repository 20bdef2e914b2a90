//! `--early-stop plateau`: a training ends once there is nothing left to gain that it can see without test data.
//!
//! # The rule
//!
//! After an epoch, its last [`WINDOW`] epochs are compared with as many before them; each window counts by its means, for
//! single epochs scatter. A head has settled once
//!
//! 1. it has learned: the mean loss is below half the loss of a head that tells nothing apart,
//! 2. the mean loss differs by at most [`LOSS_TOLERANCE`] of the loss of such a head, and
//! 3. the mean score of a held-out good image differs, on average over these images, by at most [`SCORE_TOLERANCE`] of the
//!    gap between good features and those with noise.
//!
//! The loss alone would not do: it may stand still while scores of unseen images still drift, and thresholds with them.
//! Neither would scores: they stand still before anything is learned.
//!
//! # Constants
//!
//! A hundredth of the loss of a head that tells nothing apart is less than a result could show. Scores need more room: that
//! of an image is the maximum of its grid, and keeps moving as long as steps are taken, however flat the loss. On 28
//! hazelnuts (ResNet-18) it differed from window to window by an eighth to a quarter of the gap in epochs 130 to 160, while
//! the images differed from each other by the whole of it; a fifth tells a drift from that. Ten epochs a window make means
//! steady although single epochs scatter, and let nothing end before twenty.
//!
//! # Several folds
//!
//! The fold that settles first decides for all, and folds after it train no further: up to there, and no further, each fold
//! has scores, which thresholds need of the shipped head's own epoch.

use super::selection::{FoldTraining, gap, has_learned};
use crate::backend::Loss;

/// Epochs in each of the windows that are compared.
const WINDOW: usize = 10;
/// By how much the loss may still change, as a share of the loss of a head that tells nothing apart.
const LOSS_TOLERANCE: f64 = 0.01;
/// By how much held-out images' scores may still change, as a share of the gap.
const SCORE_TOLERANCE: f64 = 0.2;

/// Whether a head has settled after the last of its epochs.
pub(super) fn has_settled(fold: &FoldTraining<'_>, loss: Loss) -> bool {
    let Some(first) = fold.losses.len().checked_sub(2 * WINDOW) else { return false };
    let (before, now) = fold.losses[first..].split_at(WINDOW);
    let (before, now) = (mean(before.iter().copied()), mean(now.iter().copied()));
    if !has_learned(loss, now) || (before - now).abs() > LOSS_TOLERANCE * loss.of_equal_scores() {
        return false;
    }
    // Of the window that begins after so many epochs.
    let score = |begin: usize, image: usize| {
        mean((begin..begin + WINDOW).map(|done| f64::from(fold.scores.scores(done as u32 + 1)[image])))
    };
    let changes =
        (0..fold.scores.images()).map(|image| (score(first + WINDOW, image) - score(first, image)).abs());
    mean(changes) <= SCORE_TOLERANCE * gap(loss, now)
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

#[cfg(test)]
mod tests {
    use super::super::trace::Trace;
    use super::super::trace::tests::kept;
    use super::*;
    use crate::backend::Margins;

    const LOSS: Loss = Loss::TruncatedL1(Margins { positive: 0.5, negative: -0.5 });

    /// The epoch at which a planted training ends: its loss and the scores of two images by epoch.
    fn end(epochs: u32, loss: impl Fn(u32) -> f64, score: impl Fn(u32) -> f64) -> Option<u32> {
        let losses: Vec<f64> = (1..=epochs).map(loss).collect();
        let scores = (1..=epochs).map(|epoch| vec![score(epoch) as f32, score(epoch) as f32 + 0.5]);
        let kept = kept(&[scores.collect()]);
        // What is seen after each epoch is a training of so many.
        (1..=epochs).find(|&seen| {
            let scores = Trace::of(&kept, 0).unwrap();
            has_settled(&FoldTraining { losses: &losses[..seen as usize], scores }, LOSS)
        })
    }

    /// Different for each epoch, in −1..1, without a trend.
    fn noise(epoch: u32) -> f64 {
        f64::from(epoch.wrapping_mul(2_654_435_761) >> 16) / 32_768.0 - 1.0
    }

    #[test]
    fn a_training_that_goes_on_is_not_ended() {
        // Every ten epochs, two hundredths less.
        assert_eq!(end(160, |e| 0.45 - 0.002 * f64::from(e), |_| -0.5), None);
        // The loss stands still, the scores do not.
        assert_eq!(end(160, |_| 0.1, |e| -0.5 - 0.03 * f64::from(e)), None);
        // Nothing is learned: loss and scores stand still.
        assert_eq!(end(160, |_| 0.99, |_| 0.0), None);
    }

    #[test]
    fn a_plateau_ends_it_as_soon_as_both_windows_lie_on_it() {
        assert_eq!(end(160, |_| 0.1, |_| -0.5), Some(20));
        // Falling by 0.01 an epoch to the plateau at 60: the window before may reach 4 epochs into the slope
        // (0.01 · (1 + 2 + 3 + 4) / 10 = 0.01).
        let slope = |e: u32| 0.1 + 0.01 * (60.0 - f64::from(e)).max(0.0);
        let found = end(160, slope, |_| -0.5).unwrap();
        assert!((74..=76).contains(&found), "{found}");
        // Scores that fall longer than the loss put it off.
        let score = |e: u32| -0.5 + 0.05 * (100.0 - f64::from(e)).max(0.0);
        let later = end(160, slope, score).unwrap();
        assert!(later > 105 && later < 120, "{later}");
        // Two plateaus: the first is long enough.
        assert_eq!(end(160, |e| if e <= 50 { 0.3 } else { 0.1 }, |_| -0.5), Some(20));
    }

    #[test]
    fn noise_around_a_plateau_does_not_hide_it_and_alone_is_none_missed() {
        let found = end(160, |e| 0.1 + 0.01 * noise(e), |e| -0.5 + 0.05 * noise(e)).unwrap();
        assert!(found <= 30, "{found}");
        let slope = |e: u32| 0.48 - 0.0025 * f64::from(e) + 0.01 * noise(e);
        assert_eq!(end(160, slope, |e| -0.5 + 0.05 * noise(e)), None);
    }
}
