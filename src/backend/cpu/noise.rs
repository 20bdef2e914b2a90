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

/// `σ·ε`.
pub(super) fn noise<T: Scalar>(noise: Noise<'_, CpuSchedule>, out: &mut [T]) {
    let philox = Philox::new(noise.seed, Stream::Noise, noise.schedule.step());
    let sigma = T::from_f64(noise.sigma);
    let instructions = Instructions::detect();
    out.par_chunks_mut(VALUES_PER_TASK).enumerate().for_each(|(task, out)| {
        let first_block = (task * VALUES_PER_TASK / 4) as u64;
        instructions.run(Task { philox: &philox, first_block, sigma, out });
    });
}

struct Task<'a, T> {
    philox: &'a Philox,
    first_block: u64,
    sigma: T,
    out: &'a mut [T],
}

impl<T: Scalar> Vectorized for Task<'_, T> {
    #[inline(always)]
    fn run(self) {
        let mut normals = [T::ZERO; 4 * BLOCKS];
        for (group, out) in self.out.chunks_mut(4 * BLOCKS).enumerate() {
            T::fill_normals(self.philox, self.first_block + (group * BLOCKS) as u64, &mut normals);
            for (out, &normal) in out.iter_mut().zip(&normals) {
                *out = self.sigma * normal;
            }
        }
    }
}
