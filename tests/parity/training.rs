//! Whole training steps and epochs against the same loop in PyTorch.

use crate::draws::{SEED, values};
use crate::findings::{Findings, Row};
use crate::head::{SIGMA, adaptor, loss, start, weight_of_idle_bias};
use crate::reference::Reference;
use crate::{by_type, is_double};
use simplenet::backend::{Backend, CachePrecision, DeviceTensor, FeatureCacheOptions, Margins, TOTAL_LOSS};
use simplenet::head::Head;
use simplenet::settings::{Preset, Settings};
use simplenet::tensor::{Scalar, Tensor};
use simplenet::training::{HeadTrainer, TrainingPlan};

const IMAGES: usize = 10;
const GRID: (usize, usize) = (3, 7);
const CHANNELS: usize = 24;
const HIDDEN: usize = 40;
const BATCH: usize = 4;
const STEPS: usize = 20;

/// A training: preset's optimisers, adaptor, loss, margins, and the features' centre.
struct Case(&'static str, Preset, &'static str, &'static str, Margins, f64);

const fn margins(positive: f64, negative: f64) -> Margins {
    Margins { positive, negative }
}

const CASES: [Case; 6] = [
    Case("paper", Preset::Paper, "linear", "truncated-l1", margins(0.5, -0.5), 0.4),
    Case("official", Preset::Official, "linear+bias", "truncated-l1", margins(0.5, -0.5), 0.4),
    Case("paper", Preset::Paper, "mlp", "cross-entropy", margins(0.5, -0.5), 0.4),
    Case("paper", Preset::Paper, "none", "truncated-l1", margins(0.8, -0.3), 0.4),
    // Around zero: a unit that no row takes to the other side of the LeakyReLU is linear, and its bias idle.
    Case("official", Preset::Official, "mlp", "truncated-l1", margins(0.2, -0.7), 0.0),
    Case("official", Preset::Official, "linear+bias", "cross-entropy", margins(0.3, -0.1), 0.4),
];

/// Both presets' optimisers, both losses, every adaptor, several margins.
pub(crate) fn check<B: Backend>(backend: &B, name: &'static str) -> Findings {
    let mut findings = Findings::new(name);
    for case in &CASES {
        check_steps(backend, case, &mut findings);
        check_epochs(backend, case, &mut findings);
    }
    findings
}

impl Case {
    fn name(&self) -> String {
        format!("{}/{}/{}", self.0, self.2, self.3)
    }
}

fn plan(&Case(_, preset, adaptor_name, loss_name, margins, _): &Case) -> TrainingPlan {
    let mut settings = Settings::preset(preset).training;
    (settings.adaptor, settings.adaptor_bias) = adaptor(adaptor_name);
    settings.loss = loss(loss_name, margins);
    (settings.hidden, settings.epochs, settings.batch) = (HIDDEN, 3, BATCH);
    settings.noise_sigma = SIGMA;
    let head = settings.head(CHANNELS);
    TrainingPlan { settings, head, seed: SEED, images: (0..IMAGES as u32).collect() }
}

/// A trainer at the case's start, and the features it learns from.
fn trainer<'b, B: Backend>(backend: &'b B, case: &Case) -> (HeadTrainer<'b, B>, B::FeatureCache) {
    let (plan, name) = (plan(case), case.name());
    let config = plan.settings.head(CHANNELS);
    let head = Head::from_tensors(backend, config, &start(&name, config)).unwrap();
    let features = values(&format!("{name} features"), &[IMAGES, GRID.0 * GRID.1, CHANNELS], case.5, 0.5);
    let features = backend.upload(&features.reshape([IMAGES, GRID.0, GRID.1, CHANNELS])).unwrap();
    let cache = cached(backend, &features);
    (HeadTrainer::from_head(backend, head, plan).unwrap(), cache)
}

/// Features `[N, H, W, C]` of all images, kept as `f32`.
pub(crate) fn cached<B: Backend>(backend: &B, features: &B::Tensor) -> B::FeatureCache {
    let options = FeatureCacheOptions {
        precision: CachePrecision::F32,
        limit_bytes: u64::MAX,
        spill_folder: std::env::temp_dir(),
    };
    let &[images, height, width, channels] = features.shape() else { panic!("feature maps have four axes") };
    let mut cache = backend.feature_cache(images, height * width, channels, &options).unwrap();
    backend.append_features(&mut cache, features).unwrap();
    backend.finish_features(&mut cache).unwrap();
    cache
}

/// Trains to the end and gives every epoch's loss, `[epochs]`, and its p⁺ and p⁻, `[epochs, 2]`.
pub(crate) fn run<B: Backend>(
    trainer: &mut HeadTrainer<'_, B>,
    cache: &B::FeatureCache,
) -> (Tensor<f64>, Tensor<f64>) {
    let (mut losses, mut decided) = (Vec::new(), Vec::new());
    trainer
        .run(cache, &mut |_, summary| {
            losses.extend(summary.map(|summary| summary.loss));
            decided.extend(summary.into_iter().flat_map(|summary| [summary.positive, summary.negative]));
            Ok(())
        })
        .unwrap();
    let epochs = losses.len();
    (Tensor::new([epochs], losses), Tensor::new([epochs, 2], decided))
}

/// Twenty steps on given batches.
fn check_steps<B: Backend>(backend: &B, case: &Case, findings: &mut Findings) {
    let (mut trainer, cache) = trainer(backend, case);
    let mut sum = 0.0;
    let losses: Vec<f64> = (0..STEPS)
        .map(|step| {
            let batch: Vec<u32> = (0..BATCH).map(|i| ((BATCH * step + i) % IMAGES) as u32).collect();
            trainer.step_on(&cache, &batch).unwrap();
            let before = sum;
            sum = trainer.state().unwrap()["totals"].data()[TOTAL_LOSS].to_f64();
            (sum - before) / BATCH as f64
        })
        .collect();
    let reference = Reference::load("training");
    // The totals add up in the device's type, so that a loss is a difference: 20 sums' rounding, 1e-6 in f32. Adam
    // divides gradients by their size, so a gradient's rounding (1e-5 of its norm) moves small ones visibly.
    let (name, adaptor_name) = (case.name(), case.2);
    let key = format!("{name}/steps/losses");
    let error = reference.error(&key, &Tensor::new([STEPS], losses));
    findings.note(Row::StepLosses, key, error, by_type::<B>(2e-4, 1e-9));
    let prefix = format!("{name}/steps/");
    check_tensors(backend, &trainer, &reference, &prefix, adaptor_name, Row::StepParameters, findings);
}

/// Three epochs in the order that the seed gives.
fn check_epochs<B: Backend>(backend: &B, case: &Case, findings: &mut Findings) {
    let (mut trainer, cache) = trainer(backend, case);
    let (losses, decided) = run(&mut trainer, &cache);
    let reference = Reference::load("training");
    let (name, adaptor_name) = (case.name(), case.2);
    let key = format!("{name}/epochs/losses");
    let error = reference.error(&key, &losses);
    findings.note(Row::EpochLosses, key, error, by_type::<B>(3e-4, 1e-9));
    // Counts of 210 rows: the shares are equal, or differ by more than a hundredth where a row is decided otherwise.
    let key = format!("{name}/epochs/decided");
    let error = reference.error(&key, &decided);
    findings.note(Row::EpochDecided, key, error, 1e-12);
    let prefix = format!("{name}/epochs/");
    check_tensors(backend, &trainer, &reference, &prefix, adaptor_name, Row::EpochParameters, findings);
}

/// Parameters and running statistics where a training ended. In `f32` biases before BatchNorm are left out: Adam follows the
/// sign of their gradient, which is rounding. So is the running mean, to which those biases are added. In `f64` that rounding is
/// nothing beside Adam's ε and the decay, so that they are compared, too.
fn check_tensors<B: Backend>(
    backend: &B,
    trainer: &HeadTrainer<'_, B>,
    reference: &Reference,
    prefix: &str,
    adaptor_name: &str,
    row: Row,
    findings: &mut Findings,
) {
    for (name, tensor) in trainer.head().to_tensors(backend).unwrap() {
        let idle = weight_of_idle_bias(&name, adaptor(adaptor_name).0).is_some();
        let arbitrary = idle || name == "discriminator.batch_norm.running_mean";
        if is_double::<B>() || !arbitrary {
            let key = format!("{prefix}{name}");
            let error = reference.error(&key, &tensor);
            findings.note(row, key, error, by_type::<B>(3e-4, 1e-9));
        }
    }
}
