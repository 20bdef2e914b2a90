//! `loss`: truncated L1 (Eq. 7–8) and cross-entropy, with their gradients.

use crate::backend::{LOSS_TOTALS, Loss, TOTAL_LOSS, TOTAL_NEGATIVE, TOTAL_POSITIVE, TOTAL_ROWS};
use crate::tensor::Scalar;

/// The first half of `scores` belongs to normal features, the second to anomalous ones. The vector is short (a few
/// thousand values), so one thread does it, sums in `f64`.
pub(super) fn loss<T: Scalar>(scores: &[T], loss: Loss, images: usize, totals: &mut [T], out: &mut [T]) {
    assert!(
        scores.len().is_multiple_of(2) && totals.len() == LOSS_TOTALS,
        "two halves, and room for the totals"
    );
    let rows = scores.len() / 2;
    // Eq. 8 adds the means of the two halves; binary_cross_entropy_with_logits averages over both at once.
    let share = match loss {
        Loss::TruncatedL1(_) => 1.0 / rows as f64,
        Loss::CrossEntropy(_) => 1.0 / scores.len() as f64,
    };
    let margins = loss.margins();
    let mut total = 0.0;
    let (mut positive, mut negative) = (0u32, 0u32);
    for (i, (&score, out)) in scores.iter().zip(out).enumerate() {
        let score = score.to_f64();
        // The signed target: normal rows want large scores, anomalous ones small.
        let (sign, margin) = if i < rows { (1.0, margins.positive) } else { (-1.0, -margins.negative) };
        let directed = sign * score;
        let (value, slope) = match loss {
            // max(0, margin − directed), slope −1 while it is positive. A NaN is not beyond the margin: a training
            // that diverged has no loss of zero.
            Loss::TruncatedL1(_) if margin - directed <= 0.0 => (0.0, 0.0),
            Loss::TruncatedL1(_) => (margin - directed, -1.0),
            // −ln σ(directed) = ln(1 + e^(−directed)), without overflow on either side.
            Loss::CrossEntropy(_) => {
                let decay = (-directed.abs()).exp();
                let sigmoid_of_minus =
                    if directed >= 0.0 { decay / (1.0 + decay) } else { 1.0 / (1.0 + decay) };
                ((-directed).max(0.0) + decay.ln_1p(), -sigmoid_of_minus)
            }
        };
        if i < rows {
            positive += u32::from(score > margins.positive);
        } else {
            negative += u32::from(score < margins.negative);
        }
        total += value * share;
        *out = T::from_f64(slope * sign * share);
    }
    totals[TOTAL_LOSS] += T::from_f64(total * images as f64);
    totals[TOTAL_POSITIVE] += T::from_f64(f64::from(positive));
    totals[TOTAL_NEGATIVE] += T::from_f64(f64::from(negative));
    totals[TOTAL_ROWS] += T::from_f64(rows as f64);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Margins;

    #[test]
    fn a_nan_score_shows_in_the_loss_and_in_the_gradient() {
        let margins = Margins { positive: 0.5, negative: -0.5 };
        for kind in [Loss::TruncatedL1(margins), Loss::CrossEntropy(margins)] {
            let (mut totals, mut gradient) = ([0.0f32; LOSS_TOTALS], [0.0f32; 4]);
            loss(&[1.0, f32::NAN, -1.0, 0.0], kind, 1, &mut totals, &mut gradient);
            assert!(totals[TOTAL_LOSS].is_nan());
            if let Loss::CrossEntropy(_) = kind {
                assert!(gradient[1].is_nan());
            }
        }
    }
}
