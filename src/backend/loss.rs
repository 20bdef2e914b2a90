//! What training minimises, and what is summed over an epoch.

/// The margins of the truncated L1 loss (Eq. 7): normal features should score above `positive`, anomalous ones
/// below `negative`.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Margins {
    /// th⁺.
    pub positive: f64,
    /// th⁻.
    pub negative: f64,
}

/// What training minimises.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Loss {
    /// Eq. 7: `mean(max(0, th⁺ − D(q))) + mean(max(0, −th⁻ + D(q⁻)))`.
    TruncatedL1(Margins),
    /// The alternative of the paper's Table 3: `binary_cross_entropy_with_logits` of both halves, good = 1.
    CrossEntropy(Margins),
}

impl Loss {
    /// The margins beyond which a row counts as decided; the loss itself uses them only as `TruncatedL1`.
    pub fn margins(&self) -> Margins {
        match *self {
            Loss::TruncatedL1(margins) | Loss::CrossEntropy(margins) => margins,
        }
    }

    /// The smallest loss of a head that scores everything alike: what one has that learned nothing.
    pub fn of_equal_scores(&self) -> f64 {
        match self {
            // (th⁺ − D) + (D − th⁻), for any D between the two.
            Loss::TruncatedL1(margins) => margins.positive - margins.negative,
            // At D = 0; PyTorch's mean runs over both halves.
            Loss::CrossEntropy(_) => std::f64::consts::LN_2,
        }
    }
}

/// Number of sums in the tensor that [`Backend::loss`](super::Backend::loss) adds to, in this order.
pub const LOSS_TOTALS: usize = 4;
/// Index of Σ loss · images.
pub const TOTAL_LOSS: usize = 0;
/// Index of the number of normal rows with `D(q) > th⁺`.
pub const TOTAL_POSITIVE: usize = 1;
/// Index of the number of anomalous rows with `D(q⁻) < th⁻`.
pub const TOTAL_NEGATIVE: usize = 2;
/// Index of the number of rows in each half.
pub const TOTAL_ROWS: usize = 3;
