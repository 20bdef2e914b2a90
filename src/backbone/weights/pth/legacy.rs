//! The container of `torch.save` before PyTorch 1.6: five pickles (magic number, protocol version, system, object,
//! list of storage keys), then for every key a 64-bit number of elements and their raw bytes.

use std::collections::HashMap;
use std::ops::Range;

use super::unfold::Pickle;
use super::{FileBytes, PthError, Value, damaged};

/// `torch.serialization.MAGIC_NUMBER`.
const MAGIC_NUMBER: i128 = 0x1950_a86a_20f9_469c_fc6c;
/// `torch.serialization.PROTOCOL_VERSION`.
const PROTOCOL_VERSION: i128 = 1001;

/// Reads the sequence of pickles and storages in `file`.
pub(super) fn read(file: &FileBytes) -> Result<Value, PthError> {
    let bytes = (**file).as_ref();
    let mut at = 0;
    let mut next = || -> Result<Pickle, PthError> {
        let pickle = Pickle::run(&bytes[at..])?;
        at += pickle.length;
        Ok(pickle)
    };
    if next()?.integer() != Some(MAGIC_NUMBER) || next()?.integer() != Some(PROTOCOL_VERSION) {
        return Err(PthError::Unsupported("a pickle that torch.save did not write".into()));
    }
    let plain = |pickle: &Pickle| {
        pickle.value(file, &|_| Err(PthError::Damaged("a storage among the preliminaries".into())))
    };
    if !matches!(plain(&next()?)?.get("little_endian"), Some(Value::Bool(true))) {
        return Err(PthError::Unsupported("a tensor of a big-endian machine".into()));
    }
    let (object, keys) = (next()?, next()?);
    let Value::List(keys) = plain(&keys)? else { return damaged("no list of storages") };

    let mut storages: HashMap<String, Range<usize>> = HashMap::new();
    for key in keys {
        let Value::Text(key) = key else { return damaged("a storage key that is no text") };
        let Some(element) = object.storages.get(&*key) else {
            return damaged(format!("storage {key} belongs to no tensor"));
        };
        let data = bytes[at..].split_first_chunk().and_then(|(count, rest)| {
            let length = usize::try_from(u64::from_le_bytes(*count)).ok()?.checked_mul(element.size())?;
            (length <= rest.len()).then_some(at + 8..at + 8 + length)
        });
        let Some(data) = data else { return damaged(format!("storage {key} ends too early")) };
        at = data.end;
        storages.insert(key, data);
    }

    object.value(file, &|storage| {
        let Some(root) = storages.get(&*storage.key) else {
            return damaged(format!("storage {} is missing", storage.key));
        };
        let Some((first, count)) = storage.view else { return Ok(root.clone()) };
        let size = storage.element.size();
        let view = first.checked_mul(size).zip(count.checked_mul(size)).and_then(|(start, length)| {
            let range = root.start.checked_add(start)?..root.start.checked_add(start)?.checked_add(length)?;
            (range.end <= root.end).then_some(range)
        });
        view.map_or_else(|| damaged(format!("a view exceeds storage {}", storage.key)), Ok)
    })
}
