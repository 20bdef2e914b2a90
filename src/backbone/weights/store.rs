//! The folder of installed weights, and what `weights list`, `import` and `verify` do with it.
//!
//! An installed file is `<folder>/<architecture>.safetensors`: f32, torchvision's names, stem to layer 3. Its one
//! metadata key, `simplenet`, holds a [`Record`] as JSON.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::element::to_bytes;
use super::error::WeightsError;
use super::pth::FileBytes;
use super::registry::{self, KnownFile};
use super::state_dict::StateDict;
use super::{embedded, hexadecimal, map_file};
use crate::backbone::architecture::Architecture;
use crate::files::{WriteError, write_whole};
use crate::tensor_file::METADATA_KEY;

/// Where installed weights came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Whose weights they are.
    pub architecture: Architecture,
    /// The address or the name of the file they were converted from, or how they were made.
    pub source: String,
    /// The SHA-256 of that file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_sha256: Option<String>,
    /// [`StateDict::hash`] to layer 3.
    pub hash: String,
}

/// A file of the weights folder.
#[derive(Clone, Debug, Serialize)]
pub struct Installed {
    /// The file.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its record.
    pub record: Record,
}

/// How a backbone's weights stand on this machine.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum Status {
    /// Part of the program.
    Embedded {
        /// Size in bytes.
        bytes: u64,
        /// Their record.
        record: Record,
    },
    /// In the weights folder.
    Installed(Installed),
    /// Something in the weights folder that cannot be used.
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why, in a sentence.
        problem: String,
    },
    /// Not there.
    Missing {
        /// Where `weights fetch` would get them.
        url: String,
    },
}

/// A row of `weights list`.
#[derive(Debug, Serialize)]
pub struct Listing {
    /// The backbone.
    pub architecture: Architecture,
    /// How its weights stand.
    #[serde(flatten)]
    pub status: Status,
}

/// What [`verify`] found.
#[derive(Debug, Serialize)]
pub struct Verified {
    /// The file; `None` for the embedded weights.
    pub path: Option<PathBuf>,
    /// The architecture its tensors fit.
    pub architecture: Architecture,
    /// [`StateDict::hash`] to layer 3, computed now.
    pub hash: String,
    /// The SHA-256 of the file itself, computed now.
    pub file_sha256: String,
    /// The published file that has this SHA-256.
    pub known: Option<&'static KnownFile<'static>>,
    /// The record within the file, where it has one; its hash is `hash`.
    pub record: Option<Record>,
}

/// The weights folder: `SIMPLENET_WEIGHTS_DIR`, else `simplenet/weights` in the user's cache folder; `None` where the
/// system has no such folder.
pub fn folder() -> Option<PathBuf> {
    match std::env::var_os("SIMPLENET_WEIGHTS_DIR") {
        Some(folder) if !folder.is_empty() => Some(folder.into()),
        _ => Some(dirs::cache_dir()?.join("simplenet").join("weights")),
    }
}

/// The file that holds `architecture`'s weights once they are installed.
pub fn installed_path(folder: &Path, architecture: Architecture) -> PathBuf {
    folder.join(format!("{architecture}.safetensors"))
}

/// How the weights of every architecture stand, reading no more than the files' headers.
pub fn list(folder: Option<&Path>) -> Result<Vec<Listing>, WeightsError> {
    Architecture::ALL
        .into_iter()
        .map(|architecture| Ok(Listing { architecture, status: status(folder, architecture)? }))
        .collect()
}

fn status(folder: Option<&Path>, architecture: Architecture) -> Result<Status, WeightsError> {
    let Some(known) = registry::official(architecture) else {
        let record = read_record(embedded::FILE, "the embedded weights")?;
        let record = record.ok_or_else(|| WeightsError::Damaged {
            file: "the embedded weights".into(),
            what: "no record".into(),
        })?;
        return Ok(Status::Embedded { bytes: embedded::FILE.len() as u64, record });
    };
    Ok(match folder.map(|folder| installed_path(folder, architecture)) {
        Some(path) if path.exists() => match installed(&path) {
            Ok(installed) => Status::Installed(installed),
            Err(error) => Status::Unusable { path, problem: error.to_string() },
        },
        _ => Status::Missing { url: known.url(None) },
    })
}

/// The installed file `path`, by its header.
///
/// # Errors
/// `Damaged` also where the file has no record, as one that was put there by hand.
pub fn installed(path: &Path) -> Result<Installed, WeightsError> {
    let bytes = map_file(path)?;
    let file = path.display().to_string();
    let record = read_record(&bytes, &file)?
        .ok_or_else(|| WeightsError::Damaged { file, what: "no record of where it came from".into() })?;
    Ok(Installed { path: path.to_owned(), bytes: bytes.len() as u64, record })
}

/// Converts a `.pth` or safetensors file to an installed one. Without `architecture`, the tensors tell.
pub fn import(
    folder: &Path,
    path: &Path,
    architecture: Option<Architecture>,
) -> Result<Installed, WeightsError> {
    let bytes: FileBytes = Arc::new(map_file(path)?);
    let sha256 = sha256((*bytes).as_ref());
    let weights = StateDict::from_file_bytes(&bytes, path.display().to_string())?;
    let architecture = match architecture {
        Some(architecture) => architecture,
        None => weights.infer_architecture(Architecture::DEEPEST_LEVEL)?,
    };
    let name = path.file_name().unwrap_or(path.as_os_str());
    install(folder, &weights, architecture, &name.to_string_lossy(), Some(sha256))
}

/// Writes `weights` as the installed file of `architecture`, whole or not at all.
pub(super) fn install(
    folder: &Path,
    weights: &StateDict,
    architecture: Architecture,
    source: &str,
    file_sha256: Option<String>,
) -> Result<Installed, WeightsError> {
    weights.require(architecture, Architecture::DEEPEST_LEVEL)?;
    let hash = weights.hash(architecture, Architecture::DEEPEST_LEVEL);
    let record = Record { architecture, source: source.to_owned(), file_sha256, hash };
    let path = installed_path(folder, architecture);
    let content = serialize(weights, architecture, &record)
        .map_err(|source| WriteError { path: path.clone(), source: std::io::Error::other(source) })?;
    write_whole(&path, |out| out.write_all(&content))?;
    Ok(Installed { path, bytes: content.len() as u64, record })
}

fn serialize(
    weights: &StateDict,
    architecture: Architecture,
    record: &Record,
) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
    let parameters = architecture.parameters(Architecture::DEEPEST_LEVEL);
    let used: Vec<_> = parameters
        .iter()
        .filter_map(|parameter| weights.tensors.get_key_value(&parameter.name))
        .map(|(name, tensor)| (name, tensor.shape(), to_bytes(tensor.data())))
        .collect();
    let views = used
        .iter()
        .map(|(name, shape, bytes)| {
            Ok((name, TensorView::new(safetensors::Dtype::F32, shape.to_vec(), bytes)?))
        })
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
    let metadata = HashMap::from([(METADATA_KEY.to_owned(), serde_json::to_string(record)?)]);
    Ok(safetensors::serialize(views, Some(metadata))?)
}

/// Reads weights again from the start: whether they are whole, what they fit, and whether they are still what was
/// recorded when they were installed.
///
/// `target` is the name of an architecture, whose installed (or embedded) weights are meant, or a file.
///
/// # Errors
/// [`WeightsError::Changed`] where the hash is not the recorded one; others where the file cannot be used at all.
pub fn verify(folder: Option<&Path>, target: &str) -> Result<Verified, WeightsError> {
    let path = match target.parse::<Architecture>() {
        Ok(embedded::ARCHITECTURE) => None,
        Ok(architecture) => {
            let folder = folder.ok_or(WeightsError::NoFolder)?;
            let path = installed_path(folder, architecture);
            if !path.exists() {
                return Err(WeightsError::NotInstalled { architecture, folder: folder.to_owned() });
            }
            Some(path)
        }
        Err(_) => Some(PathBuf::from(target)),
    };
    let bytes: FileBytes = match &path {
        Some(path) => Arc::new(map_file(path)?),
        None => Arc::new(embedded::FILE),
    };
    let content = (*bytes).as_ref();
    let origin = path.as_ref().map_or("the embedded weights".to_owned(), |path| path.display().to_string());
    let weights = StateDict::from_file_bytes(&bytes, origin.clone())?;
    let record = read_record(content, &origin)?;
    let architecture = match &record {
        Some(record) => record.architecture,
        None => weights.infer_architecture(Architecture::DEEPEST_LEVEL)?,
    };
    weights.require(architecture, Architecture::DEEPEST_LEVEL)?;
    let hash = weights.hash(architecture, Architecture::DEEPEST_LEVEL);
    if let Some(record) = &record
        && record.hash != hash
    {
        let path = path.unwrap_or_else(|| origin.into());
        return Err(WeightsError::Changed { path, recorded: record.hash.clone(), found: hash });
    }
    let file_sha256 = sha256(content);
    let known = registry::identify(&file_sha256);
    Ok(Verified { path, architecture, hash, file_sha256, known, record })
}

/// The record in a safetensors file; `None` where it has none, or where this is no safetensors file.
fn read_record(bytes: &[u8], file: &str) -> Result<Option<Record>, WeightsError> {
    let Ok((_, header)) = SafeTensors::read_metadata(bytes) else { return Ok(None) };
    let Some(json) = header.metadata().as_ref().and_then(|map| map.get(METADATA_KEY)) else {
        return Ok(None);
    };
    serde_json::from_str(json).map(Some).map_err(|error| WeightsError::Damaged {
        file: file.to_owned(),
        what: format!("its record: {error}"),
    })
}

/// SHA-256 in hexadecimal digits.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

#[cfg(test)]
mod tests;
