//! Quantiles of a sample, and what a count of rejects says about their rate.

/// The quantile `q` of a sample with linear interpolation between order statistics (`numpy.quantile`'s default).
/// None for an empty sample, or one that holds a NaN.
pub fn quantile(sample: &[f32], q: f64) -> Option<f64> {
    if sample.is_empty() || sample.iter().any(|x| x.is_nan()) {
        return None;
    }
    let mut sorted = sample.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    let position = q.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let low = position as usize;
    let (a, b) = (f64::from(sorted[low]), f64::from(sorted[(low + 1).min(sorted.len() - 1)]));
    Some(a + (b - a) * (position - low as f64))
}

/// The upper end of the one-sided Clopper–Pearson interval: the largest rate at which seeing at most `rejected` of
/// `total` still has probability `1 − confidence`. It is the quantile `confidence` of Beta(rejected + 1,
/// total − rejected); one where everything was rejected or nothing was seen.
pub fn clopper_pearson_upper(rejected: u64, total: u64, confidence: f64) -> f64 {
    if rejected >= total {
        return 1.0;
    }
    let (mut low, mut high) = (rejected as f64 / total as f64, 1.0);
    // Each step halves the interval: 60 reach the last bit.
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if binomial_cdf(rejected, total, middle) > 1.0 - confidence { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

/// `P(X ≤ k)` for X ~ Binomial(n, p), 0 < p < 1: terms from the largest downwards, their ratio known in closed form.
fn binomial_cdf(k: u64, n: u64, p: f64) -> f64 {
    let log_choose: f64 = (1..=k).map(|i| ((n - k + i) as f64 / i as f64).ln()).sum();
    let mut term = (log_choose + k as f64 * p.ln() + (n - k) as f64 * (-p).ln_1p()).exp();
    let mut sum = term;
    for i in (1..=k).rev() {
        // P(i − 1) / P(i) = i·(1 − p) / ((n − i + 1)·p)
        term *= i as f64 * (1.0 - p) / ((n - i + 1) as f64 * p);
        sum += term;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_numpys() {
        // numpy.quantile([3, 1, 2, 10], [0, 0.5, 0.9, 0.995, 1])
        let sample = [3.0, 1.0, 2.0, 10.0];
        for (q, expected) in [(0.0, 1.0), (0.5, 2.5), (0.9, 7.9), (0.995, 9.895), (1.0, 10.0)] {
            assert!((quantile(&sample, q).unwrap() - expected).abs() < 1e-12);
        }
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[1.0, f32::NAN], 0.5), None);
    }

    /// `scipy.stats.beta.ppf(0.95, k + 1, n − k)`, SciPy 1.17.
    #[test]
    fn bounds_are_scipys() {
        for (k, n, expected) in [
            (0, 6, 0.393_037_768_997_082_65),
            (0, 20, 0.139_108_340_668_265_16),
            (1, 20, 0.216_106_164_206_847_3),
            (5, 1000, 0.010_484_076_911_415_651),
            (300, 1000, 0.324_753_612_719_348_77),
        ] {
            let bound = clopper_pearson_upper(k, n, 0.95);
            assert!((bound - expected).abs() < 1e-9, "{k} of {n}: {bound}");
        }
        assert_eq!(clopper_pearson_upper(3, 3, 0.95), 1.0);
        assert_eq!(clopper_pearson_upper(0, 0, 0.95), 1.0);
    }
}
