//! `sweep.json`: everything a sweep computes, by which it is continued.

use super::SweepArgs;
use super::grid::{BACKBONE, Grid, Point};
use crate::backbone::weights::WeightsSource;
use crate::cli::backbone::resolve_backbone;
use crate::cli::console::Console;
use crate::cli::device::Device;
use crate::cli::epoch_choice;
use crate::cli::run_folder::{DataSource, EvaluationSpec, RunFolder, RunRecord, RunSpec};
use crate::cli::settings_args::Configured;
use crate::cli::train::{GeometryName, ReferenceName, recorded_weights};
use crate::cli::{Environment, is_environment};
use crate::settings::{Config, Settings};
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The record's file.
pub(in crate::cli) const SWEEP_FILE: &str = "sweep.json";

/// `sweep.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SweepRecord {
    /// The device in words.
    pub device: String,
    /// What varies, and all points.
    pub grid: Grid,
    /// A run a point, in the order of the grid.
    pub runs: Vec<PointRun>,
}

/// What becomes of a point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum PointRun {
    /// It is trained, in a run folder of its own.
    Run {
        /// The folder's name within the sweep's.
        folder: String,
        /// Its `run.json`.
        record: Box<RunRecord>,
    },
    /// It cannot run here.
    LeftOut {
        /// Why.
        reason: String,
    },
}

/// Resolves every point of a new sweep, and writes the record.
pub(super) fn begin(
    args: &SweepArgs,
    device: &Device,
    console: &Console,
) -> anyhow::Result<(RunFolder, SweepRecord)> {
    let numbered = args.table.and_then(Grid::table).or_else(|| args.figure.and_then(Grid::figure));
    let grid = numbered.map_or_else(|| Grid::over(&args.over), Ok)?;
    if args.seeds.iter().enumerate().any(|(i, seed)| args.seeds[..i].contains(seed)) {
        bail!("--seeds names a seed twice; give each once");
    }
    let Configured { config, .. } = args.settings.configured()?;
    let data = DataSource::from_args(&args.data)?;
    if data.one_class()?.is_some() {
        bail!(
            "a sweep takes no --one-class data: its models are tested in one pass of their own; use `train --one-class`"
        );
    }
    if data.categories()?.iter().all(|category| category.test.is_empty()) {
        bail!(
            "{} has no test images, and a sweep compares settings by them; add some, or use `train`",
            data.description()
        );
    }
    if grid.varies(BACKBONE) {
        require_no_single_backbone(args)?;
    }
    let mut runs = Vec::new();
    for (index, point) in grid.points.iter().enumerate() {
        let run = point_record(args, &config, point, &data, device)
            .with_context(|| format!("{} cannot be trained", point.label));
        runs.push(match run {
            Ok(record) => PointRun::Run { folder: point.folder_name(index), record: Box::new(record) },
            Err(error) if grid.may_leave_out && is_environment(&error) => {
                let reason = error.root_cause().to_string();
                console.warn(format_args!("{} is left out: {reason}", point.label));
                PointRun::LeftOut { reason }
            }
            Err(error) => return Err(error),
        });
    }
    if !runs.iter().any(|run| matches!(run, PointRun::Run { .. })) {
        bail!(Environment(
            "no point of the sweep can be trained here; each is named above with its reason".to_owned()
        ));
    }
    let folder = RunFolder::create(args.output.as_deref())?;
    let record = SweepRecord { device: device.description(), grid, runs };
    folder.write_json(SWEEP_FILE, &record)?;
    Ok((folder, record))
}

/// Refuses flags that name one backbone, or the weights of one, where each point has its own: they would be ignored.
fn require_no_single_backbone(args: &SweepArgs) -> anyhow::Result<()> {
    if args.backbone.backbone.is_some() {
        bail!("--backbone names one backbone, and this sweep compares several; leave it out");
    }
    let given = args.backbone.weights.as_deref().map(str::parse::<WeightsSource>).transpose()?;
    if matches!(given, Some(WeightsSource::File(_) | WeightsSource::Embedded)) {
        bail!(
            "--weights are those of one backbone, and this sweep compares several; leave them out, and install each with \
             `simplenet weights import` or `fetch`"
        );
    }
    Ok(())
}

fn point_record(
    args: &SweepArgs,
    config: &Config,
    point: &Point,
    data: &DataSource,
    device: &Device,
) -> anyhow::Result<RunRecord> {
    let settings: Settings = args.settings.over(config, &point.overrides()?)?;
    epoch_choice::check(&settings, args.calibration_folds, data)?;
    let (name, weights) = match point.value(BACKBONE) {
        // Random ones if any: those of one backbone fit no other.
        Some(name) => (name, args.backbone.weights.as_deref()),
        None => args.backbone.over(config),
    };
    let backbone = resolve_backbone(name, weights, settings.features.levels.deepest())?;
    let spec = RunSpec {
        data: data.clone(),
        ignore_exif: args.data.ignore_exif,
        strict: args.data.strict,
        backbone: backbone.identity.architecture.to_string(),
        weights: weights.map(recorded_weights).transpose()?,
        settings,
        seeds: args.seeds.clone(),
        calibration: args.calibration_folds,
        cache_precision: args.feature_cache.into(),
        cache_limit: args.feature_cache_limit,
        bundle: false,
        evaluation: EvaluationSpec {
            overlays: false,
            maps: false,
            original_geometry: args.metrics_geometry == GeometryName::Original,
            compare_with_paper: args.compare == Some(ReferenceName::Paper),
        },
    };
    Ok(RunRecord::new(spec, device.description(), &backbone))
}

/// The folder of a sweep that was begun, and its record.
pub(super) fn open(root: &Path) -> anyhow::Result<(RunFolder, SweepRecord)> {
    let path = root.join(SWEEP_FILE);
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!("{} holds no sweep to continue: cannot read {SWEEP_FILE}", root.display())
    })?;
    let broken = || format!("{} is damaged or from another version; start a new sweep", path.display());
    let record: SweepRecord = serde_json::from_str(&text).with_context(broken)?;
    let sound = record.runs.iter().all(|run| match run {
        PointRun::Run { folder, record } => {
            let is_name = Path::new(folder).components().count() == 1 && !folder.contains("..");
            is_name && record.spec.settings.validate().is_ok() && !record.spec.seeds.is_empty()
        }
        PointRun::LeftOut { .. } => true,
    });
    if !sound || record.runs.len() != record.grid.points.len() {
        bail!(broken());
    }
    Ok((RunFolder::claimed(root.to_owned())?, record))
}
