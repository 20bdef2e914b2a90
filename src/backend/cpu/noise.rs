//! `noise`: what distinguishes the anomaly features of Eq. 6 from the normal ones.

use super::instructions::{Instructions, Vectorized};
use super::schedule::CpuSchedule;
use crate::backend::Noise;
use crate::random::philox::{Philox, Stream};
use crate::tensor::Scalar;
use rayon::prelude::*;

/// Values a task works on: a multiple of four, since a Philox block makes four normals.
const VALUES_PER_TASK: usize = 1 << 14;
/// Blocks drawn at a time, so that generator and Box–Muller run over short arrays that vectorise.
const BLOCKS: usize = 32;

/// `σ·ε`, in rows of `channels` values.
pub(super) fn noise<T: Scalar>(noise: &Noise<'_, CpuSchedule>, channels: usize, out: &mut [T]) {
    assert!(noise.mixtures > 0, "noise has a component");
    let step = noise.schedule.step();
    let philox = Philox::new(noise.seed, Stream::Noise, step);
    let sigma = |row| T::from_f64(noise.deviation(noise.component(row, step)));
    let instructions = Instructions::detect();
    out.par_chunks_mut(VALUES_PER_TASK).enumerate().for_each(|(task, out)| {
        let first = task * VALUES_PER_TASK;
        instructions.run(Task { philox: &philox, first, channels, sigma, out });
    });
}

struct Task<'a, T, F> {
    philox: &'a Philox,
    /// Number of the first value in `out`.
    first: usize,
    channels: usize,
    /// Standard deviation of a row.
    sigma: F,
    out: &'a mut [T],
}

impl<T: Scalar, F: Fn(u64) -> T> Vectorized for Task<'_, T, F> {
    #[inline(always)]
    fn run(self) {
        let mut normals = [T::ZERO; 4 * BLOCKS];
        for (group, out) in self.out.chunks_mut(4 * BLOCKS).enumerate() {
            let first = self.first + group * 4 * BLOCKS;
            T::fill_normals(self.philox, (first / 4) as u64, &mut normals);
            // One row after the other, as far as this group has parts of them.
            let mut done = 0;
            while done < out.len() {
                let (row, column) = ((first + done) / self.channels, (first + done) % self.channels);
                let end = out.len().min(done + self.channels - column);
                let sigma = (self.sigma)(row as u64);
                for (out, &normal) in out[done..end].iter_mut().zip(&normals[done..end]) {
                    *out = sigma * normal;
                }
                done = end;
            }
        }
    }
}
