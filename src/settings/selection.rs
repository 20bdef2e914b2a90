//! Which epoch of a training becomes the model, and whether the training may end before its last.

use serde::{Deserialize, Serialize};

/// Which epoch becomes the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Selection {
    /// The last.
    #[default]
    Last,
    /// The one after which held-out good images scored most alike; no defect is seen.
    Holdout,
    /// The one that is best on the test set: what the authors' code does. It inflates results, and all of them say so.
    Test,
}

impl Selection {
    /// Whether it is the default, which files leave out: so they read as those of versions that had no choice.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether a training may end before its last epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EarlyStop {
    /// It runs all epochs.
    #[default]
    Off,
    /// It ends once neither the loss nor the scores of held-out good images change any more.
    Plateau,
}

impl EarlyStop {
    /// Whether it is the default, which files leave out.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
