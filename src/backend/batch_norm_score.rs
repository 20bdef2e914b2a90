//! The operands of the discriminator's tail.

/// The constants of BatchNorm1d in training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNormConstants {
    /// Added to the variance.
    pub epsilon: f64,
    /// Share of the batch in the running statistics.
    pub momentum: f64,
}

impl Default for BatchNormConstants {
    /// PyTorch's defaults.
    fn default() -> Self {
        Self { epsilon: 1e-5, momentum: 0.1 }
    }
}

/// What [`Backend::batch_norm_score`](super::Backend::batch_norm_score) reads besides its input.
#[derive(Debug)]
pub struct BatchNormScore<'a, T> {
    /// `[C]`, added to every row before the statistics are taken.
    pub bias: &'a T,
    /// Scale of the BatchNorm, `[C]`.
    pub gamma: &'a T,
    /// Shift of the BatchNorm, `[C]`.
    pub beta: &'a T,
    /// What the dot product is with, `[1, C]`.
    pub weight: &'a T,
    /// LeakyReLU's slope on the negative side.
    pub slope: f64,
    /// The BatchNorm's constants.
    pub constants: BatchNormConstants,
}

/// The statistics that a BatchNorm1d keeps for evaluation, both `[C]`; a training step moves them.
#[derive(Debug)]
pub struct RunningStatistics<'a, T> {
    /// Running mean.
    pub mean: &'a mut T,
    /// Running variance, unbiased, as PyTorch keeps it.
    pub var: &'a mut T,
}

/// What the backward pass of a BatchNorm needs from its forward pass.
#[derive(Debug)]
pub struct BatchNormSaved<T> {
    /// Mean of the batch, before any bias, `[C]`.
    pub mean: T,
    /// `1/√(var + ε)` of the batch with the biased variance, `[C]`.
    pub inverse_std: T,
}

/// Gradients of [`Backend::batch_norm_score`](super::Backend::batch_norm_score).
#[derive(Debug)]
pub struct BatchNormScoreGradients<T> {
    /// With respect to the hidden features, which both halves depend on, `[R, C]`.
    pub hidden: T,
    /// With respect to what noise adds to them, `[R, C]`.
    pub shift: T,
    /// `[C]`; zero but for rounding, since a BatchNorm subtracts whatever is added to all rows.
    pub bias: T,
    /// `[C]`.
    pub gamma: T,
    /// `[C]`.
    pub beta: T,
    /// `[1, C]`.
    pub weight: T,
}
