//! Where the numbers of an axis stand.

/// An axis from one round number to another, with round numbers between.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    low: f64,
    high: f64,
    ticks: Vec<f64>,
    decimals: usize,
    logarithmic: bool,
}

impl Axis {
    /// An axis that covers every finite value, with about `target` intervals.
    ///
    /// The step is 1, 2 or 5 times a power of ten: the smallest such that `target` steps cover the values. Both ends
    /// are multiples of it. Equal values get a step of room on either side; no value at all gives 0 to 1.
    pub fn covering(values: impl IntoIterator<Item = f64>, target: usize) -> Self {
        let finite = values.into_iter().filter(|value| value.is_finite());
        let (mut low, mut high) =
            finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        // What f64 cannot tell apart at this magnitude is equal for a chart.
        let magnitude = low.abs().max(high.abs()).min(f64::MAX / 8.0);
        if high - low <= 1e-12 * magnitude || high == low {
            let room = if magnitude > 0.0 { 0.1 * magnitude } else { 0.5 };
            (low, high) = (low - room, high + room);
        }
        let step = nice_step((high - low) / target.max(1) as f64);
        // A value a rounding error past a multiple must not cost an interval.
        let first = (low / step + 1e-9).floor();
        let last = (high / step - 1e-9).ceil();
        let ticks: Vec<f64> = (0..=(last - first) as usize).map(|k| (first + k as f64) * step).collect();
        let decimals = (-step.log10().floor()).clamp(0.0, 12.0) as usize;
        Self { low: first * step, high: last * step, ticks, decimals, logarithmic: false }
    }

    /// A logarithmic axis that covers every positive finite value, from one of 1, 2, 5 × 10ⁿ to another.
    ///
    /// Ticks are these numbers, or powers of ten alone where there would be more than seven. Values that are not positive
    /// have no place and are left out; no value at all gives 1 to 10.
    pub fn logarithmic(values: impl IntoIterator<Item = f64>) -> Self {
        let positive = values.into_iter().filter(|value| value.is_finite() && *value > 0.0);
        let (mut low, mut high) =
            positive.fold((f64::INFINITY, 0.0), |(l, h): (f64, f64), v| (l.min(v), h.max(v)));
        if low > high {
            (low, high) = (1.0, 10.0);
        }
        // The numbers 1, 2, 5, 10, 20 … counted; number 3n is 10ⁿ.
        let number = |k: i32| [1.0, 2.0, 5.0][k.rem_euclid(3) as usize] * 10_f64.powi(k.div_euclid(3));
        let near = |value: f64| 3 * value.log10().floor() as i32;
        // A rounding error beside a number must not cost an interval.
        let at_most = |value: f64| {
            let from = near(value) - 1;
            (from..from + 6).rev().find(|&k| number(k) <= value * (1.0 + 1e-9)).unwrap_or(from)
        };
        let at_least = |value: f64| {
            let from = near(value) - 1;
            (from..from + 6).find(|&k| number(k) >= value * (1.0 - 1e-9)).unwrap_or(from + 5)
        };
        let (mut first, mut last) = (at_most(low), at_least(high));
        if first == last {
            (first, last) = (first - 1, last + 1);
        }
        let mut step = 1;
        if last - first > 6 {
            (first, last) = (3 * first.div_euclid(3), 3 * (last + 2).div_euclid(3));
            step = 3;
        }
        let ticks: Vec<f64> = (first..=last).step_by(step).map(number).collect();
        Self { low: number(first), high: number(last), ticks, decimals: 0, logarithmic: true }
    }

    /// The round numbers, both ends included.
    pub fn ticks(&self) -> &[f64] {
        &self.ticks
    }

    /// The place of a value: 0 at the low end, 1 at the high end, clamped.
    pub fn position(&self, value: f64) -> f64 {
        if self.logarithmic {
            // `max` takes what has no logarithm to the low end.
            return ((value.max(self.low) / self.low).ln() / (self.high / self.low).ln()).clamp(0.0, 1.0);
        }
        ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    /// A tick as text, with as many decimals as the step needs; exponents where it would not fit otherwise.
    pub fn label(&self, tick: f64) -> String {
        if self.low.abs().max(self.high.abs()) >= 1e6 || self.decimals > 5 {
            return if tick == 0.0 { "0".into() } else { format!("{tick:.1e}") };
        }
        let decimals =
            if self.logarithmic { (-(tick.log10() + 1e-9).floor()).max(0.0) as usize } else { self.decimals };
        if decimals > 5 {
            return format!("{tick:.0e}");
        }
        let text = format!("{tick:.decimals$}");
        // A typographic minus; and zero has no sign.
        match text.strip_prefix('-') {
            Some(zero) if zero.chars().all(|c| matches!(c, '0' | '.')) => zero.into(),
            Some(rest) => format!("−{rest}"),
            None => text,
        }
    }
}

/// The smallest of 1, 2, 5 × 10ⁿ that is at least `raw`, give or take rounding.
fn nice_step(raw: f64) -> f64 {
    let power = 10_f64.powf(raw.log10().floor());
    let digit = raw / power;
    let nice = [1.0, 2.0, 5.0, 10.0].into_iter().find(|step| digit <= step * (1.0 + 1e-9)).unwrap_or(10.0);
    nice * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(values: &[f64], target: usize) -> Vec<String> {
        let axis = Axis::covering(values.iter().copied(), target);
        axis.ticks().iter().map(|&tick| axis.label(tick)).collect()
    }

    #[test]
    fn ticks_are_round_and_cover_the_values() {
        assert_eq!(labels(&[0.0, 1.0], 5), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(&[1.0, 160.0], 4), ["0", "50", "100", "150", "200"]);
        assert_eq!(labels(&[-0.31, 0.42], 4), ["−0.4", "−0.2", "0.0", "0.2", "0.4", "0.6"]);
        assert_eq!(labels(&[0.0, 0.3], 3), ["0.0", "0.1", "0.2", "0.3"]);
        assert_eq!(labels(&[0.0, 2e7], 2), ["0", "1.0e7", "2.0e7"]);
    }

    #[test]
    fn degenerate_values_still_give_an_axis() {
        for values in
            [&[][..], &[f64::NAN], &[0.0], &[5.0, 5.0], &[-1e-9], &[1e300, -1e300], &[1.0, 1.0 + 1e-15]]
        {
            let axis = Axis::covering(values.iter().copied(), 5);
            assert!((2..=12).contains(&axis.ticks().len()), "{values:?}: {axis:?}");
            assert!(axis.ticks().windows(2).all(|pair| pair[0] < pair[1]), "{values:?}");
            for &value in values.iter().filter(|value| value.is_finite()) {
                assert!((0.0..=1.0).contains(&axis.position(value)));
                assert!(
                    value >= axis.ticks()[0] - 1e-9 && value <= axis.ticks()[axis.ticks().len() - 1] + 1e-9
                );
            }
        }
    }

    #[test]
    fn positions_are_linear() {
        let axis = Axis::covering([0.0, 10.0], 5);
        assert_eq!([-5.0, 0.0, 2.5, 10.0, 11.0].map(|v| axis.position(v)), [0.0, 0.0, 0.25, 1.0, 1.0]);
    }

    #[test]
    fn a_logarithmic_axis_has_round_numbers_and_equal_steps_for_equal_ratios() {
        let labels = |values: &[f64]| {
            let axis = Axis::logarithmic(values.iter().copied());
            axis.ticks().iter().map(|&tick| axis.label(tick)).collect::<Vec<_>>()
        };
        assert_eq!(labels(&[14.6, 206.0]), ["10", "20", "50", "100", "200", "500"]);
        assert_eq!(labels(&[0.005, 0.1]), ["0.005", "0.01", "0.02", "0.05", "0.1"]);
        assert_eq!(labels(&[3.0, 40_000.0]), ["1", "10", "100", "1000", "10000", "100000"]);
        assert_eq!(labels(&[10.0]), ["5", "10", "20"]);
        assert_eq!(labels(&[]), ["1", "2", "5", "10"]);
        assert_eq!(labels(&[0.0, -3.0, f64::NAN, 1e-9]), ["5e-10", "1e-9", "2e-9"]);
        let axis = Axis::logarithmic([1.0, 100.0]);
        for (value, place) in [(1.0, 0.0), (10.0, 0.5), (100.0, 1.0), (0.0, 0.0), (1e9, 1.0)] {
            assert!((axis.position(value) - place).abs() < 1e-12, "{value}");
        }
    }
}
