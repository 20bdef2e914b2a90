//! Every scheme against the definition, whichever a convolution of the size would be computed by.

use super::super::definition::Case;
use super::*;
use crate::backend::cpu::instructions::Instructions;
use crate::backend::cpu::operand::Bf16Pair;

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

/// By `S`, on every set of instructions.
fn sums_the_definition<O: Operand<Sum = f32>, S: Scheme<LINE>, const LINE: usize>(bound: f64) {
    for size @ [images, h, w, inputs, outputs] in SIZES {
        let case = Case::new(size, 3, S::STRIDE, 1);
        for instructions in Instructions::available() {
            let weights = TransformedWeights::<O>::new(instructions, &case.weights);
            let error =
                case.error(instructions, |call, out| by_scheme::<O, S, LINE>(call, weights.panels(), out));
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
