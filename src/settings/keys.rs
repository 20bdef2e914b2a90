//! Every setting by the one name it has on the command line, in a configuration file and in a sweep.

use super::{InvalidSettings, Preset, Settings};
use crate::backend::{AggregationMode, Loss, Margins};
use crate::data::Fit;
use crate::head::AdaptorKind;
use crate::spelling::nearest;
use std::collections::BTreeMap;
use std::str::FromStr;
use toml::Value;

/// One setting, as a person reads and writes it.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name: `--name` on the command line, `name = …` in a file, `name=…` in a sweep.
    pub name: &'static str,
    /// What stands for its value in a help text.
    pub value: &'static str,
    /// What it is, in a sentence or two.
    pub about: &'static str,
    /// The words it may be, if it is one of a few.
    pub choices: &'static [&'static str],
    get: fn(&Settings) -> Value,
    set: fn(&mut Settings, &str) -> Result<(), String>,
}

impl Key {
    /// The setting's value.
    pub fn get(&self, settings: &Settings) -> Value {
        (self.get)(settings)
    }

    /// Reads the setting from text. Values that contradict others are found by [`Settings::validate`].
    ///
    /// # Errors
    /// What is wrong with the text, in words.
    pub fn set(&self, settings: &mut Settings, text: &str) -> Result<(), String> {
        (self.set)(settings, text.trim())
    }

    /// The setting of this name.
    ///
    /// # Errors
    /// [`SettingError::Unknown`], with the name that may have been meant.
    pub fn find(name: &str) -> Result<&'static Self, SettingError> {
        KEYS.iter().find(|key| key.name == name).ok_or_else(|| {
            let known = KEYS.iter().map(|key| key.name);
            SettingError::Unknown { name: name.to_owned(), meant: nearest(name, known).map(str::to_owned) }
        })
    }
}

/// Why a setting cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SettingError {
    /// There is no such setting.
    #[error("there is no setting `{name}`{}", did_you_mean(.meant.as_deref()))]
    Unknown {
        /// As it was written.
        name: String,
        /// What may have been meant.
        meant: Option<String>,
    },
    /// Its value cannot be read.
    #[error("{name} = {value}: {reason}")]
    Value {
        /// The setting.
        name: &'static str,
        /// As it was written.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The settings contradict each other, or one is out of range.
    #[error("{0}")]
    Invalid(String),
}

impl From<InvalidSettings> for SettingError {
    fn from(error: InvalidSettings) -> Self {
        Self::Invalid(error.to_string())
    }
}

/// The end of a sentence about an unknown name.
pub(super) fn did_you_mean(meant: Option<&str>) -> String {
    meant.map_or_else(
        || "; `simplenet train --show-config` lists them".to_owned(),
        |meant| format!("; did you mean `{meant}`?"),
    )
}

/// Settings that differ from a preset's, by name, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides(BTreeMap<&'static str, String>);

impl Overrides {
    /// Notes a value; a later one of the same name replaces it.
    ///
    /// # Errors
    /// An unknown name.
    pub fn insert(&mut self, name: &str, value: String) -> Result<(), SettingError> {
        self.0.insert(Key::find(name)?.name, value);
        Ok(())
    }

    /// These, and those of `other` where both have one.
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }
}

impl Settings {
    /// A preset with some values replaced. What a value brings along (the resize of a new size, say) gives way to what
    /// is said of it by name.
    ///
    /// # Errors
    /// A value that cannot be read, or settings that contradict each other.
    pub fn with_overrides(preset: Preset, overrides: &Overrides) -> Result<Self, SettingError> {
        let mut settings = Self::preset(preset);
        // In the order of the list, whatever the order they were given in: a size comes before its resize.
        for key in &KEYS {
            if let Some(text) = overrides.0.get(key.name) {
                key.set(&mut settings, text).map_err(|reason| SettingError::Value {
                    name: key.name,
                    value: text.clone(),
                    reason,
                })?;
            }
        }
        settings.validate()?;
        Ok(settings)
    }
}

/// Words and what they stand for.
type Words<T> = [(&'static str, T)];

const FITS: [(&str, Fit); 2] = [("crop", Fit::Crop), ("stretch", Fit::Stretch)];
const AGGREGATIONS: [(&str, AggregationMode); 2] =
    [("mean", AggregationMode::Mean), ("patchcore", AggregationMode::PatchCore)];
const ADAPTORS: [(&str, AdaptorKind); 3] =
    [("linear", AdaptorKind::Linear), ("mlp", AdaptorKind::Mlp), ("none", AdaptorKind::None)];
/// A loss, once it has its margins.
type LossOf = fn(Margins) -> Loss;
const LOSSES: [(&str, LossOf); 2] =
    [("truncated-l1", Loss::TruncatedL1), ("cross-entropy", Loss::CrossEntropy)];
/// Whether weight decay is decoupled from the gradient.
const OPTIMIZERS: [(&str, bool); 2] = [("adam", false), ("adamw", true)];

fn word<T: Copy>(words: &Words<T>, text: &str) -> Result<T, String> {
    words.iter().find(|(name, _)| *name == text).map(|&(_, value)| value).ok_or_else(|| {
        let names: Vec<&str> = words.iter().map(|&(name, _)| name).collect();
        format!("choose one of {}", names.join(", "))
    })
}

fn name_of<T: PartialEq>(words: &Words<T>, value: &T) -> Value {
    let found = words.iter().find(|(_, known)| known == value);
    Value::String(found.map_or("", |&(name, _)| name).to_owned())
}

fn loss_name(loss: &Loss) -> Value {
    let name = match loss {
        Loss::TruncatedL1(_) => "truncated-l1",
        Loss::CrossEntropy(_) => "cross-entropy",
    };
    Value::String(name.to_owned())
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| {
        let kind = if text.parse::<f64>().is_ok() { "a whole number in range" } else { "a number" };
        format!("give {kind}")
    })
}

fn switch(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "choose true or false".to_owned())
}

fn integer(value: usize) -> Value {
    Value::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}

fn change_margins(loss: &mut Loss, change: impl FnOnce(&mut Margins)) {
    match loss {
        Loss::TruncatedL1(margins) | Loss::CrossEntropy(margins) => change(margins),
    }
}

/// All of them, in the order of the pipeline. A setting that changes others stands before them.
pub static KEYS: [Key; 24] = [
    Key {
        name: "fit",
        value: "FIT",
        about: "How images meet the network's input size: `crop` resizes the shorter side and cuts out the centre (the \
                paper; borders are not inspected), `stretch` resizes the whole image",
        choices: &["crop", "stretch"],
        get: |s| name_of(&FITS, &s.features.preprocess.fit),
        set: |s, text| word(&FITS, text).map(|fit| s.features.preprocess.fit = fit),
    },
    Key {
        name: "size",
        value: "PIXELS",
        about: "Side of the network's input; --resize follows, 8/7 of it",
        choices: &[],
        get: |s| integer(s.features.preprocess.crop as usize),
        set: |s, text| number(text).map(|side| s.features.preprocess = s.features.preprocess.with_side(side)),
    },
    Key {
        name: "resize",
        value: "PIXELS",
        about: "Size the shorter side is resized to, with --fit crop",
        choices: &[],
        get: |s| integer(s.features.preprocess.resize as usize),
        set: |s, text| number(text).map(|side| s.features.preprocess.resize = side),
    },
    Key {
        name: "levels",
        value: "LIST",
        about: "Backbone levels, such as 2,3 (or 2+3)",
        choices: &[],
        get: |s| Value::Array(s.features.levels.as_slice().iter().map(|&level| integer(level)).collect()),
        set: |s, text| {
            text.parse().map(|levels| s.features.levels = levels).map_err(|error| format!("{error}"))
        },
    },
    Key {
        name: "patch",
        value: "P",
        about: "Side of the neighbourhood that is averaged: 1, 3, 5 or 7",
        choices: &[],
        get: |s| integer(s.features.aggregation.patch),
        set: |s, text| number(text).map(|patch| s.features.aggregation.patch = patch),
    },
    Key {
        name: "aggregation",
        value: "MODE",
        about: "How neighbourhoods and levels become one vector: `mean` (the paper) or `patchcore` (the authors' code)",
        choices: &["mean", "patchcore"],
        get: |s| name_of(&AGGREGATIONS, &s.features.aggregation.mode),
        set: |s, text| word(&AGGREGATIONS, text).map(|mode| s.features.aggregation.mode = mode),
    },
    Key {
        name: "adaptor",
        value: "KIND",
        about: "The adaptor: one `linear` layer, `mlp` (linear, then LeakyReLU) or `none`",
        choices: &["linear", "mlp", "none"],
        get: |s| name_of(&ADAPTORS, &s.training.adaptor),
        set: |s, text| word(&ADAPTORS, text).map(|adaptor| s.training.adaptor = adaptor),
    },
    Key {
        name: "adaptor-bias",
        value: "BOOL",
        about: "Whether the adaptor has a bias (the authors' code)",
        choices: &["true", "false"],
        get: |s| Value::Boolean(s.training.adaptor_bias),
        set: |s, text| switch(text).map(|bias| s.training.adaptor_bias = bias),
    },
    Key {
        name: "hidden",
        value: "N",
        about: "Width of the discriminator's hidden layer",
        choices: &[],
        get: |s| integer(s.training.hidden),
        set: |s, text| number(text).map(|hidden| s.training.hidden = hidden),
    },
    Key {
        name: "noise-sigma",
        value: "SIGMA",
        about: "Standard deviation of the noise that makes anomaly features",
        choices: &[],
        get: |s| Value::Float(s.training.noise_sigma),
        set: |s, text| number(text).map(|sigma| s.training.noise_sigma = sigma),
    },
    Key {
        name: "noise-mixtures",
        value: "N",
        about: "Standard deviations the noise is drawn from, a row at a time: σ·1.1^k for every k below N (the authors' \
                `mix_noise`); 1 is the paper",
        choices: &[],
        get: |s| Value::Integer(s.training.noise_mixtures.into()),
        set: |s, text| number(text).map(|mixtures| s.training.noise_mixtures = mixtures),
    },
    Key {
        name: "feature-scale",
        value: "SCALE",
        about: "What features are multiplied by before the head. σ is absolute and presumes the scale of ImageNet weights \
                of version 1. `auto` measures the training features and brings them to it, `none` takes them as they \
                are, a number is the factor; `by-weights` is none for weights that are known to have it, else auto",
        choices: &[],
        get: |s| Value::String(s.training.feature_scale.to_string()),
        set: |s, text| {
            text.parse().map(|scale| s.training.feature_scale = scale).map_err(|error| format!("{error}"))
        },
    },
    Key {
        name: "loss",
        value: "LOSS",
        about: "What is minimised: `truncated-l1` (the paper) or `cross-entropy` (the alternative of its Table 3)",
        choices: &["truncated-l1", "cross-entropy"],
        get: |s| loss_name(&s.training.loss),
        set: |s, text| word(&LOSSES, text).map(|loss| s.training.loss = loss(s.training.loss.margins())),
    },
    Key {
        name: "margin-positive",
        value: "TH",
        about: "th+: good features should score above it",
        choices: &[],
        get: |s| Value::Float(s.training.loss.margins().positive),
        set: |s, text| number(text).map(|th| change_margins(&mut s.training.loss, |m| m.positive = th)),
    },
    Key {
        name: "margin-negative",
        value: "TH",
        about: "th-: anomaly features should score below it",
        choices: &[],
        get: |s| Value::Float(s.training.loss.margins().negative),
        set: |s, text| number(text).map(|th| change_margins(&mut s.training.loss, |m| m.negative = th)),
    },
    Key {
        name: "adaptor-optimizer",
        value: "NAME",
        about: "The adaptor's optimiser: `adam`, whose weight decay is added to the gradient, or `adamw`",
        choices: &["adam", "adamw"],
        get: |s| name_of(&OPTIMIZERS, &s.training.adaptor_rule.decoupled),
        set: |s, text| word(&OPTIMIZERS, text).map(|decoupled| s.training.adaptor_rule.decoupled = decoupled),
    },
    Key {
        name: "adaptor-learning-rate",
        value: "RATE",
        about: "The adaptor's learning rate",
        choices: &[],
        get: |s| Value::Float(s.training.adaptor_rule.learning_rate),
        set: |s, text| number(text).map(|rate| s.training.adaptor_rule.learning_rate = rate),
    },
    Key {
        name: "adaptor-weight-decay",
        value: "DECAY",
        about: "The adaptor's weight decay",
        choices: &[],
        get: |s| Value::Float(s.training.adaptor_rule.weight_decay),
        set: |s, text| number(text).map(|decay| s.training.adaptor_rule.weight_decay = decay),
    },
    Key {
        name: "discriminator-optimizer",
        value: "NAME",
        about: "The discriminator's optimiser: `adam`, whose weight decay is added to the gradient, or `adamw`",
        choices: &["adam", "adamw"],
        get: |s| name_of(&OPTIMIZERS, &s.training.discriminator_rule.decoupled),
        set: |s, text| {
            word(&OPTIMIZERS, text).map(|decoupled| s.training.discriminator_rule.decoupled = decoupled)
        },
    },
    Key {
        name: "discriminator-learning-rate",
        value: "RATE",
        about: "The discriminator's learning rate",
        choices: &[],
        get: |s| Value::Float(s.training.discriminator_rule.learning_rate),
        set: |s, text| number(text).map(|rate| s.training.discriminator_rule.learning_rate = rate),
    },
    Key {
        name: "discriminator-weight-decay",
        value: "DECAY",
        about: "The discriminator's weight decay",
        choices: &[],
        get: |s| Value::Float(s.training.discriminator_rule.weight_decay),
        set: |s, text| number(text).map(|decay| s.training.discriminator_rule.weight_decay = decay),
    },
    Key {
        name: "epochs",
        value: "N",
        about: "Passes over the training images",
        choices: &[],
        get: |s| Value::Integer(s.training.epochs.into()),
        set: |s, text| number(text).map(|epochs| s.training.epochs = epochs),
    },
    Key {
        name: "batch",
        value: "N",
        about: "Images a training step",
        choices: &[],
        get: |s| integer(s.training.batch),
        set: |s, text| number(text).map(|batch| s.training.batch = batch),
    },
    Key {
        name: "map-sigma",
        value: "SIGMA",
        about: "Smoothing of the map in pixels of the network's input",
        choices: &[],
        get: |s| Value::Float(s.map_sigma),
        set: |s, text| number(text).map(|sigma| s.map_sigma = sigma),
    },
];
