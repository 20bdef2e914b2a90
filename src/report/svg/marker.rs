//! Marks of different shapes, so that series are told apart without their colours.

use std::fmt::Write as _;

use super::{Tone, short};

/// A shape around a point; all cover about the same area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marker {
    Circle,
    Square,
    Triangle,
    Diamond,
}

impl Marker {
    /// The shape of series number `index`; they come round again.
    pub(super) fn of(index: usize) -> Self {
        [Self::Circle, Self::Square, Self::Triangle, Self::Diamond][index % 4]
    }

    /// Draws the mark.
    pub(super) fn draw(self, out: &mut String, tone: Tone, [x, y]: [f64; 2]) {
        let class = tone.class();
        // Corners as offsets from the point, in turn.
        let corners: &[[f64; 2]] = match self {
            Self::Circle => {
                let _ = writeln!(
                    out,
                    "<circle class=\"{class}\" cx=\"{}\" cy=\"{}\" r=\"4\"/>",
                    short(x),
                    short(y)
                );
                return;
            }
            Self::Square => &[[-3.6, -3.6], [3.6, -3.6], [3.6, 3.6], [-3.6, 3.6]],
            Self::Triangle => &[[0.0, -5.2], [5.0, 3.6], [-5.0, 3.6]],
            Self::Diamond => &[[0.0, -5.2], [5.2, 0.0], [0.0, 5.2], [-5.2, 0.0]],
        };
        let path: Vec<String> =
            corners.iter().map(|[dx, dy]| format!("{} {}", short(x + dx), short(y + dy))).collect();
        let _ = writeln!(out, "<path class=\"{class}\" d=\"M{}Z\"/>", path.join("L"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_differ_and_surround_their_point() {
        let drawn: Vec<String> = (0..4)
            .map(|index| {
                let mut out = String::new();
                Marker::of(index).draw(&mut out, Tone::Gold, [10.0, 20.0]);
                out
            })
            .collect();
        assert_eq!(drawn[0], "<circle class=\"gold\" cx=\"10\" cy=\"20\" r=\"4\"/>\n");
        assert_eq!(drawn[3], "<path class=\"gold\" d=\"M10 14.8L15.2 20L10 25.2L4.8 20Z\"/>\n");
        assert!((0..4).all(|i| (0..i).all(|j| drawn[i] != drawn[j])));
        assert_eq!(Marker::of(4), Marker::of(0));
    }
}
