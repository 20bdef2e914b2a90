//! u8 images in host memory to maps and scores in host memory: the papers' protocol.

use super::{BenchmarkError, Measurement, ProductRate, Protocol, Scope, Setup, Subject, memory};
use crate::backend::Backend;
use std::hint::black_box;

/// Measures [`Detector::score`](crate::detector::Detector::score) on batches of `batch` images. The answers are on the
/// host when it returns, so the clock needs no wait of its own.
///
/// # Errors
/// The device failed, or the scores are not finite.
pub fn measure_model<B: Backend<Scalar = f32>>(
    backend: &B,
    subject: &Subject<B>,
    setup: &Setup,
    batch: usize,
    protocol: &Protocol,
    product: &ProductRate,
) -> Result<Measurement, BenchmarkError> {
    memory::reset_peak();
    let pixels = subject.pixels(batch);
    let scores = subject.detector.score(backend, &pixels)?;
    if !scores.maps.data().iter().all(|value| value.is_finite()) {
        return Err(BenchmarkError::NotFinite);
    }
    drop(scores);
    let samples = protocol.samples(|| -> Result<(), BenchmarkError> {
        black_box(subject.detector.score(backend, black_box(&pixels))?);
        Ok(())
    })?;
    let work = (batch, subject.macs());
    Ok(Measurement::new(backend, Scope::Model, setup, batch, samples, work, product))
}
