//! Heads out of the authors' checkpoints.
//!
//! Their `ckpt.pth` is `{'pre_projection': …, 'discriminator': …}` with the state dicts of two modules. What they
//! call discriminator is this project's, layer by layer; the anomaly score is its negative in both.

use crate::backbone::weights::WeightsError;
use crate::backbone::weights::pth::{TorchTensor, load_pth};
use crate::head::{AdaptorKind, HeadConfig};
use crate::tensor_file::NamedTensors;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The authors' names and ours. The adaptor's are absent where it was switched off, its bias where it had none.
const NAMES: [(&str, &str); 9] = [
    ("pre_projection.layers.0fc.weight", "adaptor.weight"),
    ("pre_projection.layers.0fc.bias", "adaptor.bias"),
    ("discriminator.body.block1.0.weight", "discriminator.hidden.weight"),
    ("discriminator.body.block1.0.bias", "discriminator.hidden.bias"),
    ("discriminator.body.block1.1.weight", "discriminator.batch_norm.gamma"),
    ("discriminator.body.block1.1.bias", "discriminator.batch_norm.beta"),
    ("discriminator.body.block1.1.running_mean", "discriminator.batch_norm.running_mean"),
    ("discriminator.body.block1.1.running_var", "discriminator.batch_norm.running_var"),
    ("discriminator.tail.weight", "discriminator.score.weight"),
];
/// What a checkpoint holds besides: a counter that no score depends on.
const COUNTER: &str = ".num_batches_tracked";

/// Why a checkpoint could not be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file could not be read as a `.pth`.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// No head, or one of another structure.
    #[error(
        "{} is no checkpoint of the authors' code that can be imported: {reason}; pass the ckpt.pth of a training \
         with one projection layer and a two-layer discriminator, as their scripts run it", path.display()
    )]
    Structure {
        /// The file.
        path: PathBuf,
        /// What is missing or superfluous.
        reason: String,
    },
}

/// The head in a checkpoint of the authors' code.
pub fn import_head(path: &Path) -> Result<(HeadConfig, NamedTensors), ImportError> {
    let structure = |reason: String| ImportError::Structure { path: path.to_owned(), reason };
    let checkpoint = load_pth(path).map_err(|error| match error {
        WeightsError::UnknownContainer { .. } => structure("torch.save did not write it".to_owned()),
        error => error.into(),
    })?;
    let found = checkpoint.flatten();
    let foreign = |name: &&String| !name.ends_with(COUNTER) && NAMES.iter().all(|(theirs, _)| theirs != name);
    if let Some(name) = found.keys().find(foreign) {
        return Err(structure(format!("it holds {name}")));
    }
    let config = config(&found).map_err(structure)?;

    let mut tensors = NamedTensors::new();
    for (ours, shape) in config.tensors() {
        let Some((theirs, _)) = NAMES.iter().find(|(_, name)| *name == ours) else {
            unreachable!("{ours} has a name in the authors' code")
        };
        let tensor = found.get(*theirs).ok_or_else(|| structure(format!("{theirs} is missing")))?;
        if tensor.shape() != shape {
            let found = tensor.shape();
            return Err(structure(format!("{theirs} has shape {found:?} instead of {shape:?}")));
        }
        let values = tensor.to_f32().ok_or_else(|| structure(format!("{theirs} holds integers")))?;
        if values.data().iter().any(|value| !value.is_finite()) {
            return Err(structure(format!("{theirs} holds values that no training gives")));
        }
        tensors.insert(ours.to_owned(), values);
    }
    Ok((config, tensors))
}

/// The shape of the head, from that of its hidden layer and from which of the adaptor's tensors there are.
fn config(found: &BTreeMap<String, &TorchTensor>) -> Result<HeadConfig, String> {
    let hidden_weight = "discriminator.body.block1.0.weight";
    let shape = found.get(hidden_weight).map(|tensor| tensor.shape());
    let Some(&[hidden, channels]) = shape else { return Err(format!("{hidden_weight} is missing")) };
    let has = |name: &str| found.contains_key(name);
    let adaptor =
        if has("pre_projection.layers.0fc.weight") { AdaptorKind::Linear } else { AdaptorKind::None };
    let adaptor_bias = has("pre_projection.layers.0fc.bias");
    if adaptor_bias && adaptor == AdaptorKind::None {
        return Err("pre_projection.layers.0fc.weight is missing".to_owned());
    }
    Ok(HeadConfig { channels, adaptor, adaptor_bias, hidden, feature_scale: 1.0 })
}
