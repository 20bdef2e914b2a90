//! From what a user asked for to weights in memory.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::embedded;
use super::error::WeightsError;
use super::state_dict::StateDict;
use super::store::{self, installed_path};
use super::version::has_v1_scale;
use crate::backbone::architecture::Architecture;

/// What `--weights` names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WeightsSource {
    /// Nothing was said: the weights folder, or what is embedded.
    #[default]
    Installed,
    /// `embedded`.
    Embedded,
    /// `synthetic:SEED`.
    Synthetic(u64),
    /// A safetensors or `.pth` file.
    File(PathBuf),
}

impl FromStr for WeightsSource {
    type Err = WeightsError;

    fn from_str(text: &str) -> Result<Self, WeightsError> {
        if text == "embedded" {
            return Ok(Self::Embedded);
        }
        match text.strip_prefix("synthetic:") {
            Some(seed) => seed
                .parse()
                .map(Self::Synthetic)
                .map_err(|_| WeightsError::BadSeed { given: text.to_owned() }),
            None => Ok(Self::File(text.into())),
        }
    }
}

impl fmt::Display for WeightsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Installed => f.write_str("installed"),
            Self::Embedded => f.write_str("embedded"),
            Self::Synthetic(seed) => write!(f, "synthetic:{seed}"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// A backbone with its weights, as [`resolve`] chose it.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The architecture.
    pub architecture: Architecture,
    /// Its weights; they passed [`StateDict::require`].
    pub weights: StateDict,
    /// Whether features are known to have the scale of torchvision's version 1 weights, which σ = 0.015 presumes.
    pub has_v1_scale: bool,
    /// The choice in words, for the user: `wide_resnet50_2 with installed weights (from …)`.
    pub description: String,
}

/// Finds the weights a user asked for.
///
/// `architecture` is `None` for `--backbone auto`. That means wide_resnet50_2 where its weights are installed, else
/// the embedded resnet18_slim; with a file, the network its tensors fit; with synthetic weights, which are always at
/// hand, wide_resnet50_2. Weights are checked as far as layer `deepest_level`. `folder` is [`store::folder`].
///
/// # Errors
/// [`WeightsError::NotInstalled`], with the command that fetches them, where a named network has no weights here. A
/// file in the weights folder that cannot be used is an error too, never a reason to take another network.
pub fn resolve(
    architecture: Option<Architecture>,
    source: &WeightsSource,
    folder: Option<&Path>,
    deepest_level: usize,
) -> Result<Resolved, WeightsError> {
    let (architecture, weights, description) = match source {
        WeightsSource::Installed => installed_or_embedded(architecture, folder)?,
        WeightsSource::Embedded => {
            if let Some(wanted) = architecture.filter(|&wanted| wanted != embedded::ARCHITECTURE) {
                return Err(WeightsError::NotEmbedded { wanted });
            }
            (embedded::ARCHITECTURE, StateDict::embedded()?, "embedded weights".to_owned())
        }
        WeightsSource::Synthetic(seed) => {
            let architecture = architecture.unwrap_or(Architecture::WideResnet50_2);
            let weights = StateDict::synthetic(architecture, *seed);
            let description = weights.origin.clone();
            (architecture, weights, description)
        }
        WeightsSource::File(path) => {
            let weights = StateDict::load(path)?;
            let architecture = match architecture {
                Some(architecture) => architecture,
                None => weights.infer_architecture(deepest_level)?,
            };
            (architecture, weights, format!("weights of {}", path.display()))
        }
    };
    weights.require(architecture, deepest_level)?;
    let has_v1_scale = has_v1_scale(source, folder, architecture, &weights)?;
    let description = format!("{architecture} with {description}");
    Ok(Resolved { architecture, weights, has_v1_scale, description })
}

fn installed_or_embedded(
    architecture: Option<Architecture>,
    folder: Option<&Path>,
) -> Result<(Architecture, StateDict, String), WeightsError> {
    let wanted = architecture.unwrap_or(Architecture::WideResnet50_2);
    if wanted != embedded::ARCHITECTURE
        && let Some(path) = folder.map(|folder| installed_path(folder, wanted)).filter(|path| path.exists())
    {
        let record = store::installed(&path)?.record;
        let weights = StateDict::load(&path)?;
        return Ok((wanted, weights, format!("installed weights (from {})", record.source)));
    }
    match (architecture, folder) {
        (None, _) => {
            let why = format!("embedded weights (those of {wanted} are not installed)");
            Ok((embedded::ARCHITECTURE, StateDict::embedded()?, why))
        }
        (Some(embedded::ARCHITECTURE), _) => {
            Ok((wanted, StateDict::embedded()?, "embedded weights".to_owned()))
        }
        (Some(architecture), Some(folder)) => {
            Err(WeightsError::NotInstalled { architecture, folder: folder.to_owned() })
        }
        (Some(_), None) => Err(WeightsError::NoFolder),
    }
}

#[cfg(test)]
mod tests;
