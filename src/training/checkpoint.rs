//! Checkpoints: a training that was killed goes on as if it had not been.

use super::trainer::{EpochSummary, HeadTrainer, Position, TrainingPlan};
use super::{HeldOut, TrainingError};
use crate::backend::Backend;
use crate::tensor_file::{NamedTensors, load_tensors, save_tensors};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

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
    pub state: NamedTensors,
}

impl Checkpoint {
    /// Writes the checkpoint, whole or not at all.
    pub fn save(&self, path: &Path) -> Result<(), TrainingError> {
        let metadata = serde_json::to_string(&self.progress).map_err(|error| TrainingError::Checkpoint {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(save_tensors(path, &self.state, metadata)?)
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
        let position = self.progress.position;
        let steps = plan.steps_per_epoch();
        let before =
            position.epoch.checked_mul(steps).and_then(|done| done.checked_add(position.step_in_epoch));
        if position.step_in_epoch >= steps || before != Some(position.step) {
            return Err(broken(path, format!("{position:?} is no place in this training")));
        }
        HeadTrainer::resume(backend, plan, position, &self.state).map(Some)
    }
}

fn broken(path: &Path, reason: impl std::fmt::Display) -> TrainingError {
    TrainingError::Checkpoint { path: path.to_owned(), reason: reason.to_string() }
}

/// The checkpoint's file in a model's folder.
pub fn checkpoint_path(folder: &Path) -> PathBuf {
    folder.join("checkpoint.safetensors")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::Cpu;
    use crate::settings::{Preset, Settings};

    /// Seven images in steps of three: an epoch has three steps.
    #[test]
    fn a_place_outside_of_the_training_is_refused() {
        let mut settings = Settings::preset(Preset::Paper).training;
        (settings.hidden, settings.batch) = (5, 3);
        let head = settings.head(4);
        let plan = TrainingPlan { settings, head, seed: 1, images: (0..7).collect() };
        let cpu = Cpu::<f32>::new();
        let state = HeadTrainer::new(&cpu, plan.clone()).unwrap().state().unwrap();
        let continues = |epoch: u32, step_in_epoch: u32, step: u32| {
            let progress = Progress {
                fingerprint: String::new(),
                head: 0,
                position: Position { epoch, step_in_epoch, step, epoch_seconds: 0.0 },
                history: vec![Vec::new()],
                held_out: HeldOut::default(),
            };
            let checkpoint = Checkpoint { progress, state: state.clone() };
            match checkpoint.trainer(&cpu, plan.clone(), Path::new("checkpoint.safetensors")) {
                Ok(trainer) => trainer.is_some(),
                Err(TrainingError::Checkpoint { .. }) => false,
                Err(other) => panic!("{other}"),
            }
        };
        assert!(continues(0, 0, 0) && continues(0, 2, 2) && continues(4, 1, 13));
        assert!(
            !continues(0, 3, 3) && !continues(1, 2, 1) && !continues(4, 1, 14) && !continues(u32::MAX, 0, 3)
        );
    }
}
