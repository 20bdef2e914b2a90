//! Convolutions with what their definition makes of them, for the tests of every way to compute one.

use super::Call;
use super::im2col::{Geometry, gather};
use crate::backend::ConvolutionWeights;
use crate::backend::cpu::instructions::Instructions;
use crate::backend::cpu::memory::Pool;
use crate::backend::cpu::panels::Residual;
use crate::random::philox::{Philox, Stream};
use crate::tensor::{Tensor, relative_error};
use rayon::prelude::*;

/// A convolution of drawn numbers with bias, a residual and ReLU.
pub(super) struct Case {
    pub(super) weights: ConvolutionWeights,
    pub(super) geometry: Geometry,
    input: Vec<f32>,
    residual: Vec<f32>,
    /// Gathered patches by kernels, summed in `f64`.
    expected: Vec<f64>,
}

impl Case {
    /// Images of `h×w×inputs`, and a square kernel.
    pub(super) fn new(
        [images, h, w, inputs, outputs]: [usize; 5],
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> Self {
        let patch_len = kernel * kernel * inputs;
        let weight = Tensor::new([outputs, kernel, kernel, inputs], values(outputs * patch_len, 1));
        let weights = ConvolutionWeights { weight, bias: values(outputs, 2), stride, padding };
        let (out_h, out_w) = weights.geometry().output_size(h, w);
        let geometry =
            Geometry { h, w, inputs, kernel_h: kernel, kernel_w: kernel, out_h, out_w, stride, padding };
        let input = values(images * h * w * inputs, 3);
        let residual = values(images * out_h * out_w * outputs, 4);
        let sums = |position: usize| {
            let mut patch = vec![0.0; patch_len];
            gather(&input, &geometry, position, &mut patch);
            let (weights, residual) = (&weights, &residual);
            (0..outputs).map(move |output| {
                let kernel = &weights.weight.data()[output * patch_len..][..patch_len];
                let products = patch.iter().zip(kernel).map(|(&a, &b)| f64::from(a) * f64::from(b));
                let others = [weights.bias[output], residual[position * outputs + output]];
                products.chain(others.map(f64::from)).sum::<f64>().max(0.0)
            })
        };
        let positions = (0..images * out_h * out_w).into_par_iter();
        let expected = positions.flat_map_iter(sums).collect();
        Self { weights, geometry, input, residual, expected }
    }

    /// The relative error of an output. What was in it before is NaN.
    pub(super) fn error(
        &self,
        instructions: Instructions,
        conv2d: impl FnOnce(&Call<'_, f32>, &mut [f32]),
    ) -> f64 {
        let pool = Pool::new();
        let call = Call {
            pool: &pool,
            instructions,
            geometry: self.geometry,
            input: &self.input,
            bias: &self.weights.bias,
            residual: Residual::Of(&self.residual),
            relu: true,
        };
        let mut out = vec![f32::NAN; self.expected.len()];
        conv2d(&call, &mut out);
        relative_error(&out, &self.expected)
    }
}

fn values(len: usize, seed: u64) -> Vec<f32> {
    let philox = Philox::new(seed, Stream::Initialisation, 0);
    (0..len as u64).map(|i| philox.uniform(i) as f32 - 0.5).collect()
}
