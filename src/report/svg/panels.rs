//! Several charts as one picture.

use std::fmt::Write as _;

use super::{open, short, text};

/// One chart of a picture.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What stands above it; may be empty.
    pub title: String,
    /// The chart, as one of this module's charts renders it.
    pub chart: String,
}

/// Space around charts, and for a title.
const GAP: f64 = 24.0;
const TITLE: f64 = 26.0;

/// Charts of one size in rows of `columns`, read like a page.
pub fn panels(description: &str, panels: &[Panel], size: [f64; 2], columns: usize) -> String {
    let columns = columns.clamp(1, panels.len().max(1));
    let rows = panels.len().div_ceil(columns).max(1);
    let [width, height] = [size[0] + GAP, size[1] + GAP + TITLE];
    let mut out = open(width * columns as f64 + GAP, height * rows as f64 + GAP, description);
    for (index, panel) in panels.iter().enumerate() {
        let x = GAP + width * (index % columns) as f64;
        let y = GAP + height * (index / columns) as f64;
        text(&mut out, x, y + 6.0, "start", "name title", &panel.title);
        let _ = writeln!(out, "<g transform=\"translate({} {})\">", short(x), short(y + TITLE));
        out.push_str(content(&panel.chart));
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

/// What is inside a chart's `<svg>` element. A nested element would do, but for style rules that are meant for outer ones.
fn content(chart: &str) -> &str {
    let inside = chart.split_once(">\n").map_or(chart, |(_, inside)| inside);
    inside.trim_end().strip_suffix("</svg>").unwrap_or(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charts_stand_in_rows_with_their_titles() {
        let chart = format!("{}<circle/>\n</svg>\n", open(100.0, 50.0, "a"));
        let all: Vec<Panel> =
            ["one", "two", "three"].map(|title| Panel { title: title.into(), chart: chart.clone() }).to_vec();
        let svg = panels("all", &all, [100.0, 50.0], 2);
        // Two columns of 100 and two rows of 50 + 26, each with 24 beside it.
        assert!(svg.contains("viewBox=\"0 0 272 224\""), "{svg}");
        for place in ["translate(24 50)", "translate(148 50)", "translate(24 150)"] {
            assert!(svg.contains(place), "{place} is not in {svg}");
        }
        assert_eq!((svg.matches("<circle/>").count(), svg.matches("<svg").count()), (3, 1));
        assert_eq!(svg.matches("</svg>").count(), 1);
        assert_eq!(svg.matches("<title>a</title>").count(), 3);
        assert!(panels("none", &[], [100.0, 50.0], 3).ends_with("</svg>\n"));
    }
}
