//! Points in a plane with their names: such as how fast and how good each backbone is.

use super::frame::{Frame, left_margin};
use super::legend::{Key, Legend};
use super::marker::Marker;
use super::{Axis, Tone, line, open, text, text_width};

/// One point.
#[derive(Clone, Debug)]
pub struct LabelledPoint {
    /// What stands beside it.
    pub label: String,
    /// Which series it belongs to; points of one series share colour and shape.
    pub series: String,
    /// The horizontal coordinate.
    pub x: f64,
    /// The interval around it, if it is known.
    pub x_range: Option<[f64; 2]>,
    /// The vertical coordinate.
    pub y: f64,
    /// Half the length of the error bar along it.
    pub y_std: Option<f64>,
}

/// A plot of labelled points. Points that are not finite are left out.
#[derive(Clone, Debug)]
pub struct ScatterPlot {
    /// What the plot shows, for a screen reader and as a tooltip.
    pub description: String,
    /// The name of the horizontal axis.
    pub x_label: String,
    /// The name of the vertical axis, set above it.
    pub y_label: String,
    /// Whether the horizontal axis is logarithmic; points at 0 or below are then left out.
    pub log_x: bool,
    /// The points. Series are coloured in the order in which they appear here.
    pub points: Vec<LabelledPoint>,
    /// The size in CSS pixels.
    pub size: [f64; 2],
}

/// The height of a line of text, and how far from its point a label stands.
const LINE: f64 = 13.0;
const AWAY: f64 = 8.0;

impl ScatterPlot {
    /// The plot as an `<svg>` element.
    pub fn render(&self) -> String {
        let [width, height] = self.size;
        let drawable = |point: &&LabelledPoint| {
            point.x.is_finite() && point.y.is_finite() && !(self.log_x && point.x <= 0.0)
        };
        let points: Vec<&LabelledPoint> = self.points.iter().filter(drawable).collect();
        let mut names: Vec<&str> = Vec::new();
        for point in &self.points {
            if !names.contains(&point.series.as_str()) {
                names.push(&point.series);
            }
        }
        let look = |series: &str| {
            let index = names.iter().position(|name| *name == series).unwrap_or(0);
            (Tone::of(index), Marker::of(index))
        };
        let entries = names.iter().map(|name| {
            let (tone, marker) = look(name);
            (*name, tone, Key::Mark(marker))
        });
        let legend = Legend::new(entries, &self.y_label, width - 18.0);
        let x_values = points
            .iter()
            .flat_map(|point| point.x_range.unwrap_or([point.x; 2]).into_iter().chain([point.x]));
        let x_axis = if self.log_x { Axis::logarithmic(x_values) } else { Axis::covering(x_values, 6) };
        let y_values = points.iter().flat_map(|point| {
            let std = point.y_std.unwrap_or(0.0);
            [point.y - std, point.y + std]
        });
        let y_axis = Axis::covering(y_values, 5);
        let frame = Frame {
            left: left_margin(&y_axis),
            right: width - 18.0,
            top: 34.0 + legend.height(),
            bottom: height - 38.0,
        };

        let mut out = open(width, height, &self.description);
        frame.draw_y_axis(&mut out, &y_axis);
        for &tick in x_axis.ticks() {
            let x = frame.x(&x_axis, tick);
            line(&mut out, "grid", [x, frame.top, x, frame.bottom]);
        }
        frame.draw_x_axis(&mut out, &x_axis);
        text(&mut out, 0.5 * (frame.left + frame.right), height - 5.0, "middle", "", &self.x_label);
        text(&mut out, 0.0, 13.0, "start", "name", &self.y_label);
        legend.draw(&mut out, frame.right);
        let places: Vec<[f64; 2]> =
            points.iter().map(|point| [frame.x(&x_axis, point.x), frame.y(&y_axis, point.y)]).collect();
        // What labels must not cover: marks, and the bars through them.
        let mut taken: Vec<[f64; 4]> = Vec::new();
        for (point, &[x, y]) in points.iter().zip(&places) {
            let (tone, marker) = look(&point.series);
            let bar = format!("spread {}", tone.class());
            if let Some(range) = point.x_range {
                let [low, high] = range.map(|value| frame.x(&x_axis, value));
                line(&mut out, &bar, [low, y, high, y]);
                taken.push([low, y - 2.0, high, y + 2.0]);
            }
            if let Some(std) = point.y_std {
                let [low, high] = [point.y - std, point.y + std].map(|value| frame.y(&y_axis, value));
                line(&mut out, &bar, [x, low, x, high]);
                taken.push([x - 2.0, high, x + 2.0, low]);
            }
            marker.draw(&mut out, tone, [x, y]);
            taken.push([x - 6.0, y - 6.0, x + 6.0, y + 6.0]);
        }
        for (point, &place) in points.iter().zip(&places) {
            let spot = spot(place, text_width(&point.label), &frame, &taken);
            text(&mut out, spot[0], spot[3] - 3.0, "start", "name", &point.label);
            taken.push(spot);
        }
        out.push_str("</svg>\n");
        out
    }
}

/// The rectangle (left, top, right, bottom) beside a point where a label covers least of what is drawn already: at the
/// right, at the left, above, below, at the corners, or a line further away, in this order where several are free.
fn spot([x, y]: [f64; 2], width: f64, frame: &Frame, taken: &[[f64; 4]]) -> [f64; 4] {
    let half = 0.5 * LINE;
    let candidates = [
        [x + AWAY, y - half],
        [x - AWAY - width, y - half],
        [x - 0.5 * width, y - AWAY - LINE],
        [x - 0.5 * width, y + AWAY],
        [x + 0.5 * AWAY, y - AWAY - LINE],
        [x + 0.5 * AWAY, y + AWAY],
        [x - 0.5 * AWAY - width, y - AWAY - LINE],
        [x - 0.5 * AWAY - width, y + AWAY],
        [x - 0.5 * width, y - AWAY - 2.2 * LINE],
        [x - 0.5 * width, y + AWAY + 1.2 * LINE],
    ];
    let rectangle = |[left, top]: [f64; 2]| [left, top, left + width, top + LINE];
    let overlap = |a: [f64; 4], b: [f64; 4]| {
        let along = |low: usize, high: usize| (a[high].min(b[high]) - a[low].max(b[low])).max(0.0);
        along(0, 2) * along(1, 3)
    };
    // What leaves the picture cannot be read at all: a little of it counts as much as a lot of overlap.
    let room = [frame.left - 2.0, frame.top - 16.0, frame.right + 14.0, frame.bottom];
    let cost = |spot: [f64; 4]| {
        let covered: f64 = taken.iter().map(|other| overlap(spot, *other)).sum();
        covered + 100.0 * (width * LINE - overlap(spot, room))
    };
    let spots = candidates.map(rectangle);
    let mut best = spots[0];
    for spot in spots {
        // Nothing within a rounding error counts as better.
        if cost(spot) < cost(best) - 1e-6 {
            best = spot;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(label: &str, x: f64, y: f64) -> LabelledPoint {
        LabelledPoint { label: label.into(), series: "CPU".into(), x, x_range: None, y, y_std: None }
    }

    fn plot(points: Vec<LabelledPoint>, log_x: bool) -> String {
        ScatterPlot {
            description: "speed".into(),
            x_label: "images/s".into(),
            y_label: "I-AUROC, %".into(),
            log_x,
            points,
            size: [306.0, 200.0],
        }
        .render()
    }

    #[test]
    fn points_and_names_land_where_the_axes_say() {
        let svg = plot(vec![point("small", 1.0, 0.0), point("<large>", 10.0, 1.0)], true);
        // 44 to 288 and 34 to 162. On the ground a name stands above its point, at the right edge at its left: 7 characters
        // of 6.6 and 8 pixels from it.
        assert!(svg.contains("<circle class=\"primary\" cx=\"44\" cy=\"162\" r=\"4\"/>"), "{svg}");
        assert!(svg.contains("<circle class=\"primary\" cx=\"288\" cy=\"34\" r=\"4\"/>"), "{svg}");
        assert!(svg.contains("x=\"48\" y=\"151\" text-anchor=\"start\">small</text>"), "{svg}");
        assert!(svg.contains("x=\"233.8\" y=\"37.5\" text-anchor=\"start\">&lt;large&gt;</text>"), "{svg}");
        assert!(svg.contains(">2</text>") && svg.contains(">5</text>"), "ticks are 1, 2, 5, 10");
    }

    #[test]
    fn names_of_neighbours_do_not_cover_each_other() {
        let frame = Frame { left: 0.0, right: 400.0, top: 0.0, bottom: 300.0 };
        let points = [[100.0, 100.0], [104.0, 100.0], [100.0, 104.0]];
        let mut taken: Vec<[f64; 4]> =
            points.iter().map(|[x, y]| [x - 5.0, y - 5.0, x + 5.0, y + 5.0]).collect();
        for place in points {
            taken.push(spot(place, 60.0, &frame, &taken));
        }
        let labels = &taken[3..];
        for (i, a) in labels.iter().enumerate() {
            for b in &labels[..i] {
                assert!(a[2] <= b[0] || b[2] <= a[0] || a[3] <= b[1] || b[3] <= a[1], "{a:?} covers {b:?}");
            }
        }
        let corner = spot([395.0, 150.0], 60.0, &frame, &[]);
        assert!(corner[2] <= 414.0, "{corner:?}");
    }

    #[test]
    fn intervals_are_drawn_and_what_has_no_place_is_left_out() {
        let measured = LabelledPoint { x_range: Some([1.0, 2.0]), y_std: Some(0.5), ..point("a", 1.5, 0.5) };
        let svg = plot(vec![measured, point("b", f64::NAN, 0.0), point("c", 0.0, 0.0)], true);
        assert_eq!((svg.matches("class=\"spread").count(), svg.matches("<circle").count()), (2, 1));
        assert!(!svg.contains(">c</text>") && !svg.contains("NaN"));
        assert!(plot(vec![point("c", 0.0, 0.0)], false).contains(">c</text>"));
        assert!(plot(vec![], true).ends_with("</svg>\n"));
    }
}
