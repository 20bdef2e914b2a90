//! The residual network up to the deepest level used, its BatchNorms folded away.

use super::architecture::{Architecture, Block};
use super::fold::fold_batch_norm;
use super::stages::{LAYERS, STEM, Watch, unwatched};
use crate::backend::{Backend, Result};
use crate::tensor::Tensor;
use std::collections::BTreeMap;

/// A frozen network on a device: images in, feature maps out. It has no gradients and no way to get any.
#[derive(Debug)]
pub struct ResNet<B: Backend> {
    stem: B::Convolution,
    levels: Vec<Vec<ResidualBlock<B>>>,
}

/// `relu(convolutions(x) + shortcut(x))`.
#[derive(Debug)]
struct ResidualBlock<B: Backend> {
    /// Two 3×3, or 1×1, 3×3, 1×1. ReLU follows each; before the last one's, the shortcut is added.
    convolutions: Vec<B::Convolution>,
    /// 1×1, where the block changes the shape.
    downsample: Option<B::Convolution>,
}

impl<B: Backend> ResNet<B> {
    /// Folds and uploads the layers up to `deepest_level`.
    ///
    /// # Panics
    /// If a tensor of `architecture.parameters(deepest_level)` is missing; accepted weights have them all.
    pub fn new(
        backend: &B,
        architecture: Architecture,
        tensors: &BTreeMap<String, Tensor<f32>>,
        deepest_level: usize,
    ) -> Result<Self> {
        let load = |convolution: &str, norm: &str, stride: usize| {
            backend.convolution(&fold_batch_norm(tensors, convolution, norm, stride))
        };
        let stem = load("conv1", "bn1", 2)?;
        let mut levels = Vec::with_capacity(deepest_level);
        for level in 1..=deepest_level {
            let mut blocks = Vec::new();
            for index in 0..architecture.blocks()[level - 1] {
                let block = format!("layer{level}.{index}");
                let stride = if index == 0 { Architecture::stride(level) } else { 1 };
                // torchvision's bottleneck strides in its 3×3, the basic block in its first convolution.
                let strides: &[usize] = match architecture.block() {
                    Block::Basic => &[stride, 1],
                    Block::Bottleneck => &[1, stride, 1],
                };
                let convolutions = (1..)
                    .zip(strides)
                    .map(|(i, &stride)| load(&format!("{block}.conv{i}"), &format!("{block}.bn{i}"), stride))
                    .collect::<Result<_>>()?;
                let downsample = (index == 0 && architecture.projects_shortcut(level))
                    .then(|| load(&format!("{block}.downsample.0"), &format!("{block}.downsample.1"), stride))
                    .transpose()?;
                blocks.push(ResidualBlock { convolutions, downsample });
            }
            levels.push(blocks);
        }
        Ok(Self { stem, levels })
    }

    /// The outputs of layers 1, 2, … for normalised images `[N, H, W, 3]`: level l is
    /// `[N, ⌈H/2ˡ⁺¹⌉, ⌈W/2ˡ⁺¹⌉, Cₗ]`.
    pub fn forward(&self, backend: &B, input: &B::Tensor) -> Result<Vec<B::Tensor>> {
        self.forward_watched(backend, input, &mut unwatched)
    }

    /// As [`ResNet::forward`]; `watch` hears of [`STEM`] and of each of [`LAYERS`].
    pub fn forward_watched(
        &self,
        backend: &B,
        input: &B::Tensor,
        watch: &mut Watch<'_>,
    ) -> Result<Vec<B::Tensor>> {
        let stem = backend.max_pool2d(&backend.conv2d(input, &self.stem, None, true)?)?;
        watch(STEM)?;
        let mut outputs: Vec<B::Tensor> = Vec::with_capacity(self.levels.len());
        for (blocks, name) in self.levels.iter().zip(LAYERS) {
            let mut stream: Option<B::Tensor> = None;
            for block in blocks {
                let shared = outputs.last().unwrap_or(&stem);
                stream = Some(block.forward(backend, stream, shared)?);
            }
            outputs.extend(stream);
            watch(name)?;
        }
        Ok(outputs)
    }
}

impl<B: Backend> ResidualBlock<B> {
    /// `own` is the input, or if it is absent `shared`, which others read too.
    fn forward(&self, backend: &B, own: Option<B::Tensor>, shared: &B::Tensor) -> Result<B::Tensor> {
        let input = own.as_ref().unwrap_or(shared);
        let projected = match &self.downsample {
            Some(downsample) => Some(backend.conv2d(input, downsample, None, false)?),
            None => None,
        };
        let (last, inner) =
            self.convolutions.split_last().unwrap_or_else(|| unreachable!("a block has convolutions"));
        let mut branch: Option<B::Tensor> = None;
        for convolution in inner {
            branch = Some(backend.conv2d(branch.as_ref().unwrap_or(input), convolution, None, true)?);
        }
        let branch = branch.unwrap_or_else(|| unreachable!("a block has two convolutions at least"));
        match projected.or(own) {
            Some(shortcut) => backend.conv2d_onto(&branch, last, shortcut, true),
            None => backend.conv2d(&branch, last, Some(shared), true),
        }
    }
}
