//! The set's only source of chance: numbers and smooth random fields, both drawn from Philox.

use super::geometry::mix;
use crate::random::philox::{Philox, Stream};

/// One seed for the whole set; an image's number is the step of its stream.
const SEED: u64 = 0x51D3_0001;

/// Where the draws of each use begin within an image's stream, so that no two uses share one.
const LATTICE_START: u64 = 1 << 32;
const GRAIN_START: u64 = 1 << 34;

/// Random numbers of one image, read one after the other.
#[derive(Clone, Debug)]
pub(super) struct Draws {
    stream: Philox,
    next: u64,
}

impl Draws {
    /// The numbers of the image with this number, from the start.
    pub(super) fn of_image(number: u32) -> Self {
        Self { stream: Philox::new(SEED, Stream::Demo, number), next: 0 }
    }

    /// The numbers of the same image that belong to its defect, so that a defect does not shift those of the part.
    pub(super) fn of_defect(number: u32) -> Self {
        Self { next: 1 << 20, ..Self::of_image(number) }
    }

    /// Uniform in `(low, high)`.
    pub(super) fn range(&mut self, low: f64, high: f64) -> f64 {
        self.next += 1;
        mix(low, high, self.stream.uniform(self.next - 1))
    }

    /// One of `0..count`.
    pub(super) fn below(&mut self, count: usize) -> usize {
        self.range(0.0, count as f64) as usize
    }

    /// The smooth random field of this image.
    pub(super) fn field(&self) -> Field {
        let mut lattice = vec![[0.0; SIDE]; SIDE];
        for (block, four) in lattice.as_flattened_mut().chunks_exact_mut(4).enumerate() {
            four.copy_from_slice(&self.stream.block(LATTICE_START + block as u64).map(|x| signed(x) as f32));
        }
        Field { lattice }
    }

    /// Four uniform numbers in `[−1, 1)` for the pixel with this index.
    pub(super) fn grain(&self, pixel: u64) -> [f64; 4] {
        self.stream.block(GRAIN_START + pixel).map(signed)
    }
}

/// A draw as a number in `[−1, 1)`.
fn signed(draw: u32) -> f64 {
    f64::from(draw) / 2_147_483_648.0 - 1.0
}

/// The lattice of a field is SIDE × SIDE and repeats beyond.
const SIDE: usize = 64;

/// `⌊x⌋`; `f64::floor` is a call into the C library on processors without an instruction for it.
#[inline]
pub(super) fn floor(x: f64) -> i32 {
    let truncated = x as i32;
    truncated - i32::from(x < f64::from(truncated))
}

/// The lattice repeats: any index to one within it.
#[inline]
fn wrap(index: i32) -> usize {
    index.rem_euclid(SIDE as i32) as usize
}

/// Value noise: random values on a square lattice, smoothly joined.
#[derive(Clone, Debug)]
pub(super) struct Field {
    lattice: Vec<[f32; SIDE]>,
}

impl Field {
    /// The field at a point, in `[−1, 1)`; one lattice cell is one unit. `layer`s below 64
    /// are different fields.
    #[inline]
    pub(super) fn at(&self, layer: u32, x: f64, y: f64) -> f64 {
        let (column, row) = (floor(x), floor(y));
        let fade = |t: f64| t * t * (3.0 - 2.0 * t);
        let (right, down) = (fade(x - f64::from(column)), fade(y - f64::from(row)));
        // Layers are shifts of one lattice, by steps odd to its side: 64 of them before one comes again.
        let (column, row) = (column + layer as i32 * 37, row + layer as i32 * 59);
        let (top, bottom) = (&self.lattice[wrap(row)], &self.lattice[wrap(row + 1)]);
        let (left, next) = (wrap(column), wrap(column + 1));
        let along = |row: &[f32; SIDE]| mix(f64::from(row[left]), f64::from(row[next]), right);
        mix(along(top), along(bottom), down)
    }

    /// Three octaves of [`Field::at`], each twice as fine and half as strong as the one before.
    pub(super) fn cloud(&self, layer: u32, x: f64, y: f64) -> f64 {
        // A turn by the 3-4-5 angle between octaves hides the lattice.
        let turned = |x: f64, y: f64| (1.6 * x + 1.2 * y, 1.6 * y - 1.2 * x);
        let (x2, y2) = turned(x, y);
        let (x3, y3) = turned(x2, y2);
        (4.0 * self.at(layer, x, y) + 2.0 * self.at(layer + 1, x2, y2) + self.at(layer + 2, x3, y3)) / 7.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_smooth_bounded_and_its_own() {
        let field = Draws::of_image(3).field();
        let other = Draws::of_image(4).field();
        let mut differs = false;
        for i in 0..2000 {
            let (x, y) = (f64::from(i) * 0.37 - 300.0, f64::from(i) * 0.11 - 100.0);
            let value = field.at(2, x, y);
            assert!((-1.0..=1.0).contains(&value));
            assert!((value - field.at(2, x + 1e-4, y)).abs() < 1e-3, "a step at {x}, {y}");
            differs |= (value - other.at(2, x, y)).abs() > 0.1;
        }
        assert!(differs);
    }

    #[test]
    fn a_defects_numbers_are_not_those_of_its_part() {
        let part: Vec<f64> = (0..64).scan(Draws::of_image(1), |d, _| Some(d.range(0.0, 1.0))).collect();
        let mut defect = Draws::of_defect(1);
        assert!((0..64).all(|_| !part.contains(&defect.range(0.0, 1.0))));
    }
}
