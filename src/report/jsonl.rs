//! Files of one JSON object a line.

use std::path::{Path, PathBuf};

use serde::{Serialize, de::DeserializeOwned};

use crate::files::{WriteError, write_whole};

/// Why a file of results could not be read back.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The operating system refused.
    #[error("cannot read {}: {source}; check the path and its permissions", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// A line is no JSON or not the object this file is made of.
    #[error("{}, line {line}: {source}; the file is damaged or of another version, write it anew", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
}

/// The whole of `path` as text.
pub(super) fn read_text(path: &Path) -> Result<String, ReadError> {
    std::fs::read_to_string(path).map_err(|source| ReadError::Io { path: path.to_owned(), source })
}

/// Writes `records`, one JSON object a line.
///
/// # Errors
/// If the file cannot be written.
pub fn write_lines<'a, T: Serialize + 'a>(
    path: &Path,
    records: impl IntoIterator<Item = &'a T>,
) -> Result<(), WriteError> {
    write_whole(path, |out| {
        for record in records {
            serde_json::to_writer(&mut *out, record)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    })
}

/// Reads what [`write_lines`] wrote; empty lines are passed over.
///
/// # Errors
/// If the file cannot be read, or a line is not a `T`.
pub fn read_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, ReadError> {
    let text = read_text(path)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            serde_json::from_str(line).map_err(|source| ReadError::Json {
                path: path.to_owned(),
                line: index + 1,
                source,
            })
        })
        .collect()
}

/// Serde's `skip_serializing_if` for flags that are written only when set.
pub(crate) fn is_false(flag: &bool) -> bool {
    !flag
}

/// A number that JSON cannot hold is `null`, and `null` reads as NaN.
///
/// serde_json writes NaN as `null` on its own but refuses to read that back as a number; a training that diverged
/// must still leave a log that can be read.
pub(super) mod null_is_nan {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<T: Serialize, S: Serializer>(value: &T, out: S) -> Result<S::Ok, S::Error> {
        value.serialize(out)
    }

    pub(crate) fn deserialize<'de, T: Deserialize<'de> + From<f32>, D: Deserializer<'de>>(
        input: D,
    ) -> Result<T, D::Error> {
        Ok(Option::<T>::deserialize(input)?.unwrap_or_else(|| T::from(f32::NAN)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines.jsonl");
        std::fs::write(&path, "1\n\n2\n{oops\n").unwrap();
        let error = read_lines::<u32>(&path).unwrap_err().to_string();
        assert!(error.contains("lines.jsonl, line 4"), "{error}");
        std::fs::write(&path, "1\n\n2\n").unwrap();
        assert_eq!(read_lines::<u32>(&path).unwrap(), [1, 2]);
        let missing = read_lines::<u32>(&folder.path().join("none")).unwrap_err().to_string();
        assert!(missing.contains("cannot read"), "{missing}");
    }
}
