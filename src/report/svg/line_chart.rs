//! Lines over a common horizontal axis.

use std::fmt::Write as _;

use super::frame::{Frame, left_margin};
use super::legend::{Key, Legend};
use super::{Axis, Tone, open, short, text};

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

/// A range over the horizontal axis, drawn as a tinted area behind the lines.
#[derive(Clone, Debug)]
pub struct Band {
    /// The name in the legend.
    pub name: String,
    /// The colour.
    pub tone: Tone,
    /// The range as (x, low, high), in order of x. The area breaks where a value is not finite.
    pub points: Vec<(f64, f64, f64)>,
}

/// A chart of lines.
#[derive(Clone, Debug, Default)]
pub struct LineChart {
    /// What the chart shows, for a screen reader and as a tooltip.
    pub description: String,
    /// The name of the horizontal axis.
    pub x_label: String,
    /// The name of the vertical axis, set above it.
    pub y_label: String,
    /// The lines.
    pub series: Vec<Series>,
    /// Ranges behind the lines.
    pub bands: Vec<Band>,
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
        let lines = self.series.iter().map(|series| (series.name.as_str(), series.tone, Key::Line));
        let bands = self.bands.iter().map(|band| (band.name.as_str(), band.tone, Key::Area));
        let legend = Legend::new(lines.chain(bands), &self.y_label, width - 12.0);
        let points = || {
            let of_bands = self.bands.iter().flat_map(|band| &band.points);
            let of_lines = self.series.iter().flat_map(|series| &series.points);
            of_lines.copied().chain(of_bands.flat_map(|&(x, low, high)| [(x, low), (x, high)]))
        };
        let x_axis = Axis::covering(points().map(|point| point.0), 6);
        let y_axis = Axis::covering(points().map(|point| point.1).chain(self.y_includes.iter().copied()), 4);
        let frame = Frame {
            left: left_margin(&y_axis),
            right: width - 12.0,
            top: 30.0 + legend.height(),
            bottom: height - 38.0,
        };
        // The horizontal axis ends where the data does: an empty stretch would look like missing epochs.
        let (first, last) = range(points().map(|point| point.0)).unwrap_or((0.0, 1.0));
        let x = |value: f64| {
            let t = if last > first { (value - first) / (last - first) } else { 0.5 };
            frame.left + t * (frame.right - frame.left)
        };
        let y = |value: f64| frame.y(&y_axis, value);

        let mut out = open(width, height, &self.description);
        frame.draw_y_axis(&mut out, &y_axis);
        for &tick in x_axis.ticks().iter().filter(|tick| (first..=last).contains(*tick)) {
            frame.draw_x_tick(&mut out, x(tick), &x_axis.label(tick));
        }
        text(&mut out, 0.5 * (frame.left + frame.right), height - 5.0, "middle", "", &self.x_label);
        text(&mut out, 0.0, 13.0, "start", "name", &self.y_label);
        legend.draw(&mut out, frame.right);
        let place = |px: f64, py: f64| format!("{},{}", short(x(px)), short(y(py)));
        for band in &self.bands {
            for run in runs(&thinned(&band.points), |p| p.0.is_finite() && p.1.is_finite() && p.2.is_finite())
            {
                // Along the upper edge and back along the lower one.
                let there = run.iter().map(|&(px, _, high)| place(px, high));
                let back = run.iter().rev().map(|&(px, low, _)| place(px, low));
                let path: Vec<String> = there.chain(back).collect();
                let class = band.tone.class();
                let _ = writeln!(out, "<polygon class=\"area {class}\" points=\"{}\"/>", path.join(" "));
            }
        }
        for series in &self.series {
            for run in runs(&thinned(&series.points), |p| p.0.is_finite() && p.1.is_finite()) {
                let path: Vec<String> = run.iter().map(|&(px, py)| place(px, py)).collect();
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
}

/// The least and greatest finite value.
fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|value| value.is_finite()).fold(None, |range, value| match range {
        None => Some((value, value)),
        Some((low, high)) => Some((low.min(value), high.max(value))),
    })
}

/// Every n-th point and the last, so that at most about [`POINTS`] are left.
fn thinned<P: Copy>(points: &[P]) -> Vec<P> {
    let every = points.len().div_ceil(POINTS).max(1);
    let last = points.len().saturating_sub(1);
    let kept = points.iter().enumerate().filter(|(index, _)| index % every == 0 || *index == last);
    kept.map(|(_, &point)| point).collect()
}

/// The stretches of finite points.
fn runs<P: Copy>(points: &[P], finite: impl Fn(&P) -> bool) -> Vec<Vec<P>> {
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
            ..LineChart::default()
        }
        .render()
    }

    #[test]
    fn a_band_is_an_area_from_its_low_to_its_high_edge() {
        let svg = LineChart {
            series: vec![Series {
                name: "mean".into(),
                tone: Tone::Primary,
                points: vec![(1.0, 0.5), (3.0, 0.5)],
            }],
            bands: vec![Band {
                name: "range".into(),
                tone: Tone::Primary,
                points: vec![(1.0, 0.0, 1.0), (2.0, 0.25, 0.5), (3.0, f64::NAN, 1.0)],
            }],
            size: [300.0, 200.0],
            ..LineChart::default()
        }
        .render();
        // Left to right from 44 to 288; 162 is 0 and 30 is 1. The third point has no low edge and ends the area.
        assert!(
            svg.contains("<polygon class=\"area primary\" points=\"44,30 166,96 166,129 44,162\"/>"),
            "{svg}"
        );
        assert!(svg.find("<polygon") < svg.find("<polyline"), "the area is behind the line");
        assert!(svg.contains(">mean</text>") && svg.contains(">range</text>"));
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
