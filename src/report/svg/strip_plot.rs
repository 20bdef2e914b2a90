//! Dots on strips: where the scores of each group lie, and on which side of the threshold.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::{Axis, Tone, line, open, short, text};

/// One group of a [`StripPlot`].
#[derive(Clone, Debug)]
pub struct Strip {
    /// The name of the group.
    pub name: String,
    /// The colour.
    pub tone: Tone,
    /// The values; those that are not finite are not drawn.
    pub values: Vec<f64>,
}

/// A plot with a strip a group, all over one horizontal axis.
#[derive(Clone, Debug)]
pub struct StripPlot {
    /// What the plot shows, for a screen reader and as a tooltip.
    pub description: String,
    /// The name of the horizontal axis.
    pub x_label: String,
    /// The groups, from top to bottom.
    pub strips: Vec<Strip>,
    /// A value that splits the axis, drawn as a line with what is above it tinted.
    pub threshold: Option<f64>,
    /// The width in CSS pixels; the height follows from the number of strips.
    pub width: f64,
}

const ROW: f64 = 34.0;
const TOP: f64 = 24.0;
const RADIUS: f64 = 3.0;
/// Offsets of dots that would cover each other, in the order they are tried.
const LANES: [f64; 5] = [0.0, 5.0, -5.0, 10.0, -10.0];

impl StripPlot {
    /// The plot as an `<svg>` element.
    pub fn render(&self) -> String {
        let label = |strip: &Strip| format!("{} ({})", shortened(&strip.name), strip.values.len());
        let longest = self.strips.iter().map(|strip| label(strip).chars().count()).max().unwrap_or(0);
        let left = (6.6 * longest as f64 + 16.0).clamp(60.0, 0.4 * self.width);
        let right = self.width - 14.0;
        let bottom = TOP + ROW * self.strips.len() as f64;
        let height = bottom + 38.0;
        let values = self.strips.iter().flat_map(|strip| strip.values.iter().copied());
        let threshold = self.threshold.filter(|value| value.is_finite());
        let axis = Axis::covering(values.chain(threshold), 7);
        let x = |value: f64| left + axis.position(value) * (right - left);

        let mut out = open(self.width, height, &self.description);
        if let Some(at) = threshold {
            let (from, width) = (short(x(at)), short(right - x(at)));
            let rows = short(bottom - TOP);
            let _ = writeln!(
                out,
                "<rect class=\"rejected\" x=\"{from}\" y=\"{TOP}\" width=\"{width}\" height=\"{rows}\"/>"
            );
        }
        for &tick in axis.ticks() {
            line(&mut out, "grid", [x(tick), TOP, x(tick), bottom]);
            text(&mut out, x(tick), bottom + 16.0, "middle", "", &axis.label(tick));
        }
        line(&mut out, "axis", [left, bottom, right, bottom]);
        text(&mut out, 0.5 * (left + right), height - 5.0, "middle", "", &self.x_label);
        for (index, strip) in self.strips.iter().enumerate() {
            let middle = TOP + ROW * (index as f64 + 0.5);
            text(&mut out, left - 12.0, middle + 4.0, "end", "name", &label(strip));
            dots(&mut out, strip, middle, &x);
        }
        if let Some(at) = threshold {
            line(&mut out, "threshold", [x(at), TOP - 4.0, x(at), bottom]);
            // The words stay on the picture wherever the threshold stands.
            let anchor = match axis.position(at) {
                t if t < 0.15 => "start",
                t if t > 0.85 => "end",
                _ => "middle",
            };
            text(&mut out, x(at), TOP - 9.0, anchor, "name", &format!("threshold {at:.3}"));
        }
        out.push_str("</svg>\n");
        out
    }
}

/// The dots of a strip, side by side where they would cover each other.
fn dots(out: &mut String, strip: &Strip, middle: f64, x: &dyn Fn(f64) -> f64) {
    let mut places: Vec<f64> = strip.values.iter().filter(|v| v.is_finite()).map(|&v| x(v)).collect();
    places.sort_by(f64::total_cmp);
    let mut ends = [f64::NEG_INFINITY; LANES.len()];
    // Where all lanes are full, dots fall on a grid of two pixels and equal ones are drawn once: thousands of images
    // cost no more than what can be seen.
    let mut taken = BTreeSet::new();
    for (index, &place) in places.iter().enumerate() {
        let free = (0..LANES.len()).find(|&lane| place - ends[lane] >= 2.0 * RADIUS);
        let (lane, place) = match free {
            Some(lane) => (lane, place),
            None => (index % LANES.len(), 2.0 * (0.5 * place).round()),
        };
        ends[lane] = ends[lane].max(place);
        let (cx, cy) = (short(place), short(middle + LANES[lane]));
        if taken.insert((lane, cx.clone())) {
            let class = strip.tone.class();
            let _ = writeln!(out, "<circle class=\"{class}\" cx=\"{cx}\" cy=\"{cy}\" r=\"{RADIUS}\"/>");
        }
    }
}

/// A name of at most 24 characters.
fn shortened(name: &str) -> String {
    if name.chars().count() <= 24 {
        return name.to_owned();
    }
    name.chars().take(23).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(values: Vec<f64>, threshold: Option<f64>) -> String {
        StripPlot {
            description: "scores".into(),
            x_label: "score".into(),
            strips: vec![Strip { name: "<b>".into(), tone: Tone::Defect, values }],
            threshold,
            width: 400.0,
        }
        .render()
    }

    #[test]
    fn every_value_has_a_dot_and_the_threshold_a_line() {
        let svg = plot(vec![0.0, 0.5, 1.0, f64::NAN], Some(0.25));
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(svg.contains("threshold 0.250") && svg.contains("&lt;b&gt; (4)"), "{svg}");
        // left = 6.6 · 7 + 16 = 62.2, right = 386: a quarter of the way is 143.15.
        assert!(svg.contains("<line class=\"threshold\" x1=\"143.2\""), "{svg}");
    }

    #[test]
    fn equal_values_are_spread_over_the_strip() {
        let svg = plot(vec![0.5; 3], None);
        let heights: BTreeSet<&str> =
            svg.split("cy=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert_eq!(heights.len(), 3);
        assert!(!svg.contains("threshold"));
    }

    #[test]
    fn many_values_cost_no_more_than_can_be_seen() {
        let svg = plot((0..20_000).map(|i| f64::from(i) / 20_000.0).collect(), None);
        assert!(svg.len() < 80_000, "{}", svg.len());
    }

    #[test]
    fn no_value_is_still_a_plot() {
        let svg = plot(vec![], None);
        assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN"));
        assert_eq!(shortened("abcdefghijklmnopqrstuvwxyz").chars().count(), 24);
    }
}
