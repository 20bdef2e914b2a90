//! From repeated times to figures.

use crate::metrics::{mean_and_std, quantile, student_t};
use serde::Serialize;

/// How sure the interval of a [`Rate`] is.
pub const CONFIDENCE: f64 = 0.95;

/// Units a second, with the interval that repeats leave it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// All units by all seconds.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// The rate of runs of `units` units each, from their times.
///
/// The interval is that of the mean time by Student's t over the repeats, taken on its logarithm (the delta method),
/// so that no end is negative: `rate·exp(±t·s/(m·√n))` with mean m and sample deviation s of n times. It holds for
/// repeats that do not depend on one another; what changes between two runs of the program it cannot know.
///
/// # Panics
/// With fewer than two times, or a time that is not positive.
pub fn rate(units: f64, seconds: &[f64]) -> Rate {
    assert!(seconds.iter().all(|&time| time > 0.0), "a run takes time");
    let Ok((mean, Some(std))) = mean_and_std(seconds).map(|of| (of.mean, of.std)) else {
        panic!("an interval takes two times or more")
    };
    let count = seconds.len();
    let half = student_t(CONFIDENCE, count - 1) * std / (mean * (count as f64).sqrt());
    let value = units / mean;
    Rate { value, low: value * (-half).exp(), high: value * half.exp() }
}

/// How long single runs take, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// Half of the runs take no longer.
    pub p50: f64,
    /// 95 % take no longer.
    pub p95: f64,
    /// 99 % take no longer. From fewer than a hundred runs it lies between the two longest.
    pub p99: f64,
}

/// Quantiles of times, interpolated linearly between order statistics (`numpy.quantile`).
///
/// # Panics
/// Without a time.
pub fn latency(seconds: &[f64]) -> Latency {
    let at = |level| match quantile(seconds, level) {
        Ok(value) => 1e3 * value,
        Err(error) => panic!("times have quantiles: {error}"),
    };
    Latency { p50: at(0.50), p95: at(0.95), p99: at(0.99) }
}

/// The time in the middle.
pub(super) fn median(seconds: &[f64]) -> f64 {
    latency(seconds).p50 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: [f64; 6] = [0.11, 0.10, 0.14, 0.10, 0.12, 0.15];

    fn assert_close(value: f64, expected: f64) {
        assert!((value / expected - 1.0).abs() < 1e-12, "{value}, not {expected}");
    }

    /// By SciPy 1.17:
    /// ```python
    /// x = numpy.array([.11, .10, .14, .10, .12, .15]); n = len(x); m = x.mean()
    /// h = scipy.stats.t.ppf(.975, n - 1) * scipy.stats.sem(x) / m
    /// print(8 / m, 8 / m * numpy.exp(-h), 8 / m * numpy.exp(h))
    /// print(*(1e3 * numpy.quantile(x, q) for q in (.5, .95, .99)))
    /// ```
    #[test]
    fn scipys_interval_and_numpys_quantiles() {
        let Rate { value, low, high } = rate(8.0, &TIMES);
        assert_close(value, 66.66666666666666);
        assert_close(low, 55.49329376722907);
        assert_close(high, 80.08975756759025);
        let Latency { p50, p95, p99 } = latency(&TIMES);
        assert_close(p50, 114.99999999999999);
        assert_close(p95, 147.5);
        assert_close(p99, 149.5);
    }

    #[test]
    fn equal_times_leave_no_doubt() {
        assert_eq!(rate(3.0, &[0.5; 5]), Rate { value: 6.0, low: 6.0, high: 6.0 });
        assert_eq!(latency(&[0.5; 5]), Latency { p50: 500.0, p95: 500.0, p99: 500.0 });
    }

    /// One wild run of five: the interval is wide and still above nothing.
    #[test]
    fn the_interval_holds_the_rate_and_stays_positive() {
        let Rate { value, low, high } = rate(1.0, &[0.1, 0.1, 0.1, 0.1, 9.0]);
        assert!(0.0 < low && low < value && value < high, "{low} {value} {high}");
    }
}
