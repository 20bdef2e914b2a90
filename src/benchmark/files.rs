//! Files to maps and scores in host memory, decoding included: what a line sees.

use super::{BenchmarkError, Measurement, ProductRate, Protocol, Scope, Setup, Subject, memory};
use crate::backend::Backend;
use crate::data::{Loader, LoaderOptions};
use crate::detector::{InspectionTimes, inspect};
use std::collections::BTreeSet;
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
        files: Some(in_words(files)),
        decode_seconds: Some(decode),
        model_seconds: Some(model),
        ..Measurement::new(backend, Scope::Files, setup, batch, samples, work, product)
    })
}

/// Which files a pass reads: how many, of which kinds and sizes.
fn in_words(files: &[PathBuf]) -> String {
    let distinct: BTreeSet<&PathBuf> = files.iter().collect();
    let kinds: BTreeSet<String> = distinct
        .iter()
        .map(|file| file.extension().unwrap_or_default().to_string_lossy().to_uppercase())
        .collect();
    let kinds: Vec<String> = kinds.into_iter().filter(|kind| !kind.is_empty()).collect();
    let kinds = if kinds.is_empty() { String::new() } else { kinds.join(" and ") + " " };
    let sizes: BTreeSet<(u64, (u32, u32))> = distinct
        .iter()
        .filter_map(|file| image::image_dimensions(file).ok())
        .map(|size| (u64::from(size.0) * u64::from(size.1), size))
        .collect();
    let sizes = match (sizes.first(), sizes.last()) {
        (Some((_, least)), Some((_, most))) if least == most => format!(" of {}×{} pixels", least.0, least.1),
        (Some((_, least)), Some((_, most))) => {
            format!(" of {}×{} to {}×{} pixels", least.0, least.1, most.0, most.1)
        }
        _ => String::new(),
    };
    let again =
        if distinct.len() < files.len() { format!(", {} distinct", distinct.len()) } else { String::new() };
    let noun = if files.len() == 1 { "file" } else { "files" };
    format!("{} {kinds}{noun}{sizes}{again}, which the system keeps in memory between passes", files.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_by_number_kind_and_size() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, width, height| {
            let path = folder.path().join(name);
            image::RgbImage::new(width, height).save(&path).unwrap();
            path
        };
        let (small, large, bitmap) = (file("a.png", 7, 5), file("b.PNG", 5, 9), file("c.bmp", 7, 5));
        let words = in_words(&[small.clone(), small.clone(), small.clone()]);
        assert!(words.starts_with("3 PNG files of 7×5 pixels, 1 distinct, which"), "{words}");
        let words = in_words(&[large, bitmap, small]);
        assert!(words.starts_with("3 BMP and PNG files of 7×5 to 5×9 pixels, which"), "{words}");
        let words = in_words(&["data_batch_1.bin/0001".into()]);
        assert!(words.starts_with("1 file, which"), "{words}");
    }
}
