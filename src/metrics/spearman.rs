//! Rank correlation: whether two devices put the same parts in the same order.

use super::MetricError;
use super::ranking::sort_key;
use rayon::slice::ParallelSliceMut;

/// Spearman's rank correlation of paired scores, in [−1, 1].
///
/// Pearson's correlation of the ranks, where equal scores share the mean of their ranks: `scipy.stats.spearmanr`.
/// Twice a mean rank is an integer, so every sum is counted exactly and only the last division rounds.
/// O(n log n); memory 24 bytes a pair.
///
/// # Errors
/// [`MetricError::LengthMismatch`], [`MetricError::Empty`], [`MetricError::NotFinite`],
/// [`MetricError::Constant`] where one side has a single value, and [`MetricError::TooManyPixels`] (as a row of one)
/// beyond 2³² − 1 pairs.
pub fn spearman(left: &[f32], right: &[f32]) -> Result<f64, MetricError> {
    if left.len() != right.len() {
        return Err(MetricError::LengthMismatch { left: left.len(), right: right.len() });
    }
    if left.is_empty() {
        return Err(MetricError::Empty);
    }
    super::check_finite(left)?;
    super::check_finite(right)?;
    super::regions::check_extent(left.len(), left.len(), 1)?;

    let (left, right) = (twice_centred_ranks(left), twice_centred_ranks(right));
    let sum_of_products = |a: &[i64], b: &[i64]| -> i128 {
        a.iter().zip(b).map(|(&a, &b)| i128::from(a) * i128::from(b)).sum()
    };
    let (left_squares, right_squares) = (sum_of_products(&left, &left), sum_of_products(&right, &right));
    if left_squares == 0 || right_squares == 0 {
        return Err(MetricError::Constant);
    }
    let products = sum_of_products(&left, &right) as f64;
    // The roots are taken apart: equal orders then give ±1 to the last bit or the one before, which is clamped.
    Ok((products / (left_squares as f64).sqrt() / (right_squares as f64).sqrt()).clamp(-1.0, 1.0))
}

/// Twice each value's distance from the mean rank: `2·rank − (n + 1)`, ranks from 1, ties sharing their mean.
fn twice_centred_ranks(values: &[f32]) -> Vec<i64> {
    // The key above and the index below make one integer, so that sorting needs no indirection.
    let mut order: Vec<u64> = values
        .iter()
        .enumerate()
        .map(|(index, &value)| (u64::from(sort_key(value)) << 32) | index as u64)
        .collect();
    order.par_sort_unstable();
    let mut ranks = vec![0; values.len()];
    let mut first = 0;
    for tied in order.chunk_by(|a, b| a >> 32 == b >> 32) {
        // Ranks first + 1 … first + len have twice the mean 2·first + len + 1.
        let twice_rank = 2 * first + tied.len();
        for &entry in tied {
            ranks[(entry & u64::from(u32::MAX)) as usize] = twice_rank as i64 - values.len() as i64;
        }
        first += tied.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ties_share_their_rank() {
        // Ranks 1, 2.5, 2.5, 4.
        assert_eq!(twice_centred_ranks(&[0.1, 0.2, 0.2, 7.0]), [-3, 0, 0, 3]);
        assert_eq!(twice_centred_ranks(&[0.0, -0.0, -1.0]), [1, 1, -2]);
    }

    #[test]
    fn input_without_an_answer_is_refused() {
        assert_eq!(spearman(&[], &[]), Err(MetricError::Empty));
        assert_eq!(spearman(&[1.0], &[1.0]), Err(MetricError::Constant));
        assert_eq!(spearman(&[1.0, 1.0], &[1.0, 2.0]), Err(MetricError::Constant));
        assert_eq!(spearman(&[1.0, 2.0], &[1.0]), Err(MetricError::LengthMismatch { left: 2, right: 1 }));
        assert!(matches!(spearman(&[1.0, 2.0], &[1.0, f32::NAN]), Err(MetricError::NotFinite { .. })));
    }

    proptest! {
        #[test]
        fn it_is_symmetric_and_depends_on_order_alone(
            pairs in prop::collection::vec((-9i8..9, -9i8..9), 2..100),
        ) {
            let (a, b): (Vec<f32>, Vec<f32>) =
                pairs.iter().map(|&(a, b)| (f32::from(a), f32::from(b))).unzip();
            let Ok(correlation) = spearman(&a, &b) else { return Ok(()) };
            prop_assert!((spearman(&b, &a).unwrap() - correlation).abs() < 1e-15);
            let cubed: Vec<f32> = a.iter().map(|x| x * x * x).collect();
            prop_assert_eq!(spearman(&cubed, &b).unwrap(), correlation);
            let negated: Vec<f32> = a.iter().map(|x| -x).collect();
            prop_assert_eq!(spearman(&negated, &b).unwrap(), -correlation);
            prop_assert!(spearman(&a, &a).unwrap() > 1.0 - 1e-15);
        }
    }
}
