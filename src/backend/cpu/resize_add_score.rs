//! `resize_add_score`: the deployed head behind the projections of the levels.

use super::instructions::{Instructions, Vectorized};
use super::memory::CpuTensor;
use super::score::dot;
use crate::backend::Interpolation;
use crate::tensor::Scalar;
use rayon::prelude::*;

/// `Σ_c w[c]·leaky_relu(Σ_l resize(x_l)[r, c])`. What is resized and added stays in a buffer of one position.
pub(super) fn resize_add_score<T: Scalar>(
    projections: &[&CpuTensor<T>],
    slope: f64,
    weight: &[T],
    out: &mut [T],
) {
    let [first, deeper @ ..] = projections else { panic!("at least one level") };
    let [_, height, width, channels] = first.axes();
    assert_eq!(weight.len(), channels, "a weight a channel");
    let slope = T::from_f64(slope);
    let deeper: Vec<Resized<'_, T>> =
        deeper.iter().map(|level| Resized::new(level, [height, width, channels])).collect();
    let instructions = Instructions::detect();
    out.par_chunks_mut(width).enumerate().for_each(|(line, out)| {
        let first = &first.data()[line * width * channels..][..width * channels];
        instructions.run(Line { first, deeper: &deeper, line, height, slope, weight, out });
    });
}

/// One line of the first level's grid.
struct Line<'a, T> {
    /// Its pixels.
    first: &'a [T],
    deeper: &'a [Resized<'a, T>],
    /// Which, over all images.
    line: usize,
    /// Lines of an image.
    height: usize,
    slope: T,
    weight: &'a [T],
    out: &'a mut [T],
}

impl<T: Scalar> Vectorized for Line<'_, T> {
    #[inline(always)]
    fn run(self) {
        let mut hidden = vec![T::ZERO; self.weight.len()];
        let pixels = self.first.chunks_exact(self.weight.len());
        for (x, (out, pixel)) in self.out.iter_mut().zip(pixels).enumerate() {
            hidden.copy_from_slice(pixel);
            for level in self.deeper {
                level.add(self.line / self.height, self.line % self.height, x, &mut hidden);
            }
            for value in &mut hidden {
                *value *= if *value > T::ZERO { T::ONE } else { self.slope };
            }
            *out = dot(&hidden, self.weight);
        }
    }
}

/// A level with the interpolation that takes it to the first one's grid.
struct Resized<'a, T> {
    data: &'a [T],
    size: (usize, usize),
    rows: Vec<Interpolation>,
    columns: Vec<Interpolation>,
}

impl<'a, T: Scalar> Resized<'a, T> {
    fn new(level: &'a CpuTensor<T>, [height, width, channels]: [usize; 3]) -> Self {
        let [_, h, w, own] = level.axes();
        assert_eq!(own, channels, "every level is projected to the same channels");
        Self {
            data: level.data(),
            size: (h, w),
            rows: Interpolation::axis(h, height),
            columns: Interpolation::axis(w, width),
        }
    }

    /// Adds the value between the level's pixels at position (y, x) of the first level's grid.
    #[inline(always)]
    fn add(&self, image: usize, y: usize, x: usize, to: &mut [T]) {
        let ((h, w), channels) = (self.size, to.len());
        let (vertical, horizontal) = (self.rows[y], self.columns[x]);
        let at = |y: usize, x: usize| &self.data[((image * h + y) * w + x) * channels..][..channels];
        let corners = [
            at(vertical.low, horizontal.low),
            at(vertical.low, horizontal.high),
            at(vertical.high, horizontal.low),
            at(vertical.high, horizontal.high),
        ];
        if vertical.weight == 0.0 && horizontal.weight == 0.0 {
            to.iter_mut().zip(corners[0]).for_each(|(to, &value)| *to += value);
            return;
        }
        let (weight_y, weight_x) = (T::from_f64(vertical.weight), T::from_f64(horizontal.weight));
        let (keep_y, keep_x) = (T::ONE - weight_y, T::ONE - weight_x);
        for (channel, to) in to.iter_mut().enumerate() {
            let [a, b, c, d] = corners.map(|corner| corner[channel]);
            *to += keep_y * (keep_x * a + weight_x * b) + weight_y * (keep_x * c + weight_x * d);
        }
    }
}
