//! Named tensors in one safetensors file with one string of metadata: models, checkpoints, dumps.

use crate::files::{WriteError, write_durably, write_whole};
use crate::tensor::Tensor;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Tensors by name.
pub type NamedTensors<T = f32> = BTreeMap<String, Tensor<T>>;

/// The one key of metadata: of several, their order would change from run to run.
pub(crate) const METADATA_KEY: &str = "simplenet";

/// Writes `f32` tensors and one metadata string. The same tensors and string give the same bytes.
///
/// # Errors
/// If the file cannot be written; what was there before is still there then.
pub fn save_tensors(path: &Path, tensors: &NamedTensors, metadata: String) -> Result<(), WriteError> {
    let bytes = serialize(path, tensors, metadata)?;
    write_whole(path, |out| out.write_all(&bytes))
}

/// [`save_tensors`], for what a power failure must not take.
///
/// # Errors
/// As [`save_tensors`].
pub fn save_tensors_durably(path: &Path, tensors: &NamedTensors, metadata: String) -> Result<(), WriteError> {
    let bytes = serialize(path, tensors, metadata)?;
    write_durably(path, |out| out.write_all(&bytes))
}

fn serialize(path: &Path, tensors: &NamedTensors, metadata: String) -> Result<Vec<u8>, WriteError> {
    let views = tensors.iter().map(|(name, tensor)| {
        let bytes = bytemuck::must_cast_slice(tensor.data());
        TensorView::new(Dtype::F32, tensor.shape().to_vec(), bytes).map(|view| (name.as_str(), view))
    });
    let metadata = HashMap::from([(METADATA_KEY.to_owned(), metadata)]);
    views
        .collect::<Result<Vec<_>, _>>()
        .and_then(|views| safetensors::serialize(views, Some(metadata)))
        .map_err(|error| WriteError { path: path.to_owned(), source: std::io::Error::other(error) })
}

/// Reads what [`save_tensors`] wrote, or says in words what is wrong with it.
pub fn load_tensors(bytes: &[u8]) -> Result<(String, NamedTensors), String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
    let metadata = header.metadata().as_ref().and_then(|map| map.get(METADATA_KEY)).cloned();
    let metadata = metadata.ok_or("it holds no `simplenet` metadata")?;
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let mut tensors = NamedTensors::new();
    for (name, view) in file.tensors() {
        if view.dtype() != Dtype::F32 {
            return Err(format!("tensor {name} is not f32"));
        }
        let values = bytemuck::pod_collect_to_vec::<u8, f32>(view.data());
        tensors.insert(name, Tensor::new(view.shape(), values));
    }
    Ok((metadata, tensors))
}
