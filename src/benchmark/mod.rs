//! How fast the detector is, measured the same way every time.
//!
//! | scope | the clock covers | here |
//! | --- | --- | --- |
//! | `model` | u8 images in host memory → maps and scores in host memory: the papers' protocol | [`measure_model`] |
//! | `files` | files → maps and scores in host memory, decoding included: what a line sees | [`measure_files`] |
//! | `train` | an epoch of the head; the features' extraction apart | [`measure_training`] |
//!
//! A figure always comes with the interval that repeats leave it ([`statistics`]), with the work it stands for
//! ([`work`]) and with the rate of a plain matrix product measured in the same run ([`ProductRate`]).

mod clock;
mod files;
mod memory;
mod model;
mod product;
mod report;
mod stages;
pub mod statistics;
mod subject;
mod text;
mod train;
pub mod work;

pub use clock::{LEAST_REPEATS, Protocol, Samples};
pub use files::measure_files;
pub use model::measure_model;
pub use product::ProductRate;
pub use report::{Measurement, Network, PAPER_RATE, Report, Scope, Setup, network};
pub use stages::{StageTime, time_stages};
pub use subject::{Subject, untrained};
pub use text::render;
pub use train::measure_training;

use crate::backend::BackendError;
use crate::data::DataError;
use crate::detector::ModelError;
use crate::training::TrainingError;

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
pub enum BenchmarkError {
    /// Too few repeats for an interval anybody could trust.
    #[error(
        "{0} repeats are too few for a figure; give --repeats {LEAST_REPEATS} or more, or leave it out and let --seconds \
         decide"
    )]
    TooFewRepeats(usize),
    /// The scores are no numbers: what was timed is not what users run.
    #[error(
        "the scores are not finite, so nothing useful was timed; check the weights (`simplenet weights verify`), or use \
         --precision f32"
    )]
    NotFinite,
    /// An image of the files that were given.
    #[error("{0}: every file must be readable here")]
    Unreadable(#[source] DataError),
    /// The images could not be loaded at all.
    #[error("{0}")]
    Data(#[from] DataError),
    /// The detector failed.
    #[error("{0}")]
    Model(#[from] ModelError),
    /// The training failed.
    #[error("{0}")]
    Training(#[from] TrainingError),
    /// The device failed.
    #[error("{0}")]
    Backend(#[from] BackendError),
}
