//! Checkpoints: a training that was killed goes on as if it had not been.

use super::trainer::{EpochSummary, HeadTrainer, Position, TrainingPlan};
use super::{HeldOut, TrainingError};
use crate::backend::Backend;
use crate::files::write_whole;
use crate::head::HeadTensors;
use crate::tensor::Tensor;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The key of the one metadata entry, in checkpoints as in models.
pub const METADATA_KEY: &str = "simplenet";

/// What a checkpoint says beside its tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Identifies data, backbone, settings and seed: a checkpoint of another training is refused.
    pub fingerprint: String,
    /// Which head is in training: calibration folds first, then the head that is shipped.
    pub head: usize,
    /// Where that head stands.
    pub position: Position,
    /// Finished epochs of every head so far.
    pub history: Vec<Vec<EpochSummary>>,
    /// What finished calibration heads said of held-out images.
    pub held_out: HeldOut,
}

/// A checkpoint in memory.
#[derive(Debug)]
pub struct Checkpoint {
    /// Everything but tensors.
    pub progress: Progress,
    /// [`HeadTrainer::state`]; empty when the head at `progress.head` has not started.
    pub state: HeadTensors,
}

impl Checkpoint {
    /// Writes the checkpoint, whole or not at all.
    pub fn save(&self, path: &Path) -> Result<(), TrainingError> {
        let metadata = serde_json::to_string(&self.progress).map_err(|error| TrainingError::Checkpoint {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        save_tensors(path, &self.state, metadata)
    }

    /// Reads a checkpoint; `None` where there is no file.
    pub fn load(path: &Path) -> Result<Option<Self>, TrainingError> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(broken(path, error)),
        };
        let (metadata, state) = load_tensors(&bytes).map_err(|reason| broken(path, reason))?;
        let progress = serde_json::from_str(&metadata).map_err(|error| broken(path, error))?;
        Ok(Some(Self { progress, state }))
    }

    /// Continues the head in training, or `None` where it has not started.
    pub fn trainer<'b, B: Backend<Scalar = f32>>(
        &self,
        backend: &'b B,
        plan: TrainingPlan,
        path: &Path,
    ) -> Result<Option<HeadTrainer<'b, B>>, TrainingError> {
        if self.state.is_empty() {
            return Ok(None);
        }
        for (name, shape) in HeadTrainer::<B>::state_tensors(&plan) {
            if self.state.get(&name).is_none_or(|tensor| tensor.shape() != shape) {
                return Err(broken(path, format!("tensor {name} of shape {shape:?} is missing")));
            }
        }
        HeadTrainer::resume(backend, plan, self.progress.position, &self.state).map(Some)
    }
}

fn broken(path: &Path, reason: impl std::fmt::Display) -> TrainingError {
    TrainingError::Checkpoint { path: path.to_owned(), reason: reason.to_string() }
}

/// Writes `f32` tensors and one metadata string as a safetensors file. The same tensors and string give the same
/// bytes: tensors go by name, and there is one metadata key.
pub fn save_tensors(path: &Path, tensors: &HeadTensors, metadata: String) -> Result<(), TrainingError> {
    let views = tensors.iter().map(|(name, tensor)| {
        let bytes = bytemuck::must_cast_slice(tensor.data());
        TensorView::new(Dtype::F32, tensor.shape().to_vec(), bytes).map(|view| (name.as_str(), view))
    });
    let views = views.collect::<Result<Vec<_>, _>>().map_err(|error| broken(path, error))?;
    let metadata = HashMap::from([(METADATA_KEY.to_owned(), metadata)]);
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(|error| broken(path, error))?;
    write_whole(path, |out| out.write_all(&bytes))?;
    Ok(())
}

/// Reads what [`save_tensors`] wrote, or says in words what is wrong with it.
pub fn load_tensors(bytes: &[u8]) -> Result<(String, HeadTensors), String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
    let metadata = header.metadata().as_ref().and_then(|map| map.get(METADATA_KEY)).cloned();
    let metadata = metadata.ok_or("it holds no `simplenet` metadata")?;
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let mut tensors = HeadTensors::new();
    for (name, view) in file.tensors() {
        if view.dtype() != Dtype::F32 {
            return Err(format!("tensor {name} is not f32"));
        }
        let values = bytemuck::pod_collect_to_vec::<u8, f32>(view.data());
        tensors.insert(name, Tensor::new(view.shape(), values));
    }
    Ok((metadata, tensors))
}

/// The checkpoint's file in a model's folder.
pub fn checkpoint_path(folder: &Path) -> PathBuf {
    folder.join("checkpoint.safetensors")
}
