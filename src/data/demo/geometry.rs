//! Plane geometry in arithmetic that every machine rounds alike.
//!
//! Only `+ − × ÷`, `sqrt` and `floor` of `f64` are used, which IEEE 754 rounds correctly. The platform's `sin`,
//! `exp` and `powf` are not: their last bit differs between systems, and with it, now and then, a pixel.

use std::ops::{Add, Mul, Sub};

/// A point or a direction in the image plane, in pixels; x to the right, y down.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Vec2 {
    pub(super) x: f64,
    pub(super) y: f64,
}

impl Vec2 {
    pub(super) fn new(x: f64, y: f64) -> Self {
        Self { x, y }
    }

    /// The unit vector at an angle given in turns.
    pub(super) fn unit(turns: f64) -> Self {
        let (sin, cos) = sin_cos(turns);
        Self::new(cos, sin)
    }

    pub(super) fn dot(self, other: Self) -> f64 {
        self.x * other.x + self.y * other.y
    }

    pub(super) fn length(self) -> f64 {
        self.dot(self).sqrt()
    }

    /// A quarter turn: x becomes y.
    pub(super) fn perpendicular(self) -> Self {
        Self::new(-self.y, self.x)
    }

    /// The coordinates of `self` in the frame whose first axis is the unit vector `axis`.
    pub(super) fn in_frame(self, axis: Self) -> Self {
        Self::new(self.dot(axis), self.dot(axis.perpendicular()))
    }
}

impl Add for Vec2 {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self::new(self.x + other.x, self.y + other.y)
    }
}

impl Sub for Vec2 {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self::new(self.x - other.x, self.y - other.y)
    }
}

impl Mul<f64> for Vec2 {
    type Output = Self;
    fn mul(self, factor: f64) -> Self {
        Self::new(self.x * factor, self.y * factor)
    }
}

/// `a` at 0, `b` at 1, linear.
pub(super) fn mix(a: f64, b: f64, weight: f64) -> f64 {
    a + (b - a) * weight
}

/// 0 up to `from`, 1 from `to` on, `3t² − 2t³` between; falls instead of rising where `from > to`.
pub(super) fn smoothstep(from: f64, to: f64, x: f64) -> f64 {
    let t = ((x - from) / (to - from)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// `1 / (1 + (x/width)²)`: a bell without an exponential.
pub(super) fn bell(x: f64, width: f64) -> f64 {
    1.0 / (1.0 + (x / width) * (x / width))
}

/// Sine and cosine of an angle in turns, by Taylor polynomials on an eighth of the circle (error below 1e-9).
pub(super) fn sin_cos(turns: f64) -> (f64, f64) {
    let quarter = (turns * 4.0 + 0.5).floor();
    let x = (turns - quarter / 4.0) * std::f64::consts::TAU;
    let y = x * x;
    let sin = x * (1.0 - y / 6.0 * (1.0 - y / 20.0 * (1.0 - y / 42.0 * (1.0 - y / 72.0))));
    let cos = 1.0 - y / 2.0 * (1.0 - y / 12.0 * (1.0 - y / 30.0 * (1.0 - y / 56.0 * (1.0 - y / 90.0))));
    match quarter.rem_euclid(4.0) as u32 {
        0 => (sin, cos),
        1 => (cos, -sin),
        2 => (-sin, -cos),
        _ => (-cos, sin),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sin_cos_agrees_with_the_library() {
        for i in -400..400 {
            let turns = f64::from(i) / 173.0;
            let (sin, cos) = sin_cos(turns);
            let (expected_sin, expected_cos) = (turns * std::f64::consts::TAU).sin_cos();
            assert!((sin - expected_sin).abs() < 1e-8 && (cos - expected_cos).abs() < 1e-8, "{turns}");
        }
    }

    #[test]
    fn a_frame_keeps_lengths_and_its_own_axis() {
        let axis = Vec2::unit(0.13);
        let along = (axis * 5.0).in_frame(axis);
        assert!((along.x - 5.0).abs() < 1e-7 && along.y.abs() < 1e-12);
        let point = Vec2::new(3.0, -4.0);
        assert!((point.in_frame(axis).length() - 5.0).abs() < 1e-7);
    }
}
