//! Files to maps and scores in host memory, decoding included: what a line sees.

use super::{BenchmarkError, Measurement, ProductRate, Protocol, Scope, Setup, Subject, memory};
use crate::backend::Backend;
use crate::data::{Loader, LoaderOptions};
use crate::detector::{InspectionTimes, inspect};
use std::path::PathBuf;

/// Measures passes over files on the way that `predict` takes, from the start of its loader to the last answer. A batch
/// is at most as large as `predict` makes it ([`Detector::most_images`](crate::detector::Detector::most_images));
/// the measurement says what it was.
///
/// # Errors
/// The device failed, or a file could not be read.
pub fn measure_files<B: Backend<Scalar = f32>>(
    backend: &B,
    subject: &Subject<B>,
    setup: &Setup,
    files: &[PathBuf],
    batch: usize,
    protocol: &Protocol,
    product: &ProductRate,
) -> Result<Measurement, BenchmarkError> {
    memory::reset_peak();
    let batch = batch.min(subject.detector.most_images(backend));
    let metadata = &subject.model.metadata;
    let mut options = LoaderOptions::new(metadata.settings.features.preprocess).ahead_of_batches(batch);
    options.exif = metadata.exif();
    let mut passes: Vec<InspectionTimes> = Vec::new();
    let samples = protocol.samples(|| -> Result<(), BenchmarkError> {
        let mut loader = Loader::new(files.to_vec(), options)?;
        let times = inspect(backend, &subject.detector, &mut loader, batch, &mut |inspected| {
            for image in inspected {
                image.loaded.result.map_err(BenchmarkError::Unreadable)?;
            }
            Ok::<(), BenchmarkError>(())
        })?;
        passes.push(times);
        Ok(())
    })?;
    let counted = &passes[samples.warmups..];
    let mean = |of: fn(&InspectionTimes) -> f64| counted.iter().map(of).sum::<f64>() / counted.len() as f64;
    let (decode, model) = (mean(|t| t.loading.as_secs_f64()), mean(|t| t.model.as_secs_f64()));
    let work = (files.len(), subject.macs());
    Ok(Measurement {
        images: Some(files.len()),
        decode_seconds: Some(decode),
        model_seconds: Some(model),
        ..Measurement::new(backend, Scope::Files, setup, batch, samples, work, product)
    })
}
