//! What lies beside a model in its folder, and says how far it has come.
//!
//! While it is in training there is a checkpoint. A one-class model that is trained and not tested yet has a `trained.json`
//! instead. `result.json` takes the place of either: the model is finished.

use crate::report::results::CategoryResult;
use crate::training::checkpoint_path;
use anyhow::Context;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::path::Path;

/// The model itself.
pub(super) const MODEL_FILE: &str = "model.safetensors";
/// The file that marks a model as trained, with what its training says of itself.
const TRAINED_FILE: &str = "trained.json";
/// The file that marks a model as finished, with its metrics.
const RESULT_FILE: &str = "result.json";

/// What a training tells of itself, for the result that its model's test completes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct TrainingSummary {
    /// Training images that could not be read.
    pub(super) skipped: usize,
    /// The loss of the last epoch.
    pub(super) final_loss: Option<f64>,
    /// Wall-clock seconds of feature extraction.
    pub(super) extract_seconds: f64,
    /// Wall-clock seconds of training.
    pub(super) train_seconds: f64,
}

impl TrainingSummary {
    /// The result of a test with what the training has to say.
    pub(super) fn complete(&self, result: CategoryResult) -> CategoryResult {
        CategoryResult {
            skipped: result.skipped + self.skipped,
            final_loss: self.final_loss,
            extract_seconds: Some(self.extract_seconds),
            train_seconds: Some(self.train_seconds),
            ..result
        }
    }
}

/// A finished model's metrics; none where they, or the model, are not there.
pub(super) fn read_result(model_folder: &Path) -> Option<CategoryResult> {
    read_beside_model(model_folder, RESULT_FILE)
}

/// What the training of a model says that is not tested yet; none where that, or the model, is not there.
pub(super) fn read_trained(model_folder: &Path) -> Option<TrainingSummary> {
    read_beside_model(model_folder, TRAINED_FILE)
}

fn read_beside_model<T: DeserializeOwned>(model_folder: &Path, name: &str) -> Option<T> {
    let text = std::fs::read_to_string(model_folder.join(name)).ok()?;
    model_folder.join(MODEL_FILE).exists().then(|| serde_json::from_str(&text).ok())?
}

/// Marks a model as trained, whose test comes later.
pub(super) fn set_trained(model_folder: &Path, summary: &TrainingSummary) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(summary)?;
    crate::files::write_whole(&model_folder.join(TRAINED_FILE), |out| out.write_all(text.as_bytes()))?;
    remove_checkpoint(model_folder)
}

/// Marks a model as finished.
pub(super) fn set_finished(model_folder: &Path, result: &CategoryResult) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(result)?;
    crate::files::write_whole(&model_folder.join(RESULT_FILE), |out| out.write_all(text.as_bytes()))?;
    remove_earlier_marks(model_folder)
}

/// Removes what a result has taken the place of: a kill may have come between the two.
pub(super) fn remove_earlier_marks(model_folder: &Path) -> anyhow::Result<()> {
    remove(&model_folder.join(TRAINED_FILE))?;
    remove_checkpoint(model_folder)
}

/// Removes the checkpoint of a model that is trained, if it is still there.
pub(super) fn remove_checkpoint(model_folder: &Path) -> anyhow::Result<()> {
    remove(&checkpoint_path(model_folder))
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}, which is done with", path.display()))
        }
        _ => Ok(()),
    }
}
