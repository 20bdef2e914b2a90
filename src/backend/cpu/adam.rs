//! `adam`: one step of Adam or AdamW for every parameter.

use super::memory::CpuTensor;
use crate::backend::schedule::adam_corrections;
use crate::backend::{ADAM_BETAS, ADAM_EPSILON, AdamSlot};
use crate::tensor::Scalar;
use rayon::prelude::*;

const VALUES_PER_TASK: usize = 1 << 14;

/// `torch.optim.Adam` (single-tensor path), behind `step` other steps, t = `step` + 1:
///
/// ```text
/// g ← ∂L/∂p + λ·p                     (AdamW instead: p ← p − lr·λ·p)
/// m ← m + (1 − β₁)·(g − m)
/// v ← β₂·v + (1 − β₂)·g²
/// p ← p − lr/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + ε)
/// ```
pub(super) fn adam<T: Scalar>(slots: &mut [AdamSlot<'_, CpuTensor<T>>], step: u32) {
    let (beta_1, beta_2) = ADAM_BETAS;
    let (correction_1, inverse_correction_2) = adam_corrections(step);
    let rate_1 = T::from_f64(1.0 - beta_1);
    let (keep_2, rate_2) = (T::from_f64(beta_2), T::from_f64(1.0 - beta_2));
    let epsilon = T::from_f64(ADAM_EPSILON);
    let inverse_correction_2 = T::from_f64(inverse_correction_2);

    for slot in slots {
        let rule = slot.rule;
        // The share that goes, not the one that stays: near one, f32 has but seven digits for what is missing.
        let (l2, decay) = if rule.decoupled {
            (T::ZERO, T::from_f64(rule.learning_rate * rule.weight_decay))
        } else {
            (T::from_f64(rule.weight_decay), T::ZERO)
        };
        let step_size = T::from_f64(rule.learning_rate / correction_1);
        slot.parameter
            .data_mut()
            .par_chunks_mut(VALUES_PER_TASK)
            .zip(slot.gradient.data().par_chunks(VALUES_PER_TASK))
            .zip(slot.first_moment.data_mut().par_chunks_mut(VALUES_PER_TASK))
            .zip(slot.second_moment.data_mut().par_chunks_mut(VALUES_PER_TASK))
            .for_each(|(((parameter, gradient), first), second)| {
                for (((p, &g), m), v) in parameter.iter_mut().zip(gradient).zip(first).zip(second) {
                    *p += -(decay * *p);
                    let g = g + l2 * *p;
                    *m += rate_1 * (g - *m);
                    *v = keep_2 * *v + rate_2 * g * g;
                    *p += -(step_size * *m) / (v.sqrt() * inverse_correction_2 + epsilon);
                }
            });
    }
}
