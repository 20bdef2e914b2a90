//! An epoch of the head on cached features, and the extraction of the features apart.

use super::clock::Samples;
use super::{BenchmarkError, Measurement, ProductRate, Protocol, Scope, Setup, Subject, memory, work};
use crate::backend::{Backend, FeatureCacheOptions};
use crate::data::LoaderOptions;
use crate::settings::TrainingSettings;
use crate::training::{HeadTrainer, TrainingError, TrainingPlan, extract_features};
use std::path::PathBuf;
use std::time::Instant;

/// Trains the subject's head, as its settings say but with `batch` images a step, on the features of `files`.
///
/// The clock of an epoch covers its steps and the download of its sums, which waits for them. The extraction is that of
/// `train`: decoding, preprocessing, backbone, cache; it is run once and timed on its own.
///
/// # Errors
/// The device failed, a file could not be read, or the loss became infinite.
#[expect(clippy::too_many_arguments, reason = "one measurement's inputs, all of different kinds")]
pub fn measure_training<B: Backend<Scalar = f32>>(
    backend: &B,
    subject: &Subject<B>,
    setup: &Setup,
    files: &[PathBuf],
    cache: &FeatureCacheOptions,
    batch: usize,
    protocol: &Protocol,
    product: &ProductRate,
) -> Result<Measurement, BenchmarkError> {
    memory::reset_peak();
    let metadata = &subject.model.metadata;
    let mut loader = LoaderOptions::new(metadata.settings.features.preprocess);
    loader.exif = metadata.exif();
    let extractor = subject.detector.extractor();
    let start = Instant::now();
    let features = extract_features(backend, extractor, files, loader, cache, &mut |_| ())?;
    backend.synchronize()?;
    let extraction = start.elapsed().as_secs_f64();
    if let Some((_, error)) = features.skipped.into_iter().next() {
        return Err(BenchmarkError::Unreadable(error));
    }

    let settings = TrainingSettings { batch, ..metadata.settings.training.clone() };
    let images = (0..files.len() as u32).collect();
    let head = settings.head(extractor.channels());
    let plan = TrainingPlan { settings, head, seed: 0, images };
    let samples = epochs(backend, &plan, &features.cache, protocol)?;

    let macs = work::trained_head(head, features.grid.0 * features.grid.1);
    let work = (files.len(), macs);
    Ok(Measurement {
        images: Some(files.len()),
        extraction_seconds: Some(extraction),
        ..Measurement::new(backend, Scope::Train, setup, batch, samples, work, product)
    })
}

/// The times of epochs. A first one, which also warms up, tells how many fit the protocol's time.
fn epochs<B: Backend<Scalar = f32>>(
    backend: &B,
    plan: &TrainingPlan,
    cache: &B::FeatureCache,
    protocol: &Protocol,
) -> Result<Samples, TrainingError> {
    let run = |count: usize| -> Result<Vec<f64>, TrainingError> {
        let mut plan = plan.clone();
        plan.settings.epochs = count as u32;
        let mut seconds = Vec::with_capacity(count);
        HeadTrainer::new(backend, plan)?.run(cache, &mut |_, epoch| {
            seconds.extend(epoch.map(|epoch| epoch.seconds));
            Ok(())
        })?;
        Ok(seconds)
    };
    let (warmups, repeats) = protocol.planned(run(1)?[0]);
    let seconds = run(warmups + repeats)?.split_off(warmups);
    Ok(Samples { warmups: 1 + warmups, seconds })
}
