//! `train`: one model a category, evaluated where a test set exists, in a run folder.

use super::args::{BackboneArgs, CacheName, DataArgs, DeviceArgs, SettingsArgs, parse_bytes};
use super::backbone::{ResolvedBackbone, resolve_backbone};
use super::console::Console;
use super::evaluation::Evaluation;
use super::run_folder::{DataSource, EvaluationSpec, RunFolder, RunRecord, RunSpec, absolute};
use super::{Outcome, device, run_report};
use crate::backbone::FeatureExtractor;
use crate::backbone::weights::WeightsSource;
use crate::backend::Backend;
use crate::data::{Category, Exif, LoaderOptions};
use crate::detector::{Detector, FORMAT, Model, ModelMetadata, Thresholds};
use crate::report::jsonl::write_lines;
use crate::report::results::{CategoryResult, Results};
use crate::report::training_log::EpochRecord;
use crate::training::{
    Calibration, CalibrationPlan, Event, Features, ModelTraining, TrainedHead, checkpoint_path,
    extract_features,
};
use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

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
    /// Continue a run that was interrupted; everything else is taken from it.
    #[arg(long, value_name = "RUN", conflicts_with_all = [
        "DataArgs", "BackboneArgs", "SettingsArgs", "EvaluationArgs", "seed", "seeds", "calibration_folds",
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
        }
    }
}

fn parse_folds(text: &str) -> Result<CalibrationPlan, String> {
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
    let backend = device::open(&args.device, console)?;
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
            (folder, record, backbone)
        }
        None => begin(args, &backend)?,
    };
    Run { folder, record, backbone, console }.execute(&backend)
}

/// Resolves everything a new run needs, and writes its record.
fn begin<B: Backend>(
    args: &TrainArgs,
    backend: &B,
) -> anyhow::Result<(RunFolder, RunRecord, ResolvedBackbone)> {
    let settings = args.settings.settings()?;
    let seeds = if args.seeds.is_empty() { vec![args.seed] } else { args.seeds.clone() };
    if seeds.iter().enumerate().any(|(i, seed)| seeds[..i].contains(seed)) {
        bail!("--seeds names a seed twice; give each once");
    }
    let data = DataSource::from_args(&args.data)?;
    // Before anything is written: a run folder of a run that cannot start would only be in the way.
    data.categories()?;
    let backbone = resolve_backbone(
        &args.backbone.backbone,
        args.backbone.weights.as_deref(),
        settings.features.levels.deepest(),
    )?;
    let folder = RunFolder::create(args.output.as_deref())?;
    let record = RunRecord {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        command: std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect(),
        started: jiff::ZonedDateTime::now().strftime("%Y-%m-%d %H:%M:%S %Z").to_string(),
        device: backend.description(),
        synthetic_data: data.is_synthetic(),
        spec: RunSpec {
            data,
            ignore_exif: args.data.ignore_exif,
            strict: args.data.strict,
            backbone: backbone.identity.architecture.to_string(),
            weights: args.backbone.weights.as_deref().map(recorded_weights).transpose()?,
            settings,
            seeds,
            calibration: args.calibration_folds,
            cache_precision: args.feature_cache.into(),
            cache_limit: args.feature_cache_limit,
            bundle: args.bundle,
            evaluation: args.evaluation.spec(),
        },
        backbone: backbone.identity.clone(),
        backbone_description: backbone.description.clone(),
    };
    folder.write_json("run.json", &record)?;
    Ok((folder, record, backbone))
}

/// `--weights` as `run.json` keeps it: a resumed run may start from another folder.
fn recorded_weights(given: &str) -> anyhow::Result<String> {
    Ok(match given.parse()? {
        WeightsSource::File(path) => absolute(&path)?.display().to_string(),
        _ => given.to_owned(),
    })
}

/// A run in progress.
struct Run<'a> {
    folder: RunFolder,
    record: RunRecord,
    backbone: ResolvedBackbone,
    console: &'a Console,
}

/// The file that marks a model as finished, with its metrics.
const RESULT_FILE: &str = "result.json";

impl Run<'_> {
    fn execute<B: Backend<Scalar = f32>>(&self, backend: &B) -> anyhow::Result<Outcome> {
        let spec = &self.record.spec;
        let console = self.console;
        console.say(format_args!("data      {}", spec.data.description()));
        console.say(format_args!("backbone  {}", self.backbone.description));
        console.say(format_args!("device    {}", backend.description()));
        console.say(format_args!("output    {}", self.folder.root().display()));
        if self.record.synthetic_data {
            console.say("These images are synthetic; give your own with --data or --train-good.");
        }

        let features = &spec.settings.features;
        let mut extractor = Some(FeatureExtractor::new(
            backend,
            self.backbone.identity.architecture,
            &self.backbone.weights.tensors,
            features.levels.clone(),
            features.aggregation,
        )?);
        let mut results = Results::default();
        for category in spec.data.categories()? {
            category.notes.iter().for_each(|note| console.warn(format_args!("{}: {note}", category.name)));
            // The extractor travels: into the detector for evaluation, and back.
            let taken = extractor.take().context("the extractor is handed back after each category")?;
            extractor = Some(self.category(backend, taken, &category, &mut results)?);
            results.write_csv(&self.folder.root().join("results.csv"))?;
            results.write_json(&self.folder.root().join("results.json"))?;
        }
        run_report::finish(&self.folder, &self.record, &results, console)
    }

    /// Trains and evaluates every seed of a category that is not finished yet.
    fn category<B: Backend<Scalar = f32>>(
        &self,
        backend: &B,
        mut extractor: FeatureExtractor<B>,
        category: &Category,
        results: &mut Results,
    ) -> anyhow::Result<FeatureExtractor<B>> {
        let seeds = &self.record.spec.seeds;
        let mut features = None;
        for &seed in seeds {
            let model_folder = self.folder.model_folder(&category.name, seed, seeds);
            self.folder.sweep(&model_folder);
            if let Some(result) = read_result(&model_folder) {
                // A kill may have come between the result and the end of its checkpoint.
                remove_checkpoint(&model_folder)?;
                self.console.say(format_args!("{}, seed {seed}: finished before", category.name));
                results.rows.push(result);
                continue;
            }
            let started = std::time::Instant::now();
            if features.is_none() {
                features =
                    Some((self.features(backend, &extractor, category)?, started.elapsed().as_secs_f64()));
            }
            let Some((features, extract_seconds)) = &features else { unreachable!("just computed") };
            let (result, returned) =
                self.model(backend, extractor, category, seed, features, *extract_seconds, &model_folder)?;
            extractor = returned;
            results.rows.push(result);
        }
        Ok(extractor)
    }

    fn features<B: Backend<Scalar = f32>>(
        &self,
        backend: &B,
        extractor: &FeatureExtractor<B>,
        category: &Category,
    ) -> anyhow::Result<Features<B>> {
        let spec = &self.record.spec;
        let mut loader = LoaderOptions::new(spec.settings.features.preprocess);
        loader.exif = if spec.ignore_exif { Exif::Ignore } else { Exif::Apply };
        let name = format!("{}: features", category.name);
        let mut task = self.console.task(&name, category.train.len() as u64);
        let options = self.folder.cache_options(spec);
        let features =
            extract_features(backend, extractor, &category.train, loader, &options, &mut |done| {
                task.set(done as u64, "");
            })?;
        for (_, error) in &features.skipped {
            task.warn(format_args!("skipped: {error}"));
        }
        drop(task);
        if let (true, [(_, error), ..]) = (spec.strict, &features.skipped[..]) {
            bail!("{error} (or leave out --strict, and it is skipped)");
        }
        if features.images.is_empty() {
            bail!(
                "none of the {} training images of {} could be read; each is named above with its cure",
                category.train.len(),
                category.name
            );
        }
        if features.inspected < 0.995 {
            self.console.say(format_args!(
                "{}: {:.0} % of the image area lies outside the crop and is not inspected (--fit stretch sees all)",
                category.name,
                100.0 * (1.0 - features.inspected)
            ));
        }
        Ok(features)
    }

    /// Trains one model, writes it, and evaluates it.
    #[expect(clippy::too_many_arguments, reason = "one model's inputs, all of different kinds")]
    fn model<B: Backend<Scalar = f32>>(
        &self,
        backend: &B,
        extractor: FeatureExtractor<B>,
        category: &Category,
        seed: u64,
        features: &Features<B>,
        extract_seconds: f64,
        model_folder: &Path,
    ) -> anyhow::Result<(CategoryResult, FeatureExtractor<B>)> {
        let started = std::time::Instant::now();
        let trained = self.train(backend, &extractor, category, seed, features, model_folder)?;
        let train_seconds = started.elapsed().as_secs_f64();
        let model = self.assemble(category, seed, features.images.len(), &trained);
        model.save(&model_folder.join("model.safetensors"))?;
        self.announce_thresholds(category, model.metadata.calibration.as_ref());

        let spec = &self.record.spec;
        let first_seed = spec.seeds[0] == seed;
        let evaluation = Evaluation {
            folder: &self.folder,
            category,
            model: &model.metadata,
            // Pictures of every seed would differ in nothing a person can see.
            spec: EvaluationSpec {
                overlays: spec.evaluation.overlays && first_seed,
                maps: spec.evaluation.maps && first_seed,
                ..spec.evaluation
            },
            strict: spec.strict,
        };
        let detector = Detector::with_extractor(backend, &model, extractor)?;
        let evaluated = evaluation.run(backend, &detector, self.console)?;
        write_lines(&model_folder.join("scores.jsonl"), &evaluated.scores)?;

        let mut result = evaluated.result;
        result.skipped += features.skipped.len();
        result.final_loss = trained.history.last().and_then(|epochs| epochs.last()).map(|epoch| epoch.loss);
        result.extract_seconds = Some(extract_seconds);
        result.train_seconds = Some(train_seconds);
        let text = serde_json::to_string_pretty(&result)?;
        crate::files::write_whole(&model_folder.join(RESULT_FILE), |out| out.write_all(text.as_bytes()))?;
        remove_checkpoint(model_folder)?;
        Ok((result, detector.into_extractor()))
    }

    fn train<B: Backend<Scalar = f32>>(
        &self,
        backend: &B,
        extractor: &FeatureExtractor<B>,
        category: &Category,
        seed: u64,
        features: &Features<B>,
        model_folder: &Path,
    ) -> anyhow::Result<TrainedHead> {
        let spec = &self.record.spec;
        let settings = &spec.settings;
        let side = settings.features.preprocess.crop as usize;
        let training = ModelTraining {
            settings: &settings.training,
            channels: extractor.channels(),
            grid: features.grid,
            size: (side, side),
            map_sigma: settings.map_sigma,
            images: features.images.len(),
            seed,
            calibration: spec.calibration,
            fingerprint: self.fingerprint(category, seed, features)?,
            checkpoint: &checkpoint_path(model_folder),
        };
        if spec.calibration != CalibrationPlan::None && features.images.len() < 2 {
            self.console.warn(format_args!(
                "{}: one good image leaves none to hold out; the model gets no threshold",
                category.name
            ));
        }
        let log = model_folder.join("training.jsonl");
        let mut current = None;
        let name = |head: usize, heads: usize| {
            let what =
                if head + 1 == heads { "training".to_owned() } else { format!("calibration {}", head + 1) };
            let seed = if spec.seeds.len() > 1 { format!(", seed {seed}") } else { String::new() };
            format!("{}{seed}: {what}", category.name)
        };
        let mut message = String::new();
        let trained = training.run(backend, &features.cache, &mut |event: &Event<'_>| {
            let (head, task) = current.take().filter(|(head, _)| *head == event.head).unwrap_or_else(|| {
                (event.head, self.console.task(&name(event.head, event.heads), u64::from(event.steps)))
            });
            let mut task = task;
            if let Some(epoch) = event.epoch {
                message = format!(
                    "epoch {}  loss {:.4}  p+ {:.2}  p- {:.2}",
                    epoch.epoch, epoch.loss, epoch.positive, epoch.negative
                );
                write_lines(&log, &epoch_records(event.history))?;
            }
            task.set(u64::from(event.step), message.as_str());
            current = Some((head, task));
            Ok(())
        })?;
        // Once more, whole: a kill may have come between the last checkpoint and its line, and then no epoch is left
        // to be told of.
        write_lines(&log, &epoch_records(&trained.history))?;
        Ok(trained)
    }

    fn assemble(&self, category: &Category, seed: u64, images: usize, trained: &TrainedHead) -> Model {
        let spec = &self.record.spec;
        let channels = trained.tensors["discriminator.hidden.weight"].shape()[1];
        Model {
            metadata: ModelMetadata {
                format: FORMAT,
                category: category.name.clone(),
                backbone: self.backbone.identity.clone(),
                settings: spec.settings.clone(),
                head: spec.settings.training.head(channels),
                seed,
                train_images: images,
                synthetic_data: self.record.synthetic_data,
                ignore_exif: spec.ignore_exif,
                thresholds: Thresholds::calibrated(trained.calibration.as_ref()),
                calibration: trained.calibration.clone(),
            },
            head: trained.tensors.clone(),
            backbone: spec.bundle.then(|| self.backbone.used_tensors()),
        }
    }

    fn announce_thresholds(&self, category: &Category, calibration: Option<&Calibration>) {
        let Some(calibration) = calibration else { return };
        let held_out = calibration.held_out.scores.len();
        self.console.say(format_args!(
            "{}: threshold {:.4} from {held_out} held-out good images; at most {:.0} % of good parts are rejected \
             ({:.0} % confidence)",
            category.name,
            calibration.image_threshold,
            100.0 * calibration.false_reject_bound,
            100.0 * calibration.confidence
        ));
        if calibration.is_weak() {
            self.console.say(format_args!(
                "{}: so few images were held out that the threshold is hardly more than their maximum; \
                 --calibration-folds 5 holds out every image once",
                category.name
            ));
        }
    }

    /// Identifies a training: what it sees, with what, how. A checkpoint of another one is refused.
    fn fingerprint<B: Backend>(
        &self,
        category: &Category,
        seed: u64,
        features: &Features<B>,
    ) -> anyhow::Result<String> {
        let spec = &self.record.spec;
        let mut hash = Sha256::new();
        hash.update(serde_json::to_vec(&(
            &spec.settings,
            &self.backbone.identity,
            spec.calibration,
            spec.cache_precision,
            spec.ignore_exif,
            &category.name,
            seed,
        ))?);
        hash.update(features.digest);
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// A finished model's metrics; none where they, or the model, are not there.
fn read_result(model_folder: &Path) -> Option<CategoryResult> {
    let text = std::fs::read_to_string(model_folder.join(RESULT_FILE)).ok()?;
    model_folder.join("model.safetensors").exists().then(|| serde_json::from_str(&text).ok())?
}

/// Removes a finished model's checkpoint, if it is still there.
fn remove_checkpoint(model_folder: &Path) -> anyhow::Result<()> {
    let checkpoint = checkpoint_path(model_folder);
    match std::fs::remove_file(&checkpoint) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error)
            .with_context(|| format!("cannot remove the finished checkpoint {}", checkpoint.display())),
        _ => Ok(()),
    }
}

/// `training.jsonl`: a line an epoch, calibration heads before the shipped one.
fn epoch_records(history: &[Vec<crate::training::EpochSummary>]) -> Vec<EpochRecord> {
    let heads = history.len();
    let mut records = Vec::new();
    for (index, epochs) in history.iter().enumerate() {
        let head = if index + 1 == heads { "final".to_owned() } else { format!("calibration-{}", index + 1) };
        records.extend(epochs.iter().map(|epoch| EpochRecord {
            head: head.clone(),
            epoch: epoch.epoch,
            loss: epoch.loss,
            p_plus: epoch.positive,
            p_minus: epoch.negative,
            seconds: epoch.seconds,
            i_auroc: None,
            p_auroc: None,
            selected_on_test: false,
        }));
    }
    records
}
