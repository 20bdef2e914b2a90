//! A bound on a rate that was observed on few samples.

use super::compensated_sum::CompensatedSum;

/// The one-sided Clopper–Pearson upper bound on a binomial proportion: having seen `rejected` of `total`, the true
/// rate lies at or below the result with at least the given confidence.
///
/// C. Clopper, E. Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial",
/// Biometrika 26, 1934. The bound is the rate `p` at which so few rejections would be just that unlikely,
/// `P(X ≤ rejected) = 1 − confidence` for `X ~ Binomial(total, p)`, which is the `confidence` quantile of
/// Beta(rejected + 1, total − rejected). It is exact for any sample size: 0 of 59 bounds the rate by 4.95 % at 95 %.
/// Where every sample was rejected, or there was none, nothing is excluded and the bound is 1.
///
/// Found by bisection on the logarithm of the binomial tail; O(rejected) for each of some sixty steps at worst.
///
/// # Panics
/// If `rejected > total`, or `confidence` is not in [0.5, 1): faults of the caller, who counts one and states the
/// other. (Below 0.5 the value would lie below the observed rate and bound nothing.)
pub fn clopper_pearson_upper(rejected: u64, total: u64, confidence: f64) -> f64 {
    assert!(rejected <= total, "{rejected} of {total} samples cannot have been rejected");
    assert!((0.5..1.0).contains(&confidence), "a confidence of {confidence} is outside [0.5, 1)");
    if rejected == total {
        return 1.0;
    }
    let tail = BinomialTail::new(rejected, total);
    let target = (-confidence).ln_1p();
    // The tail falls as p grows: from at least a half at the observed rate (where the mean is the whole number
    // `rejected`, which then is the median too) to zero at 1. Halving ends when no number lies between the ends.
    let (mut low, mut high) = (rejected as f64 / total as f64, 1.0);
    loop {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            return high;
        }
        if tail.ln(middle) > target { low = middle } else { high = middle }
    }
}

/// `P(X ≤ hits)` for `X ~ Binomial(total, p)`, as a function of `p`.
struct BinomialTail {
    hits: u64,
    total: u64,
    /// `ln (total choose hits)`.
    ln_choose: f64,
}

impl BinomialTail {
    fn new(hits: u64, total: u64) -> Self {
        let few = hits.min(total - hits);
        let ln_choose: CompensatedSum =
            (1..=few).map(|i| ((total - few + i) as f64).ln() - (i as f64).ln()).collect();
        Self { hits, total, ln_choose: ln_choose.value() }
    }

    /// The logarithm of the tail at `hits / total ≤ p < 1`.
    ///
    /// There the term at `hits` is the largest. It is computed in logarithms, so that it cannot underflow; the
    /// others follow as multiples of it, downwards by `tᵢ₋₁ = tᵢ · i(1 − p) / ((total − i + 1)p)`, whose ratio is
    /// below 1 and falls, so the sum may stop at a term that no longer counts.
    fn ln(&self, p: f64) -> f64 {
        let (hits, misses) = (self.hits as f64, (self.total - self.hits) as f64);
        // 0·ln 0 is 0 here: no hits, no factor.
        let ln_hits = if self.hits == 0 { 0.0 } else { hits * p.ln() };
        let ln_largest = self.ln_choose + ln_hits + misses * (-p).ln_1p();
        let odds = (1.0 - p) / p;
        let (mut term, mut sum) = (1.0, 1.0);
        for i in (1..=self.hits).rev() {
            term *= i as f64 / (self.total - i + 1) as f64 * odds;
            sum += term;
            if term < 1e-18 * sum {
                break;
            }
        }
        ln_largest + f64::ln(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn closed_forms() {
        // No rejection: (1 − p)ⁿ = α. One of one, none of none: nothing is excluded.
        let expected = 1.0 - 0.05_f64.powf(1.0 / 59.0);
        assert!((clopper_pearson_upper(0, 59, 0.95) - expected).abs() < 1e-15);
        // All but one: 1 − pⁿ = α.
        assert!((clopper_pearson_upper(9, 10, 0.99) - 0.99_f64.powf(0.1)).abs() < 1e-14);
        assert_eq!(clopper_pearson_upper(1, 1, 0.95), 1.0);
        assert_eq!(clopper_pearson_upper(0, 0, 0.95), 1.0);
    }

    #[test]
    #[should_panic(expected = "outside [0.5, 1)")]
    fn certainty_cannot_be_had() {
        clopper_pearson_upper(0, 10, 1.0);
    }

    proptest! {
        #[test]
        fn it_grows_with_rejections_and_confidence_and_shrinks_with_evidence(
            total in 1u64..400, share in 0.0..1.0, confidence in 0.5..0.999,
        ) {
            let rejected = (total as f64 * share) as u64;
            let bound = clopper_pearson_upper(rejected, total, confidence);
            prop_assert!(bound > rejected as f64 / total as f64 && bound <= 1.0);
            prop_assert!(clopper_pearson_upper(rejected + 1, total + 1, confidence) > bound || bound == 1.0);
            prop_assert!(clopper_pearson_upper(rejected, total + 1, confidence) < bound);
            prop_assert!(clopper_pearson_upper(rejected, total, confidence + 0.0005) >= bound);
        }
    }
}
