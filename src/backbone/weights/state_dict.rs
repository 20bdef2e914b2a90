//! The weights of a backbone, by torchvision's names, whatever file they came from.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};

use super::element::{ElementType, to_bytes};
use super::error::WeightsError;
use super::pth::{self, FileBytes, Value};
use crate::backbone::architecture::{Architecture, ParameterKind};
use crate::tensor::Tensor;

/// How many differences an error names.
const NAMED_DIFFERENCES: usize = 3;

/// A backbone's tensors in `f32`, from the stem to layer 3; what a file holds besides (layer 4, the classifier,
/// `num_batches_tracked`) is not kept.
#[derive(Clone, Debug)]
pub struct StateDict {
    /// The tensors by torchvision's names; convolutions are `[O, I, kh, kw]`.
    pub tensors: BTreeMap<String, Tensor>,
    /// Where they came from, for messages: a file name, or words such as `embedded weights`.
    pub origin: String,
}

impl StateDict {
    /// Reads safetensors or a `.pth` of either container, told apart by their content.
    ///
    /// A `.pth` may hold the state dict itself or a dictionary with it under `state_dict` or `model`; the prefix
    /// `module.` of DataParallel is dropped.
    ///
    /// # Errors
    /// Every error names the file. Whether the tensors make up a backbone is asked by [`Self::require`].
    pub fn load(path: &Path) -> Result<Self, WeightsError> {
        let bytes: FileBytes = Arc::new(super::map_file(path)?);
        Self::from_file_bytes(&bytes, path.display().to_string())
    }

    /// [`Self::load`] on a file that is already in memory.
    pub(super) fn from_file_bytes(bytes: &FileBytes, origin: String) -> Result<Self, WeightsError> {
        let content = (**bytes).as_ref();
        if let Some(value) = pth::parse(bytes) {
            let value = value.map_err(|error| error.of(&origin))?;
            return Self::from_value(&value, content.len(), origin);
        }
        // A safetensors file is the length of its header (below 100 MB) and the header, which is JSON.
        match content {
            [_, _, _, _, 0, 0, 0, 0, b'{', ..] => Self::from_safetensors(content, origin),
            _ => Err(WeightsError::UnknownContainer { file: origin }),
        }
    }

    /// Reads the content of a safetensors file; `origin` is its name in messages.
    pub fn from_safetensors(bytes: &[u8], origin: impl Into<String>) -> Result<Self, WeightsError> {
        let origin = origin.into();
        let file = SafeTensors::deserialize(bytes)
            .map_err(|error| WeightsError::Damaged { file: origin.clone(), what: error.to_string() })?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.iter() {
            let Some(kept) = backbone_name(name) else { continue };
            let element = match view.dtype() {
                Dtype::F32 => ElementType::F32,
                Dtype::F16 => ElementType::F16,
                Dtype::BF16 => ElementType::Bf16,
                Dtype::F64 => ElementType::F64,
                other => {
                    let what = format!("the tensor {name} as {other}");
                    return Err(WeightsError::Unsupported { file: origin, what });
                }
            };
            let data = element.to_f32(view.data()).unwrap_or_default();
            tensors.insert(kept.to_owned(), Tensor::new(view.shape(), data));
        }
        Ok(Self { tensors, origin })
    }

    /// The backbone's tensors of a `.pth` file of `file_length` bytes.
    fn from_value(value: &Value, file_length: usize, origin: String) -> Result<Self, WeightsError> {
        let state = ["state_dict", "model"]
            .into_iter()
            .find_map(|key| value.get(key).filter(|inner| matches!(inner, Value::Dict(_))))
            .unwrap_or(value);
        // Tensors may share a storage, so that a small file could ask for much memory. An honest file of f16
        // doubles at most.
        let mut budget = file_length.saturating_mul(8);
        let mut tensors = BTreeMap::new();
        for (name, tensor) in state.flatten() {
            let Some(kept) = backbone_name(&name) else { continue };
            let unsupported = |what: String| WeightsError::Unsupported { file: origin.clone(), what };
            let bytes = 4 * tensor.shape().iter().product::<usize>();
            budget = budget
                .checked_sub(bytes)
                .ok_or_else(|| unsupported("many tensors that share one storage".into()))?;
            let Some(values) = tensor.to_f32() else {
                return Err(unsupported(format!("the tensor {name} as integers")));
            };
            tensors.insert(kept.to_owned(), values);
        }
        Ok(Self { tensors, origin })
    }

    /// Checks that these are weights of `architecture` as far as layer `deepest_level`: every tensor is there in
    /// its shape, these layers have no further blocks, and every value is one a trained network can have.
    ///
    /// # Errors
    /// [`WeightsError::WrongArchitecture`] names the first few differences, and the architecture that does fit;
    /// [`WeightsError::Implausible`] a NaN, an infinity or a negative variance.
    pub fn require(&self, architecture: Architecture, deepest_level: usize) -> Result<(), WeightsError> {
        let mut differences = self.differences(architecture, deepest_level);
        if !differences.is_empty() {
            let more = differences.len().saturating_sub(NAMED_DIFFERENCES);
            differences.truncate(NAMED_DIFFERENCES);
            if more > 0 {
                differences.push(format!("and {more} more"));
            }
            let fits = Architecture::ALL.into_iter().find(|&other| self.fits(other, deepest_level));
            let origin = self.origin.clone();
            return Err(WeightsError::WrongArchitecture { origin, wanted: architecture, differences, fits });
        }
        for parameter in architecture.parameters(deepest_level) {
            let variance = parameter.kind == ParameterKind::RunningVariance;
            let implausible = |value: &&f32| !value.is_finite() || (variance && **value < 0.0);
            if let Some(&value) = self.tensors[&parameter.name].data().iter().find(implausible) {
                let origin = self.origin.clone();
                return Err(WeightsError::Implausible { origin, tensor: parameter.name, value });
            }
        }
        Ok(())
    }

    /// Whether names and shapes are those of `architecture` as far as layer `deepest_level`.
    pub fn fits(&self, architecture: Architecture, deepest_level: usize) -> bool {
        self.differences(architecture, deepest_level).is_empty()
    }

    /// The architecture these tensors are of, judged by all layers that are there but at least `deepest_level`.
    ///
    /// Networks that are alike that far (ResNet50 and ResNet101 up to layer 2) give the smaller one.
    pub fn infer_architecture(&self, deepest_level: usize) -> Result<Architecture, WeightsError> {
        let present = |level: usize| self.tensors.keys().any(|name| layer(name) == Some(level));
        let level = (deepest_level..=Architecture::DEEPEST_LEVEL).rev().find(|&l| present(l));
        let fits = |a: &Architecture| self.fits(*a, level.unwrap_or(deepest_level));
        Architecture::ALL
            .into_iter()
            .find(fits)
            .ok_or_else(|| WeightsError::NoArchitecture { origin: self.origin.clone() })
    }

    /// What stands between these tensors and `architecture`, in words.
    fn differences(&self, architecture: Architecture, deepest_level: usize) -> Vec<String> {
        let parameters = architecture.parameters(deepest_level);
        let mut differences = Vec::new();
        for parameter in &parameters {
            match self.tensors.get(&parameter.name) {
                None => differences.push(format!("{} is missing", parameter.name)),
                Some(tensor) if tensor.shape() != parameter.shape => differences.push(format!(
                    "{} has shape {:?} instead of {:?}",
                    parameter.name,
                    tensor.shape(),
                    parameter.shape
                )),
                Some(_) => {}
            }
        }
        // ResNet34 contains every tensor of ResNet18, and ResNet101 those of ResNet50.
        let known: std::collections::HashSet<&str> = parameters.iter().map(|p| &*p.name).collect();
        let superfluous =
            |name: &&String| layer(name).is_none_or(|l| l <= deepest_level) && !known.contains(name.as_str());
        differences.extend(
            self.tensors
                .keys()
                .filter(superfluous)
                .map(|name| format!("{name} is no part of {architecture}")),
        );
        differences
    }

    /// SHA-256, in hexadecimal digits, of the tensors that `architecture` uses as far as layer `deepest_level`.
    ///
    /// The tensors come in the byte order of their names. Each contributes its name in UTF-8, a zero byte, its
    /// number of axes as a little-endian u32, its extents as little-endian u64 and its elements, row-major, as
    /// little-endian f32. The container does not matter: the same weights hash alike from `.pth` and safetensors.
    ///
    /// Call [`Self::require`] first: a tensor that is missing is left out of the hash.
    pub fn hash(&self, architecture: Architecture, deepest_level: usize) -> String {
        let mut names: Vec<String> =
            architecture.parameters(deepest_level).into_iter().map(|p| p.name).collect();
        names.sort_unstable();
        let mut hasher = Sha256::new();
        for (name, tensor) in names.iter().filter_map(|name| self.tensors.get_key_value(name)) {
            hasher.update(name.as_bytes());
            hasher.update([0]);
            hasher.update((tensor.shape().len() as u32).to_le_bytes());
            for &extent in tensor.shape() {
                hasher.update((extent as u64).to_le_bytes());
            }
            hasher.update(to_bytes(tensor.data()));
        }
        super::hexadecimal(&hasher.finalize())
    }
}

/// `name` without DataParallel's prefix, where it belongs to the stem or to layers 1 to 3.
fn backbone_name(name: &str) -> Option<&str> {
    let name = name.strip_prefix("module.").unwrap_or(name);
    let inside = name.starts_with("conv1.")
        || name.starts_with("bn1.")
        || layer(name).is_some_and(|level| (1..=Architecture::DEEPEST_LEVEL).contains(&level));
    (inside && !name.ends_with(".num_batches_tracked")).then_some(name)
}

/// The layer a tensor belongs to; `None` for the stem.
fn layer(name: &str) -> Option<usize> {
    name.strip_prefix("layer")?.split_once('.')?.0.parse().ok()
}

#[cfg(test)]
mod tests;
