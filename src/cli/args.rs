//! Flags as they are typed, shared by several verbs, and what they become.

use crate::backbone::Levels;
use crate::backend::cpu::Convolutions;
use crate::backend::{AggregationMode, CachePrecision, Loss};
use crate::data::Fit;
use crate::head::AdaptorKind;
use crate::settings::{Preset, Settings};
use clap::builder::RangedU64ValueParser;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Which images.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct DataArgs {
    /// A folder in MVTec AD's layout: many categories, or one. Without it: the built-in synthetic demo set.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["train_good", "test_good", "test_bad", "masks"])]
    pub data: Option<PathBuf>,
    /// Only this category of --data; may be given several times.
    #[arg(long, value_name = "NAME", requires = "data")]
    pub category: Vec<String>,
    /// A folder of good images to learn from, instead of --data.
    #[arg(long, value_name = "DIR")]
    pub train_good: Option<PathBuf>,
    /// A folder of good images to test on.
    #[arg(long, value_name = "DIR", requires = "train_good")]
    pub test_good: Option<PathBuf>,
    /// A folder of defective images to test on; subfolders are kinds of defects.
    #[arg(long, value_name = "DIR", requires = "train_good")]
    pub test_bad: Option<PathBuf>,
    /// A folder of masks for --test-bad, paired by file name.
    #[arg(long, value_name = "DIR", requires = "test_bad")]
    pub masks: Option<PathBuf>,
    /// Do not turn images by their EXIF orientation.
    #[arg(long)]
    pub ignore_exif: bool,
    /// Stop at the first unreadable image instead of skipping it.
    #[arg(long)]
    pub strict: bool,
}

/// Which backbone.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct BackboneArgs {
    /// Backbone by torchvision's name, or `auto`: wide_resnet50_2 where its weights are installed, else the small
    /// one inside this program.
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub backbone: String,
    /// Weights: a safetensors or .pth file, `embedded`, or `synthetic:SEED` (random, for tests). Default: installed
    /// ones.
    #[arg(long, value_name = "FILE")]
    pub weights: Option<String>,
}

/// Where to compute.
#[derive(Args, Clone, Debug)]
pub(super) struct DeviceArgs {
    /// `auto`, `cpu` or `cuda[:N]`.
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Arithmetic: `f32`, or on a GPU also `tf32` or `f16`.
    #[arg(long, default_value = "f32")]
    pub precision: String,
    /// How the backbone's convolutions are computed. A GPU computes both alike so far.
    #[arg(long, value_enum, default_value = "fast")]
    pub conv: ConvolutionsName,
    /// CPU threads; results do not depend on their number. Default: all.
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

/// How convolutions are computed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum ConvolutionsName {
    /// Every product of the definition, summed.
    Exact,
    /// With fewer multiplications (Winograd); features within 1e-4 of the exact ones.
    Fast,
}

impl ConvolutionsName {
    /// As it is typed.
    pub(super) fn name(self) -> &'static str {
        match self {
            ConvolutionsName::Exact => "exact",
            ConvolutionsName::Fast => "fast",
        }
    }
}

impl From<ConvolutionsName> for Convolutions {
    fn from(name: ConvolutionsName) -> Self {
        match name {
            ConvolutionsName::Exact => Self::Exact,
            ConvolutionsName::Fast => Self::Fast,
        }
    }
}

/// A preset by its name.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum PresetName {
    /// What the paper describes.
    Paper,
    /// What the authors' repository runs.
    Official,
}

/// How an image becomes the network's input.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum FitName {
    /// Resize the shorter side, cut out the centre (the paper); borders are not inspected.
    Crop,
    /// Resize the whole image to the network's size; nothing is lost.
    Stretch,
}

/// How levels are joined.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum AggregationName {
    /// The paper.
    Mean,
    /// The authors' code.
    Patchcore,
}

/// The adaptor.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum AdaptorName {
    /// One linear layer.
    Linear,
    /// Linear, then LeakyReLU.
    Mlp,
    /// None.
    None,
}

/// What is minimised.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum LossName {
    /// The paper.
    TruncatedL1,
    /// The alternative of its Table 3.
    CrossEntropy,
}

/// The largest side an image is resized to. A slip of the finger is refused here, before it asks for all memory.
const MAX_SIDE: i64 = 16_384;

/// Reads a number up to `most`.
fn count(most: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(..=most)
}

/// Settings that shape a model; each overrides the preset's value.
#[derive(Args, Clone, Debug)]
pub(super) struct SettingsArgs {
    /// Starting values of all settings.
    #[arg(long, value_enum, default_value = "paper")]
    pub preset: PresetName,
    /// Passes over the training images.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    pub epochs: Option<u32>,
    /// Images a training step.
    #[arg(long, value_name = "N", value_parser = count(65_536))]
    pub batch: Option<usize>,
    /// How images meet the network's input size.
    #[arg(long, value_enum)]
    pub fit: Option<FitName>,
    /// Size the shorter side is resized to, with --fit crop.
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(..=MAX_SIDE))]
    pub resize: Option<u32>,
    /// Side of the network's input.
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(..=MAX_SIDE))]
    pub size: Option<u32>,
    /// Backbone levels, such as 2,3.
    #[arg(long, value_name = "LIST")]
    pub levels: Option<Levels>,
    /// Side of the neighbourhood that is averaged: 1, 3, 5 or 7.
    #[arg(long, value_name = "P")]
    pub patch: Option<usize>,
    /// How neighbourhoods and levels become one vector.
    #[arg(long, value_enum)]
    pub aggregation: Option<AggregationName>,
    /// The adaptor.
    #[arg(long, value_enum)]
    pub adaptor: Option<AdaptorName>,
    /// Width of the discriminator's hidden layer.
    #[arg(long, value_name = "N", value_parser = count(65_536))]
    pub hidden: Option<usize>,
    /// Standard deviation of the noise that makes anomaly features.
    #[arg(long, value_name = "SIGMA")]
    pub noise_sigma: Option<f64>,
    /// What is minimised.
    #[arg(long, value_enum)]
    pub loss: Option<LossName>,
    /// Smoothing of the map in pixels of the network's input.
    #[arg(long, value_name = "SIGMA")]
    pub map_sigma: Option<f64>,
}

impl SettingsArgs {
    /// The preset with every given flag applied.
    pub(super) fn settings(&self) -> anyhow::Result<Settings> {
        let mut settings = Settings::preset(match self.preset {
            PresetName::Paper => Preset::Paper,
            PresetName::Official => Preset::Official,
        });
        let (features, training) = (&mut settings.features, &mut settings.training);
        let set = |value: &mut usize, flag: Option<usize>| *value = flag.unwrap_or(*value);
        training.epochs = self.epochs.unwrap_or(training.epochs);
        set(&mut training.batch, self.batch);
        set(&mut training.hidden, self.hidden);
        set(&mut features.aggregation.patch, self.patch);
        training.noise_sigma = self.noise_sigma.unwrap_or(training.noise_sigma);
        settings.map_sigma = self.map_sigma.unwrap_or(settings.map_sigma);
        if let Some(fit) = self.fit {
            features.preprocess.fit = match fit {
                FitName::Crop => Fit::Crop,
                FitName::Stretch => Fit::Stretch,
            };
        }
        if let Some(size) = self.size {
            features.preprocess = features.preprocess.with_side(size);
        }
        features.preprocess.resize = self.resize.unwrap_or(features.preprocess.resize);
        if let Some(levels) = &self.levels {
            features.levels = levels.clone();
        }
        if let Some(aggregation) = self.aggregation {
            features.aggregation.mode = match aggregation {
                AggregationName::Mean => AggregationMode::Mean,
                AggregationName::Patchcore => AggregationMode::PatchCore,
            };
        }
        if let Some(adaptor) = self.adaptor {
            training.adaptor = match adaptor {
                AdaptorName::Linear => AdaptorKind::Linear,
                AdaptorName::Mlp => AdaptorKind::Mlp,
                AdaptorName::None => AdaptorKind::None,
            };
        }
        if let Some(loss) = self.loss {
            let margins = training.loss.margins();
            training.loss = match loss {
                LossName::TruncatedL1 => Loss::TruncatedL1(margins),
                LossName::CrossEntropy => Loss::CrossEntropy(margins),
            };
        }
        settings.validate()?;
        Ok(settings)
    }
}

/// Element type of the feature cache.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum CacheName {
    /// Exact.
    F32,
    /// Half the memory, relative error 2⁻¹¹.
    F16,
}

impl From<CacheName> for CachePrecision {
    fn from(name: CacheName) -> Self {
        match name {
            CacheName::F32 => Self::F32,
            CacheName::F16 => Self::F16,
        }
    }
}

/// Reads a number of bytes such as `4GiB`, `500MB` or `1073741824`.
pub(super) fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: u64 = match &text[digits.len()..] {
        "" | "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" | "K" => 1 << 10,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        unit => return Err(format!("`{unit}` is no unit of size; write 500MB or 4GiB")),
    };
    let number: u64 =
        digits.trim().parse().map_err(|_| format!("`{text}` is no size; write 500MB or 4GiB"))?;
    number.checked_mul(factor).ok_or_else(|| format!("{text} is more than can be counted"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_units() {
        assert_eq!(parse_bytes("4GiB"), Ok(4 << 30));
        assert_eq!(parse_bytes("500MB"), Ok(500_000_000));
        assert_eq!(parse_bytes("12"), Ok(12));
        for bad in ["", "GiB", "4 parsecs", "-1", "99999999999999999999GiB", "9999999999999GiB"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }
}
