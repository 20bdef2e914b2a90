//! The preset `official` from image files to a trained head, against the same in PyTorch (`official.py`).
//!
//! The preset's own settings but for two: three epochs, and a third of its size, 104 of 119 pixels as 288 of 329. Initial values,
//! order and noise are the program's own, which Python draws alike.

use crate::draws::{SEED, sketch};
use crate::findings::{Findings, Row};
use crate::is_double;
use crate::reference::Reference;
use crate::training::{cached, run};
use simplenet::backbone::FeatureExtractor;
use simplenet::backbone::architecture::Architecture;
use simplenet::backbone::weights::StateDict;
use simplenet::backend::Backend;
use simplenet::data::{Loader, LoaderOptions, Preprocess, demo};
use simplenet::settings::{Preset, Settings};
use simplenet::tensor::{Scalar, Tensor, relative_error};
use simplenet::training::{HeadTrainer, TrainingPlan};

/// A batch of eight and one of three: both ways to multiply a linear adaptor with the hidden layer.
const IMAGES: usize = 11;
/// From this one on; why, says `official.py`.
const FIRST: usize = 3;
const SIDE: usize = 104;

/// As of the backbone alone.
const FEATURES: f64 = 1e-5;

/// What errors of a training may be.
struct Bounds {
    losses: f64,
    decided: f64,
    /// Parameters and running variance, relative to themselves.
    tensors: f64,
    /// The same, relative to their change.
    change: f64,
    running_mean: f64,
    /// Biases before BatchNorm, relative to their change; `None` where Adam follows the sign of rounding.
    idle_biases: Option<f64>,
}

const SINGLE: Bounds = Bounds {
    losses: 1e-4,
    decided: 1e-3,
    tensors: 3e-4,
    change: 3e-2,
    running_mean: 3e-2,
    idle_biases: None,
};

const DOUBLE: Bounds = Bounds {
    losses: 1e-9,
    decided: 1e-12,
    tensors: 1e-9,
    change: 1e-7,
    running_mean: 1e-7,
    idle_biases: Some(1e-2),
};

fn settings() -> Settings {
    let mut settings = Settings::preset(Preset::Official);
    settings.features.preprocess =
        Preprocess { resize: 119, crop: SIDE as u32, ..settings.features.preprocess };
    settings.training.epochs = 3;
    settings
}

/// Eleven good fabrics of the demo set as the network sees them, u8 `[11, 104, 104, 3]`.
fn images(settings: &Settings) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    demo::write(folder.path()).unwrap();
    let path = |image: usize| folder.path().join(format!("fabric/train/good/{image:03}.png"));
    let options = LoaderOptions::new(settings.features.preprocess);
    let loader = Loader::new((FIRST..FIRST + IMAGES).map(path).collect(), options).unwrap();
    loader.flat_map(|image| image.result.unwrap().input.into_raw()).collect()
}

/// Features, three epochs, and the head they end with.
pub(crate) fn check<B: Backend>(backend: &B, name: &'static str) -> Findings {
    let settings = settings();
    let weights = StateDict::synthetic(Architecture::Resnet18Slim, 0);
    let extractor = FeatureExtractor::new(
        backend,
        Architecture::Resnet18Slim,
        &weights.tensors,
        settings.features.levels.clone(),
        settings.features.aggregation,
    )
    .unwrap();
    let images = backend.upload_images(&images(&settings), [IMAGES, SIDE, SIDE]).unwrap();
    let features = extractor.features(backend, &images).unwrap();

    let (reference, mut findings) = (Reference::load("official"), Findings::new(name));
    let error = reference.sampled_error("features", &backend.download(&features).unwrap());
    findings.note(Row::OfficialFeatures, "features", error, FEATURES);

    let plan = TrainingPlan {
        head: settings.training.head(extractor.channels()),
        settings: settings.training,
        seed: SEED,
        images: (0..IMAGES as u32).collect(),
    };
    let mut trainer = HeadTrainer::new(backend, plan).unwrap();
    let start = trainer.head().to_tensors(backend).unwrap();
    let (losses, decided) = run(&mut trainer, &cached(backend, &features));
    let bounds = if is_double::<B>() { &DOUBLE } else { &SINGLE };
    findings.note(Row::OfficialLosses, "losses", reference.error("losses", &losses), bounds.losses);
    findings.note(Row::OfficialDecided, "decided", reference.error("decided", &decided), bounds.decided);
    for (name, tensor) in trainer.head().to_tensors(backend).unwrap() {
        note(&mut findings, bounds, &name, errors(&reference, &name, &tensor, &start[&name]));
    }
    findings
}

/// The same network and loop in PyTorch's own `f32`, as far as `official.py` says that they are from its `f64`.
fn check_pytorch() -> Findings {
    let (reference, mut findings) = (Reference::load("official"), Findings::new("PyTorch f32"));
    for (row, name, bound) in
        [(Row::OfficialLosses, "losses", SINGLE.losses), (Row::OfficialDecided, "decided", SINGLE.decided)]
    {
        findings.note(row, name, reference.error(name, reference.get(&format!("f32/{name}"))), bound);
    }
    for (name, _) in reference.under("final/") {
        let &[whole, change] = reference.get(&format!("f32/{name}")).data() else {
            panic!("{name}: two errors")
        };
        note(&mut findings, &SINGLE, name, [whole, change]);
    }
    findings
}

/// What the bounds of `f32` are worth: the other side keeps them, too.
#[test]
fn pytorch_f32_keeps_the_bounds_of_official() {
    check_pytorch().hold();
}

/// A final tensor's error relative to the tensor, and relative to its change.
fn errors<T: Scalar>(reference: &Reference, name: &str, end: &Tensor<T>, start: &Tensor<T>) -> [f64; 2] {
    let (out, start) = (sketch(name, end), sketch(name, start));
    let expected = reference.get(&format!("final/{name}"));
    assert_eq!(out.shape(), expected.shape(), "{name}");
    let change = |end: &Tensor<f64>| -> Vec<f64> {
        end.data().iter().zip(start.data()).map(|(end, start)| end - start).collect()
    };
    [relative_error(out.data(), expected.data()), relative_error(&change(&out), &change(expected))]
}

/// Notes a tensor's two errors in the rows it belongs to.
fn note(findings: &mut Findings, bounds: &Bounds, name: &str, [whole, change]: [f64; 2]) {
    let case = format!("final/{name}");
    match (name, bounds.idle_biases) {
        ("discriminator.batch_norm.running_mean", _) => {
            findings.note(Row::OfficialRunningMean, case, whole, bounds.running_mean);
        }
        ("adaptor.bias" | "discriminator.hidden.bias", Some(bound)) => {
            findings.note(Row::OfficialIdleBiases, case, change, bound);
        }
        ("adaptor.bias" | "discriminator.hidden.bias", None) => {}
        // It starts at zero: what it is, is its change.
        ("discriminator.batch_norm.beta", _) => {
            findings.note(Row::OfficialChange, case, change, bounds.change);
        }
        _ => {
            findings.note(Row::OfficialFinal, &*case, whole, bounds.tensors);
            findings.note(Row::OfficialChange, case, change, bounds.change);
        }
    }
}
