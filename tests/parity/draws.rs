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

/// Columns of a [`sketch`].
const SKETCH: usize = 4;

/// `[R, C]` times drawn columns of ±1, `[R, 4]`: each element counts, with its sign, and the expected square of the sketch of a
/// difference is four times the square of its norm, so that relative errors keep their size. Vectors stay whole.
pub(crate) fn sketch<T: Scalar>(name: &str, tensor: &Tensor<T>) -> Tensor<f64> {
    let widened = || tensor.data().iter().map(|value| value.to_f64());
    let &[rows, columns] = tensor.shape() else { return Tensor::new(tensor.shape(), widened().collect()) };
    if rows == 1 {
        return Tensor::new(tensor.shape(), widened().collect());
    }
    let signs = stream(&format!("sketch {name}"));
    let signs: Vec<[f64; SKETCH]> = (0..columns as u64)
        .map(|block| signs.block(block).map(|draw| if draw >> 31 == 0 { 1.0 } else { -1.0 }))
        .collect();
    let mut out = vec![0.0; rows * SKETCH];
    for (row, out) in tensor.data().chunks_exact(columns).zip(out.chunks_exact_mut(SKETCH)) {
        for (value, signs) in row.iter().zip(&signs) {
            out.iter_mut().zip(signs).for_each(|(sum, sign)| *sum += sign * value.to_f64());
        }
    }
    Tensor::new([rows, SKETCH], out)
}
