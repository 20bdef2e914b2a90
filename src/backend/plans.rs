//! What operations compute from sizes alone, in `f64`, once: interpolation taps, Gaussian matrices, pooling bins.

use crate::tensor::Tensor;

/// How the levels of the backbone become one feature vector a position (Eq. 1–4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Aggregation {
    /// Paper or authors' code.
    pub mode: AggregationMode,
    /// Side p of the neighbourhood, odd.
    pub patch: usize,
}

/// What is averaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AggregationMode {
    /// The paper: the p×p mean of every channel; channels of all levels side by side.
    Mean,
    /// The authors' code (from PatchCore): a level's unfolded `(c, kh, kw)` vector goes through
    /// `adaptive_avg_pool1d` to 1536, the levels are stacked, and pooled again to 1536.
    PatchCore,
}

impl Aggregation {
    /// Length of both adaptive poolings of [`AggregationMode::PatchCore`].
    pub const PATCHCORE_CHANNELS: usize = 1536;

    /// Channels of the result, given those of the levels.
    pub fn output_channels(&self, levels: &[usize]) -> usize {
        levels.iter().map(|&channels| self.level_channels(channels, levels.len())).sum()
    }

    /// Channels one level contributes. In `PatchCore` mode the second pooling averages `levels` neighbours of the
    /// stacked vectors; 1536 is divisible by 1, 2 and 3, so no group straddles two levels and each level fills an
    /// equal share.
    pub fn level_channels(&self, channels: usize, levels: usize) -> usize {
        match self.mode {
            AggregationMode::Mean => channels,
            AggregationMode::PatchCore => Self::PATCHCORE_CHANNELS / levels,
        }
    }

    /// For `PatchCore`: the ranges of a level's unfolded vector whose means are averaged into each of the level's
    /// output channels: `levels` ranges an output.
    pub fn patchcore_bins(&self, channels: usize, levels: usize) -> Vec<std::ops::Range<usize>> {
        let length = channels * self.patch * self.patch;
        (0..Self::PATCHCORE_CHANNELS / levels * levels)
            .map(|bin| adaptive_bin(bin, length, Self::PATCHCORE_CHANNELS))
            .collect()
    }
}

/// Bin `i` of `adaptive_avg_pool1d` from `length` to `bins`: `[⌊i·L/n⌋, ⌈(i+1)·L/n⌉)`.
fn adaptive_bin(i: usize, length: usize, bins: usize) -> std::ops::Range<usize> {
    i * length / bins..((i + 1) * length).div_ceil(bins)
}

/// The two taps of one output position of a bilinear resize along one axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interpolation {
    /// The first source index.
    pub low: usize,
    /// The second source index (equal to `low` at the border).
    pub high: usize,
    /// Weight of the second; the first has `1 − weight`.
    pub weight: f64,
}

impl Interpolation {
    /// `torch.nn.functional.interpolate(mode="bilinear", align_corners=False)` along one axis:
    /// source = `(i + ½)·input/output − ½`, clamped at zero.
    pub fn axis(input: usize, output: usize) -> Vec<Self> {
        let scale = input as f64 / output as f64;
        (0..output)
            .map(|i| {
                let source = ((i as f64 + 0.5) * scale - 0.5).max(0.0);
                let low = (source as usize).min(input - 1);
                Self { low, high: (low + 1).min(input - 1), weight: source - low as f64 }
            })
            .collect()
    }
}

/// The matrix `[output, input]` of a bilinear upsampling followed by a Gaussian: one side of `A·s·Bᵀ`.
///
/// The Gaussian is `scipy.ndimage.gaussian_filter1d` with its defaults: radius `⌊4σ + ½⌋`, normalised weights,
/// border `reflect` (d c b a | a b c d | d c b a). σ = 0 leaves the upsampling alone.
pub fn gaussian_upsampling(input: usize, output: usize, sigma: f64) -> Tensor<f64> {
    let taps = Interpolation::axis(input, output);
    let radius = (4.0 * sigma + 0.5) as isize;
    let mut kernel: Vec<f64> = (-radius..=radius)
        .map(|x| if sigma > 0.0 { (-0.5 * (x as f64 / sigma).powi(2)).exp() } else { 1.0 })
        .collect();
    let sum: f64 = kernel.iter().sum();
    kernel.iter_mut().for_each(|weight| *weight /= sum);

    let mut matrix = vec![0.0; output * input];
    for (row, line) in matrix.chunks_exact_mut(input).enumerate() {
        for (offset, &weight) in (-radius..).zip(&kernel) {
            let tap = taps[reflect(row as isize + offset, output)];
            line[tap.low] += weight * (1.0 - tap.weight);
            line[tap.high] += weight * tap.weight;
        }
    }
    Tensor::new([output, input], matrix)
}

/// The index that `i` falls on when a signal of `length` is mirrored about its edges, edges repeated.
fn reflect(i: isize, length: usize) -> usize {
    let period = 2 * length as isize;
    let i = i.rem_euclid(period);
    (if i < length as isize { i } else { period - 1 - i }) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_the_upsampling_sum_to_one() {
        for (input, output, sigma) in [(28, 224, 4.0), (5, 17, 0.0), (1, 9, 4.0), (3, 2, 1.5)] {
            for row in gaussian_upsampling(input, output, sigma).data().chunks_exact(input) {
                assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            }
        }
    }

    /// `torch.nn.functional.adaptive_avg_pool1d` of `[0, 1, 4, 9, 16]` to 3 gives `[0.5, 14/3, 12.5]`.
    #[test]
    fn adaptive_bins_are_pytorchs() {
        let bins: Vec<_> = (0..3).map(|i| adaptive_bin(i, 5, 3)).collect();
        assert_eq!(bins, [0..2, 1..4, 3..5]);
    }

    /// WRN50: every output of layer2 is the mean of 2·3 entries, of layer3 of 2·6, all consecutive.
    #[test]
    fn patchcore_bins_of_the_default_backbone() {
        let aggregation = Aggregation { mode: AggregationMode::PatchCore, patch: 3 };
        for (channels, width) in [(512, 3), (1024, 6)] {
            let bins = aggregation.patchcore_bins(channels, 2);
            assert_eq!(bins.len(), 1536);
            assert!(bins.iter().enumerate().all(|(i, bin)| *bin == (i * width..(i + 1) * width)));
        }
    }
}
