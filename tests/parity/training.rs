//! Whole training steps and epochs against the same loop in PyTorch.

use crate::by_type;
use crate::draws::{SEED, values};
use crate::findings::{Findings, Row};
use crate::head::{SIGMA, adaptor, loss, start, weight_of_idle_bias};
use crate::reference::Reference;
use simplenet::backend::{Backend, CachePrecision, FeatureCacheOptions, TOTAL_LOSS};
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
const CASES: [(&str, Preset, &str, &str); 3] = [
    ("paper", Preset::Paper, "linear", "truncated-l1"),
    ("official", Preset::Official, "linear+bias", "truncated-l1"),
    ("paper", Preset::Paper, "mlp", "cross-entropy"),
];

/// Both presets' optimisers, both losses, with and without an adaptor's bias and activation.
pub(crate) fn check<B: Backend>(backend: &B, name: &'static str) -> Findings {
    let mut findings = Findings::new(name);
    for (preset_name, preset, adaptor, loss) in CASES {
        let case = format!("{preset_name}/{adaptor}/{loss}");
        check_steps(backend, &plan(preset, adaptor, loss), &case, adaptor, &mut findings);
        check_epochs(backend, &plan(preset, adaptor, loss), &case, adaptor, &mut findings);
    }
    findings
}

fn plan(preset: Preset, adaptor_name: &str, loss_name: &str) -> TrainingPlan {
    let mut settings = Settings::preset(preset).training;
    (settings.adaptor, settings.adaptor_bias) = adaptor(adaptor_name);
    settings.loss = loss(loss_name);
    (settings.hidden, settings.epochs, settings.batch) = (HIDDEN, 3, BATCH);
    settings.noise_sigma = SIGMA;
    TrainingPlan { settings, channels: CHANNELS, seed: SEED, images: (0..IMAGES as u32).collect() }
}

/// A trainer at the case's start, and the features it learns from.
fn trainer<'b, B: Backend>(
    backend: &'b B,
    plan: &TrainingPlan,
    case: &str,
) -> (HeadTrainer<'b, B>, B::FeatureCache) {
    let config = plan.settings.head(CHANNELS);
    let head = Head::from_tensors(backend, config, &start(case, config)).unwrap();
    let options = FeatureCacheOptions {
        precision: CachePrecision::F32,
        limit_bytes: u64::MAX,
        spill_folder: std::env::temp_dir(),
    };
    let rows = GRID.0 * GRID.1;
    let mut cache = backend.feature_cache(IMAGES, rows, CHANNELS, &options).unwrap();
    let features = values(&format!("{case} features"), &[IMAGES, rows, CHANNELS], 0.4, 0.5);
    let features = backend.upload(&features.reshape([IMAGES, GRID.0, GRID.1, CHANNELS])).unwrap();
    backend.append_features(&mut cache, &features).unwrap();
    backend.finish_features(&mut cache).unwrap();
    (HeadTrainer::from_head(backend, head, plan.clone()).unwrap(), cache)
}

/// Twenty steps on given batches.
fn check_steps<B: Backend>(
    backend: &B,
    plan: &TrainingPlan,
    case: &str,
    adaptor_name: &str,
    findings: &mut Findings,
) {
    let (mut trainer, cache) = trainer(backend, plan, case);
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
    let key = format!("{case}/steps/losses");
    let error = reference.error(&key, &Tensor::new([STEPS], losses));
    findings.note(Row::StepLosses, key, error, by_type::<B>(2e-4, 1e-9));
    let prefix = format!("{case}/steps/");
    check_tensors(backend, &trainer, &reference, &prefix, adaptor_name, Row::StepParameters, findings);
}

/// Three epochs in the order that the seed gives.
fn check_epochs<B: Backend>(
    backend: &B,
    plan: &TrainingPlan,
    case: &str,
    adaptor_name: &str,
    findings: &mut Findings,
) {
    let (mut trainer, cache) = trainer(backend, plan, case);
    let mut losses = Vec::new();
    trainer
        .run(&cache, &mut |_, summary| {
            losses.extend(summary.map(|summary| summary.loss));
            Ok(())
        })
        .unwrap();
    let reference = Reference::load("training");
    let key = format!("{case}/epochs/losses");
    let error = reference.error(&key, &Tensor::new([losses.len()], losses));
    findings.note(Row::EpochLosses, key, error, by_type::<B>(3e-4, 1e-9));
    let prefix = format!("{case}/epochs/");
    check_tensors(backend, &trainer, &reference, &prefix, adaptor_name, Row::EpochParameters, findings);
}

/// Parameters and the running variance where a training ended. Biases before BatchNorm are left out: Adam follows the
/// sign of their gradient, which is rounding. So is the running mean, to which those biases are added.
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
        if !idle && name != "discriminator.batch_norm.running_mean" {
            let key = format!("{prefix}{name}");
            let error = reference.error(&key, &tensor);
            findings.note(row, key, error, by_type::<B>(3e-4, 1e-9));
        }
    }
}
