//! From image bytes to one feature vector a position.

use super::architecture::Architecture;
use super::resnet::ResNet;
use super::stages::{NORMALIZE, Watch, unwatched};
use crate::backend::{Aggregation, Backend, Result};
use crate::tensor::Tensor;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Which levels of the backbone give features: a non-empty subset of 1, 2, 3, ascending.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "Vec<usize>", into = "Vec<usize>")]
pub struct Levels(Vec<usize>);

/// A list of levels that is no subset of 1, 2, 3.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no list of backbone levels; give one or more of 1, 2, 3, such as 2,3")]
pub struct InvalidLevels(String);

impl Levels {
    /// The levels, ascending.
    pub fn as_slice(&self) -> &[usize] {
        &self.0
    }

    /// The shallowest level, whose grid the features have.
    pub fn shallowest(&self) -> usize {
        self.0[0]
    }

    /// The deepest level: the backbone ends there.
    pub fn deepest(&self) -> usize {
        self.0[self.0.len() - 1]
    }
}

impl Default for Levels {
    /// Levels 2 and 3 (the paper).
    fn default() -> Self {
        Self(vec![2, 3])
    }
}

impl TryFrom<Vec<usize>> for Levels {
    type Error = InvalidLevels;

    fn try_from(levels: Vec<usize>) -> std::result::Result<Self, InvalidLevels> {
        let ascending = levels.windows(2).all(|pair| pair[0] < pair[1]);
        if levels.is_empty() || !ascending || levels.iter().any(|level| !(1..=3).contains(level)) {
            return Err(InvalidLevels(levels.iter().map(usize::to_string).collect::<Vec<_>>().join(",")));
        }
        Ok(Self(levels))
    }
}

impl From<Levels> for Vec<usize> {
    fn from(levels: Levels) -> Self {
        levels.0
    }
}

impl FromStr for Levels {
    type Err = InvalidLevels;

    fn from_str(text: &str) -> std::result::Result<Self, InvalidLevels> {
        let mut levels = text
            .split([',', '+'])
            .map(|level| level.trim().parse().map_err(|_| InvalidLevels(text.to_owned())))
            .collect::<std::result::Result<Vec<usize>, _>>()?;
        levels.sort_unstable();
        Self::try_from(levels).map_err(|_| InvalidLevels(text.to_owned()))
    }
}

impl fmt::Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().map(usize::to_string).collect::<Vec<_>>().join(","))
    }
}

/// Backbone and aggregation: the frozen half of the detector.
#[derive(Debug)]
pub struct FeatureExtractor<B: Backend> {
    network: ResNet<B>,
    levels: Levels,
    aggregation: Aggregation,
    /// Channels that each level contributes.
    shares: Vec<usize>,
}

/// The tensors on the way from an image to its features.
#[derive(Debug)]
pub struct Stages<T> {
    /// The normalised input, `[N, H, W, 3]`.
    pub input: T,
    /// Outputs of layers 1, 2, … as far as they were computed.
    pub layers: Vec<T>,
    /// `[N, H0, W0, C]`.
    pub features: T,
}

impl<B: Backend> FeatureExtractor<B> {
    /// Builds the network as deep as `levels` needs.
    pub fn new(
        backend: &B,
        architecture: Architecture,
        tensors: &BTreeMap<String, Tensor<f32>>,
        levels: Levels,
        aggregation: Aggregation,
    ) -> Result<Self> {
        let network = ResNet::new(backend, architecture, tensors, levels.deepest())?;
        let widths: Vec<usize> =
            levels.as_slice().iter().map(|level| architecture.channels()[level - 1]).collect();
        let shares = widths.iter().map(|&width| aggregation.level_channels(width, widths.len())).collect();
        Ok(Self { network, levels, aggregation, shares })
    }

    /// Channels C of a feature vector.
    pub fn channels(&self) -> usize {
        self.shares.iter().sum()
    }

    /// The channels of a feature vector that each level contributes.
    pub fn level_channels(&self) -> &[usize] {
        &self.shares
    }

    /// The features' grid `(H0, W0)` for an input of `h × w` pixels: halved by the stem, by its pooling, and by
    /// every level after the first, rounding up.
    pub fn grid(&self, h: usize, w: usize) -> (usize, usize) {
        let halvings = self.levels.shallowest() + 1;
        let size = |input: usize| (0..halvings).fold(input, |size, _| size.div_ceil(2));
        (size(h), size(w))
    }

    /// How many images of `h × w` pixels pass the network together: eight of the usual 224 × 224, fewer of larger
    /// ones, so that activations take about the same memory whatever the size.
    pub fn images_per_pass(&self, h: usize, w: usize) -> usize {
        (8 * 224 * 224 / (h * w)).clamp(1, 64)
    }

    /// How many images of `h × w` pixels pass the network together at most: a GPU has room for more of them, and use.
    pub fn most_images(&self, backend: &B, h: usize, w: usize) -> usize {
        let usual = self.images_per_pass(h, w);
        if backend.works_beside_host() { (8 * usual).min(64).max(usual) } else { usual }
    }

    /// Features of u8 RGB images `[N, H, W, 3]`: `[N, H0, W0, C]`.
    pub fn features(&self, backend: &B, images: &B::Images) -> Result<B::Tensor> {
        self.features_watched(backend, images, &mut unwatched)
    }

    /// As [`FeatureExtractor::features`]; `watch` hears of every stage up to the last layer.
    pub fn features_watched(
        &self,
        backend: &B,
        images: &B::Images,
        watch: &mut Watch<'_>,
    ) -> Result<B::Tensor> {
        let layers = self.layers(backend, images, watch)?;
        self.aggregate(backend, layers).map(|(_, features)| features)
    }

    /// What each level contributes to the features, on its own grid, `[N, Hₗ, Wₗ, Cₗ]…`: all that a head needs which
    /// projects before it resizes. `watch` hears of every stage up to the last layer.
    pub fn levels(&self, backend: &B, images: &B::Images, watch: &mut Watch<'_>) -> Result<Vec<B::Tensor>> {
        self.levels_of(backend, &self.layers(backend, images, watch)?)
    }

    /// The outputs of layers 1, 2, ….
    fn layers(&self, backend: &B, images: &B::Images, watch: &mut Watch<'_>) -> Result<Vec<B::Tensor>> {
        let input = backend.normalize(images)?;
        watch(NORMALIZE)?;
        self.network.forward_watched(backend, &input, watch)
    }

    /// As [`FeatureExtractor::levels`], from the outputs of layers 1, 2, ….
    pub fn levels_of(&self, backend: &B, layers: &[B::Tensor]) -> Result<Vec<B::Tensor>> {
        let count = self.shares.len();
        let chosen = self.levels.as_slice().iter().map(|level| &layers[level - 1]);
        chosen.map(|layer| backend.aggregate_level(layer, &self.aggregation, count)).collect()
    }

    /// As [`FeatureExtractor::features`], keeping what lies between.
    pub fn stages(&self, backend: &B, images: &B::Images) -> Result<Stages<B::Tensor>> {
        let input = backend.normalize(images)?;
        let layers = self.network.forward(backend, &input)?;
        let (layers, features) = self.aggregate(backend, layers)?;
        Ok(Stages { input, layers, features })
    }

    /// Aggregates the chosen levels and hands the layers back.
    fn aggregate(&self, backend: &B, layers: Vec<B::Tensor>) -> Result<(Vec<B::Tensor>, B::Tensor)> {
        let chosen: Vec<&B::Tensor> = self.levels.as_slice().iter().map(|level| &layers[level - 1]).collect();
        let features = backend.aggregate(&chosen, &self.aggregation)?;
        Ok((layers, features))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_sorted_and_checked() {
        for text in ["3, 2", "2+3"] {
            assert_eq!(text.parse::<Levels>().unwrap(), Levels::default());
        }
        for bad in ["", "0", "4", "2,2", "two", "2,,3"] {
            assert!(bad.parse::<Levels>().is_err(), "{bad}");
        }
    }
}
