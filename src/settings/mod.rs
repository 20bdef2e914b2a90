//! Every number a result depends on, with the presets of the paper and of its authors' code.

mod config;
mod feature_scale;
mod keys;

pub use config::{Config, ConfigError, render, resolve};
pub use feature_scale::{FeatureScale, InvalidFeatureScale};
pub use keys::{KEYS, Key, Overrides, SettingError};

use crate::backbone::Levels;
use crate::backend::{AdamRule, Aggregation, AggregationMode, Loss, Margins};
use crate::data::{Fit, Preprocess};
use crate::head::{AdaptorKind, HeadConfig};
use serde::{Deserialize, Serialize};

/// The smallest side of the network's input: layer 3 then still has a pixel of its own.
pub const MIN_SIDE: u32 = 16;
/// The largest side of the network's input.
pub const MAX_SIDE: u32 = 4096;
/// The largest side an image is resized to. A slip of the finger is refused here, before it asks for all memory.
const MAX_RESIZE: u32 = 16_384;
const MAX_EPOCHS: usize = 100_000;
const MAX_BATCH: usize = 4096;
const MAX_HIDDEN: usize = 1 << 16;
/// The widest component deviates by σ·1.1⁶³, four hundred times σ.
const MAX_NOISE_MIXTURES: usize = 64;

/// A named set of settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// What the paper describes.
    Paper,
    /// What the authors' repository runs.
    Official,
}

/// Everything that shapes a model, except its data and its backbone's weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where the values started from.
    pub preset: Preset,
    /// From image bytes to features.
    pub features: FeatureSettings,
    /// From features to a head.
    pub training: TrainingSettings,
    /// Standard deviation of the map's smoothing in pixels of the network's input.
    pub map_sigma: f64,
}

/// From image bytes to features.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureSettings {
    /// Resize and crop.
    pub preprocess: Preprocess,
    /// Levels of the backbone.
    pub levels: Levels,
    /// How neighbourhoods and levels are joined.
    pub aggregation: Aggregation,
}

/// From features to a head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingSettings {
    /// The adaptor G.
    pub adaptor: AdaptorKind,
    /// Whether G has a bias.
    pub adaptor_bias: bool,
    /// Width of the discriminator's hidden layer.
    pub hidden: usize,
    /// Standard deviation σ of the anomaly features' noise.
    pub noise_sigma: f64,
    /// Standard deviations that rows of noise are drawn from: σ·1.1ᵏ for every k below it. Absent from models that were
    /// written before it was a setting.
    #[serde(default = "one")]
    pub noise_mixtures: u32,
    /// What features are multiplied by. Absent from models that were written before it was a setting.
    #[serde(default)]
    pub feature_scale: FeatureScale,
    /// What is minimised.
    pub loss: Loss,
    /// The optimiser of G.
    pub adaptor_rule: AdamRule,
    /// The optimiser of the discriminator.
    pub discriminator_rule: AdamRule,
    /// Passes over the training images.
    pub epochs: u32,
    /// Images a step.
    pub batch: usize,
}

/// The default of a setting that files of earlier versions lack.
fn one() -> u32 {
    1
}

impl TrainingSettings {
    /// The head these settings describe, for features of `channels` that are taken as they are.
    pub fn head(&self, channels: usize) -> HeadConfig {
        HeadConfig {
            channels,
            adaptor: self.adaptor,
            adaptor_bias: self.adaptor_bias && self.adaptor != AdaptorKind::None,
            hidden: self.hidden,
            feature_scale: 1.0,
        }
    }
}

impl Settings {
    /// The settings of a preset.
    pub fn preset(preset: Preset) -> Self {
        let margins = Margins { positive: 0.5, negative: -0.5 };
        let adam = |learning_rate, weight_decay| AdamRule { learning_rate, weight_decay, decoupled: false };
        let paper = Self {
            preset,
            features: FeatureSettings {
                preprocess: Preprocess { fit: Fit::Crop, resize: 256, crop: 224 },
                levels: Levels::default(),
                aggregation: Aggregation { mode: AggregationMode::Mean, patch: 3 },
            },
            training: TrainingSettings {
                adaptor: AdaptorKind::Linear,
                adaptor_bias: false,
                hidden: 1024,
                noise_sigma: 0.015,
                noise_mixtures: 1,
                feature_scale: FeatureScale::ByWeights,
                loss: Loss::TruncatedL1(margins),
                adaptor_rule: adam(1e-4, 1e-5),
                discriminator_rule: adam(2e-4, 1e-5),
                epochs: 160,
                batch: 4,
            },
            map_sigma: 4.0,
        };
        match preset {
            Preset::Paper => paper,
            Preset::Official => Self {
                features: FeatureSettings {
                    preprocess: Preprocess { fit: Fit::Crop, resize: 329, crop: 288 },
                    aggregation: Aggregation { mode: AggregationMode::PatchCore, patch: 3 },
                    ..paper.features
                },
                training: TrainingSettings {
                    adaptor_bias: true,
                    adaptor_rule: AdamRule { learning_rate: 1e-4, weight_decay: 0.01, decoupled: true },
                    batch: 8,
                    ..paper.training
                },
                ..paper
            },
        }
    }

    /// Says what is wrong with these settings, if anything.
    pub fn validate(&self) -> Result<(), InvalidSettings> {
        let training = &self.training;
        let positive = |name, value: f64| {
            if value.is_finite() && value > 0.0 {
                Ok(())
            } else {
                Err(InvalidSettings::NotPositive { name, value })
            }
        };
        positive("epochs", f64::from(training.epochs))?;
        positive("batch", training.batch as f64)?;
        positive("hidden", training.hidden as f64)?;
        positive("noise sigma", training.noise_sigma)?;
        positive("noise-mixtures", f64::from(training.noise_mixtures))?;
        positive("adaptor learning rate", training.adaptor_rule.learning_rate)?;
        positive("discriminator learning rate", training.discriminator_rule.learning_rate)?;
        for rule in [training.adaptor_rule, training.discriminator_rule] {
            if !(0.0..1e6).contains(&rule.weight_decay) {
                return Err(InvalidSettings::WeightDecay(rule.weight_decay));
            }
        }
        let margins = training.loss.margins();
        if !(margins.positive.is_finite()
            && margins.negative.is_finite()
            && margins.negative < margins.positive)
        {
            return Err(InvalidSettings::Margins(margins));
        }
        let side = self.features.preprocess.crop;
        if !(MIN_SIDE..=MAX_SIDE).contains(&side) {
            return Err(InvalidSettings::Side(side));
        }
        let most = f64::from(side);
        if !(0.0..=most).contains(&self.map_sigma) {
            return Err(InvalidSettings::MapSigma { sigma: self.map_sigma, most });
        }
        for (name, value, most) in [
            ("resize", self.features.preprocess.resize as usize, MAX_RESIZE as usize),
            ("epochs", training.epochs as usize, MAX_EPOCHS),
            ("batch", training.batch, MAX_BATCH),
            ("hidden", training.hidden, MAX_HIDDEN),
            ("noise-mixtures", training.noise_mixtures as usize, MAX_NOISE_MIXTURES),
        ] {
            if value > most {
                return Err(InvalidSettings::TooLarge { name, value, most });
            }
        }
        if !matches!(self.features.aggregation.patch, 1 | 3 | 5 | 7) {
            return Err(InvalidSettings::Patch(self.features.aggregation.patch));
        }
        self.features.preprocess.validate().map_err(|error| InvalidSettings::Preprocess(error.to_string()))
    }
}

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSettings {
    /// A number that must be positive.
    #[error("{name} is {value}; it must be a positive number")]
    NotPositive {
        /// Which.
        name: &'static str,
        /// Its value.
        value: f64,
    },
    /// A number beyond what any use needs and memory allows.
    #[error("{name} is {value}; --{name} can be at most {most}")]
    TooLarge {
        /// Which.
        name: &'static str,
        /// Its value.
        value: usize,
        /// The largest that is accepted.
        most: usize,
    },
    /// The side of the network's input.
    #[error("the network's input is {0} pixels wide; choose a --size between {MIN_SIDE} and {MAX_SIDE}")]
    Side(u32),
    /// The map's smoothing.
    #[error("the map's sigma is {sigma}; give zero (no smoothing) to {most} pixels, the side of the map")]
    MapSigma {
        /// Its value.
        sigma: f64,
        /// The largest that is accepted.
        most: f64,
    },
    /// Weight decay.
    #[error("the weight decay is {0}; give zero (none) or a positive number, such as 0.00001")]
    WeightDecay(f64),
    /// The loss's margins.
    #[error(
        "the margins are {} for good features and {} for anomaly features; --margin-positive must be the larger",
        .0.positive, .0.negative
    )]
    Margins(Margins),
    /// The neighbourhood's side.
    #[error("the patch size is {0}; choose 1, 3, 5 or 7")]
    Patch(usize),
    /// Resize and crop.
    #[error("{0}")]
    Preprocess(String),
}
