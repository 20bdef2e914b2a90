//! Whole networks: the features of every precision against the CPU's, alone and in batches.

use simplenet::backbone::architecture::Architecture;
use simplenet::backbone::weights::StateDict;
use simplenet::backbone::{FeatureExtractor, Levels};
use simplenet::backend::cpu::Cpu;
use simplenet::backend::cuda::{Cuda, Precision};
use simplenet::backend::{Aggregation, AggregationMode, Backend};
use simplenet::tensor::{Tensor, relative_error};

use crate::draws::pixels;

/// Side of the images: small enough for a simulated device, large enough that every level has neighbours.
pub(crate) const SIDE: usize = 64;
const IMAGES: usize = 2;

/// The error of features that each arithmetic may have against exact f32, as the program promises it.
pub(crate) fn bound(precision: Precision) -> f64 {
    match precision {
        Precision::F32 => 1e-5,
        Precision::Tf32 => 2e-3,
        Precision::F16 => 5e-3,
    }
}

pub(crate) fn networks() -> [(Architecture, StateDict); 2] {
    [
        (Architecture::Resnet18Slim, StateDict::embedded().unwrap()),
        (Architecture::WideResnet50_2, StateDict::synthetic(Architecture::WideResnet50_2, 0)),
    ]
}

pub(crate) fn features<B: Backend<Scalar = f32>>(
    backend: &B,
    (architecture, weights): &(Architecture, StateDict),
    mode: AggregationMode,
    images: &[u8],
) -> Tensor<f32> {
    let aggregation = Aggregation { mode, patch: 3 };
    let extractor =
        FeatureExtractor::new(backend, *architecture, &weights.tensors, Levels::default(), aggregation)
            .unwrap();
    let batch = images.len() / (SIDE * SIDE * 3);
    let features =
        extractor.features(backend, &backend.upload_images(images, [batch, SIDE, SIDE]).unwrap()).unwrap();
    backend.download(&features).unwrap()
}

/// Both networks, both ways of aggregation.
pub(crate) fn check(cuda: &Cuda, precision: Precision) {
    let images = pixels(1, IMAGES * SIDE * SIDE * 3);
    for network in &networks() {
        for mode in [AggregationMode::Mean, AggregationMode::PatchCore] {
            let reference = features(&Cpu::<f32>::new(), network, mode, &images);
            let out = features(cuda, network, mode, &images);
            let error = relative_error(out.data(), reference.data());
            println!("{} {mode:?} {precision:?}: {error:.1e}", network.0);
            assert_eq!(out.shape(), reference.shape());
            assert!(error <= bound(precision), "{} {mode:?} {precision:?}: {error:.2e}", network.0);
        }
    }
}

/// An image has the features it has, whatever it travels with: 1e-5 in f32, where other sizes may choose another
/// order of summation.
pub(crate) fn check_batches(cuda: &Cuda) {
    const BATCH: usize = 16;
    let network = &networks()[0];
    let images = pixels(2, BATCH * SIDE * SIDE * 3);
    let together = features(cuda, network, AggregationMode::Mean, &images);
    let each = together.len() / BATCH;
    for (index, image) in images.chunks_exact(SIDE * SIDE * 3).enumerate().step_by(5) {
        let alone = features(cuda, network, AggregationMode::Mean, image);
        let error = relative_error(alone.data(), &together.data()[index * each..][..each]);
        assert!(error <= 1e-5, "image {index} alone and among {BATCH}: {error:.2e}");
    }
}

/// The same images twice have the same bits.
pub(crate) fn check_repeatability(cuda: &Cuda) {
    let images = pixels(3, 3 * SIDE * SIDE * 3);
    for network in &networks() {
        let [first, second] =
            std::array::from_fn(|_| features(cuda, network, AggregationMode::Mean, &images));
        assert!(first == second, "{}: two passes differ", network.0);
    }
}
