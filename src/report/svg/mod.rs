//! Small charts as SVG text, for the HTML page and as files of their own.
//!
//! Charts name their colours by CSS classes. Inside a page they follow its light or dark theme; [`standalone`]
//! gives a chart the same rules in itself.

mod axis;
mod line_chart;
mod strip_plot;

pub use axis::Axis;
pub use line_chart::{LineChart, Series};
pub use strip_plot::{Strip, StripPlot};

use std::fmt::Write as _;

use super::escape::escape;

/// The style rules of every chart. Colours are those of the page where it defines them.
pub const STYLE: &str = include_str!("chart.css");

/// What a series or a strip stands for; decides its colour. The three hues are told apart by the colour-blind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// The main quantity.
    Primary,
    /// Good images, normal features.
    Good,
    /// Defects, anomalous features.
    Defect,
}

impl Tone {
    fn class(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Good => "good",
            Self::Defect => "defect",
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

/// A coordinate to a tenth of a pixel, without a trailing `.0`.
fn short(value: f64) -> String {
    let text = format!("{value:.1}");
    match text.strip_suffix(".0") {
        Some("-0") => "0".into(),
        Some(whole) => whole.into(),
        None => text,
    }
}

/// A chart as an SVG file of its own, with its style rules inside.
pub fn standalone(chart: &str) -> String {
    let style = format!("<style>{STYLE}</style>\n</svg>");
    match chart.trim_end().strip_suffix("</svg>") {
        Some(body) => format!("{body}{style}\n"),
        None => chart.to_owned(),
    }
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
        assert!(file.contains("<style>") && file.ends_with("</svg>\n"));
        assert_eq!(file.matches("</svg>").count(), 1);
        assert!(!STYLE.contains(['<', '&']), "the rules stand in XML as they are");
    }
}
