//! Lines over a common horizontal axis.

use std::fmt::Write as _;

use super::{Axis, Tone, line, open, short, text};

/// One line of a [`LineChart`].
#[derive(Clone, Debug)]
pub struct Series {
    /// The name in the legend; series of one name and tone share an entry, as the seeds of a run do.
    pub name: String,
    /// The colour.
    pub tone: Tone,
    /// The points as (x, y), in order of x. The line breaks where a value is not finite.
    pub points: Vec<(f64, f64)>,
}

/// A chart of lines.
#[derive(Clone, Debug)]
pub struct LineChart {
    /// What the chart shows, for a screen reader and as a tooltip.
    pub description: String,
    /// The name of the horizontal axis.
    pub x_label: String,
    /// The name of the vertical axis, set above it.
    pub y_label: String,
    /// The lines.
    pub series: Vec<Series>,
    /// Values the vertical axis covers whatever the lines do, such as 0.
    pub y_includes: Vec<f64>,
    /// The size in CSS pixels.
    pub size: [f64; 2],
}

/// More points than this on a line cannot be seen; they would only make the page heavy.
const POINTS: usize = 400;

impl LineChart {
    /// The chart as an `<svg>` element.
    pub fn render(&self) -> String {
        let [width, height] = self.size;
        let [left, right, top, bottom] = [44.0, width - 12.0, 30.0, height - 38.0];
        let points = || self.series.iter().flat_map(|series| &series.points);
        let x_axis = Axis::covering(points().map(|point| point.0), 6);
        let y_axis = Axis::covering(points().map(|point| point.1).chain(self.y_includes.iter().copied()), 4);
        // The horizontal axis ends where the data does: an empty stretch would look like missing epochs.
        let (first, last) = range(points().map(|point| point.0)).unwrap_or((0.0, 1.0));
        let x = |value: f64| {
            let t = if last > first { (value - first) / (last - first) } else { 0.5 };
            left + t * (right - left)
        };
        let y = |value: f64| bottom - y_axis.position(value) * (bottom - top);

        let mut out = open(width, height, &self.description);
        for &tick in y_axis.ticks() {
            line(&mut out, "grid", [left, y(tick), right, y(tick)]);
            text(&mut out, left - 8.0, y(tick) + 4.0, "end", "", &y_axis.label(tick));
        }
        line(&mut out, "axis", [left, bottom, right, bottom]);
        for &tick in x_axis.ticks().iter().filter(|tick| (first..=last).contains(*tick)) {
            line(&mut out, "axis", [x(tick), bottom, x(tick), bottom + 4.0]);
            text(&mut out, x(tick), bottom + 17.0, "middle", "", &x_axis.label(tick));
        }
        text(&mut out, 0.5 * (left + right), height - 5.0, "middle", "", &self.x_label);
        text(&mut out, 0.0, 13.0, "start", "name", &self.y_label);
        self.legend(&mut out, right);
        for series in &self.series {
            for run in runs(&thinned(&series.points)) {
                let place = |&(px, py): &(f64, f64)| format!("{},{}", short(x(px)), short(y(py)));
                let path: Vec<String> = run.iter().map(place).collect();
                let class = series.tone.class();
                match &run[..] {
                    // A line of one point would not show.
                    [(px, py)] => {
                        let (cx, cy) = (short(x(*px)), short(y(*py)));
                        let _ = writeln!(out, "<circle class=\"{class}\" cx=\"{cx}\" cy=\"{cy}\" r=\"3\"/>");
                    }
                    _ => {
                        let _ = writeln!(out, "<polyline class=\"{class}\" points=\"{}\"/>", path.join(" "));
                    }
                }
            }
        }
        out.push_str("</svg>\n");
        out
    }

    /// Names of the lines at the upper right, from right to left; nothing for a single name.
    fn legend(&self, out: &mut String, right: f64) {
        let mut entries: Vec<(&str, Tone)> = Vec::new();
        for series in &self.series {
            if !entries.contains(&(&series.name, series.tone)) {
                entries.push((&series.name, series.tone));
            }
        }
        if entries.len() < 2 {
            return;
        }
        let mut x = right;
        for (name, tone) in entries.iter().rev() {
            text(out, x, 13.0, "end", "name", name);
            // SVG cannot measure text; 6.6 px a character is a little more than a 12 px sans-serif takes.
            x -= 6.6 * name.chars().count() as f64 + 8.0;
            line(out, &format!("key {}", tone.class()), [x - 14.0, 9.0, x, 9.0]);
            x -= 14.0 + 14.0;
        }
    }
}

/// The least and greatest finite value.
fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|value| value.is_finite()).fold(None, |range, value| match range {
        None => Some((value, value)),
        Some((low, high)) => Some((low.min(value), high.max(value))),
    })
}

/// Every n-th point and the last, so that at most about [`POINTS`] are left.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let every = points.len().div_ceil(POINTS).max(1);
    let last = points.len().saturating_sub(1);
    let kept = points.iter().enumerate().filter(|(index, _)| index % every == 0 || *index == last);
    kept.map(|(_, &point)| point).collect()
}

/// The stretches of finite points.
fn runs(points: &[(f64, f64)]) -> Vec<Vec<(f64, f64)>> {
    let finite = |point: &(f64, f64)| point.0.is_finite() && point.1.is_finite();
    let stretches = points.split(|point| !finite(point));
    stretches.filter(|run| !run.is_empty()).map(<[_]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>) -> String {
        LineChart {
            description: "loss & co".into(),
            x_label: "epoch".into(),
            y_label: "loss".into(),
            series: vec![Series { name: "loss".into(), tone: Tone::Primary, points }],
            y_includes: vec![0.0],
            size: [300.0, 200.0],
        }
        .render()
    }

    #[test]
    fn points_land_where_the_axes_say() {
        let svg = chart(vec![(1.0, 1.0), (2.0, 0.5), (3.0, 0.0)]);
        assert!(svg.contains("points=\"44,30 166,96 288,162\""), "{svg}");
        assert!(svg.contains("loss &amp; co"));
    }

    #[test]
    fn a_line_breaks_where_a_value_is_missing() {
        let svg = chart(vec![(1.0, 1.0), (2.0, 0.5), (3.0, f64::NAN), (4.0, 0.0)]);
        assert_eq!((svg.matches("<polyline").count(), svg.matches("<circle").count()), (1, 1));
        assert!(!svg.contains("NaN"));
    }

    #[test]
    fn nothing_to_draw_is_still_a_chart() {
        for points in [vec![], vec![(1.0, f64::NAN)], vec![(1.0, 0.0)]] {
            let svg = chart(points);
            assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }

    #[test]
    fn long_lines_are_thinned_but_keep_their_ends() {
        let points: Vec<(f64, f64)> = (0..10_001).map(|i| (f64::from(i), 1.0)).collect();
        let kept = thinned(&points);
        assert!(kept.len() <= POINTS + 1, "{}", kept.len());
        assert_eq!((kept[0], kept[kept.len() - 1]), (points[0], points[10_000]));
    }
}
