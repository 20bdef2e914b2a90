//! How much work an image is, counted from the geometry of the network.
//!
//! In multiply–accumulate operations (MAC); a rate in FLOP/s counts two for each. Matrix products alone are counted:
//! convolutions, the head's projections and its last dot product, and the map's two products. A convolution counts what
//! its definition sums, whatever algorithm runs it: where Winograd's multiplies less, the rate reached may pass that of a
//! plain product. What resizes, averages, adds and compares is bound by memory and not counted.

use crate::backbone::architecture::{Architecture, Block, ParameterKind};
use crate::backbone::stages::{LAYERS, STEM};
use crate::head::{AdaptorKind, HeadConfig};

/// One convolution of the backbone, on one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Convolution {
    /// The stage it belongs to: [`STEM`] or one of [`LAYERS`].
    pub stage: &'static str,
    /// torchvision's name, such as `layer2.0.conv2`.
    pub name: String,
    /// `H'·W'·O·I·kh·kw`.
    pub macs: u64,
}

/// Half, rounded up: what every stride of two leaves of a side.
fn halved(side: usize) -> usize {
    side.div_ceil(2)
}

/// The sides of the outputs of layers 1 to 3 for a square input.
pub fn level_sides(side: usize) -> [usize; 3] {
    let first = halved(halved(side));
    [first, halved(first), halved(halved(first))]
}

/// Every convolution up to `deepest_level`, for one image of `side × side` pixels.
///
/// # Panics
/// If `deepest_level` is not 1, 2 or 3: that is a fault of the caller.
pub fn convolutions(architecture: Architecture, deepest_level: usize, side: usize) -> Vec<Convolution> {
    let sides = level_sides(side);
    let of_parameter = |name: &str| -> (&'static str, usize) {
        let Some((level, rest)) = name.strip_prefix("layer").and_then(|rest| rest.split_once('.')) else {
            return (STEM, halved(side));
        };
        let level: usize = level.parse().unwrap_or_else(|_| unreachable!("{name} names its layer"));
        // torchvision's bottleneck strides in its 3×3: its first convolution still sees the block's input.
        let before_stride = architecture.block() == Block::Bottleneck && rest.starts_with("0.conv1");
        let grid = match level {
            2 | 3 if before_stride => sides[level - 2],
            _ => sides[level - 1],
        };
        (LAYERS[level - 1], grid)
    };
    let convolutions = architecture.parameters(deepest_level).into_iter();
    convolutions
        .filter(|parameter| parameter.kind == ParameterKind::Convolution)
        .map(|parameter| {
            let (stage, grid) = of_parameter(&parameter.name);
            let weights: usize = parameter.shape.iter().product();
            let name = parameter.name.trim_end_matches(".weight").to_owned();
            Convolution { stage, name, macs: (grid * grid * weights) as u64 }
        })
        .collect()
}

/// The backbone up to `deepest_level`, for one image of `side × side` pixels.
pub fn backbone(architecture: Architecture, deepest_level: usize, side: usize) -> u64 {
    convolutions(architecture, deepest_level, side).iter().map(|convolution| convolution.macs).sum()
}

/// The head as it is deployed, on one image: `levels` are the rows (positions) and channels that each level
/// contributes. A head that folds projects every level on its own grid; the `mlp` adaptor works on joined features.
pub fn deployed_head(config: HeadConfig, levels: &[(usize, usize)]) -> u64 {
    let Some(&(rows, _)) = levels.first() else { return 0 };
    let (channels, hidden) = (config.channels, config.hidden);
    let projections: usize = match config.adaptor {
        AdaptorKind::Mlp => rows * channels * (channels + hidden),
        AdaptorKind::Linear | AdaptorKind::None => levels.iter().map(|(rows, c)| rows * c * hidden).sum(),
    };
    (projections + rows * hidden) as u64
}

/// The map of one image: `A·s`, then `·Bᵀ`, from a grid of `grid × grid` to `side × side`.
pub fn map(grid: usize, side: usize) -> u64 {
    (side * grid * grid + side * side * grid) as u64
}

/// One image in one epoch of the head's training: forward over q and q⁻, gradients of every weight and of every input
/// that is not a constant. Algorithm 1 as it is written; training does less of it, see [`crate::head::Head::record`].
pub fn trained_head(config: HeadConfig, rows: usize) -> u64 {
    let (channels, hidden) = (config.channels, config.hidden);
    // Forward, gradient of the weight, and, behind an adaptor, of the input; over twice the rows.
    let (adaptor, passes) = match config.adaptor {
        AdaptorKind::None => (0, 2),
        AdaptorKind::Linear | AdaptorKind::Mlp => (2 * channels * channels, 3),
    };
    // The last dot product: forward, weight, input.
    (rows * (adaptor + 2 * passes * channels * hidden + 2 * 3 * hidden)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn giga(macs: u64) -> f64 {
        (macs as f64 / 1e7).round() / 100.0
    }

    fn head(adaptor: AdaptorKind) -> HeadConfig {
        HeadConfig { channels: 1536, adaptor, adaptor_bias: false, hidden: 1024, feature_scale: 1.0 }
    }

    /// The figures of the design for the paper's network at 224 px.
    #[test]
    fn the_papers_network() {
        assert_eq!(giga(backbone(Architecture::WideResnet50_2, 3, 224)), 9.19);
        let (fine, coarse) = (28 * 28, 14 * 14);
        let mean = [(fine, 512), (coarse, 1024)];
        assert_eq!(giga(deployed_head(head(AdaptorKind::Linear), &mean)), 0.62);
        assert_eq!(giga(deployed_head(head(AdaptorKind::Linear), &[(fine, 768), (coarse, 768)])), 0.77);
        // Folded alone, on the joined features: 1.23. With its adaptor before it: 3.08.
        assert_eq!(giga(deployed_head(head(AdaptorKind::None), &[(fine, 1536)])), 1.23);
        assert_eq!(giga(deployed_head(head(AdaptorKind::Mlp), &mean)), 3.08);
        assert_eq!(map(28, 224), 224 * 28 * 28 + 224 * 224 * 28);
        assert_eq!(giga(trained_head(head(AdaptorKind::Linear), fine)).round(), 11.0);
        // Stride-1 3×3 convolutions: 5.1 of the 9.19.
        let three_by_three: u64 = convolutions(Architecture::WideResnet50_2, 3, 224)
            .iter()
            .filter(|c| {
                c.name.ends_with("conv2") && !["layer2.0.conv2", "layer3.0.conv2"].contains(&&*c.name)
            })
            .map(|c| c.macs)
            .sum();
        assert_eq!((three_by_three as f64 / 1e8).round() / 10.0, 5.1);
    }

    /// Layer by layer, from the sizes that torchvision prints.
    #[test]
    fn by_hand() {
        let slim = convolutions(Architecture::Resnet18Slim, 2, 64);
        let expected = [
            ("conv1", 32 * 32 * 32 * 3 * 49),
            ("layer1.0.conv1", 16 * 16 * 32 * 32 * 9),
            ("layer1.0.conv2", 16 * 16 * 32 * 32 * 9),
            ("layer1.1.conv1", 16 * 16 * 32 * 32 * 9),
            ("layer1.1.conv2", 16 * 16 * 32 * 32 * 9),
            ("layer2.0.conv1", 8 * 8 * 64 * 32 * 9),
            ("layer2.0.conv2", 8 * 8 * 64 * 64 * 9),
            ("layer2.0.downsample.0", 8 * 8 * 64 * 32),
            ("layer2.1.conv1", 8 * 8 * 64 * 64 * 9),
            ("layer2.1.conv2", 8 * 8 * 64 * 64 * 9),
        ];
        let ours: Vec<(&str, u64)> = slim.iter().map(|c| (c.name.as_str(), c.macs)).collect();
        assert_eq!(ours, expected);
        assert_eq!((slim[0].stage, slim[1].stage, slim[9].stage), ("stem", "layer1", "layer2"));

        let wide = convolutions(Architecture::WideResnet50_2, 3, 224);
        let macs = |name: &str| wide.iter().find(|c| c.name == name).unwrap().macs;
        assert_eq!(macs("layer1.0.conv1"), 56 * 56 * 128 * 64);
        assert_eq!(macs("layer1.0.downsample.0"), 56 * 56 * 256 * 64);
        // The stride sits in the 3×3: the 1×1 before it still sees 56 × 56.
        assert_eq!(macs("layer2.0.conv1"), 56 * 56 * 256 * 256);
        assert_eq!(macs("layer2.0.conv2"), 28 * 28 * 256 * 256 * 9);
        assert_eq!(macs("layer2.0.downsample.0"), 28 * 28 * 512 * 256);
        assert_eq!(macs("layer3.0.conv1"), 28 * 28 * 512 * 512);
        assert_eq!(macs("layer3.5.conv3"), 14 * 14 * 1024 * 512);

        // A head of two inputs and three hidden units on one position.
        let tiny =
            |adaptor| HeadConfig { channels: 2, adaptor, adaptor_bias: false, hidden: 3, feature_scale: 1.0 };
        assert_eq!(deployed_head(tiny(AdaptorKind::Linear), &[(1, 2)]), 2 * 3 + 3);
        // G: 4 forward, 4 backward. D on two rows: 6 forward, 6 and 6 backward; the last layer 3, 3 and 3.
        assert_eq!(trained_head(tiny(AdaptorKind::Linear), 1), 8 + 2 * 18 + 2 * 9);
        assert_eq!(trained_head(tiny(AdaptorKind::None), 1), 2 * 12 + 2 * 9);
    }

    #[test]
    fn odd_sides_round_up_as_the_network_does() {
        assert_eq!(level_sides(224), [56, 28, 14]);
        assert_eq!(level_sides(288), [72, 36, 18]);
        assert_eq!(level_sides(37), [10, 5, 3]);
    }
}
