//! The head as it is deployed: everything linear folded into one affine map.
//!
//! At inference nothing non-linear stands between the adaptor and the first linear layer, and BatchNorm is affine:
//!
//! ```text
//! s = γ/√(var + ε)          W = diag(s)·W₁·G          b = s·(b₁ + W₁·b_G − mean) + β
//! ```
//!
//! 3.08 GMAC a 224 px image become 1.23 for the default backbone. Folded in `f64`: on a trained head the products
//! cancel, and `f32` would lose what distinguishes a defect. The `mlp` adaptor keeps its own layer. What features are
//! multiplied by is part of whichever layer meets them first.

use super::{
    ADAPTOR_BIAS, ADAPTOR_WEIGHT, AdaptorKind, BETA, GAMMA, HIDDEN_BIAS, HIDDEN_WEIGHT, HeadConfig,
    LEAKY_SLOPE, RUNNING_MEAN, RUNNING_VAR, SCORE_WEIGHT,
};
use crate::backend::cpu::Cpu;
use crate::backend::{Backend, BatchNormConstants, Result};
use crate::tensor::{Scalar, Tensor};
use crate::tensor_file::NamedTensors;

/// The folded tensors on the host, in `f64`.
#[derive(Clone, Debug)]
pub struct FoldedHead {
    /// The `mlp` adaptor's `[C, C]` and `[C]`, which cannot be folded.
    pub(super) adaptor: Option<(Tensor<f64>, Tensor<f64>)>,
    /// `[hidden, C]`.
    pub(super) weight: Tensor<f64>,
    /// `[hidden]`.
    pub(super) bias: Tensor<f64>,
    /// `[1, hidden]`, negated: the anomaly score is −D (Eq. 9).
    pub(super) score_weight: Tensor<f64>,
}

impl FoldedHead {
    /// Folds a head with running statistics. It takes features as the backbone gives them.
    ///
    /// # Panics
    /// If tensors are missing or misshapen; readers of files check before.
    pub fn new(config: HeadConfig, tensors: &NamedTensors) -> Result<Self> {
        let widened = |name: &str| {
            let tensor = &tensors[name];
            Tensor::new(tensor.shape(), tensor.data().iter().map(|&x| f64::from(x)).collect::<Vec<f64>>())
        };
        let cpu = Cpu::<f64>::new();
        let hidden_weight = widened(HIDDEN_WEIGHT);
        let mut bias = widened(HIDDEN_BIAS).into_data();
        let adaptor_bias = if config.adaptor != AdaptorKind::None && config.adaptor_bias {
            widened(ADAPTOR_BIAS)
        } else {
            Tensor::full([config.channels], 0.0)
        };

        let (mut weight, mut adaptor) = match config.adaptor {
            AdaptorKind::None => (hidden_weight, None),
            AdaptorKind::Mlp => (hidden_weight, Some((widened(ADAPTOR_WEIGHT), adaptor_bias))),
            AdaptorKind::Linear => {
                for (bias, row) in bias.iter_mut().zip(hidden_weight.data().chunks_exact(config.channels)) {
                    *bias += row.iter().zip(adaptor_bias.data()).map(|(w, b)| w * b).sum::<f64>();
                }
                // W₁·G is the product that takes a gradient back through a linear layer.
                let product = cpu.linear_grad_input(
                    &cpu.upload(&hidden_weight)?,
                    &cpu.upload(&widened(ADAPTOR_WEIGHT))?,
                )?;
                (cpu.download(&product)?, None)
            }
        };

        let (gamma, beta) = (widened(GAMMA), widened(BETA));
        let (mean, var) = (widened(RUNNING_MEAN), widened(RUNNING_VAR));
        for unit in 0..config.hidden {
            let scale =
                gamma.data()[unit] / (var.data()[unit] + BatchNormConstants::default().epsilon).sqrt();
            weight.data_mut()[unit * config.channels..][..config.channels]
                .iter_mut()
                .for_each(|w| *w *= scale);
            bias[unit] = scale * (bias[unit] - mean.data()[unit]) + beta.data()[unit];
        }
        let bias = Tensor::new([config.hidden], bias);
        let first = adaptor.as_mut().map_or(&mut weight, |(weight, _)| weight);
        first.data_mut().iter_mut().for_each(|w| *w *= config.feature_scale);
        let mut score_weight = widened(SCORE_WEIGHT);
        score_weight.data_mut().iter_mut().for_each(|w| *w = -*w);
        Ok(Self { adaptor, weight, bias, score_weight })
    }

    /// Copies the folded head to a device.
    pub fn deploy<B: Backend>(&self, backend: &B) -> Result<DeployedHead<B>> {
        let upload = |tensor: &Tensor<f64>| {
            let values: Vec<B::Scalar> = tensor.data().iter().map(|&x| B::Scalar::from_f64(x)).collect();
            backend.upload(&Tensor::new(tensor.shape(), values))
        };
        let adaptor = match &self.adaptor {
            Some((weight, bias)) => Some((upload(weight)?, upload(bias)?)),
            None => None,
        };
        Ok(DeployedHead {
            adaptor,
            weight: upload(&self.weight)?,
            bias: upload(&self.bias)?,
            score_weight: upload(&self.score_weight)?,
        })
    }
}

/// A folded head on a device.
#[derive(Debug)]
pub struct DeployedHead<B: Backend> {
    adaptor: Option<(B::Tensor, B::Tensor)>,
    weight: B::Tensor,
    bias: B::Tensor,
    score_weight: B::Tensor,
}

impl<B: Backend> DeployedHead<B> {
    /// `s = −D(G(o))` (Eq. 9), `[R, C] → [R]`.
    pub fn anomaly_scores(&self, backend: &B, features: &B::Tensor) -> Result<B::Tensor> {
        let adapted = match &self.adaptor {
            Some((weight, bias)) => {
                Some(backend.leaky_relu(&backend.project(features, weight, Some(bias))?, LEAKY_SLOPE)?)
            }
            None => None,
        };
        let input = adapted.as_ref().unwrap_or(features);
        let hidden = backend.project(input, &self.weight, Some(&self.bias))?;
        backend.leaky_relu_score(&hidden, LEAKY_SLOPE, &self.score_weight)
    }
}
