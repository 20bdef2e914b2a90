//! The operands of an optimiser step.

/// One parameter in the multi-tensor optimiser step.
#[derive(Debug)]
pub struct AdamSlot<'a, T> {
    /// Updated in place.
    pub parameter: &'a mut T,
    /// ∂L/∂parameter.
    pub gradient: &'a T,
    /// Running mean of the gradient.
    pub first_moment: &'a mut T,
    /// Running mean of its square.
    pub second_moment: &'a mut T,
    /// How this parameter is updated.
    pub rule: AdamRule,
}

/// `torch.optim.Adam` or `AdamW` for one parameter.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct AdamRule {
    /// Learning rate.
    pub learning_rate: f64,
    /// Weight decay λ.
    pub weight_decay: f64,
    /// `false`: L2, λ·parameter is added to the gradient (Adam). `true`: the parameter shrinks by `1 − lr·λ` (AdamW).
    pub decoupled: bool,
}

/// Adam's β₁ and β₂ and ε: PyTorch's defaults, which the paper uses.
pub const ADAM_BETAS: (f64, f64) = (0.9, 0.999);
/// Adam's ε.
pub const ADAM_EPSILON: f64 = 1e-8;
