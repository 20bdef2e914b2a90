//! A model: one safetensors file with the head, and everything a score depends on in its metadata.

use super::ModelError;
use crate::backbone::architecture::Architecture;
use crate::data::Exif;
use crate::head::{HeadConfig, RUNNING_VAR};
use crate::settings::Settings;
use crate::tensor::Tensor;
use crate::tensor_file::{NamedTensors, load_tensors, save_tensors_durably};
use crate::training::{Calibration, ChosenEpoch};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The version this program writes, and the only one it reads.
pub const FORMAT: u32 = 1;
/// Prefix of the backbone's tensors in a bundled model.
const BACKBONE_PREFIX: &str = "backbone.";

/// Which backbone's features a head was trained on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackboneIdentity {
    /// The network.
    pub architecture: Architecture,
    /// SHA-256 over the tensors used, in hexadecimal.
    pub sha256: String,
    /// Where weights of that hash are found without being told, if they are: `embedded` or `synthetic:SEED`.
    pub origin: Option<String>,
}

/// The decision thresholds in use, in raw score units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    /// On the image score: larger is a defect. None: no verdict.
    pub image: Option<f32>,
    /// On the smoothed map: larger is a defective region.
    pub map: Option<f32>,
    /// Whether a person set the image threshold.
    pub image_set_by_hand: bool,
    /// Whether a person set the map threshold.
    pub map_set_by_hand: bool,
}

impl Thresholds {
    /// As calibration found them.
    pub fn calibrated(calibration: Option<&Calibration>) -> Self {
        Self {
            image: calibration.map(|c| c.image_threshold),
            map: calibration.map(|c| c.map_threshold),
            ..Self::default()
        }
    }
}

/// What a model file says beside its tensors. No dates and no paths: equal trainings give equal bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelMetadata {
    /// Format version.
    pub format: u32,
    /// What it inspects.
    pub category: String,
    /// The backbone it needs.
    pub backbone: BackboneIdentity,
    /// Everything a score depends on.
    pub settings: Settings,
    /// The shape of the head.
    pub head: HeadConfig,
    /// Seed of the training.
    pub seed: u64,
    /// Good images it was trained on.
    pub train_images: usize,
    /// Whether those were the program's own synthetic demo images.
    pub synthetic_data: bool,
    /// Whether EXIF orientation was ignored.
    pub ignore_exif: bool,
    /// How the thresholds were found, with the held-out scores.
    pub calibration: Option<Calibration>,
    /// The thresholds in use.
    pub thresholds: Thresholds,
    /// The epoch its head is of, where that is not simply the last of those its settings ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen_epoch: Option<ChosenEpoch>,
}

impl ModelMetadata {
    /// Says in words where the parts contradict each other.
    fn check(&self) -> Result<(), String> {
        self.settings.validate().map_err(|error| error.to_string())?;
        let features = &self.settings.features;
        let widths = self.backbone.architecture.channels();
        let levels: Vec<usize> = features.levels.as_slice().iter().map(|level| widths[level - 1]).collect();
        let channels = features.aggregation.output_channels(&levels);
        let feature_scale = self.head.feature_scale;
        if !(feature_scale.is_finite() && feature_scale > 0.0) {
            return Err("the scale of its features is no positive number".to_owned());
        }
        if self.head != (HeadConfig { feature_scale, ..self.settings.training.head(channels) }) {
            return Err("its head does not fit its settings".to_owned());
        }
        match &self.calibration {
            Some(calibration) if !(0.5..1.0).contains(&calibration.confidence) => {
                Err("the confidence of its calibration is out of range".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// The epoch its head is of.
    pub fn epoch(&self) -> u32 {
        self.chosen_epoch.map_or(self.settings.training.epochs, |chosen| chosen.epoch)
    }

    /// Whether that epoch was picked on the test set, which inflates every result on it.
    pub fn selected_on_test(&self) -> bool {
        self.chosen_epoch.is_some_and(|chosen| chosen.selected_on_test)
    }

    /// Whether orientation tags of images count: as in the training.
    pub fn exif(&self) -> Exif {
        if self.ignore_exif { Exif::Ignore } else { Exif::Apply }
    }
}

/// A model in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// Everything but tensors.
    pub metadata: ModelMetadata,
    /// Adaptor and discriminator.
    pub head: NamedTensors,
    /// The backbone's tensors in torchvision's names, in a bundled model.
    pub backbone: Option<NamedTensors>,
}

impl Model {
    /// Writes the model, whole or not at all.
    pub fn save(&self, path: &Path) -> Result<(), ModelError> {
        let metadata = serde_json::to_string(&self.metadata)
            .map_err(|error| ModelError::NotAModel { path: path.to_owned(), reason: error.to_string() })?;
        let mut tensors = self.head.clone();
        for (name, tensor) in self.backbone.iter().flatten() {
            tensors.insert(format!("{BACKBONE_PREFIX}{name}"), tensor.clone());
        }
        save_tensors_durably(path, &tensors, metadata)?;
        Ok(())
    }

    /// Reads a model and checks that everything it promises is there.
    pub fn load(path: &Path) -> Result<Self, ModelError> {
        let not_a_model = |reason: String| ModelError::NotAModel { path: path.to_owned(), reason };
        let bytes =
            std::fs::read(path).map_err(|source| ModelError::Read { path: path.to_owned(), source })?;
        let (metadata, mut head) = load_tensors(&bytes).map_err(not_a_model)?;

        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let Version { format } =
            serde_json::from_str(&metadata).map_err(|error| not_a_model(error.to_string()))?;
        if format != FORMAT {
            return Err(ModelError::Version { path: path.to_owned(), found: format });
        }
        let metadata: ModelMetadata =
            serde_json::from_str(&metadata).map_err(|error| not_a_model(error.to_string()))?;

        let bundled: NamedTensors = head
            .iter()
            .filter_map(|(name, tensor)| {
                Some((name.strip_prefix(BACKBONE_PREFIX)?.to_owned(), tensor.clone()))
            })
            .collect();
        head.retain(|name, _| !name.starts_with(BACKBONE_PREFIX));
        for (name, shape) in metadata.head.tensors() {
            if head.get(name).is_none_or(|tensor| tensor.shape() != shape) {
                return Err(not_a_model(format!("its tensor {name} of shape {shape:?} is missing")));
            }
        }
        metadata.check().map_err(not_a_model)?;
        let broken = |(name, tensor): (&String, &Tensor)| {
            let negative = name == RUNNING_VAR && tensor.data().iter().any(|&value| value < 0.0);
            (negative || tensor.data().iter().any(|value| !value.is_finite())).then(|| name.clone())
        };
        if let Some(name) = head.iter().find_map(broken) {
            return Err(not_a_model(format!("its tensor {name} holds values that no training gives")));
        }
        Ok(Self { metadata, head, backbone: (!bundled.is_empty()).then_some(bundled) })
    }
}
