//! The rectangle that data are drawn in, with its axes.

use super::{Axis, line, text, text_width};

/// The edges of the plotting area in CSS pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) top: f64,
    pub(super) bottom: f64,
}

impl Frame {
    /// The horizontal place of a value.
    pub(super) fn x(&self, axis: &Axis, value: f64) -> f64 {
        self.left + axis.position(value) * (self.right - self.left)
    }

    /// The vertical place of a value: high values are at the top.
    pub(super) fn y(&self, axis: &Axis, value: f64) -> f64 {
        self.bottom - axis.position(value) * (self.bottom - self.top)
    }

    /// The line at the bottom, and the vertical axis as lines across with their numbers.
    pub(super) fn draw_y_axis(&self, out: &mut String, axis: &Axis) {
        for &tick in axis.ticks() {
            let y = self.y(axis, tick);
            line(out, "grid", [self.left, y, self.right, y]);
            text(out, self.left - 8.0, y + 4.0, "end", "", &axis.label(tick));
        }
        line(out, "axis", [self.left, self.bottom, self.right, self.bottom]);
    }

    /// The numbers of a horizontal axis.
    pub(super) fn draw_x_axis(&self, out: &mut String, axis: &Axis) {
        for &tick in axis.ticks() {
            self.draw_x_tick(out, self.x(axis, tick), &axis.label(tick));
        }
    }

    /// One number, or name, below the horizontal axis.
    pub(super) fn draw_x_tick(&self, out: &mut String, x: f64, label: &str) {
        line(out, "axis", [x, self.bottom, x, self.bottom + 4.0]);
        text(out, x, self.bottom + 17.0, "middle", "", label);
    }
}

/// What the numbers of a vertical axis take at the left: 44 pixels, and more where they are long.
pub(super) fn left_margin(axis: &Axis) -> f64 {
    axis.ticks().iter().map(|&tick| text_width(&axis.label(tick)) + 12.0).fold(44.0, f64::max)
}
