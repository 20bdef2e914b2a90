//! Where the time of a forward pass goes.

use super::{BenchmarkError, Protocol, Subject};
use crate::backbone::stages::{HEAD, LAYERS, MAP, NORMALIZE, STEM};
use crate::backend::Backend;
use serde::Serialize;
use std::time::Instant;

/// The mean time of one stage.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageTime {
    /// One of [`crate::backbone::stages`].
    pub name: &'static str,
    /// Seconds a batch.
    pub seconds: f64,
}

/// Times every stage of [`Detector::score`](crate::detector::Detector::score) on batches of `batch` images, waiting for
/// the device after each: what overlaps in use does not here, so the sum may exceed the whole.
///
/// # Errors
/// The device failed.
pub fn time_stages<B: Backend<Scalar = f32>>(
    backend: &B,
    subject: &Subject<B>,
    batch: usize,
    protocol: &Protocol,
) -> Result<Vec<StageTime>, BenchmarkError> {
    let pixels = subject.pixels(batch);
    let mut runs: Vec<Vec<StageTime>> = Vec::new();
    let samples = protocol.samples(|| -> Result<(), BenchmarkError> {
        let mut stages = Vec::new();
        let mut start = Instant::now();
        subject.detector.score_watched(backend, &pixels, &mut |name| {
            backend.synchronize()?;
            stages.push(StageTime { name, seconds: start.elapsed().as_secs_f64() });
            start = Instant::now();
            Ok(())
        })?;
        runs.push(stages);
        Ok(())
    })?;
    let counted = &runs[samples.warmups..];
    let mean = |index: usize| {
        let total: f64 = counted.iter().map(|stages| stages[index].seconds).sum();
        StageTime { name: counted[0][index].name, seconds: total / counted.len() as f64 }
    };
    Ok((0..counted[0].len()).map(mean).collect())
}

/// A stage as a person reads it.
pub(super) fn in_words(name: &str) -> &str {
    match name {
        NORMALIZE => "upload and normalise",
        STEM => "stem and pooling",
        HEAD => "aggregate and head",
        MAP => "map, and answers to the host",
        layer => {
            debug_assert!(LAYERS.contains(&layer), "a stage of the list");
            layer
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::subject::tests::tiny;
    use super::*;
    use crate::backend::cpu::Cpu;
    use crate::head::AdaptorKind;
    use std::time::Duration;

    #[test]
    fn every_stage_is_heard_once_and_in_order() {
        let cpu = Cpu::<f32>::new();
        for adaptor in [AdaptorKind::Linear, AdaptorKind::Mlp] {
            let subject = tiny(&cpu, adaptor);
            let protocol = Protocol::new(Some(1), Some(5), Duration::ZERO).unwrap();
            let stages = time_stages(&cpu, &subject, 2, &protocol).unwrap();
            let names: Vec<&str> = stages.iter().map(|stage| stage.name).collect();
            assert_eq!(names, ["normalize", "stem", "layer1", "layer2", "layer3", "head", "map"]);
            assert!(stages.iter().all(|stage| stage.seconds > 0.0 && !in_words(stage.name).is_empty()));
        }
    }
}
