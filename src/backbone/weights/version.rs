//! Whether weights are those that σ = 0.015 was chosen for.

use std::path::Path;

use super::error::WeightsError;
use super::registry::identify;
use super::source::WeightsSource;
use super::state_dict::StateDict;
use super::store::{installed, installed_path, sha256};
use super::{embedded, map_file};
use crate::backbone::architecture::Architecture;

/// [`StateDict::hash`] to layer 3 of torchvision's ImageNet weights, version 1, however their file was converted.
const V1_TENSORS: [(Architecture, &str); 1] =
    [(Architecture::Resnet18, "26e157d2cf803c4570109ddb268444f94fcdbf713a3a79f438f28d204f1f8b1d")];

/// Whether features of these weights are known to have the scale of torchvision's version 1: published files and those
/// installed from them, by SHA-256; converted ones, by the hash of their tensors; the embedded ones, which were distilled
/// from version 1 and scaled to it; and synthetic ones, which are drawn to it.
pub(super) fn has_v1_scale(
    source: &WeightsSource,
    folder: Option<&Path>,
    architecture: Architecture,
    weights: &StateDict,
) -> Result<bool, WeightsError> {
    let file_sha256 = match source {
        WeightsSource::Embedded | WeightsSource::Synthetic(_) => return Ok(true),
        WeightsSource::Installed if architecture == embedded::ARCHITECTURE => return Ok(true),
        WeightsSource::Installed => match folder {
            Some(folder) => installed(&installed_path(folder, architecture))?.record.file_sha256,
            None => None,
        },
        WeightsSource::File(path) => Some(sha256(&map_file(path)?)),
    };
    if file_sha256.is_some_and(|sha256| identify(&sha256).is_some()) {
        return Ok(true);
    }
    let deepest = Architecture::DEEPEST_LEVEL;
    let known = V1_TENSORS.into_iter().find(|&(known, _)| known == architecture);
    Ok(known.is_some_and(|(_, hash)| {
        weights.fits(architecture, deepest) && weights.hash(architecture, deepest) == hash
    }))
}
