//! Small charts as SVG text, for the HTML page and as files of their own.
//!
//! Charts name their colours by CSS classes. Inside a page they follow its light or dark theme; [`standalone`]
//! gives a chart the same rules in itself.

mod axis;
mod dot_chart;
mod frame;
mod histogram;
mod legend;
mod line_chart;
mod marker;
mod palette;
mod panels;
mod scatter_plot;
mod strip_plot;

pub use axis::Axis;
pub use dot_chart::{Dot, DotChart, DotSeries, Positions};
pub use histogram::{Distribution, Histogram};
pub use line_chart::{Band, LineChart, Series};
pub use panels::{Panel, panels};
pub use scatter_plot::{LabelledPoint, ScatterPlot};
pub use strip_plot::{Strip, StripPlot};

use std::fmt::Write as _;

use super::escape::escape;

/// The style rules of every chart. Colours are those of the page where it defines them.
pub const STYLE: &str = include_str!("chart.css");

/// What a series or a strip stands for; decides its colour. All are told apart by the colour-blind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// The main quantity.
    Primary,
    /// Good images, normal features.
    Good,
    /// Defects, anomalous features.
    Defect,
    /// A further series.
    Plum,
    /// A further series.
    Gold,
    /// What others are compared with, such as published figures.
    Neutral,
}

impl Tone {
    /// The colour of series number `index` where series stand for nothing in particular; they come round again.
    pub fn of(index: usize) -> Self {
        [Self::Primary, Self::Defect, Self::Good, Self::Plum, Self::Gold][index % 5]
    }

    fn class(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Good => "good",
            Self::Defect => "defect",
            Self::Plum => "plum",
            Self::Gold => "gold",
            Self::Neutral => "neutral",
        }
    }
}

/// Opens a chart of the given size in CSS pixels; `description` is what a screen reader says.
fn open(width: f64, height: f64, description: &str) -> String {
    let description = escape(description);
    format!(
        "<svg class=\"chart\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" role=\"img\" aria-label=\"{description}\">\n\
         <title>{description}</title>\n"
    )
}

/// A line of text; `class` may add to the look, `anchor` is `start`, `middle` or `end`.
fn text(out: &mut String, x: f64, y: f64, anchor: &str, class: &str, content: &str) {
    let content = escape(content);
    let _ = writeln!(
        out,
        "<text class=\"{class}\" x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\">{content}</text>",
        short(x),
        short(y)
    );
}

/// A straight line.
fn line(out: &mut String, class: &str, [x1, y1, x2, y2]: [f64; 4]) {
    let [x1, y1, x2, y2] = [x1, y1, x2, y2].map(short);
    let _ = writeln!(out, "<line class=\"{class}\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"/>");
}

/// What a text takes at most. SVG cannot measure it; 6.6 px a character is a little more than a 12 px sans-serif takes.
fn text_width(text: &str) -> f64 {
    6.6 * text.chars().count() as f64
}

/// A coordinate to a tenth of a pixel, without a trailing `.0`.
fn short(value: f64) -> String {
    let text = format!("{value:.1}");
    match text.strip_suffix(".0") {
        Some("-0") => "0".into(),
        Some(whole) => whole.into(),
        None => text,
    }
}

/// A chart as an SVG file of its own, with a ground and its style rules inside, for light and dark.
///
/// Colours are written out: not every program that shows SVG files knows CSS variables, and one that knows no
/// `prefers-color-scheme` shows the light ones.
pub fn standalone(chart: &str) -> String {
    let [light, dark] = [false, true].map(|dark| palette::resolved(STYLE, dark));
    let style = format!("<style>\n{light}@media (prefers-color-scheme: dark) {{\n{dark}}}\n</style>\n");
    let Some((head, body)) = chart.split_once("</title>\n") else { return chart.to_owned() };
    // In a page a chart has space around it; a file has to bring its own.
    let Some((width, height)) = size(head) else { return chart.to_owned() };
    let (wide, high) = (width + 2.0 * MARGIN, height + 2.0 * MARGIN);
    let head = head.replacen(
        &format!("viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\""),
        &format!("viewBox=\"-{MARGIN} -{MARGIN} {wide} {high}\" width=\"{wide}\" height=\"{high}\""),
        1,
    );
    format!(
        "{head}</title>\n{style}<rect class=\"ground\" x=\"-{MARGIN}\" y=\"-{MARGIN}\" width=\"{wide}\" \
         height=\"{high}\"/>\n{body}"
    )
}

/// The space around a chart in a file of its own.
const MARGIN: f64 = 12.0;

/// The size that a chart was opened with.
fn size(head: &str) -> Option<(f64, f64)> {
    let inside = head.split_once("viewBox=\"0 0 ")?.1.split_once('"')?.0;
    let (width, height) = inside.split_once(' ')?;
    Some((width.parse().ok()?, height.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinates_are_short() {
        assert_eq!([1.0, 1.25, -0.01, 99.96].map(short), ["1", "1.2", "0", "100"]);
    }

    #[test]
    fn a_file_of_its_own_carries_its_style() {
        let chart = format!("{}</svg>\n", open(10.0, 20.0, "a < b"));
        assert!(chart.contains("aria-label=\"a &lt; b\""));
        let file = standalone(&chart);
        assert!(file.contains("<style>") && file.contains("class=\"ground\"") && file.ends_with("</svg>\n"));
        assert!(file.contains("#3457d5") && file.contains("#8aa4ff") && !file.contains("var("), "{file}");
        assert!(file.contains("viewBox=\"-12 -12 34 44\" width=\"34\" height=\"44\""), "{file}");
        assert_eq!(file.matches("</svg>").count(), 1);
        assert!(!STYLE.contains(['<', '&']), "the rules stand in XML as they are");
    }
}
