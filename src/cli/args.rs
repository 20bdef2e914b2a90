//! Flags as they are typed, shared by several verbs, and what they become.

use crate::backend::CachePrecision;
use crate::backend::cpu::Convolutions;
use crate::settings::Config;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Which images.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct DataArgs {
    /// A folder in MVTec AD's layout: many categories, or one. Without it: the built-in synthetic demo set.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["train_good", "test_good", "test_bad", "masks"])]
    pub data: Option<PathBuf>,
    /// Only this category of --data (with --one-class, this class); may be given several times.
    #[arg(long, value_name = "NAME", requires = "data")]
    pub category: Vec<String>,
    /// The classes of --data one by one, the others being each one's anomalies: CIFAR-10's binary version, or
    /// train/<class>/ and test/<class>/. Test images pass the backbone once for all models. They get scores and image
    /// metrics; no maps, overlays or boxes are made.
    #[arg(long, requires = "data", conflicts_with = "metrics_geometry")]
    pub one_class: bool,
    /// With --one-class, only the first N training and the first N test images of each class, for trying things out.
    /// Results say so wherever they are shown.
    #[arg(long, value_name = "N", requires = "one_class", value_parser = parse_subset)]
    pub subset: Option<usize>,
    /// A folder of good images to learn from, instead of --data.
    #[arg(long, value_name = "DIR")]
    pub train_good: Option<PathBuf>,
    /// A folder of good images to test on.
    #[arg(long, value_name = "DIR", requires = "train_good")]
    pub test_good: Option<PathBuf>,
    /// A folder of defective images to test on; subfolders are kinds of defects.
    #[arg(long, value_name = "DIR", requires = "train_good")]
    pub test_bad: Option<PathBuf>,
    /// A folder of masks for --test-bad, paired by file name. White is defect, or in a mask without white all but 0.
    #[arg(long, value_name = "DIR", requires = "test_bad")]
    pub masks: Option<PathBuf>,
    /// Do not turn images by their EXIF orientation.
    #[arg(long)]
    pub ignore_exif: bool,
    /// Stop at the first unreadable image instead of skipping it.
    #[arg(long)]
    pub strict: bool,
}

fn parse_subset(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(images @ 1..) => Ok(images),
        _ => Err("give a number of images a class, 1 or more".to_owned()),
    }
}

/// Which backbone.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct BackboneArgs {
    /// Backbone by torchvision's name, or `auto`: wide_resnet50_2 where its weights are installed, else the small
    /// one inside this program. [default: auto]
    #[arg(long, value_name = "NAME")]
    pub backbone: Option<String>,
    /// Weights: a safetensors or .pth file, `embedded`, or `synthetic:SEED` (random, for tests). Default: installed
    /// ones.
    #[arg(long, value_name = "FILE")]
    pub weights: Option<String>,
}

impl BackboneArgs {
    /// Name and weights: these flags, over what a configuration file says.
    pub(super) fn over<'a>(&'a self, config: &'a Config) -> (&'a str, Option<&'a str>) {
        let name = self.backbone.as_deref().or(config.backbone.as_deref()).unwrap_or("auto");
        // Another backbone's weights would not fit.
        let configured = if self.backbone.is_some() && self.backbone != config.backbone {
            None
        } else {
            config.weights.as_deref()
        };
        (name, self.weights.as_deref().or(configured))
    }
}

/// Where to compute.
#[derive(Args, Clone, Debug)]
pub(super) struct DeviceArgs {
    /// `auto`, `cpu` or `cuda[:N]`.
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Arithmetic: `f32`; on a GPU also `tf32` or `f16`; on a CPU with AVX512-BF16 or AMX also `bf16`.
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
    /// With fewer multiplications (Winograd) or faster ones (AMX); features within 1e-4 of the exact ones.
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
