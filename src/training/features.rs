//! Features of the training images: computed once, kept for every epoch, seed and calibration head.

use super::TrainingError;
use crate::backbone::FeatureExtractor;
use crate::backend::{Backend, FeatureCacheOptions};
use crate::data::{DataError, Geometry, Loader, LoaderOptions};
use sha2::{Digest, Sha256};
use std::path::PathBuf;

/// The cached features of a category.
#[derive(Debug)]
pub struct Features<B: Backend> {
    /// The cache, finished.
    pub cache: B::FeatureCache,
    /// The images in it, in order.
    pub images: Vec<PathBuf>,
    /// The place of each among the paths that were given: those that could not be read are missing.
    pub places: Vec<usize>,
    /// The way of each back to its original.
    pub geometries: Vec<Geometry>,
    /// Images that could not be read, and why.
    pub skipped: Vec<(PathBuf, DataError)>,
    /// Mean share of an image's area that the network sees.
    pub inspected: f64,
    /// SHA-256 over the images as the network saw them, in order: what a training depends on of its data.
    pub digest: [u8; 32],
    /// The features' grid `(H0, W0)`.
    pub grid: (usize, usize),
}

/// Loads, preprocesses and passes all images through the backbone. `progress` hears the number done after each
/// batch. An unreadable image is left out and listed.
pub fn extract_features<B: Backend<Scalar = f32>>(
    backend: &B,
    extractor: &FeatureExtractor<B>,
    paths: &[PathBuf],
    loader: LoaderOptions,
    cache: &FeatureCacheOptions,
    progress: &mut dyn FnMut(usize),
) -> Result<Features<B>, TrainingError> {
    let side = loader.preprocess.crop as usize;
    let grid = extractor.grid(side, side);
    let mut store = backend.feature_cache(paths.len(), grid.0 * grid.1, extractor.channels(), cache)?;
    let (mut images, mut places, mut geometries) = (Vec::new(), Vec::new(), Vec::new());
    let (mut skipped, mut inspected) = (Vec::new(), 0.0);
    let batch = extractor.images_per_pass(side, side);
    let mut pixels = Vec::with_capacity(batch * side * side * 3);
    let mut pending = 0;
    let mut digest = Sha256::new();
    for loaded in Loader::new(paths.to_vec(), loader)? {
        match loaded.result {
            Ok(sample) => {
                pixels.extend_from_slice(sample.input.as_raw());
                digest.update(sample.input.as_raw());
                inspected += sample.geometry.inspected_fraction();
                images.push(loaded.path);
                places.push(loaded.index);
                geometries.push(sample.geometry);
                pending += 1;
            }
            Err(error) => skipped.push((loaded.path, error)),
        }
        let last = loaded.index + 1 == paths.len();
        if pending == batch || (last && pending > 0) {
            let uploaded = backend.upload_images(&pixels, [pending, side, side])?;
            let features = extractor.features(backend, &uploaded)?;
            backend.append_features(&mut store, &features)?;
            pixels.clear();
            pending = 0;
            progress(loaded.index + 1);
        }
    }
    backend.finish_features(&mut store)?;
    let inspected = inspected / images.len().max(1) as f64;
    let digest = digest.finalize().into();
    Ok(Features { cache: store, images, places, geometries, skipped, inspected, digest, grid })
}
