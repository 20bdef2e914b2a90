//! What changes from one optimiser step to the next: the images, the noise, Adam's bias corrections.
//!
//! An epoch's steps are told to a device once, at its start. From then on a step depends on nothing that the host says:
//! the device counts the steps itself, so that all steps of one size are the same work.

use super::ADAM_BETAS;

/// One pass over images of a feature cache, as [`Backend::begin_epoch`](super::Backend::begin_epoch) takes it.
#[derive(Clone, Copy, Debug)]
pub struct Epoch<'a> {
    /// The images in the order in which they come, as many as the schedule has.
    pub order: &'a [u32],
    /// Optimiser steps before the first one of this epoch.
    pub first_step: u32,
    /// Steps of this epoch that lie behind: where a training is resumed.
    pub done: usize,
}

/// Adam's `1 − β₁ᵗ` and `1/√(1 − β₂ᵗ)` in the optimiser step behind `step` others, t = `step` + 1.
pub(super) fn adam_corrections(step: u32) -> (f64, f64) {
    let (beta_1, beta_2) = ADAM_BETAS;
    let t = f64::from(step) + 1.0;
    (1.0 - beta_1.powf(t), 1.0 / (1.0 - beta_2.powf(t)).sqrt())
}
