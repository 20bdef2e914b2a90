//! `add_noise`: the anomaly features of Eq. 6 beside the normal ones, and the gradient of that.

use super::schedule::CpuSchedule;
use crate::backend::Noise;
use crate::random::philox::{Philox, Stream};
use crate::tensor::Scalar;
use rayon::prelude::*;

/// Values a task works on: a multiple of four, since a Philox block makes four normals.
const VALUES_PER_TASK: usize = 1 << 14;
/// Blocks drawn at a time, so that generator and Box–Muller run over short arrays that vectorise.
const BLOCKS: usize = 32;

/// `q` into the first half of `out`, `q + ε` into the second.
pub(super) fn add_noise<T: Scalar>(input: &[T], noise: Noise<'_, CpuSchedule>, out: &mut [T]) {
    let philox = Philox::new(noise.seed, Stream::Noise, noise.schedule.step());
    let sigma = T::from_f64(noise.sigma);
    let (normal, anomalous) = out.split_at_mut(input.len());
    normal
        .par_chunks_mut(VALUES_PER_TASK)
        .zip(anomalous.par_chunks_mut(VALUES_PER_TASK))
        .zip(input.par_chunks(VALUES_PER_TASK))
        .enumerate()
        .for_each(|(task, ((normal, anomalous), input))| {
            normal.copy_from_slice(input);
            let first_block = (task * VALUES_PER_TASK / 4) as u64;
            let mut normals = [T::ZERO; 4 * BLOCKS];
            for (group, (anomalous, input)) in
                anomalous.chunks_mut(4 * BLOCKS).zip(input.chunks(4 * BLOCKS)).enumerate()
            {
                T::fill_normals(&philox, first_block + (group * BLOCKS) as u64, &mut normals);
                for ((out, &q), &epsilon) in anomalous.iter_mut().zip(input).zip(&normals) {
                    *out = q + sigma * epsilon;
                }
            }
        });
}

/// Both halves depend on `q` with slope one: their gradients add.
pub(super) fn add_noise_backward<T: Scalar>(gradient: &[T], out: &mut [T]) {
    let (normal, anomalous) = gradient.split_at(out.len());
    out.par_chunks_mut(VALUES_PER_TASK)
        .zip(normal.par_chunks(VALUES_PER_TASK))
        .zip(anomalous.par_chunks(VALUES_PER_TASK))
        .for_each(|((out, normal), anomalous)| {
            for ((out, &a), &b) in out.iter_mut().zip(normal).zip(anomalous) {
                *out = a + b;
            }
        });
}
