//! The zip container, written by `torch.save` since PyTorch 1.6.
//!
//! Entries: `<name>/data.pkl`, the pickle; `<name>/byteorder`; `<name>/data/<key>`, the raw bytes of a storage. All
//! are stored, not compressed, so that tensors can stay in the mapped file.

use std::collections::HashMap;
use std::io::Cursor;
use std::ops::Range;

use super::unfold::Pickle;
use super::{FileBytes, PthError, Value, damaged};

/// Reads the archive `file`, checking the checksum of every entry.
pub(super) fn read(file: &FileBytes) -> Result<Value, PthError> {
    let bytes = (**file).as_ref();
    let entries = entries(bytes)?;
    let Some(root) = entries.keys().find_map(|name| name.strip_suffix("data.pkl")) else {
        return Err(PthError::Unsupported("a zip archive without data.pkl".into()));
    };
    if let Some(order) = entries.get(&format!("{root}byteorder"))
        && bytes[order.clone()] != *b"little"
    {
        return Err(PthError::Unsupported("a tensor of a big-endian machine".into()));
    }
    let pickle = Pickle::run(&bytes[entries[&format!("{root}data.pkl")].clone()])?;
    pickle.value(file, &|storage| match entries.get(&format!("{root}data/{}", storage.key)) {
        Some(range) if storage.view.is_none() => Ok(range.clone()),
        _ => damaged(format!("storage {} is missing", storage.key)),
    })
}

/// Where the content of every entry lies.
fn entries(bytes: &[u8]) -> Result<HashMap<String, Range<usize>>, PthError> {
    let broken = |error: &dyn std::fmt::Display| PthError::Damaged(format!("as a zip archive: {error}"));
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(|error| broken(&error))?;
    let mut entries = HashMap::new();
    for index in 0..archive.len() {
        let compression = archive.by_index_raw(index).map_err(|error| broken(&error))?.compression();
        if compression != zip::CompressionMethod::Stored {
            return Err(PthError::Unsupported("a compressed archive".into()));
        }
        let mut entry = archive.by_index(index).map_err(|error| broken(&error))?;
        let name = entry.name().map_err(|error| broken(&error))?.into_owned();
        let length = std::io::copy(&mut entry, &mut std::io::sink()).map_err(|error| broken(&error))?;
        let range = entry
            .data_start()
            .and_then(|start| usize::try_from(start).ok())
            .and_then(|start| Some(start..start.checked_add(usize::try_from(length).ok()?)?))
            .filter(|range| length == entry.size() && range.end <= bytes.len());
        match range {
            Some(range) => entries.insert(name, range),
            None => return damaged(format!("entry {name} ends too early")),
        };
    }
    Ok(entries)
}
