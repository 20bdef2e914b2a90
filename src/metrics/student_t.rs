//! How far the mean of a few measurements may lie from the truth.

/// The critical value of Student's t distribution: `|T| ≤ t` with probability `confidence`, for `degrees` degrees of
/// freedom. The mean of n normal measurements of sample deviation s lies within `t·s/√n` of the truth that often,
/// with `t` of n − 1 degrees.
///
/// Student, "The probable error of a mean", Biometrika 6, 1908. The probability of a whole number of degrees is a
/// finite sum (Abramowitz and Stegun, 26.7.3 and 26.7.4), which is inverted by bisection over `θ = arctan(t/√ν)`.
///
/// # Panics
/// Without a degree of freedom, or if `confidence` is not in (0, 1): faults of the caller.
pub fn student_t(confidence: f64, degrees: usize) -> f64 {
    assert!(degrees > 0, "one measurement says nothing about its spread");
    assert!(confidence > 0.0 && confidence < 1.0, "a confidence of {confidence} is outside (0, 1)");
    // The probability grows with θ. Halving ends when no number lies between the ends.
    let (mut low, mut high) = (0.0, std::f64::consts::FRAC_PI_2);
    loop {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            return (degrees as f64).sqrt() * middle.tan();
        }
        if within(middle, degrees) < confidence { low = middle } else { high = middle }
    }
}

/// `P(|T| ≤ √ν·tan θ)`.
fn within(theta: f64, degrees: usize) -> f64 {
    let (sine, cosine) = theta.sin_cos();
    // The terms' exponents of cos θ and their factors go up by two: ν − 2 is the last.
    let series = |first: usize| {
        let (mut term, mut sum) = (if first == 0 { 1.0 } else { cosine }, 0.0);
        for exponent in (first..=degrees - 2).step_by(2) {
            sum += term;
            term *= cosine * cosine * (exponent + 1) as f64 / (exponent + 2) as f64;
        }
        sum
    };
    match degrees {
        1 => theta * std::f64::consts::FRAC_2_PI,
        _ if degrees % 2 == 1 => std::f64::consts::FRAC_2_PI * (theta + sine * series(1)),
        _ => sine * series(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `scipy.stats.t.ppf((1 + confidence) / 2, degrees)`, SciPy 1.17.
    #[test]
    fn scipys_values() {
        let scipy = [
            (0.5, 1, 1.0000000000000002),
            (0.5, 4, 0.7406970841126829),
            (0.5, 29, 0.6830438608216131),
            (0.95, 1, 12.706204736174694),
            (0.95, 2, 4.302652729749462),
            (0.95, 3, 3.1824463052837078),
            (0.95, 4, 2.7764451051977934),
            (0.95, 5, 2.5705818356363146),
            (0.95, 29, 2.045229642132703),
            (0.95, 100, 1.9839715185235518),
            (0.95, 999, 1.9623414611334493),
            (0.99, 3, 5.840909309733355),
            (0.99, 4, 4.604094871349992),
            (0.99, 100, 2.6258905214380173),
        ];
        for (confidence, degrees, expected) in scipy {
            let t = student_t(confidence, degrees);
            assert!((t / expected - 1.0).abs() < 1e-12, "{confidence}, {degrees}: {t}, not {expected}");
        }
    }

    #[test]
    fn a_normal_is_its_limit() {
        assert!((student_t(0.95, 1_000_000) - 1.959_963_984_540_054).abs() < 1e-5);
    }
}
