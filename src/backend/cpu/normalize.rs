//! `normalize`: bytes to the network's input.

use crate::tensor::Scalar;
use rayon::prelude::*;

/// ImageNet's channel means, of values in 0..1 (torchvision's constants).
const MEAN: [f64; 3] = [0.485, 0.456, 0.406];
/// ImageNet's channel standard deviations.
const STD: [f64; 3] = [0.229, 0.224, 0.225];

/// Images in host memory, u8 RGB `[N, H, W, 3]`.
#[derive(Debug)]
pub struct CpuImages {
    shape: [usize; 3],
    pixels: Vec<u8>,
}

impl CpuImages {
    pub(super) fn new(pixels: &[u8], shape: [usize; 3]) -> Self {
        assert_eq!(pixels.len(), shape.iter().product::<usize>() * 3, "three bytes for every pixel");
        Self { shape, pixels: pixels.to_vec() }
    }

    pub(super) fn replace(&mut self, pixels: &[u8]) {
        self.pixels.copy_from_slice(pixels);
    }

    pub(super) fn shape(&self) -> [usize; 3] {
        self.shape
    }

    pub(super) fn pixels(&self) -> &[u8] {
        &self.pixels
    }
}

/// `(x/255 − mean)/std`, RGB interleaved. A byte has 256 values, so three tables hold every result.
pub(super) fn normalize<T: Scalar>(images: &[u8], out: &mut [T]) {
    assert_eq!(images.len(), out.len(), "one value a byte");
    // In T, as torchvision computes: ToTensor divides by 255, Normalize subtracts and divides.
    let table: [[T; 256]; 3] = std::array::from_fn(|channel| {
        std::array::from_fn(|byte| {
            (T::from_f64(byte as f64) / T::from_f64(255.0) - T::from_f64(MEAN[channel]))
                / T::from_f64(STD[channel])
        })
    });
    const BYTES_PER_TASK: usize = 3 << 14;
    out.par_chunks_mut(BYTES_PER_TASK).zip(images.par_chunks(BYTES_PER_TASK)).for_each(|(out, bytes)| {
        for (out, bytes) in out.chunks_exact_mut(3).zip(bytes.chunks_exact(3)) {
            for channel in 0..3 {
                out[channel] = table[channel][usize::from(bytes[channel])];
            }
        }
    });
}
