//! Quantiles of a sample.

use super::MetricError;
use crate::tensor::Scalar;

/// The `level` quantile of a sample, by linear interpolation between the two nearest order statistics.
///
/// NumPy's default, `numpy.quantile(method="linear")`, type 7 of R. Hyndman and Y. Fan, "Sample quantiles in
/// statistical packages", The American Statistician 50, 1996: with `h = (n − 1)·level` and order statistics from 0,
/// the result is `x₍⌊h⌋₎ + (h − ⌊h⌋)·(x₍⌊h⌋₊₁₎ − x₍⌊h⌋₎)`, computed in `f64`. O(n): nothing is sorted.
///
/// # Errors
/// [`MetricError::Empty`], [`MetricError::NotFinite`], or [`MetricError::LevelOutOfRange`] outside [0, 1].
pub fn quantile<T: Scalar>(sample: &[T], level: f64) -> Result<f64, MetricError> {
    if sample.is_empty() {
        return Err(MetricError::Empty);
    }
    if !(0.0..=1.0).contains(&level) {
        return Err(MetricError::LevelOutOfRange { level, range: "[0, 1]" });
    }
    super::check_finite(sample)?;
    let mut values: Vec<f64> = sample.iter().map(|value| value.to_f64()).collect();
    let position = (values.len() - 1) as f64 * level;
    let (_, &mut low, above) = values.select_nth_unstable_by(position.floor() as usize, f64::total_cmp);
    let weight = position.fract();
    // At the last order statistic nothing lies above, and the weight is zero.
    let high = above.iter().copied().min_by(f64::total_cmp).unwrap_or(low);
    // From the nearer end, as NumPy does: exact at both ends, and monotone in the level.
    Ok(if weight < 0.5 { low + weight * (high - low) } else { high - (1.0 - weight) * (high - low) })
}

/// The `level` quantile as a value of the sample: the smallest that is not below the linear quantile,
/// `numpy.quantile(method="higher")`. A threshold taken this way is not exceeded by the sample's maximum unless the
/// sample is large enough to speak about the level.
///
/// # Errors
/// As [`quantile`].
pub fn upper_quantile<T: Scalar>(sample: &[T], level: f64) -> Result<f64, MetricError> {
    quantile(sample, level)?;
    let position = (sample.len() - 1) as f64 * level;
    let mut values: Vec<f64> = sample.iter().map(|value| value.to_f64()).collect();
    Ok(*values.select_nth_unstable_by(position.ceil() as usize, f64::total_cmp).1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn between_and_at_the_order_statistics() {
        let sample = [4.0_f32, 1.0, 3.0, 2.0];
        for (level, expected) in [(0.0, 1.0), (0.25, 1.75), (0.5, 2.5), (1.0 / 3.0, 2.0), (1.0, 4.0)] {
            assert_eq!(quantile(&sample, level), Ok(expected), "level {level}");
        }
        assert_eq!(quantile(&[7.5_f64], 0.995), Ok(7.5));
    }

    /// `numpy.quantile([4, 1, 3, 2], levels, method="higher")`.
    #[test]
    fn the_upper_quantile_is_a_value_of_the_sample() {
        let sample = [4.0_f32, 1.0, 3.0, 2.0];
        for (level, expected) in [(0.0, 1.0), (0.25, 2.0), (0.5, 3.0), (0.995, 4.0), (1.0, 4.0)] {
            assert_eq!(upper_quantile(&sample, level), Ok(expected), "level {level}");
        }
        assert_eq!(upper_quantile::<f32>(&[], 0.5), Err(MetricError::Empty));
    }

    #[test]
    fn input_without_an_answer_is_refused() {
        assert_eq!(quantile::<f32>(&[], 0.5), Err(MetricError::Empty));
        for level in [-0.1, 1.1, f64::NAN] {
            assert!(matches!(quantile(&[1.0_f32], level), Err(MetricError::LevelOutOfRange { .. })));
        }
        assert!(matches!(quantile(&[1.0, f32::NAN], 0.5), Err(MetricError::NotFinite { index: 1, .. })));
    }

    proptest! {
        #[test]
        fn it_grows_with_the_level_and_stays_inside(
            sample in prop::collection::vec(-1e3f32..1e3, 1..60), a in 0.0..=1.0, b in 0.0..=1.0,
        ) {
            let (low, high) = (quantile(&sample, f64::min(a, b)).unwrap(), quantile(&sample, f64::max(a, b)).unwrap());
            prop_assert!(low <= high);
            prop_assert!(quantile(&sample, 0.0).unwrap() <= low && high <= quantile(&sample, 1.0).unwrap());
        }
    }
}
