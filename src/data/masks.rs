//! Which mask belongs to which defect image.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::layout::is_good;
use super::list::{file_name, list};
use super::{DataError, TestImage};

/// Defect images of one folder.
pub(super) struct Kind {
    pub(super) folder: OsString,
    pub(super) images: Vec<PathBuf>,
}

/// Mask files by (defect folder, stem without `_mask`); masks that lie in no subfolder have an empty folder name.
#[derive(Default)]
pub(super) struct Masks(BTreeMap<(OsString, OsString), PathBuf>);

impl Masks {
    /// Lists the masks under `folder`.
    pub(super) fn read(folder: &Path) -> Result<Self, DataError> {
        let mut masks = Self::default();
        let listing = list(folder)?;
        masks.add(OsStr::new(""), listing.images);
        for subfolder in listing.folders {
            // A good part has no defect to mark: masks kept for it (empty ones) are not looked at.
            if !is_good(file_name(&subfolder)) {
                masks.add(file_name(&subfolder), list(&subfolder)?.images);
            }
        }
        Ok(masks)
    }

    /// Files a folder's masks under the whole stem; finding one tries `<stem>_mask` before `<stem>`.
    fn add(&mut self, folder: &OsStr, images: Vec<PathBuf>) {
        for path in images {
            let stem = path.file_stem().unwrap_or_default().to_owned();
            self.0.entry((folder.to_owned(), stem)).or_insert(path);
        }
    }

    /// Removes and gives the mask of an image.
    fn take(&mut self, folder: &OsStr, image: &Path) -> Option<PathBuf> {
        let stem = image.file_stem()?;
        let mut masked = stem.to_owned();
        masked.push("_mask");
        for folder in [folder, OsStr::new("")] {
            for stem in [masked.as_os_str(), stem] {
                if let Some(mask) = self.0.remove(&(folder.to_owned(), stem.to_owned())) {
                    return Some(mask);
                }
            }
        }
        None
    }
}

/// The good images, then the defects of each kind with their masks; `notes` hears of what does not match.
pub(super) fn test_images(
    good: Vec<PathBuf>,
    kinds: Vec<Kind>,
    mut masks: Masks,
    notes: &mut Vec<String>,
) -> Vec<TestImage> {
    let mut test: Vec<TestImage> = good
        .into_iter()
        .map(|path| TestImage { path, kind: "good".to_owned(), is_defect: false, mask: None })
        .collect();
    for Kind { folder, images } in kinds {
        let kind = folder.to_string_lossy().into_owned();
        test.extend(images.into_iter().map(|path| {
            let mask = masks.take(&folder, &path);
            TestImage { path, kind: kind.clone(), is_defect: true, mask }
        }));
    }
    let unmasked: Vec<&TestImage> =
        test.iter().filter(|image| image.is_defect && image.mask.is_none()).collect();
    if let Some(first) = unmasked.first() {
        let defects = test.iter().filter(|image| image.is_defect).count();
        notes.push(format!(
            "{} of {defects} defect images have no mask and are left out of pixel metrics; the first is {}",
            unmasked.len(),
            first.path.display()
        ));
    }
    if let Some(first) = masks.0.values().next() {
        notes.push(format!(
            "{} masks match no defect image; the first is {}",
            masks.0.len(),
            first.display()
        ));
    }
    test
}
