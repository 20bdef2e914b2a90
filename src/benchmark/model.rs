//! u8 images in host memory to maps and scores in host memory: the papers' protocol.

use super::{BenchmarkError, Measurement, ProductRate, Protocol, Scope, Setup, Subject, memory};
use crate::backend::Backend;
use std::hint::black_box;

/// Measures [`Detector::score`](crate::detector::Detector::score) on batches of `batch` images: their latency, and on the
/// CPU their rate. The answers are on the host when it returns, so the clock needs no wait of its own. A device that works
/// beside the host has its rate measured with two batches on their way, as `predict` runs it.
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
    subject.detector.prepare(backend, batch)?;
    let samples = protocol.samples(|| -> Result<(), BenchmarkError> {
        black_box(subject.detector.score(backend, black_box(&pixels))?);
        Ok(())
    })?;
    let work = (batch, subject.macs());
    let measurement = Measurement::new(backend, Scope::Model, setup, batch, samples, work, product);
    if !backend.works_beside_host() {
        return Ok(measurement);
    }
    let mut under_way = Some(subject.detector.submit(backend, &pixels)?);
    let samples = protocol.samples(|| -> Result<(), BenchmarkError> {
        let next = subject.detector.submit(backend, black_box(&pixels))?;
        if let Some(last) = under_way.replace(next) {
            black_box(last.collect(backend)?);
        }
        Ok(())
    })?;
    Ok(measurement.with_rate_of(backend, samples, work, product))
}
