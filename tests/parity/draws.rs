//! Inputs that Python draws alike (`draws.py`), so that only results are stored.
//!
//! A tensor is drawn under its name. Values are built from integers by operations that IEEE 754 rounds exactly.

use simplenet::random::philox::{Philox, Stream};
use simplenet::tensor::{Scalar, Tensor};

/// The key of everything here, and the seed of the trainings.
pub(crate) const SEED: u64 = 20_230_427;

fn stream(name: &str) -> Philox {
    // 32-bit FNV-1a.
    let step = name.bytes().fold(0x811c_9dc5u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    Philox::new(SEED, Stream::SyntheticWeights, step)
}

/// `centre + spread·u`, u uniform in (−1, 1), rounded to `f32` in every type.
pub(crate) fn values<T: Scalar>(name: &str, shape: &[usize], centre: f64, spread: f64) -> Tensor<T> {
    let stream = stream(name);
    let value = |draw: u32| {
        let u = (2.0 * f64::from(draw) + 1.0) / 4_294_967_296.0 - 1.0;
        T::from_f32((centre + spread * u) as f32)
    };
    let len: usize = shape.iter().product();
    let data = (0..len.div_ceil(4) as u64).flat_map(|block| stream.block(block)).take(len).map(value);
    Tensor::new(shape, data.collect())
}

/// Bytes of an image: the top eight bits of each draw.
pub(crate) fn pixels(name: &str, len: usize) -> Vec<u8> {
    let stream = stream(name);
    (0..len.div_ceil(4) as u64).flat_map(|b| stream.block(b)).take(len).map(|x| (x >> 24) as u8).collect()
}

/// Where feature maps are sampled: three corners, whose neighbourhoods are padded, and two places within.
pub(crate) fn positions(height: usize, width: usize) -> [(usize, usize); 5] {
    [(0, 0), (0, width - 1), (height - 1, width / 2), (height / 2, width / 3), (height - 1, width - 1)]
}
