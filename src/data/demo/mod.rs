//! The built-in demo set: synthetic photographs of a woven fabric and of a machined flange, sound and damaged.
//!
//! Two categories in MVTec AD's layout, 64 RGB images of 256 × 256 pixels, an exact mask for every defect. Both
//! parts are rendered from their geometry under a lamp that moves a little from shot to shot; a defect changes the
//! scene, not the picture, and its mask is where the photograph differs from that of the undamaged twin. Every
//! machine makes the same pixels: chance comes from Philox, and arithmetic is restricted to what IEEE 754 rounds
//! correctly (see `geometry.rs`).

mod camera;
mod fabric;
mod flange;
mod folder;
mod geometry;
mod noise;
mod outline;
mod plan;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use rayon::prelude::*;

use crate::files::{WriteError, write_whole};

/// The version of the set's pixels; a change of any of them is a new version.
pub const VERSION: u32 = 1;

/// The environment variable that names another cache folder than the system's.
pub const CACHE_VARIABLE: &str = "SIMPLENET_CACHE_DIR";

/// What a written demo set holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemoSummary {
    /// The names of its categories, each a folder.
    pub categories: Vec<&'static str>,
    /// The number of images in all of them, masks not counted.
    pub images: usize,
}

/// Why the demo set could not be written.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The folder holds something else.
    #[error(
        "{} holds {}, which does not belong to a demo set, so nothing was written; name a new or empty folder",
        folder.display(), entry.display()
    )]
    Foreign {
        /// The folder that was to hold the set.
        folder: PathBuf,
        /// What was found in it, relative to it.
        entry: PathBuf,
    },
    /// The path is taken by a file.
    #[error("{} is a file; name a folder for the demo set", .0.display())]
    NotAFolder(PathBuf),
    /// A folder could not be read, made, moved or removed.
    #[error("cannot use the folder {}: {source}; check that it may be written to and has space", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// A file of the set could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The system names no cache folder.
    #[error(
        "this system names no cache folder for the demo set; set {CACHE_VARIABLE} to a folder that may be written to"
    )]
    NoCacheFolder,
}

/// Writes the demo set: `folder/<category>/{train,test,ground_truth}/…` and `folder/README.txt`.
///
/// A folder that does not exist appears with all its content at once. One that is empty, or holds a demo set and
/// nothing else, gets its content when every file is complete; the README, by which [`is_demo`] knows a set, last.
///
/// # Errors
/// [`DemoError::Foreign`] if the folder holds anything else; nothing in it is touched.
pub fn write(folder: &Path) -> Result<DemoSummary, DemoError> {
    folder::publish(folder, write_files)?;
    Ok(DemoSummary { categories: plan::CATEGORIES.to_vec(), images: plan::entries().len() })
}

/// The demo set in the user's cache, written there on the first call: in `$SIMPLENET_CACHE_DIR/demo-v<VERSION>`, or
/// `simplenet/demo-v<VERSION>` in the system's cache folder.
///
/// Safe to call from several processes at once: each writes a set of its own, the first to finish puts it in
/// place, the others take that one. A set that lacks a file is replaced.
pub fn ensure_cached() -> Result<PathBuf, DemoError> {
    let root = match std::env::var_os(CACHE_VARIABLE) {
        Some(folder) if !folder.is_empty() => PathBuf::from(folder),
        _ => dirs::cache_dir().ok_or(DemoError::NoCacheFolder)?.join("simplenet"),
    };
    folder::cached_under(&root, write_files)
}

/// Whether a path is a demo set, or lies in a category of one: then whatever is computed from it is synthetic.
pub fn is_demo(path: &Path) -> bool {
    path.canonicalize().is_ok_and(|path| {
        path.ancestors().any(|root| {
            let inside = path.strip_prefix(root).ok().and_then(|rest| rest.iter().next());
            inside.is_none_or(|first| plan::CATEGORIES.iter().any(|category| first == *category))
                && folder::has_readme(root)
        })
    })
}

/// Writes every file of the set below `folder`, the README last.
fn write_files(folder: &Path) -> Result<(), DemoError> {
    plan::entries().par_iter().try_for_each(|entry| {
        let photograph = entry.render();
        write_png(&folder.join(entry.image_path()), &photograph.image, ExtendedColorType::Rgb8)?;
        if let (Some(path), Some(mask)) = (entry.mask_path(), &photograph.mask) {
            write_png(&folder.join(path), mask, ExtendedColorType::L8)?;
        }
        Ok::<(), WriteError>(())
    })?;
    write_whole(&folder.join(folder::README), |out| out.write_all(folder::readme().as_bytes()))?;
    Ok(())
}

/// Writes pixels of the set's size as a PNG file.
fn write_png(path: &Path, pixels: &[u8], colour: ExtendedColorType) -> Result<(), WriteError> {
    write_whole(path, |out| {
        PngEncoder::new_with_quality(out, CompressionType::Fast, FilterType::Adaptive)
            .write_image(pixels, camera::SIZE as u32, camera::SIZE as u32, colour)
            .map_err(std::io::Error::other)
    })
}
