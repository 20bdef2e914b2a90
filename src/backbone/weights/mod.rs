//! Backbone weights: read, checked, hashed, fetched, installed.
//!
//! [`StateDict`] is what a backbone is built from; [`resolve`] finds it for the options a user gave. [`store`] and
//! [`fetch`] are behind the verb `weights`.

mod element;
pub mod embedded;
mod error;
pub mod fetch;
pub mod pth;
pub mod registry;
mod source;
mod state_dict;
pub mod store;
mod synthetic;
mod version;

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;

pub use element::ElementType;
pub use error::WeightsError;
pub use source::{Resolved, WeightsSource, resolve};
pub use state_dict::StateDict;

/// Maps a file into memory, read-only.
fn map_file(path: &Path) -> Result<Mmap, WeightsError> {
    let file = File::open(path).map_err(WeightsError::reading(path))?;
    if file.metadata().map_err(WeightsError::reading(path))?.is_dir() {
        return Err(WeightsError::reading(path)(std::io::ErrorKind::IsADirectory.into()));
    }
    // SAFETY: the mapping is read-only and private to this process, and its bytes are only read as plain numbers of
    // which every bit pattern is valid. What remains is another process that shortens the file in place meanwhile;
    // that is what every reader of a mapped file accepts, and the files of the weights folder are only ever
    // replaced by renaming, which leaves a mapped one alone.
    unsafe { Mmap::map(&file) }.map_err(WeightsError::reading(path))
}

/// Lower-case hexadecimal digits.
fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
