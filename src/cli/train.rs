//! `train`: one model a category, evaluated where a test set exists, in a run folder.

use super::Outcome;
use super::args::{BackboneArgs, CacheName, DataArgs, DeviceArgs, parse_bytes};
use super::backbone::{ResolvedBackbone, resolve_backbone};
use super::console::{Console, print};
use super::device::{self, Device};
use super::epoch_choice;
use super::run_folder::{DataSource, EvaluationSpec, RunFolder, RunRecord, RunSpec, absolute};
use super::settings_args::{Configured, SettingsArgs};
use super::training_run::Run;
use crate::backbone::weights::WeightsSource;
use crate::settings::render;
use crate::training::CalibrationPlan;
use anyhow::bail;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// `train`.
#[derive(Args, Clone, Debug)]
pub(super) struct TrainArgs {
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    backbone: BackboneArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    settings: SettingsArgs,
    /// Seed of everything random.
    #[arg(long, default_value_t = 0, conflicts_with = "seeds")]
    seed: u64,
    /// Several seeds, such as 0,1,2: one model each, results as mean and spread.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    seeds: Vec<u64>,
    /// Folds of good images that are held out to find thresholds: 1 (a fifth of the images), up to 10 (every image
    /// once, one extra head a fold), or `none`.
    #[arg(long, value_name = "N", default_value = "1", value_parser = parse_folds)]
    calibration_folds: CalibrationPlan,
    /// Element type of the feature cache.
    #[arg(long, value_enum, default_value = "f32")]
    feature_cache: CacheName,
    /// Features kept in memory; more go to a file in the run folder.
    #[arg(long, value_name = "SIZE", default_value = "4GiB", value_parser = parse_bytes)]
    feature_cache_limit: u64,
    /// Put the backbone into the model file: one file to deploy.
    #[arg(long)]
    bundle: bool,
    #[command(flatten)]
    evaluation: EvaluationArgs,
    /// Where the run goes. Default: runs/<date-time>.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Print results as JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Print every setting as a configuration file for --config, and train nothing.
    #[arg(long)]
    show_config: bool,
    /// Continue a run that was interrupted; everything else is taken from it.
    #[arg(long, value_name = "RUN", conflicts_with_all = [
        "show_config", "DataArgs", "BackboneArgs", "SettingsArgs", "EvaluationArgs", "seed", "seeds", "calibration_folds",
        "feature_cache", "feature_cache_limit", "bundle", "output",
    ])]
    resume: Option<PathBuf>,
}

/// What evaluations write; shared by `train` and `test`.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct EvaluationArgs {
    /// Write no overlays.
    #[arg(long)]
    no_overlays: bool,
    /// Write no float TIFF maps.
    #[arg(long)]
    no_maps: bool,
    /// Where pixel metrics are taken: on the network's input, as the paper does, or on the whole original image.
    #[arg(long, value_enum, default_value = "network")]
    metrics_geometry: GeometryName,
    /// Also set the results beside published ones: `paper`, its Table 1 on MVTec AD or its Table 5 on CIFAR-10.
    #[arg(long, value_enum, value_name = "WHAT")]
    compare: Option<ReferenceName>,
}

/// Published results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ReferenceName {
    /// The paper's: of each category of MVTec AD, or the mean over CIFAR-10's classes.
    Paper,
}

/// Where pixel metrics are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum GeometryName {
    /// The network's input.
    Network,
    /// The original image.
    Original,
}

impl EvaluationArgs {
    /// As it is recorded.
    pub(super) fn spec(&self) -> EvaluationSpec {
        EvaluationSpec {
            overlays: !self.no_overlays,
            maps: !self.no_maps,
            original_geometry: self.metrics_geometry == GeometryName::Original,
            compare_with_paper: self.compare == Some(ReferenceName::Paper),
        }
    }
}

pub(super) fn parse_folds(text: &str) -> Result<CalibrationPlan, String> {
    match text {
        "none" => Ok(CalibrationPlan::None),
        "1" => Ok(CalibrationPlan::HoldOut),
        _ => match text.parse() {
            Ok(folds @ 2..=10) => Ok(CalibrationPlan::CrossFit(folds)),
            _ => Err(format!("`{text}` is no number of folds; choose 1 to 10, or none")),
        },
    }
}

/// Runs the verb.
pub(super) fn run(args: &TrainArgs, console: &Console) -> anyhow::Result<Outcome> {
    if args.show_config {
        let Configured { settings, config } = args.settings.configured()?;
        let (name, weights) = args.backbone.over(&config);
        print(&render(&settings, name, weights))?;
        return Ok(Outcome::Success);
    }
    let device = device::open(&args.device, console)?;
    let (folder, record, backbone) = match &args.resume {
        Some(root) => {
            let (folder, record) = RunFolder::open(root)?;
            let spec = &record.spec;
            let backbone = resolve_backbone(
                &spec.backbone,
                spec.weights.as_deref(),
                spec.settings.features.levels.deepest(),
            )?;
            if backbone.identity != record.backbone {
                bail!(
                    "{} was begun with other weights of {} than those found now; put them back to continue it",
                    root.display(),
                    record.backbone.architecture
                );
            }
            console.say(format_args!("continuing {}", root.display()));
            warn_of_another_device(&record.device, &device, console);
            (folder, record, backbone)
        }
        None => begin(args, &device)?,
    };
    let run = Run { folder, record, backbone: &backbone, console, json: args.json };
    match device {
        Device::Cpu(cpu, _) => run.execute(&cpu),
        Device::Cuda(cuda) => run.execute(&cuda),
    }
}

/// Whether devices of these descriptions give the same bits: one device, or CPUs, `CPU, THREADS, CONVOLUTIONS (REASON)`, that compute
/// convolutions alike. Neither the number of threads nor the reason for not using a GPU changes any.
fn same_bits(begun: &str, now: &str) -> bool {
    let convolutions = |text: &str| {
        let device = text.split(" (").next().filter(|device| device.starts_with("CPU, "));
        device.and_then(|device| device.split(", ").nth(2)).map(str::to_owned)
    };
    begun == now || convolutions(begun).is_some() && convolutions(begun) == convolutions(now)
}

/// A GPU adds in another order than the CPU: what continues elsewhere is no longer the uninterrupted run bit by bit.
pub(super) fn warn_of_another_device(begun: &str, device: &Device, console: &Console) {
    let now = device.description();
    if !same_bits(begun, &now) {
        console.warn(format_args!(
            "this run was begun on {begun} and continues on {now}: its results will differ in their last digits"
        ));
    }
}

/// Resolves everything a new run needs, and writes its record.
fn begin(args: &TrainArgs, device: &Device) -> anyhow::Result<(RunFolder, RunRecord, ResolvedBackbone)> {
    let Configured { settings, config } = args.settings.configured()?;
    let (name, weights) = args.backbone.over(&config);
    let seeds = if args.seeds.is_empty() { vec![args.seed] } else { args.seeds.clone() };
    if seeds.iter().enumerate().any(|(i, seed)| seeds[..i].contains(seed)) {
        bail!("--seeds names a seed twice; give each once");
    }
    let data = DataSource::from_args(&args.data)?;
    // Before anything is written: a run folder of a run that cannot start would only be in the way.
    data.categories()?;
    epoch_choice::check(&settings, args.calibration_folds, &data)?;
    let backbone = resolve_backbone(name, weights, settings.features.levels.deepest())?;
    let folder = RunFolder::create(args.output.as_deref())?;
    let spec = RunSpec {
        data,
        ignore_exif: args.data.ignore_exif,
        strict: args.data.strict,
        backbone: backbone.identity.architecture.to_string(),
        weights: weights.map(recorded_weights).transpose()?,
        settings,
        seeds,
        calibration: args.calibration_folds,
        cache_precision: args.feature_cache.into(),
        cache_limit: args.feature_cache_limit,
        bundle: args.bundle,
        evaluation: args.evaluation.spec().pictures_if(!args.data.one_class),
    };
    let record = RunRecord::new(spec, device.description(), &backbone);
    folder.write_json("run.json", &record)?;
    Ok((folder, record, backbone))
}

/// `--weights` as `run.json` keeps it: a resumed run may start from another folder.
pub(super) fn recorded_weights(given: &str) -> anyhow::Result<String> {
    Ok(match given.parse()? {
        WeightsSource::File(path) => absolute(&path)?.display().to_string(),
        _ => given.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_bits_is_told_from_what_does_not() {
        let fast = "CPU, 2 threads, fast convolutions";
        let tiles = "CPU, 2 threads, fast convolutions by AMX tiles on pairs of bf16";
        for alike in [
            fast,
            "CPU, 8 threads, fast convolutions",
            "CPU, 2 threads, fast convolutions (no GPU, no driver)",
        ] {
            assert!(same_bits(fast, alike) && same_bits(alike, fast), "{alike}");
        }
        for other in [
            tiles,
            "CPU, 2 threads, exact convolutions",
            "NVIDIA H100, f32",
            "NVIDIA A100, 2, fast convolutions",
        ] {
            assert!(!same_bits(fast, other) && !same_bits(other, fast), "{other}");
        }
        assert!(same_bits("NVIDIA H100, f32", "NVIDIA H100, f32"));
    }
}
