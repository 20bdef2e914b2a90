//! A training run of one-class models: each class is learned on its own, then all models are tested together.
//!
//! A run that was killed trains nothing twice: models that wait for their test are marked as trained.

use super::model_folder::{
    MODEL_FILE, TrainingSummary, read_result, read_trained, remove_checkpoint, remove_earlier_marks,
    set_finished, set_trained,
};
use super::model_training::Images;
use super::one_class_test::OneClassTest;
use super::training_run::Run;
use crate::backbone::FeatureExtractor;
use crate::backend::Backend;
use crate::data::{Category, OneClassSet};
use crate::detector::{Heads, Model, ModelMetadata};
use crate::report::jsonl::write_lines;
use crate::report::results::{CategoryResult, Results};
use anyhow::bail;
use std::path::PathBuf;

/// How far a model has come.
enum Stage {
    /// It is trained and tested.
    Finished(Box<CategoryResult>),
    /// It is trained.
    Trained(TrainingSummary),
}

/// A model of the run.
struct RunModel {
    folder: PathBuf,
    stage: Stage,
}

impl Run<'_> {
    /// Trains every class and seed that is not trained yet, then tests all that are not tested yet in one pass.
    pub(super) fn one_class<B: Backend<Scalar = f32>>(
        &self,
        backend: &B,
        extractor: FeatureExtractor<B>,
        set: &OneClassSet,
    ) -> anyhow::Result<Results> {
        set.notes.iter().for_each(|note| self.console.warn(note));
        let mut models = Vec::new();
        for category in set.categories() {
            self.train_class(backend, &extractor, &category, &mut models)?;
        }
        self.test_classes(backend, extractor, set, &mut models)?;
        let finished = models.into_iter().map(|model| match model.stage {
            Stage::Finished(result) => Ok(*result),
            Stage::Trained(_) => bail!("{} was not tested", model.folder.display()),
        });
        let results = Results { rows: finished.collect::<anyhow::Result<_>>()? };
        self.write_results(&results)?;
        Ok(results)
    }

    /// Trains every seed of a class that is not trained yet. Its features are gone when this returns: those of all classes
    /// together would take ten times the room.
    fn train_class<B: Backend<Scalar = f32>>(
        &self,
        backend: &B,
        extractor: &FeatureExtractor<B>,
        category: &Category,
        models: &mut Vec<RunModel>,
    ) -> anyhow::Result<()> {
        let seeds = &self.record.spec.seeds;
        let mut features = None;
        for &seed in seeds {
            let folder = self.folder.model_folder(&category.name, seed, seeds);
            self.folder.tidy(&folder);
            let told = |what| self.console.say(format_args!("{}, seed {seed}: {what} before", category.name));
            let stage = if let Some(result) = read_result(&folder) {
                remove_earlier_marks(&folder)?;
                told("finished");
                Stage::Finished(Box::new(result))
            } else if let Some(summary) = read_trained(&folder) {
                remove_checkpoint(&folder)?;
                told("trained");
                Stage::Trained(summary)
            } else {
                if features.is_none() {
                    features = Some(self.features(backend, extractor, category)?);
                }
                let Some(features) = &features else { unreachable!("just computed") };
                let images = Images { category, train: features, test: None };
                let (_, summary) = self.trained_model(backend, extractor, images, seed, &folder)?;
                set_trained(&folder, &summary)?;
                Stage::Trained(summary)
            };
            models.push(RunModel { folder, stage });
        }
        Ok(())
    }

    /// Tests every model that is not tested yet, all in one pass of the test images, and finishes them.
    fn test_classes<B: Backend<Scalar = f32>>(
        &self,
        backend: &B,
        extractor: FeatureExtractor<B>,
        set: &OneClassSet,
        models: &mut [RunModel],
    ) -> anyhow::Result<()> {
        let spec = &self.record.spec;
        let mut heads = Heads::new(extractor, &spec.settings.features.preprocess);
        let mut untested: Vec<(&mut RunModel, TrainingSummary)> = Vec::new();
        let mut metadata: Vec<ModelMetadata> = Vec::new();
        for model in models {
            if let Stage::Trained(summary) = model.stage {
                // From its file, whether it was trained just now or before: its head is all that stays in memory.
                let loaded = Model::load(&model.folder.join(MODEL_FILE))?;
                heads.add(backend, &loaded)?;
                metadata.push(loaded.metadata);
                untested.push((model, summary));
            }
        }
        let console = self.console;
        let test = OneClassTest { set, subset: spec.data.subset(), strict: spec.strict, console };
        let scored = test.score(backend, &heads, &metadata.iter().collect::<Vec<_>>())?;
        for (place, (model, summary)) in untested.into_iter().enumerate() {
            let evaluated = test.evaluate(&scored, place, &metadata[place])?;
            write_lines(&model.folder.join("scores.jsonl"), &evaluated.scores)?;
            let result = summary.complete(evaluated.result);
            set_finished(&model.folder, &result)?;
            model.stage = Stage::Finished(Box::new(result));
        }
        Ok(())
    }
}
