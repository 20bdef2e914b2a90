//! Every scheme against the definition, whichever a convolution of the size would be computed by.

use super::super::im2col::gather;
use super::*;
use crate::backend::ConvolutionWeights;
use crate::backend::cpu::instructions::Instructions;
use crate::backend::cpu::memory::Pool;
use crate::backend::cpu::operand::Bf16Pair;
use crate::backend::cpu::panels::Residual;
use crate::random::philox::{Philox, Stream};
use crate::tensor::{Tensor, relative_error};
use rayon::prelude::*;

fn values(len: usize, seed: u64) -> Vec<f32> {
    let philox = Philox::new(seed, Stream::Initialisation, 0);
    (0..len as u64).map(|i| philox.uniform(i) as f32 - 0.5).collect()
}

/// Images, h, w, inputs, outputs: one tile, part panels and odd sizes; blocks that a core takes through both steps, of stride 1
/// and, of the larger images, of stride 2; blocks whose inputs are transformed by all cores, in one pass and, from 160 channels
/// on, in several.
const SIZES: [[usize; 5]; 8] = [
    [1, 2, 3, 16, 33],
    [5, 13, 17, 40, 33],
    [1, 14, 14, 128, 64],
    [2, 33, 30, 24, 70],
    [2, 59, 51, 24, 33],
    [1, 59, 59, 160, 5],
    [1, 14, 14, 512, 40],
    [1, 40, 37, 520, 33],
];

/// By `S`, with bias, a residual and ReLU, on every set of instructions. What was in the output before is NaN.
fn sums_the_definition<O: Operand<Sum = f32>, S: Scheme<LINE>, const LINE: usize>(bound: f64) {
    for [images, h, w, inputs, outputs] in SIZES {
        let weights = ConvolutionWeights {
            weight: Tensor::new([outputs, 3, 3, inputs], values(outputs * 9 * inputs, 1)),
            bias: values(outputs, 2),
            stride: S::STRIDE,
            padding: 1,
        };
        let (out_h, out_w) = weights.geometry().output_size(h, w);
        let geometry =
            Geometry { h, w, inputs, kernel_h: 3, kernel_w: 3, out_h, out_w, stride: S::STRIDE, padding: 1 };
        let input = values(images * h * w * inputs, 3);
        let residual = values(images * out_h * out_w * outputs, 4);
        let positions = (0..images * out_h * out_w).into_par_iter();
        let expected: Vec<f64> = positions
            .flat_map_iter(|position| {
                let mut patch = vec![0.0; geometry.patch()];
                gather(&input, &geometry, position, &mut patch);
                let (weights, residual) = (&weights, &residual);
                (0..outputs).map(move |output| {
                    let kernel = &weights.weight.data()[output * patch.len()..][..patch.len()];
                    let products = patch.iter().zip(kernel).map(|(&a, &b)| f64::from(a) * f64::from(b));
                    let others = [weights.bias[output], residual[position * outputs + output]];
                    products.chain(others.map(f64::from)).sum::<f64>().max(0.0)
                })
            })
            .collect();
        for instructions in Instructions::available() {
            let transformed = TransformedWeights::<O>::new(instructions, &weights);
            let pool = Pool::new();
            let call = Call {
                pool: &pool,
                instructions,
                geometry,
                input: &input,
                bias: &weights.bias,
                residual: Residual::Of(&residual),
                relu: true,
            };
            let mut out = vec![f32::NAN; expected.len()];
            by_scheme::<O, S, LINE>(&call, transformed.panels(), &mut out);
            let error = relative_error(&out, &expected);
            assert!(
                error < bound,
                "{images} × {h} × {w}, {inputs} → {outputs}, stride {}, {LINE} products a line, {instructions:?}: {error:.1e}",
                S::STRIDE
            );
        }
    }
}

/// Transforms magnify what rounding by 2⁻²⁴ leaves; so do sums of thousands.
#[test]
fn every_scheme_sums_the_definition() {
    sums_the_definition::<f32, Stride1, 6>(5e-6);
    sums_the_definition::<f32, Stride1Narrow, 5>(5e-6);
    sums_the_definition::<f32, Stride2, 9>(5e-6);
}

/// The same beside rounding both factors by 2⁻⁹.
#[test]
fn every_scheme_sums_the_definition_of_rounded_factors() {
    sums_the_definition::<Bf16Pair<f32>, Stride1, 6>(2e-2);
    sums_the_definition::<Bf16Pair<f32>, Stride1Narrow, 5>(2e-2);
    sums_the_definition::<Bf16Pair<f32>, Stride2, 9>(2e-2);
}
