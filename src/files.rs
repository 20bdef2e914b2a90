//! Files that are written whole or not at all.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// What the name of a file begins with until it is complete.
const UNFINISHED: &str = ".writing-";

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {source}; check that the folder exists, is writable and has space", path.display())]
pub struct WriteError {
    /// The file that was to be written.
    pub path: PathBuf,
    /// What the operating system said.
    #[source]
    pub source: std::io::Error,
}

/// Writes a file through a temporary one in the same folder, which is renamed over `path` at the end.
///
/// A reader sees the old content or the new, never a part: a full disk or a kill in the middle leaves `path` as
/// it was. Missing parent folders are made. A link to a file stays one, to the new content, and a file that was there keeps its
/// permissions.
///
/// # Errors
/// If the operating system refuses, or `path` is there and no file.
pub fn write_whole(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<(), WriteError> {
    write(path, fill, false)
}

/// [`write_whole`], for what must be there after a power failure, too: it is on the disk before it takes its place.
///
/// # Errors
/// As [`write_whole`].
pub fn write_durably(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<(), WriteError> {
    write(path, fill, true)
}

fn write(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
    durably: bool,
) -> Result<(), WriteError> {
    let failed = |path: &Path, source| WriteError { path: path.to_owned(), source };
    let target = if path.is_symlink() {
        match path.canonicalize() {
            // A link that leads nowhere is replaced.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => path.to_owned(),
            found => found.map_err(|source| failed(path, source))?,
        }
    } else {
        path.to_owned()
    };
    write_to(&target, fill, durably).map_err(|source| failed(&target, source))
}

fn write_to(
    target: &Path,
    fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
    durably: bool,
) -> std::io::Result<()> {
    let before = std::fs::metadata(target).ok();
    if before.as_ref().is_some_and(|before| !before.is_file()) {
        return Err(std::io::Error::other("what has this name is no file, and stays; choose another one"));
    }
    let folder = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder)?;
    let mut temporary = tempfile::Builder::new();
    temporary.prefix(UNFINISHED);
    #[cfg(unix)]
    {
        // A temporary file is private by default; what we publish follows the user's umask like any other.
        use std::os::unix::fs::PermissionsExt;
        temporary.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let temporary = temporary.tempfile_in(folder)?;
    let mut writer = BufWriter::new(temporary);
    fill(&mut writer)?;
    let temporary = writer.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    let file = temporary.as_file();
    // Not every file system knows how to change them.
    if let Some(permissions) = before.map(|before| before.permissions())
        && permissions != file.metadata()?.permissions()
    {
        file.set_permissions(permissions)?;
    }
    if durably {
        file.sync_all()?;
    }
    temporary.persist(target).map_err(|error| error.error)?;
    // The new name, too, where the file system does that for a folder. The file is in its place either way.
    #[cfg(unix)]
    if durably && let Ok(folder) = std::fs::File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// Removes the temporary files that a killed process left in `folder`. Only for folders that no living process writes
/// to; what cannot be removed stays, for it does no harm but take space.
pub fn remove_unfinished(folder: &Path) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries {
        if entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_whole(&path, |out| out.write_all(b"first")).unwrap();
        let failed = write_whole(&path, |out| {
            out.write_all(b"second, half of it")?;
            Err(std::io::Error::other("disk full"))
        });
        assert!(failed.unwrap_err().to_string().contains("disk full"));
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left behind");
    }

    #[test]
    #[cfg(unix)]
    fn a_link_stays_a_link_and_permissions_stay() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("real/file"), folder.path().join("link"));
        write_durably(&file, |out| out.write_all(b"first")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        symlink("real/file", &link).unwrap();
        write_whole(&link, |out| out.write_all(b"second")).unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(std::fs::read(&file).unwrap(), b"second");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file is left behind");
    }

    /// Such a folder takes files, but cannot be opened to be written out.
    #[test]
    #[cfg(unix)]
    fn a_folder_that_cannot_be_read_takes_a_file_that_stays() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("letter-box");
        std::fs::create_dir(&place).unwrap();
        std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o300)).unwrap();
        let written = write_durably(&place.join("file"), |out| out.write_all(b"whole"));
        std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o700)).unwrap();
        written.unwrap();
        assert_eq!(std::fs::read(place.join("file")).unwrap(), b"whole");
    }

    #[test]
    fn what_is_no_file_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("folder");
        std::fs::create_dir(&path).unwrap();
        let error = write_whole(&path, |_| Ok(())).unwrap_err().to_string();
        assert!(error.contains("no file") && path.is_dir(), "{error}");
        #[cfg(target_os = "linux")]
        assert!(write_whole(Path::new("/dev/null"), |_| Ok(())).is_err());
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for name in [".writing-abc", "kept", ".hidden"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        remove_unfinished(folder.path());
        remove_unfinished(&folder.path().join("absent"));
        let names = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.collect();
        names.sort();
        assert_eq!(names, [".hidden", "kept"]);
    }
}
