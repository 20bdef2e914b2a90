//! Mean and spread of a handful of results.

use super::MetricError;
use super::compensated_sum::CompensatedSum;

/// A mean and, where there are at least two values, how far they spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeanAndStd {
    /// The arithmetic mean.
    pub mean: f64,
    /// The sample standard deviation, `√(Σ(x − mean)² / (n − 1))`; `None` for a single value, which has no spread
    /// (not one of zero).
    pub std: Option<f64>,
}

/// Mean and sample standard deviation, as over the seeds of one experiment; `numpy.std(ddof=1)`.
///
/// In two passes: the deviations are taken from the mean itself, so nothing cancels.
///
/// # Errors
/// [`MetricError::Empty`] or [`MetricError::NotFinite`].
pub fn mean_and_std(values: &[f64]) -> Result<MeanAndStd, MetricError> {
    if values.is_empty() {
        return Err(MetricError::Empty);
    }
    super::check_finite(values)?;
    let count = values.len() as f64;
    // As differences from the first value, so that equal values have exactly that mean and no deviation.
    let differences: CompensatedSum = values.iter().map(|value| value - values[0]).collect();
    let mean = values[0] + differences.value() / count;
    let std = (values.len() > 1).then(|| {
        let squares: CompensatedSum = values.iter().map(|value| (value - mean).powi(2)).collect();
        (squares.value() / (count - 1.0)).sqrt()
    });
    Ok(MeanAndStd { mean, std })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        assert_eq!(mean_and_std(&[98.4]), Ok(MeanAndStd { mean: 98.4, std: None }));
        assert_eq!(mean_and_std(&[2.0, 4.0, 6.0]), Ok(MeanAndStd { mean: 4.0, std: Some(2.0) }));
        let offset = mean_and_std(&[1e9 + 1.0, 1e9 + 2.0, 1e9 + 3.0]);
        assert_eq!(offset, Ok(MeanAndStd { mean: 1e9 + 2.0, std: Some(1.0) }));
        assert_eq!(mean_and_std(&[]), Err(MetricError::Empty));
        assert!(matches!(mean_and_std(&[f64::NAN]), Err(MetricError::NotFinite { index: 0, .. })));
    }
}
