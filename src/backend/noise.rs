//! Where the noise of a training step comes from.

/// Where the noise of one training step comes from: ε of Eq. 6, `N(0, σ²)`. `S` is the backend's schedule.
#[derive(Debug)]
pub struct Noise<'a, S> {
    /// Standard deviation σ.
    pub sigma: f64,
    /// The generator's key.
    pub seed: u64,
    /// Knows the optimiser steps before this one, the third word of the counter: no step repeats another's noise.
    pub schedule: &'a S,
}
