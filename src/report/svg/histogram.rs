//! How values are distributed: histograms over each other.

use std::fmt::Write as _;

use super::frame::{Frame, left_margin};
use super::legend::{Key, Legend};
use super::{Axis, Tone, open, short, text};

/// The values of one distribution.
#[derive(Clone, Debug)]
pub struct Distribution {
    /// The name in the legend.
    pub name: String,
    /// The colour.
    pub tone: Tone,
    /// The values; those that are not finite are not counted.
    pub values: Vec<f64>,
}

/// Histograms over common bins, as shares of each distribution's own values: distributions of different sizes compare.
#[derive(Clone, Debug)]
pub struct Histogram {
    /// What the chart shows, for a screen reader and as a tooltip.
    pub description: String,
    /// The name of the horizontal axis.
    pub x_label: String,
    /// The name of the vertical axis, set above it; its numbers are percent.
    pub y_label: String,
    /// The distributions; later ones are drawn over earlier ones.
    pub distributions: Vec<Distribution>,
    /// Values the horizontal axis covers whatever the distributions do, such as 0.
    pub x_includes: Vec<f64>,
    /// How many bins the horizontal axis is cut into.
    pub bins: usize,
    /// The size in CSS pixels.
    pub size: [f64; 2],
}

impl Histogram {
    /// The chart as an `<svg>` element.
    pub fn render(&self) -> String {
        let [width, height] = self.size;
        let entries = self.distributions.iter().map(|d| (d.name.as_str(), d.tone, Key::Area));
        let legend = Legend::new(entries, &self.y_label, width - 14.0);
        let values = self.distributions.iter().flat_map(|d| d.values.iter().copied());
        let x_axis = Axis::covering(values.chain(self.x_includes.iter().copied()), 6);
        let bins = self.bins.max(1);
        let shares: Vec<Vec<f64>> =
            self.distributions.iter().map(|d| shares(&d.values, &x_axis, bins)).collect();
        let y_axis = Axis::covering(shares.iter().flatten().copied().chain([0.0]), 4);
        let frame = Frame {
            left: left_margin(&y_axis),
            right: width - 14.0,
            top: 30.0 + legend.height(),
            bottom: height - 38.0,
        };

        let mut out = open(width, height, &self.description);
        frame.draw_y_axis(&mut out, &y_axis);
        frame.draw_x_axis(&mut out, &x_axis);
        text(&mut out, 0.5 * (frame.left + frame.right), height - 5.0, "middle", "", &self.x_label);
        text(&mut out, 0.0, 13.0, "start", "name", &self.y_label);
        legend.draw(&mut out, frame.right);
        let edge = |bin: usize| frame.left + bin as f64 / bins as f64 * (frame.right - frame.left);
        for (distribution, shares) in self.distributions.iter().zip(&shares) {
            // Along the tops of the bars, from the ground to the ground; bins beside the distribution draw nothing.
            let Some(first) = shares.iter().position(|&share| share > 0.0) else { continue };
            let last = shares.iter().rposition(|&share| share > 0.0).unwrap_or(first);
            let mut corners = vec![[edge(first), frame.bottom]];
            for bin in first..=last {
                let top = frame.y(&y_axis, shares[bin]);
                corners.extend([[edge(bin), top], [edge(bin + 1), top]]);
            }
            corners.push([edge(last + 1), frame.bottom]);
            let path: Vec<String> =
                corners.iter().map(|[x, y]| format!("{},{}", short(*x), short(*y))).collect();
            let (class, path) = (distribution.tone.class(), path.join(" "));
            let _ = writeln!(out, "<polygon class=\"area {class}\" points=\"{path}\"/>");
            let _ = writeln!(out, "<polyline class=\"{class}\" points=\"{path}\"/>");
        }
        out.push_str("</svg>\n");
        out
    }
}

/// The share of the finite values in each of `bins` equal parts of the axis, in percent. The last bin has its upper edge
/// too.
fn shares(values: &[f64], axis: &Axis, bins: usize) -> Vec<f64> {
    let mut counts = vec![0_usize; bins];
    for &value in values.iter().filter(|value| value.is_finite()) {
        // A value on an edge may have come out a rounding error below it.
        let bin = (axis.position(value) * bins as f64 + 1e-9) as usize;
        counts[bin.min(bins - 1)] += 1;
    }
    let total = counts.iter().sum::<usize>().max(1) as f64;
    counts.iter().map(|&count| 100.0 * count as f64 / total).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_value_is_in_one_bin() {
        let axis = Axis::covering([0.0, 1.0], 5);
        let values = [0.0, 0.1, 0.2, 0.25, 0.6, 1.0, f64::NAN, f64::INFINITY];
        let of_six = 100.0 / 6.0;
        let expected = [2.0, 2.0, 0.0, 1.0, 1.0].map(|count| count * of_six);
        let found = shares(&values, &axis, 5);
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
        assert_eq!(shares(&[], &axis, 3), [0.0; 3]);
    }

    #[test]
    fn distributions_lie_over_each_other_by_their_shares() {
        let distribution = |name: &str, tone, values: &[f64]| Distribution {
            name: name.into(),
            tone,
            values: values.to_vec(),
        };
        let svg = Histogram {
            description: "spread".into(),
            x_label: "standard deviation".into(),
            y_label: "dimensions, %".into(),
            distributions: vec![
                distribution("before", Tone::Primary, &[0.5; 7]),
                distribution("after", Tone::Defect, &[0.25, 0.75]),
            ],
            x_includes: vec![0.0, 1.0],
            bins: 2,
            size: [302.0, 200.0],
        }
        .render();
        // 44 to 288 and 30 to 162, the vertical axis from 0 to 100 %. All seven are in the upper bin, whose lower edge is
        // 0.5; of the two, one is in either.
        assert!(
            svg.contains("<polygon class=\"area primary\" points=\"166,162 166,30 288,30 288,162\"/>"),
            "{svg}"
        );
        let halves = "44,162 44,96 166,96 166,96 288,96 288,162";
        assert!(svg.contains(&format!("<polyline class=\"defect\" points=\"{halves}\"/>")), "{svg}");
        assert!(svg.contains(">before</text>") && svg.contains(">after</text>"));
    }

    #[test]
    fn no_value_is_still_a_chart() {
        let empty = Histogram {
            description: String::new(),
            x_label: String::new(),
            y_label: String::new(),
            distributions: vec![Distribution { name: "a".into(), tone: Tone::Gold, values: vec![f64::NAN] }],
            x_includes: vec![],
            bins: 0,
            size: [300.0, 200.0],
        };
        let svg = empty.render();
        assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN") && !svg.contains("polygon"), "{svg}");
    }
}
