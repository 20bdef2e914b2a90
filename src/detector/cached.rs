//! Scoring images whose features are cached: models that share a backbone share its pass over the test images too.

use super::{Detection, Model, ModelError, detections};
use crate::backend::{Backend, Epoch};
use crate::head::{FoldedHead, Scorer};
use crate::training::Features;

/// Scores every image of `features` with a model whose settings they were computed by, and gives `take` its position among
/// them and its answer, in order.
///
/// The head sees features that were resized first, as in training; a [`super::Detector`] projects first. Both are the
/// same but for rounding.
pub fn detect_cached<B: Backend<Scalar = f32>, E: From<ModelError>>(
    backend: &B,
    model: &Model,
    features: &Features<B>,
    take: &mut dyn FnMut(usize, &Detection) -> Result<(), E>,
) -> Result<(), E> {
    let settings = &model.metadata.settings;
    let side = settings.features.preprocess.crop as usize;
    let device = |error| E::from(ModelError::Backend(error));
    let folded = FoldedHead::new(model.metadata.head, &model.head).map_err(device)?;
    let scorer = Scorer::new(backend, &folded, features.grid, (side, side), settings.map_sigma);
    let scorer = scorer.map_err(device)?;
    let order: Vec<u32> = (0..features.images.len() as u32).collect();
    let batch = settings.training.batch.min(order.len()).max(1);
    let mut schedule = backend.schedule(order.len(), batch).map_err(device)?;
    backend.begin_epoch(&mut schedule, &Epoch { order: &order, first_step: 0, done: 0 }).map_err(device)?;
    for images in order.chunks(batch) {
        let rows = backend.gather_rows(&features.cache, &schedule, images.len(), 1.0).map_err(device)?;
        backend.end_step(&mut schedule).map_err(device)?;
        let scores = scorer.score(backend, &rows).map_err(device)?;
        for (&image, detection) in images.iter().zip(detections(&scores)) {
            take(image as usize, &detection)?;
        }
    }
    Ok(())
}
