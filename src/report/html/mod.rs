//! `report.html`: one page that explains a run, with everything it needs inside.
//!
//! No script, no font and no picture comes from elsewhere; the page reads without JavaScript, in the light or dark
//! of the reader's system, and prints.

mod gallery;
mod page;
mod prose;
mod sections;

pub use gallery::{GalleryItem, Picture};

use std::path::Path;

use super::comparison::Comparison;
use super::results::Results;
use super::scores::ImageScore;
use super::training_log::EpochRecord;
use crate::files::{WriteError, write_whole};

/// Everything the page shows.
#[derive(Clone, Debug, Default)]
pub struct RunReport {
    /// The heading, such as the name of the run folder.
    pub title: String,
    /// What was trained on, in words: the data folder or the name of the demo set.
    pub data: String,
    /// The backbone's name, with the origin of its weights.
    pub backbone: String,
    /// The device, such as `CPU, 8 threads`.
    pub device: String,
    /// The preset, such as `paper`.
    pub preset: String,
    /// When the run ended, in a form for people; may be empty.
    pub finished: String,
    /// Whether the data is the built-in synthetic demo set; the page then carries a badge that says so.
    pub synthetic: bool,
    /// Whether the epoch was picked on the test set; the page then opens with a banner that says so. Also shown where
    /// any of `results` says it of itself.
    pub selected_on_test: bool,
    /// What was reached.
    pub results: Results,
    /// The same beside the paper's, where that was asked for.
    pub comparison: Option<Comparison>,
    /// Charts and pictures, a section a category.
    pub categories: Vec<CategoryReport>,
    /// Every setting, as name and value.
    pub settings: Vec<(String, String)>,
    /// Versions, device, libraries, hashes: as name and value.
    pub environment: Vec<(String, String)>,
    /// What else a reader must know, a sentence each. What follows from `results` (images skipped, masks missing,
    /// too few held-out images) is added by the page.
    pub warnings: Vec<String>,
    /// The command line that makes this run again.
    pub command: String,
}

/// What the page shows of one category.
#[derive(Clone, Debug, Default)]
pub struct CategoryReport {
    /// The category.
    pub category: String,
    /// The epochs, one list a seed.
    pub training: Vec<Vec<EpochRecord>>,
    /// The scores of the test images under the seed that is shown.
    pub scores: Vec<ImageScore>,
    /// That seed's image threshold.
    pub image_threshold: Option<f32>,
    /// Pictures of the scored images, in any order.
    pub gallery: Vec<GalleryItem>,
}

/// The page as text, below about 5 MB: pictures that would exceed it are left out, and the page says how many.
pub fn render(report: &RunReport) -> String {
    page::render(report)
}

/// Writes the page.
///
/// # Errors
/// If the file cannot be written.
pub fn write(path: &Path, report: &RunReport) -> Result<(), WriteError> {
    let page = render(report);
    write_whole(path, |out| out.write_all(page.as_bytes()))
}

#[cfg(test)]
mod tests;
