//! Images in folders, in one fixed order.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::{DataError, cifar10};

const EXTENSIONS: [&str; 6] = ["png", "jpg", "jpeg", "bmp", "tif", "tiff"];

/// What a folder holds, without hidden entries, each list sorted by the bytes of the names.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Folders, links to folders included.
    pub(super) folders: Vec<PathBuf>,
    /// Files with an image's extension.
    pub(super) images: Vec<PathBuf>,
    /// How many other files there are.
    pub(super) others: usize,
}

/// Lists one folder.
pub(super) fn list(folder: &Path) -> Result<Listing, DataError> {
    let failed = |source| DataError::List { path: folder.to_owned(), source };
    must_be_folder(folder)?;
    let mut listing = Listing::default();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if file_name(&path).as_encoded_bytes().starts_with(b".") {
            continue;
        }
        // A link that leads nowhere counts as a file: it is then reported as one that cannot be opened, rather
        // than be missing from the results without a word.
        let metadata = std::fs::metadata(&path);
        if metadata.as_ref().is_ok_and(std::fs::Metadata::is_dir) {
            listing.folders.push(path);
        } else if metadata.as_ref().is_ok_and(|metadata| !metadata.is_file()) || !has_image_extension(&path) {
            listing.others += 1;
        } else {
            listing.images.push(path);
        }
    }
    for paths in [&mut listing.folders, &mut listing.images] {
        paths.sort_by(|a, b| file_name(a).as_encoded_bytes().cmp(file_name(b).as_encoded_bytes()));
    }
    Ok(listing)
}

/// Refuses what is not a folder.
pub(super) fn must_be_folder(path: &Path) -> Result<(), DataError> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(DataError::NotAFolder { path: path.to_owned() }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(DataError::MissingFolder { path: path.to_owned() })
        }
        Err(source) => Err(DataError::List { path: path.to_owned(), source }),
    }
}

/// The last component; empty where there is none.
pub(super) fn file_name(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}

fn has_image_extension(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known)))
}

/// The images to look at for one path of a command line: the file itself, whatever its name, or a record of CIFAR-10's
/// binary version, or the images of a folder, and of all folders below it if `recursive`.
///
/// Sorted by the bytes of the names, a folder's own images before its subfolders'. Hidden files are skipped. Links to
/// folders are followed, but no folder is entered twice. A folder below that cannot be listed stands in the list itself, to be
/// reported with the images that cannot be read.
///
/// # Errors
/// A path that does not exist or cannot be listed, or a folder without any image.
pub fn list_images(path: &Path, recursive: bool) -> Result<Vec<PathBuf>, DataError> {
    let is_file = std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_dir());
    if is_file || cifar10::record_of(path).is_some() {
        return Ok(vec![path.to_owned()]);
    }
    let mut images = Vec::new();
    let mut seen = HashSet::new();
    // The folders still to enter, the next one last.
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        let canonical = || {
            std::fs::canonicalize(&folder).map_err(|source| DataError::List { path: folder.clone(), source })
        };
        let (listing, real) = match list(&folder).and_then(|listing| Ok((listing, canonical()?))) {
            Ok(found) => found,
            Err(error) if folder == path => return Err(error),
            Err(_) => {
                images.push(folder);
                continue;
            }
        };
        if !seen.insert(real) {
            continue;
        }
        images.extend(listing.images);
        if recursive {
            folders.extend(listing.folders.into_iter().rev());
        }
    }
    if images.is_empty() {
        return Err(DataError::NoImages { folder: path.to_owned(), recursive });
    }
    Ok(images)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::fixtures::touch;

    fn relative(folder: &Path, paths: &[PathBuf]) -> Vec<String> {
        paths.iter().map(|path| path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn images_are_sorted_by_bytes_and_nothing_else_is_listed() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        touch(
            folder,
            &["b.png", "a.JPG", "C.tiff", "10.bmp", "9.tif", "x.txt", "Thumbs.db", ".hidden.png", "png"],
        );
        touch(folder, &["sub/z.jpeg", "sub/deeper/y.png", ".cache/w.png", "another/v.png"]);
        let own = ["10.bmp", "9.tif", "C.tiff", "a.JPG", "b.png"];
        assert_eq!(relative(folder, &list_images(folder, false).unwrap()), own);
        let all = [&own[..], &["another/v.png", "sub/z.jpeg", "sub/deeper/y.png"]].concat();
        assert_eq!(relative(folder, &list_images(folder, true).unwrap()), all);
    }

    #[test]
    fn a_file_is_taken_whatever_its_name() {
        let folder = tempfile::tempdir().unwrap();
        touch(folder.path(), &["frame"]);
        let frame = folder.path().join("frame");
        assert_eq!(list_images(&frame, false).unwrap(), [frame]);
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(
            list_images(&folder.path().join("no"), false),
            Err(DataError::MissingFolder { .. })
        ));
        touch(folder.path(), &["sub/a.png"]);
        let error = list_images(folder.path(), false).unwrap_err().to_string();
        assert!(error.contains("subfolders are not read"), "{error}");
        assert!(list_images(folder.path(), true).is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_below_that_cannot_be_listed_is_reported_with_the_images() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        touch(folder.path(), &["a.png", "shut/b.png", "z/c.png"]);
        let shut = folder.path().join("shut");
        std::fs::set_permissions(&shut, std::fs::Permissions::from_mode(0o0)).unwrap();
        // Root may list it all the same.
        let is_root = std::fs::read_dir(&shut).is_ok();
        let found = list_images(folder.path(), true);
        std::fs::set_permissions(&shut, std::fs::Permissions::from_mode(0o755)).unwrap();
        let below = if is_root { "shut/b.png" } else { "shut" };
        assert_eq!(relative(folder.path(), &found.unwrap()), ["a.png", below, "z/c.png"]);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_once_and_dangling_ones_are_kept_to_be_reported() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        touch(folder, &["a/1.png"]);
        std::os::unix::fs::symlink(folder, folder.join("a/loop")).unwrap();
        std::os::unix::fs::symlink("nowhere", folder.join("gone.png")).unwrap();
        assert_eq!(relative(folder, &list_images(folder, true).unwrap()), ["gone.png", "a/1.png"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn names_need_not_be_utf_8() {
        use std::os::unix::ffi::OsStrExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(OsStr::from_bytes(b"gr\xFC\xDFe.PNG"));
        std::fs::copy(crate::data::fixtures::path("rgb.png"), &path).unwrap();
        assert_eq!(list_images(folder.path(), false).unwrap(), std::slice::from_ref(&path));
        assert!(crate::data::decode(&path, crate::data::Exif::Apply).is_ok());
    }
}
