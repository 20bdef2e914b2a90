//! Recorded passes: the same bits as ordinary ones, one launch a batch, and no allocation.

use simplenet::backbone::architecture::Architecture;
use simplenet::backbone::weights::StateDict;
use simplenet::backend::Backend;
use simplenet::backend::cpu::Cpu;
use simplenet::backend::cuda::Cuda;
use simplenet::detector::{BackboneIdentity, Detector, FORMAT, Model, ModelMetadata, Thresholds};
use simplenet::head::{Head, Scores};
use simplenet::settings::{Preset, Settings};
use simplenet::tensor::Tensor;

use crate::draws::pixels;

const SIDE: usize = 48;
/// Ordinary, traced, captured, and replays.
const ROUNDS: u64 = 6;
/// From this round on everything is a replay.
const REPLAYED: u64 = 3;

/// A head before training, on the embedded backbone.
fn model() -> (Model, StateDict) {
    let weights = StateDict::embedded().unwrap();
    let architecture = Architecture::Resnet18Slim;
    let mut settings = Settings::preset(Preset::Paper);
    settings.features.preprocess.crop = SIDE as u32;
    settings.features.preprocess.resize = SIDE as u32;
    settings.training.hidden = 40;
    let levels = settings.features.levels.clone();
    let channels: usize = levels.as_slice().iter().map(|level| architecture.channels()[level - 1]).sum();
    let head = settings.training.head(channels);
    let cpu = Cpu::<f32>::new();
    let tensors = Head::initial(&cpu, head, 3).unwrap().to_tensors(&cpu).unwrap();
    let sha256 = weights.hash(architecture, levels.deepest());
    let metadata = ModelMetadata {
        format: FORMAT,
        category: "recorded".to_owned(),
        backbone: BackboneIdentity { architecture, sha256, origin: None },
        settings,
        head,
        seed: 3,
        train_images: 0,
        synthetic_data: true,
        ignore_exif: false,
        calibration: None,
        thresholds: Thresholds::default(),
        chosen_epoch: None,
    };
    (Model { metadata, head: tensors, backbone: None }, weights)
}

fn detector<B: Backend<Scalar = f32>>(backend: &B) -> Detector<B> {
    let (model, weights) = model();
    Detector::new(backend, &model, &weights).unwrap()
}

fn batch(seed: u64, images: usize) -> Vec<u8> {
    pixels(seed, images * SIDE * SIDE * 3)
}

fn tensors(scores: &Scores<f32>) -> [&Tensor<f32>; 3] {
    [&scores.grid, &scores.maps, &scores.image]
}

/// Two batch sizes in turn, on a device that records and on one that does not: every round has new images and the same
/// bits on both. `at_round` hears of each.
pub(crate) fn check(recording: &Cuda, ordinary: &Cuda, mut at_round: impl FnMut(u64)) {
    let (recorded, reference) = (detector(recording), detector(ordinary));
    for round in 0..ROUNDS {
        for images in [3, 1] {
            let batch = batch(100 * images as u64 + round, images);
            let scores = recorded.score(recording, &batch).unwrap();
            let expected = reference.score(ordinary, &batch).unwrap();
            assert!(tensors(&scores) == tensors(&expected), "round {round}, {images} images: other bits");
        }
        at_round(round);
    }
}

/// What a replayed round of [`check`]'s two batches costs the host.
pub(crate) fn check_counts(cuda: &Cuda, ordinary: &Cuda, counters: impl Fn() -> crate::cusim::Counters) {
    let mut before = None;
    check(cuda, ordinary, |round| {
        let now = counters();
        if let (Some(before), true) = (before, round >= REPLAYED) {
            let before: crate::cusim::Counters = before;
            assert_eq!(now.graph_launches - before.graph_launches, 2, "one launch a batch");
            assert_eq!((now.launches, now.products), (before.launches, before.products), "and nothing else");
            assert_eq!(now.allocations, before.allocations, "and no allocation");
            assert_eq!(now.uploads - before.uploads, 2, "its images");
            assert_eq!(now.downloads - before.downloads, 6, "grid, maps and maxima");
        }
        before = Some(now);
    });
}

/// Several batches are on their way before the first answer is asked for; an answer that nobody wants is no harm.
pub(crate) fn check_overlap(cuda: &Cuda) {
    let detector = detector(cuda);
    let expected: Vec<_> = (0..7).map(|seed| detector.score(cuda, &batch(seed, 2)).unwrap()).collect();
    let mut submitted: Vec<_> =
        (0..7).map(|seed| Some(detector.submit(cuda, &batch(seed, 2)).unwrap())).collect();
    drop(submitted[4].take());
    for (seed, expected) in expected.iter().enumerate().rev() {
        let Some(answer) = submitted[seed].take() else { continue };
        let scores = answer.collect(cuda).unwrap();
        assert!(tensors(&scores) == tensors(expected), "batch {seed} got another's answer");
    }
}

/// Threads that record and threads that do not, on one device: a recording is of its own thread's calls.
pub(crate) fn check_threads(cuda: &Cuda) {
    let reference = detector(cuda);
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (cuda, reference) = (cuda.clone(), &reference);
            scope.spawn(move || {
                let own = detector(&cuda);
                for round in 0..ROUNDS {
                    let batch = batch(1000 * thread + round, 1 + thread as usize);
                    // The shared detector is in some state of recording, this thread's own in another.
                    let (a, b) = (own.score(&cuda, &batch).unwrap(), reference.score(&cuda, &batch).unwrap());
                    assert!(tensors(&a) == tensors(&b), "thread {thread}, round {round}");
                }
            });
        }
    });
}

/// More batch sizes than are kept recorded, each several times: forgotten ones begin anew, and nothing piles up.
pub(crate) fn check_many_sizes(cuda: &Cuda) {
    let detector = detector(cuda);
    let cpu = Cpu::<f32>::new();
    let reference = self::detector(&cpu);
    for round in 0..2 {
        for images in [1, 2, 3, 4, 5, 6] {
            for repeat in 0..4 {
                let batch = batch(round * 100 + repeat, images);
                let scores = detector.score(cuda, &batch).unwrap();
                let expected = reference.score(&cpu, &batch).unwrap();
                let error = simplenet::tensor::relative_error(scores.maps.data(), expected.maps.data());
                assert!(error <= 1e-4, "{images} images: {error:.2e}");
            }
        }
    }
}
