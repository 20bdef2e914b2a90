//! Weights out of a counter-based generator, for parity tests and benchmarks where no trained ones are at hand.
//!
//! `weights/synthetic.py` is the same generator in NumPy.

use rayon::prelude::*;

use super::state_dict::StateDict;
use crate::backbone::architecture::{Architecture, ParameterKind, ParameterSpec, Place};
use crate::random::philox::{Philox, Stream};
use crate::tensor::Tensor;

/// Blocks of four draws that one task computes.
const BLOCKS_A_TASK: usize = 1 << 13;

impl StateDict {
    /// All tensors of `architecture` up to layer 3, drawn under `seed`.
    ///
    /// Tensor `name` is drawn from Philox with key = seed, step = the 32-bit FNV-1a hash of `name`; element `e` uses
    /// word `e mod 4` of block `e / 4`. In `f64`, rounded to `f32` at the end:
    /// - convolutions are He-normal, `N(0, 2 / fan-in)`, by Box–Muller over the words of a block. With ReLU the
    ///   fan-in keeps the second moment of the activations from layer to layer;
    /// - γ is `c·(1 + 0.2 v)`, variances are `1 + 0.2 v`, β and means are `0.01 v`, with `v` uniform in (−1, 1). `c` is
    ///   1, but 0.2 at the end of a residual branch, so that the stream hardly grows from block to block, and
    ///   0.11 in the stem, which scales all features.
    ///
    /// Measured with torchvision on seeds 0 to 2 of all seven networks (`weights/synthetic.py --measure`, four
    /// photographs at 224 px): the largest |activation| is 9.5, layers 2 and 3 have standard deviations of 0.113 to
    /// 0.278. White noise as the image: 10.0, and 0.25 to 0.64.
    pub fn synthetic(architecture: Architecture, seed: u64) -> Self {
        let tensors = architecture
            .parameters(Architecture::DEEPEST_LEVEL)
            .into_par_iter()
            .map(|parameter| {
                let tensor = draw(&parameter, seed);
                (parameter.name, tensor)
            })
            .collect();
        Self { tensors, origin: format!("synthetic weights (seed {seed})") }
    }
}

/// One tensor of [`StateDict::synthetic`].
fn draw(parameter: &ParameterSpec, seed: u64) -> Tensor {
    let stream = Philox::new(seed, Stream::SyntheticWeights, fnv1a(&parameter.name));
    let mut tensor = Tensor::full(parameter.shape.clone(), 0.0f32);
    let count = tensor.len();
    let fill = |data: &mut [f32], block: &(dyn Fn(u64) -> [f64; 4] + Sync)| {
        data.par_chunks_mut(4 * BLOCKS_A_TASK).enumerate().for_each(|(task, chunk)| {
            for (index, values) in ((task * BLOCKS_A_TASK) as u64..).zip(chunk.chunks_mut(4)) {
                for (value, drawn) in values.iter_mut().zip(block(index)) {
                    *value = drawn as f32;
                }
            }
        });
    };
    let around = |centre: f64, reach: f64| {
        move |index: u64| {
            stream
                .block(index)
                .map(|x| centre + reach * (2.0 * ((f64::from(x) + 0.5) / 4_294_967_296.0) - 1.0))
        }
    };
    match (parameter.kind, parameter.place) {
        (ParameterKind::Convolution, _) => {
            let deviation = (2.0 / (count / parameter.shape[0]) as f64).sqrt();
            fill(tensor.data_mut(), &|index| stream.normals(index).map(|normal| normal * deviation));
        }
        (ParameterKind::Scale, place) => {
            let centre = match place {
                Place::Stem => 0.11,
                Place::BranchEnd => 0.2,
                Place::Branch | Place::Shortcut => 1.0,
            };
            fill(tensor.data_mut(), &|index| around(1.0, 0.2)(index).map(|factor| centre * factor));
        }
        (ParameterKind::RunningVariance, _) => fill(tensor.data_mut(), &around(1.0, 0.2)),
        (ParameterKind::Shift | ParameterKind::RunningMean, _) => fill(tensor.data_mut(), &around(0.0, 0.01)),
    }
    tensor
}

/// 32-bit FNV-1a.
fn fnv1a(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Case {
        architecture: Architecture,
        seed: u64,
        name: String,
        /// Bit patterns of the first six values and of the last.
        bits: [u32; 7],
        norm: f64,
    }

    /// `synthetic.json` is written by `tests/fixtures/weights/make_synthetic.py` from `weights/synthetic.py`.
    #[test]
    fn the_values_are_those_of_the_numpy_twin() {
        let text = include_str!("../../../tests/fixtures/weights/synthetic.json");
        let cases: Vec<Case> = serde_json::from_str(text).unwrap();
        assert_eq!(cases.len(), 10);
        for case in cases {
            let parameters = case.architecture.parameters(Architecture::DEEPEST_LEVEL);
            let parameter = parameters.into_iter().find(|p| p.name == case.name).unwrap();
            let tensor = draw(&parameter, case.seed);
            let data = tensor.data();
            for (value, bits) in data[..6].iter().chain(data.last()).zip(case.bits) {
                // One unit in the last place: the two mathematical libraries may round a sine differently.
                let distance = (i64::from(value.to_bits()) - i64::from(bits)).abs();
                assert!(distance <= 1, "{}: {value} is not {}", case.name, f32::from_bits(bits));
            }
            let norm = data.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
            assert!((norm / case.norm - 1.0).abs() < 1e-8, "{}: {norm} is not {}", case.name, case.norm);
        }
    }

    #[test]
    fn every_network_gets_all_its_tensors_and_every_seed_others() {
        let weights = StateDict::synthetic(Architecture::Resnet50, 1);
        weights.require(Architecture::Resnet50, 3).unwrap();
        let other = StateDict::synthetic(Architecture::Resnet50, 2);
        assert_ne!(weights.hash(Architecture::Resnet50, 3), other.hash(Architecture::Resnet50, 3));
        let again = StateDict::synthetic(Architecture::Resnet50, 1);
        assert_eq!(weights.tensors, again.tensors);
    }

    /// Published test vectors of 32-bit FNV-1a (http://www.isthe.com/chongo/tech/comp/fnv/, `test_fnv.c`).
    #[test]
    fn names_are_hashed_by_fnv1a() {
        assert_eq!(fnv1a(""), 0x811c_9dc5);
        assert_eq!(fnv1a("a"), 0xe40c_292c);
        assert_eq!(fnv1a("foobar"), 0xbf9c_f968);
    }
}
