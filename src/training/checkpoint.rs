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
    /// What is kept of epochs that lie behind, where one of them is to be chosen.
    pub kept: NamedTensors,
}

/// Prefix of [`Checkpoint::kept`] in the file.
const KEPT: &str = "kept.";

impl Checkpoint {
    /// Writes the checkpoint, whole or not at all.
    pub fn save(&self, path: &Path) -> Result<(), TrainingError> {
        let metadata = serde_json::to_string(&self.progress).map_err(|error| TrainingError::Checkpoint {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        if self.kept.is_empty() {
            return Ok(save_tensors(path, &self.state, metadata)?);
        }
        let mut tensors = self.state.clone();
        tensors.extend(self.kept.iter().map(|(name, tensor)| (format!("{KEPT}{name}"), tensor.clone())));
        Ok(save_tensors(path, &tensors, metadata)?)
    }

    /// Reads a checkpoint; `None` where there is no file.
    pub fn load(path: &Path) -> Result<Option<Self>, TrainingError> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(broken(path, error)),
        };
        let (metadata, mut state) = load_tensors(&bytes).map_err(|reason| broken(path, reason))?;
        let progress = serde_json::from_str(&metadata).map_err(|error| broken(path, error))?;
        let kept = state
            .iter()
            .filter_map(|(name, tensor)| Some((name.strip_prefix(KEPT)?.to_owned(), tensor.clone())))
            .collect();
        state.retain(|name, _| !name.starts_with(KEPT));
        Ok(Some(Self { progress, state, kept }))
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
    use crate::tensor::Tensor;

    /// As versions without a choice of epochs wrote it, and as they would read it.
    #[test]
    fn what_is_kept_comes_back_and_checkpoints_without_it_are_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        let text = r#"{"fingerprint":"f","head":1,"position":{"epoch":0,"step_in_epoch":0,"step":0,"epoch_seconds":0.0},"history":[[{"epoch":1,"loss":0.5,"positive":0.25,"negative":0.75,"seconds":2.0}],[]],"held_out":{"scores":[],"map_maxima":[],"map_medians":[]}}"#;
        let tensors = |names: &[&str]| -> NamedTensors {
            names.iter().map(|&name| (name.to_owned(), Tensor::new([2], vec![1.0, 2.0]))).collect()
        };
        let before = folder.path().join("before.safetensors");
        save_tensors(&before, &tensors(&["totals"]), text.to_owned()).unwrap();
        let mut checkpoint = Checkpoint::load(&before).unwrap().unwrap();
        assert_eq!((checkpoint.progress.history[0][0].held_out_spread, checkpoint.kept.len()), (None, 0));
        checkpoint.save(&path).unwrap();
        assert!(std::fs::read(&path).unwrap() == std::fs::read(&before).unwrap());

        checkpoint.kept = tensors(&["best.scorer", "held-out.0"]);
        checkpoint.progress.history[0][0].i_auroc = Some(0.75);
        checkpoint.save(&path).unwrap();
        let found = Checkpoint::load(&path).unwrap().unwrap();
        assert_eq!(
            (found.progress, found.state, found.kept),
            (checkpoint.progress, checkpoint.state, checkpoint.kept)
        );
    }

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
            let checkpoint = Checkpoint { progress, state: state.clone(), kept: NamedTensors::new() };
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
