//! How the set gets into its folder: whole or not at all.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::{DemoError, VERSION, plan};

/// The file by which a demo set is known.
pub(super) const README: &str = "README.txt";

/// The first words of that file, whatever the version.
const MARK: &str = "simplenet demo set";

/// What folders under construction are called; a killed run may leave one behind.
const STAGING: &str = ".writing-";

/// The text of the README.
pub(super) fn readme() -> String {
    format!(
        "{MARK}, version {VERSION}\n\n\
         Synthetic images, computed by the program simplenet; no photograph of any real object is among them.\n\
         Whatever is measured on them says that a program works, not how good it is on real parts.\n\n\
         fabric: a woven twill; defects cut, stain\n\
         flange: a turned steel flange; defects scratch, chip\n\n\
         <category>/train/good/           good images to learn from\n\
         <category>/test/good/            good images to test on\n\
         <category>/test/<defect>/        defective images to test on\n\
         <category>/ground_truth/<defect>/NNN_mask.png\n\
         \x20                                255 where the defect changed the image by more than {} grey levels of 255\n\
         \x20                                in any channel, 0 elsewhere\n\n\
         Licence: CC0 1.0 (https://creativecommons.org/publicdomain/zero/1.0/). Do with them what you like.\n",
        plan::VISIBLE
    )
}

/// Whether a folder has the README of a demo set, of any version.
pub(super) fn has_readme(folder: &Path) -> bool {
    let mut start = [0; MARK.len()];
    std::fs::File::open(folder.join(README)).is_ok_and(|mut file| file.read_exact(&mut start).is_ok())
        && start == MARK.as_bytes()
}

/// Every file of the set, relative to its folder.
fn files() -> BTreeSet<PathBuf> {
    let of_entry = |entry: &plan::Entry| std::iter::once(entry.image_path()).chain(entry.mask_path());
    plan::entries().iter().flat_map(of_entry).chain([README.to_owned()]).map(PathBuf::from).collect()
}

/// Whether a folder holds the README of this version and every file of the set.
fn is_complete(folder: &Path) -> bool {
    std::fs::read(folder.join(README)).is_ok_and(|text| text == readme().as_bytes())
        && files().iter().all(|file| folder.join(file).is_file())
}

/// An error of the file system, with the folder that it was about.
fn about(path: &Path) -> impl FnOnce(std::io::Error) -> DemoError + '_ {
    move |source| DemoError::Folder { path: path.to_owned(), source }
}

/// A folder under construction inside `parent`: its guard, which removes what is left of it when dropped, and the
/// complete set within.
fn stage(
    parent: &Path,
    fill: impl FnOnce(&Path) -> Result<(), DemoError>,
) -> Result<(tempfile::TempDir, PathBuf), DemoError> {
    std::fs::create_dir_all(parent).map_err(about(parent))?;
    let guard = tempfile::Builder::new().prefix(STAGING).tempdir_in(parent).map_err(about(parent))?;
    // The temporary folder is private to the user; the one within has the usual permissions.
    let set = guard.path().join("set");
    fill(&set)?;
    Ok((guard, set))
}

/// Puts the set that `fill` writes into `folder`, which must be absent, empty or a demo set.
pub(super) fn publish(
    folder: &Path,
    fill: impl FnOnce(&Path) -> Result<(), DemoError>,
) -> Result<(), DemoError> {
    match std::fs::metadata(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let parent = match folder.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            let (_guard, set) = stage(parent, fill)?;
            std::fs::rename(&set, folder).map_err(about(folder))
        }
        Err(error) => Err(about(folder)(error)),
        Ok(found) if !found.is_dir() => Err(DemoError::NotAFolder(folder.to_owned())),
        Ok(_) => {
            refuse_foreign(folder)?;
            // An existing folder may be a mount point or someone's current folder, so it stays, and its content
            // is exchanged.
            let (_guard, set) = stage(folder, fill)?;
            exchange(folder, &set).map_err(about(folder))
        }
    }
}

/// Moves the content of `set` into `folder` in place of the set there. While that goes on there is no README.
fn exchange(folder: &Path, set: &Path) -> std::io::Result<()> {
    let absent_is_fine = |result: std::io::Result<()>| match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    };
    absent_is_fine(std::fs::remove_file(folder.join(README)))?;
    for category in plan::CATEGORIES {
        absent_is_fine(std::fs::remove_dir_all(folder.join(category)))?;
        std::fs::rename(set.join(category), folder.join(category))?;
    }
    std::fs::rename(set.join(README), folder.join(README))
}

/// An error unless the folder is empty, or has the README of a demo set and no file but those of one.
fn refuse_foreign(folder: &Path) -> Result<(), DemoError> {
    let files = files();
    let known = has_readme(folder);
    let mut open = vec![PathBuf::new()];
    while let Some(inside) = open.pop() {
        let path = folder.join(&inside);
        for entry in std::fs::read_dir(&path).map_err(about(&path))? {
            let entry = entry.map_err(about(&path))?;
            let relative = inside.join(entry.file_name());
            if inside.as_os_str().is_empty() && entry.file_name().to_string_lossy().starts_with(STAGING) {
                continue;
            }
            // A link is neither: what it points to is not ours.
            let kind = entry.file_type().map_err(about(&path))?;
            let ours = known
                && (kind.is_file() && files.contains(&relative)
                    || kind.is_dir() && files.iter().any(|file| file.starts_with(&relative)));
            if !ours {
                return Err(DemoError::Foreign { folder: folder.to_owned(), entry: relative });
            }
            if kind.is_dir() {
                open.push(relative);
            }
        }
    }
    Ok(())
}

/// The complete set of this version below `root`, written there by `fill` if it is not there yet.
pub(super) fn cached_under(
    root: &Path,
    fill: impl FnOnce(&Path) -> Result<(), DemoError>,
) -> Result<PathBuf, DemoError> {
    let folder = root.join(format!("demo-v{VERSION}"));
    if is_complete(&folder) {
        return Ok(folder);
    }
    let (guard, set) = stage(root, fill)?;
    let mut outcome = std::fs::rename(&set, &folder);
    if outcome.is_err() && !is_complete(&folder) {
        // An incomplete set is in the way; it goes where the guard removes it. Should another process do the same
        // at this moment, one of the moves fails, and what counts is again whether a complete set stands there.
        let aside = std::fs::rename(&folder, guard.path().join("incomplete"));
        outcome = aside.and_then(|()| std::fs::rename(&set, &folder));
    }
    match outcome {
        Err(error) if !is_complete(&folder) => Err(about(&folder)(error)),
        _ => Ok(folder),
    }
}
