//! Where the numbers of an axis stand.

/// An axis from one round number to another, with round numbers between.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    low: f64,
    high: f64,
    ticks: Vec<f64>,
    decimals: usize,
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
        Self { low: first * step, high: last * step, ticks, decimals }
    }

    /// The round numbers, both ends included.
    pub fn ticks(&self) -> &[f64] {
        &self.ticks
    }

    /// The place of a value: 0 at the low end, 1 at the high end, clamped.
    pub fn position(&self, value: f64) -> f64 {
        ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    /// A tick as text, with as many decimals as the step needs; exponents where it would not fit otherwise.
    pub fn label(&self, tick: f64) -> String {
        if self.low.abs().max(self.high.abs()) >= 1e6 || self.decimals > 5 {
            return if tick == 0.0 { "0".into() } else { format!("{tick:.1e}") };
        }
        let text = format!("{tick:.*}", self.decimals);
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
}
