//! PyTorch's `.pth` files, read by a program that can build tensors and nothing else.
//!
//! A `.pth` is a pickle: a program for a stack machine that may name any Python function and have it called. The
//! reader here knows a handful of names (`globals.rs`) that make up tensors, and refuses a file that names any other
//! before anything is built. Two containers hold such a pickle: a zip archive (`torch.save` since 1.6,
//! `zip_container`) and the older sequence of pickles and raw storages (`legacy`).
//!
//! Elements stay in the file, memory-mapped, until [`TorchTensor::to_f32`] asks for them, so that what is not used
//! (layer 4, the classifier) is never read.

mod globals;
mod legacy;
mod machine;
mod rebuild;
mod unfold;
mod value;
mod zip_container;

use std::path::Path;
use std::sync::Arc;

pub use value::{TorchTensor, Value};

use super::error::WeightsError;

/// A whole file in memory or mapped into it.
pub(crate) type FileBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// Why a `.pth` file could not be read; becomes a [`WeightsError`] once the file's name is known.
#[derive(Debug)]
pub(crate) enum PthError {
    /// It contradicts itself or ends too early.
    Damaged(String),
    /// It names a Python object outside the allow-list.
    Refused(String),
    /// Sound, but of a kind that is not read.
    Unsupported(String),
}

impl PthError {
    /// The error for `file`.
    pub(crate) fn of(self, file: &str) -> WeightsError {
        let file = file.to_owned();
        match self {
            Self::Damaged(what) => WeightsError::Damaged { file, what },
            Self::Refused(global) => WeightsError::Refused { file, global },
            Self::Unsupported(what) => WeightsError::Unsupported { file, what },
        }
    }
}

/// Shorthand for the commonest error.
fn damaged<T>(what: impl Into<String>) -> Result<T, PthError> {
    Err(PthError::Damaged(what.into()))
}

/// Reads a `.pth` file of either container into a tree of dictionaries, lists, numbers and tensors.
///
/// # Errors
/// [`WeightsError::Refused`] where the pickle names anything that is no part of a tensor; `Damaged`,
/// `Unsupported`, `UnknownContainer` or `Read` otherwise.
pub fn load_pth(path: &Path) -> Result<Value, WeightsError> {
    let bytes: FileBytes = Arc::new(super::map_file(path)?);
    let file = path.display().to_string();
    match parse(&bytes) {
        Some(result) => result.map_err(|error| error.of(&file)),
        None => Err(WeightsError::UnknownContainer { file }),
    }
}

/// The tree in `bytes`; `None` where they are neither of PyTorch's containers.
pub(crate) fn parse(bytes: &FileBytes) -> Option<Result<Value, PthError>> {
    let start = (**bytes).as_ref();
    if start.starts_with(b"PK\x03\x04") {
        Some(zip_container::read(bytes))
    } else if start.starts_with(b"\x80") {
        Some(legacy::read(bytes))
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
