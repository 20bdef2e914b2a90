//! Passes over a device: images in, scores and maps out, recorded by batch size.

use super::ModelError;
use crate::backend::{Backend, Result};
use crate::head::Scores;
use crate::tensor::Tensor;
use std::sync::{Mutex, PoisonError};

/// Batch sizes that are kept recorded. A folder has two, its batches and the last one; a stream may have any.
const MOST_PASSES: usize = 4;

/// The recorded passes, those used last in front.
#[derive(Debug)]
pub(super) struct Passes<B: Backend> {
    recent: Mutex<Vec<Pass<B>>>,
}

#[derive(Debug)]
struct Pass<B: Backend> {
    shape: [usize; 3],
    images: B::Images,
    recording: B::Recording,
}

/// A batch that was given to the device, and whose answer was not asked for yet.
#[derive(Debug)]
#[must_use = "the answer is there to be collected"]
pub struct Submitted<B: Backend> {
    results: B::Results,
}

impl<B: Backend> Passes<B> {
    pub(super) fn new() -> Self {
        Self { recent: Mutex::default() }
    }

    /// Enqueues the pass of a batch; `forward` is the work between images and what is asked of them.
    pub(super) fn submit<R: Into<Vec<B::Tensor>>>(
        &self,
        backend: &B,
        pixels: &[u8],
        shape: [usize; 3],
        forward: impl Fn(&B::Images) -> Result<R> + Sync,
    ) -> Result<Submitted<B>> {
        // Taken out while it runs: whoever scores from several threads has a pass each.
        let mut pass = match self.take(shape) {
            Some(mut pass) => {
                backend.replace_images(&mut pass.images, pixels)?;
                pass
            }
            None => {
                let images = backend.upload_images(pixels, shape)?;
                Pass { shape, images, recording: B::Recording::default() }
            }
        };
        let Pass { images, recording, .. } = &mut pass;
        let outputs = backend.run_recorded(recording, &mut || Ok(forward(images)?.into()))?;
        let submitted = Submitted::of(backend, outputs)?;
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.insert(0, pass);
        let kept = recent.len().min(MOST_PASSES);
        let forgotten = recent.split_off(kept);
        drop(recent);
        drop(forgotten);
        Ok(submitted)
    }

    fn take(&self, shape: [usize; 3]) -> Option<Pass<B>> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let known = recent.iter().position(|pass| pass.shape == shape)?;
        Some(recent.remove(known))
    }

    /// Whether the pass of a batch of this shape is recorded, or there is nothing to record.
    pub(super) fn is_recorded(&self, backend: &B, shape: [usize; 3]) -> bool {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        match recent.iter().find(|pass| pass.shape == shape) {
            Some(pass) => backend.is_recorded(&pass.recording),
            None => backend.is_recorded(&B::Recording::default()),
        }
    }
}

impl<B: Backend> Submitted<B> {
    /// Begins to fetch the outputs of a pass.
    pub(super) fn of(backend: &B, outputs: &[B::Tensor]) -> Result<Self> {
        Ok(Self { results: backend.begin_download(&outputs.iter().collect::<Vec<_>>())? })
    }

    /// Waits for the outputs of the pass, in their order.
    pub(super) fn outputs(self, backend: &B) -> Result<Vec<Tensor<B::Scalar>>> {
        backend.finish_download(self.results)
    }

    /// Waits for the answer of a detector's pass.
    ///
    /// # Errors
    /// What the device failed at.
    pub fn collect(self, backend: &B) -> std::result::Result<Scores<B::Scalar>, ModelError> {
        let Ok([grid, maps, image]) = <[_; 3]>::try_from(self.outputs(backend)?) else {
            unreachable!("a pass has three results")
        };
        Ok(Scores { grid, maps, image })
    }
}
