//! The command line: one file a verb.
//!
//! Data goes to stdout, everything else to stderr. Exit codes: 0 success, 1 a verdict the user asked to be told that
//! way, 2 bad usage or input, 3 the environment (no device, no weights).

mod answers;
mod args;
mod backbone;
mod bench;
mod comparison;
mod console;
mod demo;
mod device;
mod doctor;
mod dump;
mod evaluation;
mod figures;
mod import;
mod model_folder;
mod one_class_run;
mod one_class_test;
mod plans;
mod predict;
mod run_folder;
mod run_report;
mod settings_args;
mod sweep;
mod test;
mod threshold;
mod train;
mod training_outcome;
mod training_run;
mod weights;

use crate::backend::BackendError;
use crate::backend::cuda::CudaError;
use crate::data::demo::DemoError;
use crate::detector::ModelError;
use crate::training::TrainingError;
use clap::{ArgAction, Parser, Subcommand};
use console::{Console, Verbosity};
use std::io::Write;
use std::process::ExitCode;

/// Finds defects in photos of parts, having seen good ones only.
#[derive(Debug, Parser)]
#[command(version, about, long_about = None, max_term_width = 100, after_help = "\
Examples:
  simplenet train                                   learn the built-in synthetic demo set
  simplenet train --data mvtec --category bottle    one category of a data set in MVTec AD's layout
  simplenet train --train-good photos/good          your own good photos
  simplenet predict --model runs/…/model.safetensors photos/new --overlays out

Exit codes: 0 success, 1 a verdict asked for (--fail-on-defect, --fail-below), 2 bad usage or input,
3 the environment (no device, no weights).")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// Only warnings and errors on stderr.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Also say how things are done.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Learn from good images; one model a category, tested where a test set exists.
    Train(Box<train::TrainArgs>),
    /// Metrics of trained models on a data set.
    Test(Box<test::TestArgs>),
    /// Score, verdict and place for files, folders or a list on stdin.
    Predict(Box<predict::PredictArgs>),
    /// A grid of settings and seeds over shared features: tables and plots.
    Sweep(Box<sweep::SweepArgs>),
    /// Show or set a model's decision thresholds.
    Threshold(threshold::ThresholdArgs),
    /// Images a second and latency, with the protocol printed.
    Bench(Box<bench::BenchArgs>),
    /// Draw the paper's figures from a finished training.
    Figures(Box<figures::FiguresArgs>),
    /// List, fetch, import and verify backbone weights.
    Weights(weights::WeightsArgs),
    /// Turn a checkpoint of the authors' PyTorch code into a model file.
    Import(import::ImportArgs),
    /// Write the built-in synthetic data set.
    Demo(demo::DemoArgs),
    /// Write every intermediate tensor of images, for comparing implementations.
    Dump(Box<dump::DumpArgs>),
    /// What this machine offers.
    Doctor(doctor::DoctorArgs),
}

/// What compiled this program, and for which machine.
const COMPILER: &str =
    concat!(env!("SIMPLENET_COMPILER"), ", ", env!("SIMPLENET_TARGET"), ", ", env!("SIMPLENET_PROFILE"));

/// How a command ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Exit code 0.
    Success,
    /// Exit code 1: the verdict that the user asked to be told by exit code.
    Verdict,
}

/// Something is missing on this machine: exit code 3.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Environment(pub String);

/// Parses the command line, runs it, and returns the exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let console = Console::new(match (cli.quiet, cli.verbose) {
        (true, _) => Verbosity::Quiet,
        (false, 0) => Verbosity::Normal,
        (false, _) => Verbosity::Verbose,
    });
    let outcome = match &cli.verb {
        Verb::Train(args) => train::run(args, &console),
        Verb::Test(args) => test::run(args, &console),
        Verb::Predict(args) => predict::run(args, &console),
        Verb::Sweep(args) => sweep::run(args, &console),
        Verb::Threshold(args) => threshold::run(args, &console),
        Verb::Bench(args) => bench::run(args, &console),
        Verb::Figures(args) => figures::run(args, &console),
        Verb::Weights(args) => weights::run(args, &console),
        Verb::Import(args) => import::run(args, &console),
        Verb::Demo(args) => demo::run(args, &console),
        Verb::Dump(args) => dump::run(args, &console),
        Verb::Doctor(args) => doctor::run(args),
    };
    match outcome {
        Ok(Outcome::Success) => ExitCode::SUCCESS,
        Ok(Outcome::Verdict) => ExitCode::from(1),
        // A reader that has seen enough (`simplenet predict … | head`) is success.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Where stderr is gone too there is nobody left to tell.
            let _ = writeln!(std::io::stderr(), "error: {}", sentence(&error));
            ExitCode::from(if is_environment(&error) { 3 } else { 2 })
        }
    }
}

/// The error and its causes in one line. A cause that its effect already quotes is not said twice.
fn sentence(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

/// Whether a GPU failed or is missing, whoever passed the news on.
fn is_device_failure(error: &anyhow::Error) -> bool {
    let in_backend = |error: &BackendError| matches!(error, BackendError::Cuda(_));
    error.chain().any(|cause| {
        cause.is::<CudaError>()
            || cause.downcast_ref().is_some_and(in_backend)
            || matches!(cause.downcast_ref(), Some(TrainingError::Backend(error)) if in_backend(error))
            || matches!(cause.downcast_ref(), Some(ModelError::Backend(error)) if in_backend(error))
    })
}

fn is_environment(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Environment>().is_some()
        || is_device_failure(error)
        || error.chain().any(|cause| {
            cause.downcast_ref().is_some_and(weights::is_environment)
                || matches!(cause.downcast_ref(), Some(DemoError::NoCacheFolder))
        })
}
