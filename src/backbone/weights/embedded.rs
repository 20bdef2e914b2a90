//! The weights inside the program: `resnet18_slim`, so that everything works before anything was fetched.
//!
//! `weights/README.md` tells how they were made and how good they are.

use super::error::WeightsError;
use super::state_dict::StateDict;
use crate::backbone::architecture::Architecture;

/// Whose weights are embedded.
pub const ARCHITECTURE: Architecture = Architecture::Resnet18Slim;

/// The file: safetensors, f16, stem to layer 3; written by `weights/make_embedded.py`.
pub const FILE: &[u8] =
    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/weights/resnet18_slim.safetensors"));

impl StateDict {
    /// The weights of `resnet18_slim`, widened from f16.
    ///
    /// # Errors
    /// None that a program as it was built could give.
    pub fn embedded() -> Result<Self, WeightsError> {
        Self::from_safetensors(FILE, "the embedded weights")
    }
}
