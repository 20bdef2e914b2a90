//! What features are multiplied by before they meet the head.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What features are multiplied by before they meet the head.
///
/// The noise's σ is absolute: 0.015 was chosen for features whose channels deviate by 0.1 to 0.2, those of torchvision's
/// ImageNet weights of version 1. Features of another scale need another σ, or this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum FeatureScale {
    /// Decided by the backbone's weights: [`FeatureScale::None`] for those that σ = 0.015 was chosen for, else
    /// [`FeatureScale::Auto`].
    ByWeights,
    /// The factor that brings the mean standard deviation of the training features' channels to that scale, measured once
    /// for a category.
    Auto,
    /// As the backbone gives them.
    #[default]
    None,
    /// A given factor.
    Factor(f64),
}

/// Text that names no feature scale.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no feature scale; choose by-weights, auto, none, or a positive number")]
pub struct InvalidFeatureScale(String);

impl FeatureScale {
    /// What [`FeatureScale::ByWeights`] means for weights that have the scale the noise presumes, or may not have it.
    pub fn settled(self, has_v1_scale: bool) -> Self {
        match self {
            Self::ByWeights if has_v1_scale => Self::None,
            Self::ByWeights => Self::Auto,
            decided => decided,
        }
    }
}

impl FromStr for FeatureScale {
    type Err = InvalidFeatureScale;

    fn from_str(text: &str) -> Result<Self, InvalidFeatureScale> {
        match text {
            "by-weights" => Ok(Self::ByWeights),
            "auto" => Ok(Self::Auto),
            "none" => Ok(Self::None),
            _ => match text.parse() {
                Ok(factor) if f64::is_finite(factor) && factor > 0.0 => Ok(Self::Factor(factor)),
                _ => Err(InvalidFeatureScale(text.to_owned())),
            },
        }
    }
}

impl fmt::Display for FeatureScale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByWeights => f.write_str("by-weights"),
            Self::Auto => f.write_str("auto"),
            Self::None => f.write_str("none"),
            Self::Factor(factor) => write!(f, "{factor}"),
        }
    }
}

impl TryFrom<String> for FeatureScale {
    type Error = InvalidFeatureScale;

    fn try_from(text: String) -> Result<Self, InvalidFeatureScale> {
        text.parse()
    }
}

impl From<FeatureScale> for String {
    fn from(scale: FeatureScale) -> Self {
        scale.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_reads_back_as_it_is_written() {
        for scale in [
            FeatureScale::ByWeights,
            FeatureScale::Auto,
            FeatureScale::None,
            FeatureScale::Factor(0.1 + 0.2),
            FeatureScale::Factor(4.0),
        ] {
            let json = serde_json::to_string(&scale).unwrap();
            assert_eq!(serde_json::from_str::<FeatureScale>(&json).unwrap(), scale, "{json}");
        }
        for bad in ["", "Auto", "0", "-1", "inf", "NaN", "1,5"] {
            assert!(bad.parse::<FeatureScale>().is_err(), "{bad}");
        }
    }
}
