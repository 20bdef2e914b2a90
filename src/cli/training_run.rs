//! A training run: what `train` does once everything is resolved.

use super::backbone::ResolvedBackbone;
use super::console::Console;
use super::epoch_choice;
use super::evaluation::Evaluation;
use super::model_folder::{read_result, remove_earlier_marks, set_finished};
use super::model_training::Images;
use super::run_folder::{RunFolder, RunRecord};
use super::{Outcome, run_report};
use crate::backbone::FeatureExtractor;
use crate::backend::Backend;
use crate::data::{Category, Exif, LoaderOptions};
use crate::detector::Detector;
use crate::report::jsonl::write_lines;
use crate::report::results::{CategoryResult, Results};
use crate::settings::Selection;
use crate::training::{Features, extract_features};
use anyhow::{Context, bail};
use std::cell::OnceCell;
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
    pub features: Features<B>,
    /// What brings them to the presumed scale, once it is measured; None if nothing does.
    pub(super) measured_scale: OnceCell<Option<f64>>,
    /// Wall-clock seconds of the extraction.
    pub seconds: f64,
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
        epoch_choice::warn(spec, console);
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
        let (mut features, mut test) = (None, None);
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
                if self.selects_on_test() {
                    test = Some(self.test_features(backend, &extractor, category)?);
                }
            }
            let Some(features) = &features else { unreachable!("just computed") };
            let images = Images { category, train: features, test: test.as_ref() };
            let (result, returned) = self.model(backend, extractor, images, seed, &model_folder)?;
            extractor = returned;
            results.rows.push(result);
        }
        Ok(extractor)
    }

    /// Whether the test set chooses the epoch.
    pub(super) fn selects_on_test(&self) -> bool {
        self.record.spec.settings.training.select == Selection::Test
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
        Ok(Extracted { features, measured_scale: OnceCell::new(), seconds })
    }

    /// Trains one model, writes it, and evaluates it.
    fn model<B: Backend<Scalar = f32>>(
        &self,
        backend: &B,
        extractor: FeatureExtractor<B>,
        images: Images<'_, B>,
        seed: u64,
        model_folder: &Path,
    ) -> anyhow::Result<(CategoryResult, FeatureExtractor<B>)> {
        let category = images.category;
        let (model, summary) = self.trained_model(backend, &extractor, images, seed, model_folder)?;
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
}
