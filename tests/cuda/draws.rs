//! Numbers that every run draws alike.

use simplenet::random::{Philox, Stream};
use simplenet::tensor::Tensor;

/// Bytes of an image: a coarse pattern under fine noise, so that no channel is constant.
pub(crate) fn pixels(seed: u64, len: usize) -> Vec<u8> {
    let philox = Philox::new(seed, Stream::Demo, 0);
    let pattern = |i: usize| ((i / 3 % 64) as f64 / 9.0).sin() + ((i / 192) as f64 / 7.0).cos();
    (0..len).map(|i| (127.0 + 45.0 * pattern(i) + 60.0 * (philox.uniform(i as u64) - 0.5)) as u8).collect()
}

/// Normal values around `mean`.
pub(crate) fn normals(seed: u64, shape: &[usize], mean: f64, deviation: f64) -> Tensor<f32> {
    let philox = Philox::new(seed, Stream::Initialisation, 0);
    let len = shape.iter().product::<usize>();
    let draw = |i: usize| (mean + deviation * philox.normals(i as u64 / 4)[i % 4]) as f32;
    Tensor::new(shape, (0..len).map(draw).collect())
}
