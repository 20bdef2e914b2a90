//! `sweep`: a grid of settings × seeds over shared features, as tables and plots.

mod execution;
mod grid;
mod progress;
mod record;

pub(super) use record::SWEEP_FILE;

use super::Outcome;
use super::args::{BackboneArgs, CacheName, DataArgs, DeviceArgs, parse_bytes};
use super::console::Console;
use super::device::{self, Device};
use super::settings_args::SettingsArgs;
use super::train::{GeometryName, ReferenceName, parse_folds, warn_of_another_device};
use crate::training::CalibrationPlan;
use clap::Args;
use std::path::PathBuf;

/// `sweep`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  simplenet sweep --data mvtec --over noise-sigma=0.01,0.015,0.02 --seeds 0,1,2
  simplenet sweep --data mvtec --over levels=2,3,2+3 --over patch=1,3
  simplenet sweep --data mvtec --table 4       the paper's Table 4; backbones without weights here are left out
  simplenet sweep --resume runs/…              what a killed sweep had finished is not done again

Features are computed once for all points and seeds that can share them.")]
// `--one-class` and `--subset` are `train`'s; a sweep refuses them.
#[command(
    mut_arg("one_class", |arg| arg.hide(true)),
    mut_arg("subset", |arg| arg.hide(true)),
    mut_arg("category", |arg| arg.help("Only this category of --data; may be given several times"))
)]
pub(super) struct SweepArgs {
    /// A setting (as in `train --show-config`, or `backbone`) and the values it takes; every combination is trained.
    #[arg(long, value_name = "KEY=V1,V2…", conflicts_with_all = ["table", "figure"],
          required_unless_present_any = ["table", "figure", "resume"])]
    over: Vec<String>,
    /// What the paper's Table 2 (levels), 3 (adaptor and loss) or 4 (backbones) compares.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(2..=4), conflicts_with = "figure")]
    table: Option<u8>,
    /// What the paper's Figure 5 (noise) or 6 (neighbourhood) compares.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(5..=6))]
    figure: Option<u8>,
    /// Seeds, such as 0,1,2: every point is trained under each.
    #[arg(long, value_delimiter = ',', value_name = "LIST", default_value = "0")]
    seeds: Vec<u64>,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    backbone: BackboneArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    settings: SettingsArgs,
    /// Folds of good images that are held out to find thresholds, as in `train`. None are needed to compare settings.
    #[arg(long, value_name = "N", default_value = "none", value_parser = parse_folds)]
    calibration_folds: CalibrationPlan,
    /// Set the results of every point beside the paper's Table 1, category by category (comparison.md).
    #[arg(long, value_enum, value_name = "WHAT")]
    compare: Option<ReferenceName>,
    /// Where pixel metrics are taken: on the network's input, as the paper does, or on the whole original image.
    #[arg(long, value_enum, default_value = "network")]
    metrics_geometry: GeometryName,
    /// Element type of the feature caches.
    #[arg(long, value_enum, default_value = "f32")]
    feature_cache: CacheName,
    /// Features of the training images kept in memory, and as many of the test images; more go to files in the sweep's
    /// folder.
    #[arg(long, value_name = "SIZE", default_value = "4GiB", value_parser = parse_bytes)]
    feature_cache_limit: u64,
    /// Where the sweep goes. Default: runs/<date-time>.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Print results as JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Continue a sweep that was interrupted; everything else is taken from it.
    #[arg(long, value_name = "SWEEP", conflicts_with_all = [
        "over", "table", "figure", "seeds", "DataArgs", "BackboneArgs", "SettingsArgs", "calibration_folds",
        "compare", "metrics_geometry", "feature_cache", "feature_cache_limit", "output",
    ])]
    resume: Option<PathBuf>,
}

/// Runs the verb.
pub(super) fn run(args: &SweepArgs, console: &Console) -> anyhow::Result<Outcome> {
    let device = device::open(&args.device, console)?;
    let (folder, record) = match &args.resume {
        Some(root) => {
            let (folder, record) = record::open(root)?;
            console.say(format_args!("continuing {}", root.display()));
            warn_of_another_device(&record.device, &device, console);
            (folder, record)
        }
        None => record::begin(args, &device, console)?,
    };
    let sweep = execution::Sweep { folder: &folder, record: &record, console };
    let rows = match &device {
        Device::Cpu(cpu, _) => sweep.execute(cpu),
        Device::Cuda(cuda) => sweep.execute(cuda),
    }?;
    sweep.report(rows, args.json)?;
    Ok(Outcome::Success)
}
