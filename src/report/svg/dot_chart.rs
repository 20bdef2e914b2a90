//! Means with their scatter as dots with error bars: what a sweep over a setting shows.
//!
//! Dots and not bars: their axis need not start at zero, so that differences of a few tenths can be seen without a lie.

use std::fmt::Write as _;

use super::frame::{Frame, left_margin};
use super::legend::{Key, Legend};
use super::marker::Marker;
use super::{Axis, Tone, line, open, short, text, text_width};

/// One dot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dot {
    /// Its place: the number of its label from 0, or a value. See [`Positions`].
    pub x: f64,
    /// Its height; a dot that is not finite is left out.
    pub mean: f64,
    /// Half the length of its error bar; none: no bar.
    pub std: Option<f64>,
}

/// The dots of one series.
#[derive(Clone, Debug)]
pub struct DotSeries {
    /// The name in the legend.
    pub name: String,
    /// The colour.
    pub tone: Tone,
    /// The dots, in order of x.
    pub dots: Vec<Dot>,
}

/// What the horizontal axis is.
#[derive(Clone, Debug, PartialEq)]
pub enum Positions {
    /// Names side by side, such as backbones. Series then stand beside each other.
    Labels(Vec<String>),
    /// Numbers on a linear axis; the dots of a series are joined.
    Numbers,
    /// Numbers on a logarithmic axis; the dots of a series are joined.
    LogNumbers,
}

/// A chart of dots with error bars.
#[derive(Clone, Debug)]
pub struct DotChart {
    /// What the chart shows, for a screen reader and as a tooltip.
    pub description: String,
    /// The name of the horizontal axis.
    pub x_label: String,
    /// The name of the vertical axis, set above it.
    pub y_label: String,
    /// The horizontal axis.
    pub positions: Positions,
    /// The series.
    pub series: Vec<DotSeries>,
    /// Values the vertical axis covers whatever the dots do.
    pub y_includes: Vec<f64>,
    /// The size in CSS pixels.
    pub size: [f64; 2],
}

/// Pixels between series that stand beside each other.
const DODGE: f64 = 12.0;
/// Half the width of the ends of an error bar.
const CAP: f64 = 3.5;

impl DotChart {
    /// The chart as an `<svg>` element.
    pub fn render(&self) -> String {
        let [width, height] = self.size;
        let shapes = || self.series.iter().enumerate();
        let entries = shapes().map(|(index, s)| (s.name.as_str(), s.tone, Key::Mark(Marker::of(index))));
        let legend = Legend::new(entries, &self.y_label, width - 14.0);
        let dots = || self.series.iter().flat_map(|series| &series.dots).filter(|dot| dot.mean.is_finite());
        let reach = |dot: &Dot| {
            let std = spread(dot).unwrap_or(0.0);
            [dot.mean - std, dot.mean + std]
        };
        let y_axis = Axis::covering(dots().flat_map(reach).chain(self.y_includes.iter().copied()), 4);
        let mut frame = Frame {
            left: left_margin(&y_axis),
            right: width - 14.0,
            top: 30.0 + legend.height(),
            bottom: height - 38.0,
        };
        let x_values = || dots().map(|dot| dot.x);
        let x_axis = match &self.positions {
            Positions::Labels(_) | Positions::Numbers => Axis::covering(x_values(), 6),
            Positions::LogNumbers => Axis::logarithmic(x_values()),
        };
        let mut names = String::new();
        if let Positions::Labels(labels) = &self.positions {
            draw_names(&mut names, labels, &mut frame);
        }

        let mut out = open(width, height, &self.description);
        frame.draw_y_axis(&mut out, &y_axis);
        match &self.positions {
            Positions::Labels(_) => out.push_str(&names),
            Positions::Numbers | Positions::LogNumbers => frame.draw_x_axis(&mut out, &x_axis),
        }
        text(&mut out, 0.5 * (frame.left + frame.right), height - 5.0, "middle", "", &self.x_label);
        text(&mut out, 0.0, 13.0, "start", "name", &self.y_label);
        legend.draw(&mut out, frame.right);
        for (index, series) in shapes() {
            let x = |value: f64| match &self.positions {
                Positions::Labels(labels) => {
                    let offset = DODGE * (index as f64 - 0.5 * (self.series.len() as f64 - 1.0));
                    slot(&frame, labels.len(), value) + offset
                }
                Positions::Numbers | Positions::LogNumbers => frame.x(&x_axis, value),
            };
            let class = series.tone.class();
            let drawn: Vec<&Dot> = series.dots.iter().filter(|dot| dot.mean.is_finite()).collect();
            if !matches!(self.positions, Positions::Labels(_)) && drawn.len() > 1 {
                let place = |dot: &&Dot| format!("{},{}", short(x(dot.x)), short(frame.y(&y_axis, dot.mean)));
                let path: Vec<String> = drawn.iter().map(place).collect();
                let _ = writeln!(out, "<polyline class=\"{class}\" points=\"{}\"/>", path.join(" "));
            }
            for dot in drawn {
                let place = x(dot.x);
                if let Some(std) = spread(dot) {
                    let [low, high] = [dot.mean - std, dot.mean + std].map(|value| frame.y(&y_axis, value));
                    let bar = format!("spread {class}");
                    line(&mut out, &bar, [place, low, place, high]);
                    for end in [low, high] {
                        line(&mut out, &bar, [place - CAP, end, place + CAP, end]);
                    }
                }
                Marker::of(index).draw(&mut out, series.tone, [place, frame.y(&y_axis, dot.mean)]);
            }
        }
        out.push_str("</svg>\n");
        out
    }
}

fn spread(dot: &Dot) -> Option<f64> {
    dot.std.filter(|std| std.is_finite())
}

/// The middle of the slot of label number `index`.
fn slot(frame: &Frame, count: usize, index: f64) -> f64 {
    frame.left + (index + 0.5) / count.max(1) as f64 * (frame.right - frame.left)
}

/// Names below the axis: side by side where they fit, else slanted, for which the frame ends higher.
fn draw_names(out: &mut String, labels: &[String], frame: &mut Frame) {
    let room = (frame.right - frame.left) / labels.len().max(1) as f64;
    let longest = labels.iter().map(|label| text_width(label)).fold(0.0, f64::max);
    if longest + 6.0 <= room {
        for (index, label) in labels.iter().enumerate() {
            frame.draw_x_tick(out, slot(frame, labels.len(), index as f64), label);
        }
        return;
    }
    // A name ends at its slot and begins left of it: the frame begins where the longest reach still is in the picture.
    let reach = |index: usize, label: &str| {
        let share = (index as f64 + 0.5) / labels.len() as f64;
        (30_f64.to_radians().cos() * text_width(label) - 4.0 - share * frame.right) / (1.0 - share)
    };
    let least =
        labels.iter().enumerate().map(|(index, label)| reach(index, label)).fold(frame.left, f64::max);
    frame.left = least.min(0.6 * frame.right);
    // Slanted by 30° a name takes half its length in height.
    frame.bottom -= (0.5 * longest - 4.0).clamp(0.0, 0.4 * (frame.bottom - frame.top));
    for (index, label) in labels.iter().enumerate() {
        let (x, y) = (slot(frame, labels.len(), index as f64), frame.bottom);
        line(out, "axis", [x, y, x, y + 4.0]);
        let (x, y) = (short(x + 4.0), short(y + 15.0));
        let _ = write!(out, "<g transform=\"rotate(-30 {x} {y})\">");
        let _ = write!(out, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"end\">{}</text>", super::escape(label));
        let _ = writeln!(out, "</g>");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(positions: Positions, series: Vec<DotSeries>) -> String {
        DotChart {
            description: "levels".into(),
            x_label: "levels".into(),
            y_label: "I-AUROC, %".into(),
            positions,
            series,
            y_includes: vec![],
            size: [302.0, 200.0],
        }
        .render()
    }

    fn series(dots: &[(f64, f64, Option<f64>)]) -> DotSeries {
        let dots = dots.iter().map(|&(x, mean, std)| Dot { x, mean, std }).collect();
        DotSeries { name: "ours".into(), tone: Tone::Primary, dots }
    }

    #[test]
    fn dots_and_bars_land_where_the_axes_say() {
        let labels = Positions::Labels(vec!["2".into(), "3".into()]);
        let svg = chart(labels, vec![series(&[(0.0, 0.5, Some(0.5)), (1.0, 1.0, None)])]);
        // The frame is 44 to 288 and 30 to 162; the axis is 0 to 1. The first slot's middle is at a quarter.
        assert!(
            svg.contains("<line class=\"spread primary\" x1=\"105\" y1=\"162\" x2=\"105\" y2=\"30\"/>"),
            "{svg}"
        );
        assert!(svg.contains("<circle class=\"primary\" cx=\"105\" cy=\"96\" r=\"4\"/>"), "{svg}");
        assert!(svg.contains("<circle class=\"primary\" cx=\"227\" cy=\"30\" r=\"4\"/>"), "{svg}");
        // A bar and its two ends; the second dot has none. Names are not joined by a line.
        assert_eq!((svg.matches("class=\"spread").count(), svg.matches("<polyline").count()), (3, 0));
    }

    #[test]
    fn numbers_are_joined_and_may_be_logarithmic() {
        let dots = [(0.001, 0.0, None), (0.01, 1.0, None), (0.1, f64::NAN, Some(1.0))];
        let svg = chart(Positions::LogNumbers, vec![series(&dots)]);
        assert!(svg.contains("<polyline class=\"primary\" points=\"44,162 288,30\"/>"), "{svg}");
        assert!(
            svg.contains(">0.001</text>") && svg.contains(">0.005</text>") && !svg.contains("NaN"),
            "{svg}"
        );
        let linear =
            chart(Positions::Numbers, vec![series(&[(0.0, 0.0, None), (5.0, 1.0, None), (10.0, 0.0, None)])]);
        assert!(linear.contains("points=\"44,162 166,30 288,162\""), "{linear}");
    }

    #[test]
    fn series_stand_beside_each_other_in_shapes_of_their_own() {
        let labels = Positions::Labels(vec!["a".into()]);
        let other = DotSeries { name: "paper".into(), tone: Tone::Neutral, ..series(&[(0.0, 1.0, None)]) };
        let svg = chart(labels, vec![series(&[(0.0, 0.0, None)]), other]);
        assert!(svg.contains("cx=\"160\" cy=\"162\"") && svg.contains("<path class=\"neutral\""), "{svg}");
        assert!(svg.contains(">ours</text>") && svg.contains(">paper</text>"));
    }

    #[test]
    fn long_names_are_slanted_and_escaped() {
        let labels = ["wide_resnet50_2", "<resnet18>", "resnet50"].map(str::to_owned).to_vec();
        let svg = chart(Positions::Labels(labels), vec![series(&[(0.0, 1.0, None)])]);
        assert_eq!(svg.matches("rotate(-30").count(), 3);
        assert!(svg.contains("&lt;resnet18&gt;"));
    }

    #[test]
    fn a_slanted_name_begins_inside_the_picture() {
        let labels = ["adaptor=linear, levels=1+2", "adaptor=mlp"].map(str::to_owned).to_vec();
        let svg = chart(Positions::Labels(labels), vec![series(&[(0.0, 1.0, None), (1.0, 0.0, None)])]);
        // 26 characters of 6.6, of which 0.866 lie along the axis.
        let end = svg.split("rotate(-30 ").nth(1).unwrap().split(' ').next().unwrap();
        assert!(end.parse::<f64>().unwrap() > 0.866 * 26.0 * 6.6 - 0.1, "{end}");
    }

    #[test]
    fn nothing_to_draw_is_still_a_chart() {
        for positions in [Positions::Labels(vec![]), Positions::Numbers, Positions::LogNumbers] {
            let svg = chart(positions, vec![]);
            assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
