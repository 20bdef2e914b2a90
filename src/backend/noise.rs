//! Where the noise of a training step comes from.

use crate::random::philox::{Philox, Stream};

/// How much wider each component of the noise is than the one before.
const GROWTH: f64 = 1.1;

/// Where the noise of one training step comes from: ε of Eq. 6, of standard deviation σ, or, as in the authors' code
/// (`mix_noise`), each row with one that is drawn from σ·1.1ᵏ, k < `mixtures`. `S` is the backend's schedule.
#[derive(Debug)]
pub struct Noise<'a, S> {
    /// Standard deviation σ.
    pub sigma: f64,
    /// Components of the mixture, at least one. One alone is `N(0, σ²)`.
    pub mixtures: u32,
    /// The generator's key.
    pub seed: u64,
    /// Knows the optimiser steps before this one, the third word of the counter: no step repeats another's noise.
    pub schedule: &'a S,
}

impl<S> Noise<'_, S> {
    /// Standard deviation of a component: σ·1.1ᵏ by k products in `f64`, from σ on, so that every device rounds alike.
    pub(crate) fn deviation(&self, component: u32) -> f64 {
        (0..component).fold(self.sigma, |deviation, _| deviation * GROWTH)
    }

    /// Component of a row at a step, uniform: [`Philox::below`] with the row's number.
    pub(crate) fn component(&self, row: u64, step: u32) -> u32 {
        match self.mixtures {
            1 => 0,
            mixtures => Philox::new(self.seed, Stream::NoiseMixture, step).below(row, mixtures),
        }
    }
}
