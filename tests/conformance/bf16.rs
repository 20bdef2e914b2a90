//! `--precision bf16` on the CPU beside exact `f32`: what users of the program may rely on.

use simplenet::backbone::architecture::Architecture;
use simplenet::backbone::stages::unwatched;
use simplenet::backbone::weights::StateDict;
use simplenet::backbone::{FeatureExtractor, Levels};
use simplenet::backend::cpu::{Convolutions, Cpu};
use simplenet::backend::{Aggregation, AggregationMode, Backend};
use simplenet::head::{AdaptorKind, FoldedHead, Head, HeadConfig};
use simplenet::tensor::{Tensor, relative_error};

use crate::draws::Draws;

/// What `--precision bf16` promises of features, relative to their norm.
const BOUND: f64 = 3e-2;
/// Three times what was measured over all networks with these weights, by tiles, by Winograd's algorithm and without.
const EXPECTED: f64 = 1e-2;

const SHAPE: [usize; 3] = [2, 97, 130];

/// Features of every level on its own grid, and scores of a head as training begins with it.
fn forward(device: &Cpu<f32>, architecture: Architecture) -> (Vec<Tensor<f32>>, Tensor<f32>) {
    let [batch, h, w] = SHAPE;
    let images = Draws::new(23).bytes(batch * h * w * 3);
    let weights = StateDict::synthetic(architecture, 0);
    let aggregation = Aggregation { mode: AggregationMode::Mean, patch: 3 };
    let extractor =
        FeatureExtractor::new(device, architecture, &weights.tensors, Levels::default(), aggregation)
            .unwrap();
    let images = device.upload_images(&images, SHAPE).unwrap();
    let levels = extractor.levels(device, &images, &mut unwatched).unwrap();
    let features = levels.iter().map(|level| device.download(level).unwrap()).collect();
    let config = HeadConfig {
        channels: extractor.channels(),
        adaptor: AdaptorKind::Linear,
        adaptor_bias: false,
        hidden: 48,
        feature_scale: 1.0,
    };
    let head = Head::initial(device, config, 0).unwrap().to_tensors(device).unwrap();
    let head = FoldedHead::new(config, &head).unwrap();
    let head = head.project(device, extractor.level_channels()).unwrap().unwrap();
    let scores = head.anomaly_scores(device, levels).unwrap();
    (features, device.download(&scores).unwrap())
}

#[test]
fn features_and_scores_of_every_network_stay_within_the_bound() {
    let exact = Cpu::<f32>::new();
    let [Some(exact_bf16), Some(fast_bf16)] = [Convolutions::Exact, Convolutions::Fast].map(Cpu::<f32>::bf16)
    else {
        println!("this processor has no AVX512-BF16");
        return;
    };
    // Where the processor has tiles, they serve both, and the other ways are taken without them.
    for bf16 in [exact_bf16.without_tiles(), fast_bf16.clone().without_tiles(), fast_bf16] {
        let name = bf16.description();
        for architecture in Architecture::ALL {
            let (features, scores) = forward(&bf16, architecture);
            let (exact_features, exact_scores) = forward(&exact, architecture);
            for (level, (out, reference)) in (2..).zip(features.iter().zip(&exact_features)) {
                let error = relative_error(out.data(), reference.data());
                println!("{name}, {architecture} layer{level}: {error:.1e}");
                assert!(error <= BOUND, "{architecture} layer{level}: {error:.1e} breaks the promise");
                assert!(error <= EXPECTED, "{architecture} layer{level}: {error:.1e} is more than rounding");
                // If nothing had been rounded, this would compare exact features with themselves.
                assert!(error >= 1e-4, "{architecture} layer{level}: {error:.1e} is no bfloat16");
            }
            let error = relative_error(scores.data(), exact_scores.data());
            println!("{name}, {architecture} scores: {error:.1e}");
            assert!(error <= BOUND, "{architecture}: {error:.1e} in the scores");
        }
    }
}
