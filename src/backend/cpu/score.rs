//! `score`: the discriminator's last layer, one dot product a row.

use super::ROWS_PER_TASK;
use crate::tensor::Scalar;
use rayon::prelude::*;

/// Partial sums of a dot product: enough independent chains to fill the vector units, in an order that is part of
/// the program and not of the machine.
const LANES: usize = 16;

/// The dot product of two rows. Inlined, for wider instructions.
#[inline(always)]
pub(super) fn dot<T: Scalar>(a: &[T], b: &[T]) -> T {
    let mut sums = [T::ZERO; LANES];
    let (a_blocks, b_blocks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail: T = a_blocks.remainder().iter().zip(b_blocks.remainder()).map(|(&a, &b)| a * b).sum();
    for (a, b) in a_blocks.zip(b_blocks) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.into_iter().sum::<T>() + tail
}

/// `[R, C], [C] → [R]`.
pub(super) fn score<T: Scalar>(input: &[T], weight: &[T], out: &mut [T]) {
    let channels = weight.len();
    out.par_chunks_mut(ROWS_PER_TASK).zip(input.par_chunks(ROWS_PER_TASK * channels)).for_each(
        |(out, rows)| {
            for (out, row) in out.iter_mut().zip(rows.chunks_exact(channels)) {
                *out = dot(row, weight);
            }
        },
    );
}
