//! The head: adaptor and discriminator, the only part that is trained.
//!
//! ```text
//! features o ─ adaptor G ─ q ─┬──────────┬─ Linear ─ BatchNorm ─ LeakyReLU ─ Linear ─ D
//!                             └─ + ε (training only)
//! ```
//!
//! Training computes the same by fewer products, see [`Head::record`].

pub mod autograd;
mod fold;
mod projected;
mod scorer;

pub use fold::{DeployedHead, FoldedHead};
pub use projected::{LevelRows, ProjectedHead};
pub use scorer::{MapMatrices, Scorer, Scores};

use crate::backend::{AdamRule, Backend, BatchNormConstants, DeviceTensor, Noise, Result, RunningStatistics};
use crate::random::philox::{Philox, Stream};
use crate::tensor::{Scalar, Tensor};
use crate::tensor_file::NamedTensors;
use autograd::{ScoreInputs, Tape, Variable};

/// LeakyReLU's slope on the negative side, in the discriminator and in the `mlp` adaptor.
pub const LEAKY_SLOPE: f64 = 0.2;

/// What the adaptor G is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdaptorKind {
    /// `q = o·Gᵀ` (the paper).
    Linear,
    /// Linear, then LeakyReLU (the paper's Table 3).
    Mlp,
    /// `q = o`.
    None,
}

/// The shape of a head.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct HeadConfig {
    /// Channels C of a feature vector.
    pub channels: usize,
    /// The adaptor.
    pub adaptor: AdaptorKind,
    /// Whether the adaptor has a bias (the authors' code).
    pub adaptor_bias: bool,
    /// Width of the discriminator's hidden layer.
    pub hidden: usize,
    /// What features are multiplied by before all else; absent from models that were written before there was a choice.
    /// [`Head`] takes features that were multiplied, [`FoldedHead`] holds it in its first weights.
    #[serde(default = "unscaled")]
    pub feature_scale: f64,
}

/// Features as they are.
fn unscaled() -> f64 {
    1.0
}

/// A trained tensor.
#[derive(Debug)]
pub struct Parameter<T> {
    /// Its name in model files.
    pub name: &'static str,
    /// Its value.
    pub value: T,
}

const ADAPTOR_WEIGHT: &str = "adaptor.weight";
const ADAPTOR_BIAS: &str = "adaptor.bias";
const HIDDEN_WEIGHT: &str = "discriminator.hidden.weight";
const HIDDEN_BIAS: &str = "discriminator.hidden.bias";
const GAMMA: &str = "discriminator.batch_norm.gamma";
const BETA: &str = "discriminator.batch_norm.beta";
const SCORE_WEIGHT: &str = "discriminator.score.weight";
const RUNNING_MEAN: &str = "discriminator.batch_norm.running_mean";
/// The running variance's name in files; never negative.
pub(crate) const RUNNING_VAR: &str = "discriminator.batch_norm.running_var";

impl HeadConfig {
    /// Name and shape of every trained tensor, in the order of [`Head::parameters`].
    pub fn parameters(&self) -> Vec<(&'static str, Vec<usize>)> {
        let (channels, hidden) = (self.channels, self.hidden);
        let mut list = Vec::new();
        if self.adaptor != AdaptorKind::None {
            list.push((ADAPTOR_WEIGHT, vec![channels, channels]));
            if self.adaptor_bias {
                list.push((ADAPTOR_BIAS, vec![channels]));
            }
        }
        list.extend([
            (HIDDEN_WEIGHT, vec![hidden, channels]),
            (HIDDEN_BIAS, vec![hidden]),
            (GAMMA, vec![hidden]),
            (BETA, vec![hidden]),
            (SCORE_WEIGHT, vec![1, hidden]),
        ]);
        list
    }

    /// Name and shape of every tensor a model file holds: the trained ones and the running statistics.
    pub fn tensors(&self) -> Vec<(&'static str, Vec<usize>)> {
        let mut list = self.parameters();
        list.extend([(RUNNING_MEAN, vec![self.hidden]), (RUNNING_VAR, vec![self.hidden])]);
        list
    }

    /// Whether training on `rows` rows multiplies the weights of adaptor and hidden layer instead of adapting the
    /// features: three products of C·H·C for one of rows·C·H and two of rows·C·C. Not through a LeakyReLU.
    fn composes(&self, rows: usize) -> bool {
        let (c, h) = (self.channels, self.hidden);
        self.adaptor == AdaptorKind::Linear && rows * (h + 2 * c) > 3 * h * c
    }

    /// The optimiser's rule for a parameter: `adaptor` for G, `discriminator` for the rest.
    pub fn rule(&self, name: &str, adaptor: AdamRule, discriminator: AdamRule) -> AdamRule {
        if name == ADAPTOR_WEIGHT || name == ADAPTOR_BIAS { adaptor } else { discriminator }
    }
}

/// Adaptor and discriminator on a device.
#[derive(Debug)]
pub struct Head<B: Backend> {
    config: HeadConfig,
    parameters: Vec<Parameter<B::Tensor>>,
    running_mean: B::Tensor,
    running_var: B::Tensor,
}

impl<B: Backend> Head<B> {
    /// A head before training: linear weights `xavier_normal`, biases uniform in ±1/√fan_in as PyTorch's Linear,
    /// γ = 1, β = 0, running mean 0 and variance 1. Parameter `i` draws from `(Initialisation, step i)` of `seed`.
    pub fn initial(backend: &B, config: HeadConfig, seed: u64) -> Result<Self> {
        let mut tensors = NamedTensors::<B::Scalar>::new();
        for (index, (name, shape)) in config.parameters().into_iter().enumerate() {
            let philox = Philox::new(seed, Stream::Initialisation, index as u32);
            let len: usize = shape.iter().product();
            let values: Vec<f64> = match name {
                ADAPTOR_WEIGHT | HIDDEN_WEIGHT | SCORE_WEIGHT => {
                    let std = (2.0 / (shape[0] + shape[1]) as f64).sqrt();
                    (0..len.div_ceil(4))
                        .flat_map(|block| philox.normals(block as u64))
                        .map(|normal| normal * std)
                        .take(len)
                        .collect()
                }
                ADAPTOR_BIAS | HIDDEN_BIAS => {
                    let bound = 1.0 / (config.channels as f64).sqrt();
                    (0..len).map(|i| (2.0 * philox.uniform(i as u64) - 1.0) * bound).collect()
                }
                GAMMA => vec![1.0; len],
                _ => vec![0.0; len],
            };
            // Through f32 in every type, so that f32 and f64 heads start at the same point.
            let values = values.into_iter().map(|value| B::Scalar::from_f32(value as f32)).collect();
            tensors.insert(name.to_owned(), Tensor::new(shape, values));
        }
        let hidden = [config.hidden];
        tensors.insert(RUNNING_MEAN.to_owned(), Tensor::full(hidden, B::Scalar::ZERO));
        tensors.insert(RUNNING_VAR.to_owned(), Tensor::full(hidden, B::Scalar::ONE));
        Self::from_tensors(backend, config, &tensors)
    }

    /// A head with given values.
    ///
    /// # Panics
    /// If a tensor of [`HeadConfig::tensors`] is missing or has another shape; readers of files check before.
    pub fn from_tensors(backend: &B, config: HeadConfig, tensors: &NamedTensors<B::Scalar>) -> Result<Self> {
        let upload = |(name, shape): (&'static str, Vec<usize>)| {
            let tensor = &tensors[name];
            assert_eq!(tensor.shape(), shape, "{name} has the shape its config says");
            backend.upload(tensor)
        };
        let parameters = config
            .parameters()
            .into_iter()
            .map(|(name, shape)| Ok(Parameter { name, value: upload((name, shape))? }))
            .collect::<Result<Vec<_>>>()?;
        let hidden = vec![config.hidden];
        Ok(Self {
            config,
            parameters,
            running_mean: upload((RUNNING_MEAN, hidden.clone()))?,
            running_var: upload((RUNNING_VAR, hidden))?,
        })
    }

    /// Copies every tensor to the host.
    pub fn to_tensors(&self, backend: &B) -> Result<NamedTensors<B::Scalar>> {
        let mut tensors = NamedTensors::new();
        for parameter in &self.parameters {
            tensors.insert(parameter.name.to_owned(), backend.download(&parameter.value)?);
        }
        tensors.insert(RUNNING_MEAN.to_owned(), backend.download(&self.running_mean)?);
        tensors.insert(RUNNING_VAR.to_owned(), backend.download(&self.running_var)?);
        Ok(tensors)
    }

    /// The head's shape.
    pub fn config(&self) -> HeadConfig {
        self.config
    }

    /// The trained tensors, in the order of [`HeadConfig::parameters`].
    pub fn parameters(&self) -> &[Parameter<B::Tensor>] {
        &self.parameters
    }

    /// The trained tensors, for the optimiser.
    pub fn parameters_mut(&mut self) -> &mut [Parameter<B::Tensor>] {
        &mut self.parameters
    }

    /// Records one training forward pass over `[q ; q⁻]` and moves the running statistics. Returns the tape and the
    /// scores D, `[2R]`.
    ///
    /// The hidden layer W is linear: `(q + ε)·Wᵀ = q·Wᵀ + ε·Wᵀ`. Both halves share the first term, so neither q⁻ nor
    /// its gradient ever exists. Where the adaptor G is linear too, `q·Wᵀ = o·(W·G)ᵀ`: with enough rows it is cheaper
    /// to multiply the weights, and the gradients of both come from the one of their product without a product over
    /// rows.
    pub fn record<'a>(
        &'a mut self,
        backend: &'a B,
        features: B::Tensor,
        noise: Noise<'_, B::Schedule>,
    ) -> Result<(Tape<'a, B>, Variable)> {
        let running = RunningStatistics { mean: &mut self.running_mean, var: &mut self.running_var };
        record(backend, self.config, &self.parameters, running, features, noise)
    }

    /// `q = G(o)`: the adapted features, `[R, C] → [R, C]`.
    pub fn adapt(&self, backend: &B, features: &B::Tensor) -> Result<Option<B::Tensor>> {
        if self.config.adaptor == AdaptorKind::None {
            return Ok(None);
        }
        let bias = self.config.adaptor_bias.then(|| self.parameter(ADAPTOR_BIAS));
        let adapted = backend.linear(features, self.parameter(ADAPTOR_WEIGHT), bias)?;
        Ok(Some(match self.config.adaptor {
            AdaptorKind::Mlp => backend.leaky_relu(&adapted, LEAKY_SLOPE)?,
            _ => adapted,
        }))
    }

    /// `D(q)` in evaluation, layer by layer: `[R, C] → [R]`. The plain path that the folded one is compared with.
    pub fn discriminate(&self, backend: &B, adapted: &B::Tensor) -> Result<B::Tensor> {
        let hidden =
            backend.linear(adapted, self.parameter(HIDDEN_WEIGHT), Some(self.parameter(HIDDEN_BIAS)))?;
        let normalised = backend.batch_norm_inference(
            &hidden,
            self.parameter(GAMMA),
            self.parameter(BETA),
            &self.running_mean,
            &self.running_var,
            BatchNormConstants::default().epsilon,
        )?;
        let activated = backend.leaky_relu(&normalised, LEAKY_SLOPE)?;
        backend.score(&activated, self.parameter(SCORE_WEIGHT))
    }

    fn parameter(&self, name: &str) -> &B::Tensor {
        let found = self.parameters.iter().find(|parameter| parameter.name == name);
        &found.unwrap_or_else(|| unreachable!("{name} is part of every head of this config")).value
    }
}

/// The forward pass of training, operation by operation.
fn record<'a, B: Backend>(
    backend: &'a B,
    config: HeadConfig,
    parameters: &'a [Parameter<B::Tensor>],
    running: RunningStatistics<'_, B::Tensor>,
    features: B::Tensor,
    noise: Noise<'_, B::Schedule>,
) -> Result<(Tape<'a, B>, Variable)> {
    let rows = features.shape()[0];
    assert_eq!(features.shape()[1], config.channels, "features have the head's channels");
    let mut tape = Tape::new(backend);
    let features = tape.constant(features);
    let variables: Vec<(&str, Variable)> = parameters
        .iter()
        .enumerate()
        .map(|(index, parameter)| (parameter.name, tape.parameter(index, &parameter.value)))
        .collect();
    let optional =
        |name: &str| variables.iter().find(|(known, _)| *known == name).map(|&(_, variable)| variable);
    let parameter = |name: &str| {
        optional(name).unwrap_or_else(|| unreachable!("{name} is part of every head of this config"))
    };

    let (weight, mut bias) = (parameter(HIDDEN_WEIGHT), parameter(HIDDEN_BIAS));
    let hidden = if config.composes(rows) {
        if let Some(adaptor_bias) = optional(ADAPTOR_BIAS) {
            bias = tape.linear(adaptor_bias, weight, Some(bias))?;
        }
        let composed = tape.compose(weight, parameter(ADAPTOR_WEIGHT))?;
        tape.linear(features, composed, None)?
    } else {
        let adapted = match config.adaptor {
            AdaptorKind::None => features,
            AdaptorKind::Linear | AdaptorKind::Mlp => {
                tape.linear(features, parameter(ADAPTOR_WEIGHT), optional(ADAPTOR_BIAS))?
            }
        };
        let adapted = match config.adaptor {
            AdaptorKind::Mlp => tape.leaky_relu(adapted, LEAKY_SLOPE)?,
            AdaptorKind::None | AdaptorKind::Linear => adapted,
        };
        tape.linear(adapted, weight, None)?
    };
    let noise = tape.constant(backend.noise([rows, config.channels], noise)?);
    let shift = tape.linear(noise, weight, None)?;
    let (gamma, beta, weight) = (parameter(GAMMA), parameter(BETA), parameter(SCORE_WEIGHT));
    let inputs = ScoreInputs { hidden, shift, bias, gamma, beta, weight };
    let scores = tape.batch_norm_score(inputs, LEAKY_SLOPE, running)?;
    Ok((tape, scores))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::{Cpu, CpuSchedule};
    use crate::backend::{Epoch, LOSS_TOTALS, Loss, Margins, TOTAL_LOSS};
    use crate::tensor::relative_error;

    const ROWS: usize = 12;

    fn features<T: Scalar>(channels: usize) -> Tensor<T> {
        let philox = Philox::new(5, Stream::Initialisation, 99);
        let values =
            (0..ROWS * channels).map(|i| T::from_f64(philox.normals(i as u64)[0] * 0.3 + 0.4)).collect();
        Tensor::new([ROWS, channels], values)
    }

    /// An epoch's only step, behind three others.
    fn fourth_step<T: Scalar>(cpu: &Cpu<T>) -> CpuSchedule {
        let mut schedule = cpu.schedule(1, 1).unwrap();
        cpu.begin_epoch(&mut schedule, &Epoch { order: &[0], first_step: 3, done: 0 }).unwrap();
        schedule
    }

    fn loss_of(head: &mut Head<Cpu<f64>>, cpu: &Cpu<f64>, loss: Loss) -> f64 {
        let noise = Noise { sigma: 0.5, mixtures: 1, seed: 8, schedule: &fourth_step(cpu) };
        let input = cpu.upload(&features(head.config.channels)).unwrap();
        let (tape, scores) = head.record(cpu, input, noise).unwrap();
        let mut totals = cpu.zeros(&[LOSS_TOTALS]).unwrap();
        tape.loss(scores, loss, 1, &mut totals).unwrap();
        cpu.download(&totals).unwrap().data()[TOTAL_LOSS]
    }

    /// Every gradient of every variant against central differences in f64. The step 1e-6 leaves an error near
    /// 1e-10/1e-6 in a difference quotient of values near one; 1e-6 of the gradient's norm is a hundred times that.
    #[test]
    fn gradients_equal_finite_differences() {
        let margins = Margins { positive: 0.5, negative: -0.5 };
        let cpu = Cpu::<f64>::new();
        for loss in [Loss::TruncatedL1(margins), Loss::CrossEntropy(margins)] {
            for (adaptor, adaptor_bias) in [
                (AdaptorKind::Linear, false),
                (AdaptorKind::Linear, true),
                (AdaptorKind::Mlp, true),
                (AdaptorKind::None, false),
            ] {
                let config = HeadConfig { channels: 5, adaptor, adaptor_bias, hidden: 7, feature_scale: 1.0 };
                let mut head = Head::initial(&cpu, config, 1).unwrap();
                let noise = Noise { sigma: 0.5, mixtures: 1, seed: 8, schedule: &fourth_step(&cpu) };
                let input = cpu.upload(&features(config.channels)).unwrap();
                let (tape, scores) = head.record(&cpu, input, noise).unwrap();
                let mut totals = cpu.zeros(&[LOSS_TOTALS]).unwrap();
                let seed = tape.loss(scores, loss, 1, &mut totals).unwrap();
                let gradients = tape.backward(scores, seed).unwrap();
                let start = head.to_tensors(&cpu).unwrap();
                for (index, (name, shape)) in config.parameters().into_iter().enumerate() {
                    let gradient = cpu.download(gradients[index].as_ref().unwrap()).unwrap();
                    assert_eq!(gradient.shape(), shape);
                    let step = 1e-6;
                    let numeric: Vec<f64> = (0..gradient.len())
                        .map(|element| {
                            let shifted = |by: f64| {
                                let mut tensors = start.clone();
                                tensors.get_mut(name).unwrap().data_mut()[element] += by;
                                let mut head = Head::from_tensors(&cpu, config, &tensors).unwrap();
                                loss_of(&mut head, &cpu, loss)
                            };
                            (shifted(step) - shifted(-step)) / (2.0 * step)
                        })
                        .collect();
                    let shifts_all_rows =
                        name == HIDDEN_BIAS || (name == ADAPTOR_BIAS && adaptor == AdaptorKind::Linear);
                    if shifts_all_rows {
                        // BatchNorm subtracts whatever this bias adds: both are rounding around zero.
                        assert!(gradient.data().iter().chain(&numeric).all(|g| g.abs() < 1e-8), "{name}");
                    } else {
                        let error = relative_error(gradient.data(), &numeric);
                        assert!(error < 1e-6, "{name} of {adaptor:?}, {loss:?}: {error}");
                    }
                }
            }
        }
    }

    #[test]
    fn f32_training_forward_follows_f64() {
        let config = HeadConfig {
            channels: 33,
            adaptor: AdaptorKind::Linear,
            adaptor_bias: false,
            hidden: 65,
            feature_scale: 1.0,
        };
        let schedule = fourth_step(&Cpu::<f64>::new());
        let noise = || Noise { sigma: 0.015, mixtures: 1, seed: 8, schedule: &schedule };
        let double = {
            let cpu = Cpu::<f64>::new();
            let mut head = Head::initial(&cpu, config, 4).unwrap();
            let (tape, scores) = head.record(&cpu, cpu.upload(&features(33)).unwrap(), noise()).unwrap();
            cpu.download(tape.value(scores)).unwrap()
        };
        let single = {
            let cpu = Cpu::<f32>::new();
            let mut head = Head::initial(&cpu, config, 4).unwrap();
            let (tape, scores) = head.record(&cpu, cpu.upload(&features(33)).unwrap(), noise()).unwrap();
            cpu.download(tape.value(scores)).unwrap()
        };
        // Sums of 65 terms in f32: a few ulp.
        assert!(relative_error(single.data(), double.data()) < 1e-5);
    }
}
