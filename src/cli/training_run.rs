//! A training run: what `train` does once everything is resolved.

use super::backbone::ResolvedBackbone;
use super::console::Console;
use super::evaluation::Evaluation;
use super::model_folder::{MODEL_FILE, TrainingSummary, read_result, remove_earlier_marks, set_finished};
use super::run_folder::{RunFolder, RunRecord};
use super::{Outcome, run_report, training_outcome};
use crate::backbone::FeatureExtractor;
use crate::backend::Backend;
use crate::data::{Category, Exif, LoaderOptions};
use crate::detector::{Detector, FORMAT, Model, ModelMetadata, Thresholds};
use crate::head::HeadConfig;
use crate::report::jsonl::write_lines;
use crate::report::results::{CategoryResult, Results};
use crate::report::training_log::EpochRecord;
use crate::settings::FeatureScale;
use crate::training::{
    CalibrationPlan, Event, Features, ModelTraining, PRESUMED_STD, TrainedHead, checkpoint_path,
    extract_features, measured_feature_scale,
};
use anyhow::{Context, bail};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// A run in progress.
pub(super) struct Run<'a> {
    /// Where it goes.
    pub folder: RunFolder,
    /// What it computes.
    pub record: RunRecord,
    /// The backbone and its weights.
    pub backbone: &'a ResolvedBackbone,
    /// Where progress is told.
    pub console: &'a Console,
    /// Whether results go to stdout as JSON instead of a table.
    pub json: bool,
}

/// The features of a category's training images, and what they took.
pub(super) struct Extracted<B: Backend> {
    /// The features.
    features: Features<B>,
    /// Wall-clock seconds of the extraction.
    seconds: f64,
}

impl Run<'_> {
    /// Trains what is not finished yet, category by category, and reports.
    pub(super) fn execute<B: Backend<Scalar = f32>>(&self, backend: &B) -> anyhow::Result<Outcome> {
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
        let extractor = FeatureExtractor::new(
            backend,
            self.backbone.identity.architecture,
            &self.backbone.weights.tensors,
            features.levels.clone(),
            features.aggregation,
        )?;
        let results = match spec.data.one_class()? {
            Some(set) => self.one_class(backend, extractor, &set)?,
            None => self.categories(backend, extractor)?,
        };
        run_report::finish(&self.folder, &self.record, &results, self.json, console)
    }

    /// Trains and evaluates category by category.
    fn categories<B: Backend<Scalar = f32>>(
        &self,
        backend: &B,
        extractor: FeatureExtractor<B>,
    ) -> anyhow::Result<Results> {
        let mut extractor = Some(extractor);
        let mut results = Results::default();
        for category in self.record.spec.data.categories()? {
            let warn = |note| self.console.warn(format_args!("{}: {note}", category.name));
            category.notes.iter().for_each(warn);
            // The extractor travels: into the detector for evaluation, and back.
            let taken = extractor.take().context("the extractor is handed back after each category")?;
            extractor = Some(self.category(backend, taken, &category, &mut results)?);
            self.write_results(&results)?;
        }
        Ok(results)
    }

    /// Writes the tables of the results so far.
    pub(super) fn write_results(&self, results: &Results) -> anyhow::Result<()> {
        results.write_csv(&self.folder.root().join("results.csv"))?;
        results.write_json(&self.folder.root().join("results.json"))?;
        Ok(())
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
            self.folder.tidy(&model_folder);
            if let Some(result) = read_result(&model_folder) {
                // A kill may have come between the result and the end of its checkpoint.
                remove_earlier_marks(&model_folder)?;
                self.console.say(format_args!("{}, seed {seed}: finished before", category.name));
                results.rows.push(result);
                continue;
            }
            if features.is_none() {
                features = Some(self.features(backend, &extractor, category)?);
            }
            let Some(features) = &features else { unreachable!("just computed") };
            let (result, returned) =
                self.model(backend, extractor, category, seed, features, &model_folder)?;
            extractor = returned;
            results.rows.push(result);
        }
        Ok(extractor)
    }

    /// Computes the features of a category's training images.
    pub(super) fn features<B: Backend<Scalar = f32>>(
        &self,
        backend: &B,
        extractor: &FeatureExtractor<B>,
        category: &Category,
    ) -> anyhow::Result<Extracted<B>> {
        let name = format!("{}: features", category.name);
        let extracted = self.extract(backend, extractor, &category.train, &name)?;
        let features = &extracted.features;
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
        Ok(extracted)
    }

    /// Computes the features of a category's test images, for models that share them.
    pub(super) fn test_features<B: Backend<Scalar = f32>>(
        &self,
        backend: &B,
        extractor: &FeatureExtractor<B>,
        category: &Category,
    ) -> anyhow::Result<Features<B>> {
        let paths: Vec<PathBuf> = category.test.iter().map(|test| test.path.clone()).collect();
        let name = format!("{}: features of the test images", category.name);
        Ok(self.extract(backend, extractor, &paths, &name)?.features)
    }

    fn extract<B: Backend<Scalar = f32>>(
        &self,
        backend: &B,
        extractor: &FeatureExtractor<B>,
        paths: &[PathBuf],
        name: &str,
    ) -> anyhow::Result<Extracted<B>> {
        let started = std::time::Instant::now();
        let spec = &self.record.spec;
        let mut loader = LoaderOptions::new(spec.settings.features.preprocess);
        loader.exif = if spec.ignore_exif { Exif::Ignore } else { Exif::Apply };
        let mut task = self.console.task(name, paths.len() as u64);
        let options = self.folder.cache_options(spec);
        let features = extract_features(backend, extractor, paths, loader, &options, &mut |done| {
            task.set(done as u64, "");
        })?;
        for (_, error) in &features.skipped {
            task.warn(format_args!("skipped: {error}"));
        }
        drop(task);
        if let (true, [(_, error), ..]) = (spec.strict, &features.skipped[..]) {
            bail!("{error} (or leave out --strict, and it is skipped)");
        }
        let seconds = started.elapsed().as_secs_f64();
        self.console.detail(format_args!("{name}: {} images in {seconds:.1} s", features.images.len()));
        Ok(Extracted { features, seconds })
    }

    /// Trains one model, writes it, and evaluates it.
    fn model<B: Backend<Scalar = f32>>(
        &self,
        backend: &B,
        extractor: FeatureExtractor<B>,
        category: &Category,
        seed: u64,
        features: &Extracted<B>,
        model_folder: &Path,
    ) -> anyhow::Result<(CategoryResult, FeatureExtractor<B>)> {
        let (model, summary) =
            self.trained_model(backend, &extractor, category, seed, features, model_folder)?;
        let spec = &self.record.spec;
        let first_seed = spec.seeds[0] == seed;
        let evaluation = Evaluation {
            folder: &self.folder,
            category,
            model: &model.metadata,
            // Pictures of every seed would differ in nothing a person can see.
            spec: spec.evaluation.pictures_if(first_seed),
            strict: spec.strict,
            synthetic: self.record.synthetic_data,
        };
        let detector = Detector::with_extractor(backend, &model, extractor)?;
        let evaluated = evaluation.run(backend, &detector, self.console)?;
        write_lines(&model_folder.join("scores.jsonl"), &evaluated.scores)?;

        let result = summary.complete(evaluated.result);
        set_finished(model_folder, &result)?;
        Ok((result, detector.into_extractor()))
    }

    /// Trains one model and writes it; its checkpoint stays until the model is finished.
    pub(super) fn trained_model<B: Backend<Scalar = f32>>(
        &self,
        backend: &B,
        extractor: &FeatureExtractor<B>,
        category: &Category,
        seed: u64,
        extracted: &Extracted<B>,
        model_folder: &Path,
    ) -> anyhow::Result<(Model, TrainingSummary)> {
        let features = &extracted.features;
        let started = std::time::Instant::now();
        let feature_scale = self.feature_scale(backend, category, features)?;
        let head = self.record.spec.settings.training.head(extractor.channels());
        let head = HeadConfig { feature_scale, ..head };
        let trained = self.train(backend, head, category, seed, features, model_folder)?;
        let summary = TrainingSummary {
            skipped: features.skipped.len(),
            final_loss: trained.history.last().and_then(|epochs| epochs.last()).map(|epoch| epoch.loss),
            extract_seconds: extracted.seconds,
            train_seconds: started.elapsed().as_secs_f64(),
        };
        let model = self.assemble(category, seed, features.images.len(), head, &trained);
        model.save(&model_folder.join(MODEL_FILE))?;
        training_outcome::tell(&self.record.spec, &model.metadata, summary.final_loss, self.console);
        Ok((model, summary))
    }

    /// The factor of a category's features, measured where the settings and the weights ask for it.
    fn feature_scale<B: Backend<Scalar = f32>>(
        &self,
        backend: &B,
        category: &Category,
        features: &Features<B>,
    ) -> anyhow::Result<f64> {
        let asked = self.record.spec.settings.training.feature_scale;
        match asked.settled(self.backbone.has_v1_scale) {
            FeatureScale::None => Ok(1.0),
            FeatureScale::Factor(factor) => Ok(factor),
            FeatureScale::Auto | FeatureScale::ByWeights => {
                let Some(factor) = measured_feature_scale(backend, features)? else {
                    bail!(
                        "{}: the features of the training images do not vary, so they have no scale; check the images \
                         and the weights (`simplenet weights verify`), or name a factor with --feature-scale",
                        category.name
                    );
                };
                self.console.say(format_args!(
                    "{}: features are multiplied by {factor:.4}, so that their channels deviate by {PRESUMED_STD} as \
                     the noise's sigma presumes (--feature-scale none takes them as they are)",
                    category.name
                ));
                Ok(factor)
            }
        }
    }

    fn train<B: Backend<Scalar = f32>>(
        &self,
        backend: &B,
        head: HeadConfig,
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
            head,
            grid: features.grid,
            size: (side, side),
            map_sigma: settings.map_sigma,
            images: features.images.len(),
            seed,
            calibration: spec.calibration,
            fingerprint: self.fingerprint(category, seed, head, features)?,
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

    fn assemble(
        &self,
        category: &Category,
        seed: u64,
        images: usize,
        head: HeadConfig,
        trained: &TrainedHead,
    ) -> Model {
        let spec = &self.record.spec;
        Model {
            metadata: ModelMetadata {
                format: FORMAT,
                category: category.name.clone(),
                backbone: self.backbone.identity.clone(),
                settings: spec.settings.clone(),
                head,
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

    /// Identifies a training: what it sees, with what, how. A checkpoint of another one is refused.
    fn fingerprint<B: Backend>(
        &self,
        category: &Category,
        seed: u64,
        head: HeadConfig,
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
            head,
        ))?);
        hash.update(features.digest);
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
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
