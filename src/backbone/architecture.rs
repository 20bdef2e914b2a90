//! The residual networks a backbone can be, and the tensors each of them consists of.
//!
//! K. He et al., "Deep residual learning", CVPR 2016, in torchvision's form: the stride of a bottleneck sits in its
//! 3×3 convolution. Layer 4 and the classifier are never built, so nothing here describes them.

use std::fmt;
use std::str::FromStr;

/// A residual network, by torchvision's name. `Resnet18Slim` is this project's own: ResNet18 at half width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Architecture {
    /// `resnet18_slim`: ResNet18 with 32, 64 and 128 channels instead of 64, 128 and 256.
    Resnet18Slim,
    /// `resnet18`.
    Resnet18,
    /// `resnet34`.
    Resnet34,
    /// `resnet50`.
    Resnet50,
    /// `resnet101`.
    Resnet101,
    /// `wide_resnet50_2`: ResNet50 with twice the width inside its bottlenecks. The paper's backbone.
    WideResnet50_2,
    /// `wide_resnet101_2`: ResNet101 with twice the width inside its bottlenecks.
    WideResnet101_2,
}

/// What one residual block consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// Two 3×3 convolutions; the first carries the stride.
    Basic,
    /// 1×1, 3×3 (with the stride) and 1×1 convolution; the last widens fourfold.
    Bottleneck,
}

/// What a tensor of the backbone is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// A convolution's weight, `[O, I, kh, kw]`. No convolution of these networks has a bias.
    Convolution,
    /// γ of a batch normalisation, `[O]`.
    Scale,
    /// β of a batch normalisation, `[O]`.
    Shift,
    /// The running mean of a batch normalisation, `[O]`.
    RunningMean,
    /// The running variance of a batch normalisation, `[O]`.
    RunningVariance,
}

/// Where in the network a tensor stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The stem: `conv1`, `bn1`.
    Stem,
    /// Inside a block's residual branch, before its last convolution.
    Branch,
    /// The last convolution of a residual branch and its normalisation: what is added to the stream.
    BranchEnd,
    /// The projection of a block whose shape changes: `downsample`.
    Shortcut,
}

/// One tensor of a backbone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterSpec {
    /// torchvision's name, such as `layer2.0.downsample.1.running_var`.
    pub name: String,
    /// `[O, I, kh, kw]` for a convolution, `[O]` otherwise.
    pub shape: Vec<usize>,
    /// What it is.
    pub kind: ParameterKind,
    /// Where it stands.
    pub place: Place,
}

/// A name that is none of [`Architecture::ALL`].
#[derive(Debug, thiserror::Error)]
#[error("`{name}` is no known backbone; choose one of {}", Architecture::ALL.map(Architecture::name).join(", "))]
pub struct UnknownArchitecture {
    /// What was asked for.
    pub name: String,
}

impl Architecture {
    /// Every architecture, smallest first.
    pub const ALL: [Self; 7] = [
        Self::Resnet18Slim,
        Self::Resnet18,
        Self::Resnet34,
        Self::Resnet50,
        Self::Resnet101,
        Self::WideResnet50_2,
        Self::WideResnet101_2,
    ];

    /// The deepest level that is ever built.
    pub const DEEPEST_LEVEL: usize = 3;

    /// torchvision's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Resnet18Slim => "resnet18_slim",
            Self::Resnet18 => "resnet18",
            Self::Resnet34 => "resnet34",
            Self::Resnet50 => "resnet50",
            Self::Resnet101 => "resnet101",
            Self::WideResnet50_2 => "wide_resnet50_2",
            Self::WideResnet101_2 => "wide_resnet101_2",
        }
    }

    /// The kind of every block.
    pub const fn block(self) -> Block {
        match self {
            Self::Resnet18Slim | Self::Resnet18 | Self::Resnet34 => Block::Basic,
            Self::Resnet50 | Self::Resnet101 | Self::WideResnet50_2 | Self::WideResnet101_2 => {
                Block::Bottleneck
            }
        }
    }

    /// Output channels of the stem.
    pub const fn stem_width(self) -> usize {
        match self {
            Self::Resnet18Slim => 32,
            _ => 64,
        }
    }

    /// Blocks of layers 1, 2 and 3.
    pub const fn blocks(self) -> [usize; 3] {
        match self {
            Self::Resnet18Slim | Self::Resnet18 => [2, 2, 2],
            Self::Resnet34 | Self::Resnet50 | Self::WideResnet50_2 => [3, 4, 6],
            Self::Resnet101 | Self::WideResnet101_2 => [3, 4, 23],
        }
    }

    /// Output channels of layers 1, 2 and 3.
    pub const fn channels(self) -> [usize; 3] {
        let width = self.stem_width()
            * match self.block() {
                Block::Basic => 1,
                Block::Bottleneck => 4,
            };
        [width, 2 * width, 4 * width]
    }

    /// Width inside the residual branches of layers 1, 2 and 3: that of the 3×3 convolution of a bottleneck
    /// (torchvision's `width_per_group` scaled by the level), the layer's own width for basic blocks.
    pub const fn inner_widths(self) -> [usize; 3] {
        let width = match self {
            Self::WideResnet50_2 | Self::WideResnet101_2 => 2 * self.stem_width(),
            _ => self.stem_width(),
        };
        [width, 2 * width, 4 * width]
    }

    /// Stride of the first block of layer `level` (1 to 3).
    pub const fn stride(level: usize) -> usize {
        if level == 1 { 1 } else { 2 }
    }

    /// Channels that enter layer `level` (1 to 3).
    pub const fn input_channels(self, level: usize) -> usize {
        if level == 1 { self.stem_width() } else { self.channels()[level - 2] }
    }

    /// Whether the first block of layer `level` projects its shortcut, as it does when the shape changes.
    pub const fn projects_shortcut(self, level: usize) -> bool {
        Self::stride(level) != 1 || self.input_channels(level) != self.channels()[level - 1]
    }

    /// Every tensor needed to compute the outputs of layers 1 to `deepest_level`, in the order of torchvision's
    /// `state_dict()`, without `num_batches_tracked`.
    ///
    /// # Panics
    /// If `deepest_level` is not 1, 2 or 3: that is a fault of the caller.
    pub fn parameters(self, deepest_level: usize) -> Vec<ParameterSpec> {
        assert!((1..=Self::DEEPEST_LEVEL).contains(&deepest_level), "there is no layer {deepest_level}");
        let mut list = List::default();
        list.convolution("conv1", [self.stem_width(), 3, 7, 7], Place::Stem);
        list.normalisation("bn1", self.stem_width(), Place::Stem);
        for level in 1..=deepest_level {
            let (output, inner) = (self.channels()[level - 1], self.inner_widths()[level - 1]);
            let mut input = self.input_channels(level);
            for index in 0..self.blocks()[level - 1] {
                let block = format!("layer{level}.{index}");
                let convolutions: &[(usize, usize, usize)] = match self.block() {
                    Block::Basic => &[(inner, input, 3), (output, inner, 3)],
                    Block::Bottleneck => &[(inner, input, 1), (inner, inner, 3), (output, inner, 1)],
                };
                for (number, &(o, i, k)) in (1..).zip(convolutions) {
                    let place = if number == convolutions.len() { Place::BranchEnd } else { Place::Branch };
                    list.convolution(&format!("{block}.conv{number}"), [o, i, k, k], place);
                    list.normalisation(&format!("{block}.bn{number}"), o, place);
                }
                if index == 0 && self.projects_shortcut(level) {
                    list.convolution(
                        &format!("{block}.downsample.0"),
                        [output, input, 1, 1],
                        Place::Shortcut,
                    );
                    list.normalisation(&format!("{block}.downsample.1"), output, Place::Shortcut);
                }
                input = output;
            }
        }
        list.0
    }
}

/// A list of parameters under construction.
#[derive(Default)]
struct List(Vec<ParameterSpec>);

impl List {
    fn convolution(&mut self, module: &str, shape: [usize; 4], place: Place) {
        let name = format!("{module}.weight");
        self.0.push(ParameterSpec { name, shape: shape.into(), kind: ParameterKind::Convolution, place });
    }

    fn normalisation(&mut self, module: &str, channels: usize, place: Place) {
        for (suffix, kind) in [
            ("weight", ParameterKind::Scale),
            ("bias", ParameterKind::Shift),
            ("running_mean", ParameterKind::RunningMean),
            ("running_var", ParameterKind::RunningVariance),
        ] {
            self.0.push(ParameterSpec {
                name: format!("{module}.{suffix}"),
                shape: vec![channels],
                kind,
                place,
            });
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Architecture {
    type Err = UnknownArchitecture;

    fn from_str(name: &str) -> Result<Self, UnknownArchitecture> {
        Self::ALL
            .into_iter()
            .find(|a| a.name() == name)
            .ok_or_else(|| UnknownArchitecture { name: name.to_owned() })
    }
}

impl TryFrom<String> for Architecture {
    type Error = UnknownArchitecture;

    fn try_from(name: String) -> Result<Self, UnknownArchitecture> {
        name.parse()
    }
}

impl From<Architecture> for String {
    fn from(architecture: Architecture) -> Self {
        architecture.name().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A network's tensors: name and shape.
    type Tensors = Vec<(String, Vec<usize>)>;

    /// Names and shapes of the six torchvision networks, stem to layer 3, in `state_dict()` order; written by
    /// `tests/fixtures/weights/make_architectures.py`. A line is `BLOCK` or `BLOCK-LAST` (equal blocks up to
    /// that number) and then `tensor=shape` pairs.
    fn torchvision() -> Vec<(Architecture, Tensors)> {
        let text = include_str!("../../tests/fixtures/weights/architectures.txt");
        let mut networks: Vec<(Architecture, Tensors)> = Vec::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some(name) = line.strip_prefix("network ") {
                networks.push((name.parse().unwrap(), Vec::new()));
                continue;
            }
            let mut words = line.split_whitespace();
            let place = words.next().unwrap();
            let tensors: Vec<(&str, Vec<usize>)> = words
                .map(|word| word.split_once('=').unwrap())
                .map(|(name, shape)| (name, shape.split('x').map(|n| n.parse().unwrap()).collect()))
                .collect();
            let blocks: Vec<String> = match place.split_once('.') {
                None => vec![String::new()],
                Some((layer, range)) => {
                    let (first, last) = range.split_once('-').unwrap_or((range, range));
                    let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
                    (first..=last).map(|index| format!("{layer}.{index}.")).collect()
                }
            };
            let list = &mut networks.last_mut().unwrap().1;
            for block in blocks {
                list.extend(tensors.iter().map(|(name, shape)| (format!("{block}{name}"), shape.clone())));
            }
        }
        networks
    }

    #[test]
    fn tensors_are_torchvisions() {
        let networks = torchvision();
        assert_eq!(networks.len(), 6);
        for (architecture, expected) in networks {
            let list = architecture.parameters(3);
            let ours: Vec<_> = list.into_iter().map(|p| (p.name, p.shape)).collect();
            assert_eq!(ours, expected, "{architecture}");
        }
    }

    #[test]
    fn shallower_lists_are_prefixes() {
        for architecture in Architecture::ALL {
            let whole = architecture.parameters(3);
            for level in 1..=2 {
                let list = architecture.parameters(level);
                assert_eq!(list, whole[..list.len()]);
                assert!(whole[list.len()].name.starts_with(&format!("layer{}.0.", level + 1)));
            }
        }
    }

    #[test]
    fn the_slim_network_has_the_published_size() {
        let values = |list: Vec<ParameterSpec>| -> usize {
            let learned = |p: &ParameterSpec| {
                matches!(p.kind, ParameterKind::Convolution | ParameterKind::Scale | ParameterKind::Shift)
            };
            list.iter().filter(|p| learned(p)).map(|p| p.shape.iter().product::<usize>()).sum()
        };
        assert_eq!(values(Architecture::Resnet18Slim.parameters(3)), 699_168);
        assert_eq!(values(Architecture::Resnet18.parameters(3)), 2_782_784);
    }

    #[test]
    fn names_go_there_and_back() {
        for architecture in Architecture::ALL {
            assert_eq!(architecture.to_string().parse::<Architecture>().unwrap(), architecture);
            let json = serde_json::to_string(&architecture).unwrap();
            assert_eq!(json, format!("\"{architecture}\""));
            assert_eq!(serde_json::from_str::<Architecture>(&json).unwrap(), architecture);
        }
        let error = "resnet152".parse::<Architecture>().unwrap_err().to_string();
        assert!(error.contains("resnet152") && error.contains("wide_resnet50_2"), "{error}");
    }
}
