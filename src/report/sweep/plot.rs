//! A sweep's plot: a dot a point, with the deviation over seeds.

use super::{AxisValues, COMPARED, SweepReport, SweepRow};
use crate::report::metric::Metric;
use crate::report::svg::{Dot, DotChart, DotSeries, Panel, Positions, Tone, panels};

const PANEL: [f64; 2] = [440.0, 300.0];

impl SweepReport {
    /// A panel for image and pixel AUROC each. Over one setting: its values; over two: a series a value of the second;
    /// otherwise the points by name.
    pub fn plot(&self) -> String {
        let charts: Vec<Panel> = COMPARED
            .into_iter()
            .filter(|&metric| self.rows.iter().any(|row| row.results.overall(metric).is_some()))
            .map(|metric| Panel {
                title: format!("{}{}", metric.label(), self.selection_mark()),
                chart: self.chart(metric).render(),
            })
            .collect();
        panels(&format!("{}{}", self.title, self.selection_mark()), &charts, PANEL, 2)
    }

    /// What stands behind the name of a plot some of whose points were picked on the test set.
    fn selection_mark(&self) -> &'static str {
        let mut trained = self.rows.iter().filter(|row| !row.results.rows.is_empty());
        if !self.rows.iter().any(|row| row.results.selected_on_test()) {
            ""
        } else if trained.all(|row| row.results.selected_on_test()) {
            ", SELECTED ON THE TEST SET"
        } else {
            ", IN PART SELECTED ON THE TEST SET"
        }
    }

    fn chart(&self, metric: Metric) -> DotChart {
        let dot = |x: f64, row: &SweepRow| {
            let stats = row.results.overall(metric)?;
            Some(Dot { x, mean: 100.0 * stats.mean, std: stats.std.map(|std| 100.0 * std) })
        };
        let (positions, series, x_label) = match &self.axes[..] {
            [axis] => {
                let places = places(axis);
                let dots = in_order(self.rows.iter().filter_map(|row| dot(place(axis, &places, row)?, row)));
                let series = DotSeries { name: metric.label().to_owned(), tone: Tone::Primary, dots };
                (positions(axis), vec![series], axis.key.clone())
            }
            [first, second] => {
                let places = places(first);
                let series = second.values.iter().enumerate().map(|(index, value)| {
                    let rows = self.rows.iter().filter(|row| row.value(&second.key) == Some(value));
                    let dots = in_order(rows.filter_map(|row| dot(place(first, &places, row)?, row)));
                    DotSeries { name: format!("{}={value}", second.key), tone: Tone::of(index), dots }
                });
                (positions(first), series.collect(), first.key.clone())
            }
            _ => {
                let labels = self.rows.iter().map(|row| row.label.clone()).collect();
                let dots = self.rows.iter().enumerate().filter_map(|(index, row)| dot(index as f64, row));
                let series =
                    DotSeries { name: metric.label().to_owned(), tone: Tone::Primary, dots: dots.collect() };
                (Positions::Labels(labels), vec![series], "setting".to_owned())
            }
        };
        DotChart {
            description: format!("{}: {}", self.title, metric.label()),
            x_label,
            y_label: format!("{} in %", metric.label()),
            positions,
            series,
            y_includes: Vec::new(),
            size: PANEL,
        }
    }
}

/// Where the values of an axis stand: at their numbers, or side by side.
fn places(axis: &AxisValues) -> Vec<f64> {
    axis.numbers.clone().unwrap_or_else(|| (0..axis.values.len()).map(|index| index as f64).collect())
}

fn place(axis: &AxisValues, places: &[f64], row: &SweepRow) -> Option<f64> {
    let value = row.value(&axis.key)?;
    axis.values.iter().position(|known| known == value).map(|index| places[index])
}

/// Dots from left to right, in whatever order their values were typed: a line joins them.
fn in_order(dots: impl Iterator<Item = Dot>) -> Vec<Dot> {
    let mut dots: Vec<Dot> = dots.collect();
    dots.sort_by(|a, b| a.x.total_cmp(&b.x));
    dots
}

/// Numbers that span more than a factor of eight need a logarithmic axis to be told apart.
fn positions(axis: &AxisValues) -> Positions {
    let Some(numbers) = &axis.numbers else { return Positions::Labels(axis.values.clone()) };
    let least = numbers.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if least > 0.0 && greatest / least > 8.0 { Positions::LogNumbers } else { Positions::Numbers }
}

#[cfg(test)]
mod tests {
    use super::super::tests::report;
    use super::*;

    #[test]
    fn dots_of_numbers_are_joined_from_left_to_right() {
        let mut typed = report();
        typed.axes[0].values.reverse();
        typed.axes[0].numbers = Some(vec![5.0, 3.0, 1.0]);
        typed.rows.reverse();
        let xs: Vec<f64> = typed.chart(Metric::IAuroc).series[0].dots.iter().map(|dot| dot.x).collect();
        assert_eq!(xs, [1.0, 3.0]);
    }

    #[test]
    fn plots_have_a_dot_a_point_and_a_panel_a_metric() {
        let svg = report().plot();
        assert_eq!(svg.matches("<g transform").count(), 2);
        assert!(svg.contains("I-AUROC in %") && svg.contains("P-AUROC in %") && !svg.contains("NaN"));
        assert_eq!(positions(&report().axes[0]), Positions::Numbers);
        let wide = AxisValues { numbers: Some(vec![0.005, 0.1]), ..report().axes[0].clone() };
        assert_eq!(positions(&wide), Positions::LogNumbers);
        let named = SweepReport { axes: Vec::new(), ..report() };
        assert!(named.plot().contains("p=5"));
    }
}
