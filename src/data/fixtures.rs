//! What the tests of this floor share: the files under `tests/fixtures/data` and what Pillow and torchvision make
//! of them, as `make.py` there wrote it down.

use std::path::{Path, PathBuf};

use image::{GrayImage, RgbImage};
use serde_json::Value;
use sha2::{Digest, Sha256};

pub(super) fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data").join(name)
}

/// The rows of one section of `expected.json`.
pub(super) fn expected(section: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(path("expected.json")).unwrap();
    let mut sections: Value = serde_json::from_str(&text).unwrap();
    serde_json::from_value(sections[section].take()).unwrap()
}

pub(super) fn number(value: &Value) -> u32 {
    value.as_u64().unwrap().try_into().unwrap()
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The colour picture of `make.py`'s `pattern`.
pub(super) fn pattern(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([0, 1, 2].map(|c| (x * 7 + y * 13 + c * 29 + (x * y) % 31 * 5) as u8))
    })
}

/// The grey picture of `make.py`'s `mask_pattern`.
pub(super) fn mask_pattern(width: u32, height: u32) -> GrayImage {
    GrayImage::from_fn(width, height, |x, y| {
        image::Luma([x.wrapping_mul(x).wrapping_mul(3).wrapping_add(y * 5 + (x * y) % 17 * 11) as u8])
    })
}

/// Empty files under `folder`, with the folders they need.
pub(super) fn touch(folder: &Path, names: &[&str]) {
    for name in names {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"").unwrap();
    }
}
