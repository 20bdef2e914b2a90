//! The training of one model: what a run does for a category and a seed, once features are there.

use super::epoch_choice::EpochTest;
use super::model_folder::{MODEL_FILE, TrainingSummary};
use super::training_outcome;
use super::training_run::{Extracted, Run};
use crate::backbone::FeatureExtractor;
use crate::backend::Backend;
use crate::data::Category;
use crate::detector::{FORMAT, Model, ModelMetadata, Thresholds};
use crate::head::HeadConfig;
use crate::report::jsonl::write_lines;
use crate::report::training_log::EpochRecord;
use crate::settings::FeatureScale;
use crate::tensor_file::NamedTensors;
use crate::training::{
    CalibrationPlan, ChosenEpoch, EpochSummary, Event, Features, ModelTraining, PRESUMED_STD, TestScorer,
    TrainedHead, TrainingError, checkpoint_path, measured_feature_scale,
};
use anyhow::bail;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::time::{Duration, Instant};

/// The log of a training is written whole each time, and so not after every one of thousands of short epochs. What ends the
/// program may take as much of it.
const LOG_INTERVAL: Duration = Duration::from_millis(100);

/// The images of a category, as features.
pub(super) struct Images<'a, B: Backend> {
    /// The category.
    pub category: &'a Category,
    /// Those to learn from.
    pub train: &'a Extracted<B>,
    /// Those to test on, where they choose the epoch.
    pub test: Option<&'a Features<B>>,
}

// Not derived: a backend need not be `Copy` for references to its features to be.
impl<B: Backend> Clone for Images<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend> Copy for Images<'_, B> {}

impl Run<'_> {
    /// Trains one model and writes it; its checkpoint stays until the model is finished.
    pub(super) fn trained_model<B: Backend<Scalar = f32>>(
        &self,
        backend: &B,
        extractor: &FeatureExtractor<B>,
        images: Images<'_, B>,
        seed: u64,
        model_folder: &Path,
    ) -> anyhow::Result<(Model, TrainingSummary)> {
        let Images { category, train: extracted, .. } = images;
        let started = std::time::Instant::now();
        let feature_scale = self.feature_scale(backend, category, extracted)?;
        let head = self.record.spec.settings.training.head(extractor.channels());
        let head = HeadConfig { feature_scale, ..head };
        let trained = self.train(backend, head, images, seed, model_folder)?;
        let shipped = trained.history.last().map_or(&[][..], Vec::as_slice);
        let of_model = match trained.chosen_epoch {
            Some(ChosenEpoch { epoch, .. }) => shipped.iter().find(|summary| summary.epoch == epoch),
            None => shipped.last(),
        };
        let summary = TrainingSummary {
            skipped: extracted.features.skipped.len(),
            final_loss: of_model.map(|epoch| epoch.loss),
            extract_seconds: extracted.seconds,
            train_seconds: started.elapsed().as_secs_f64(),
        };
        let model = self.assemble(images, seed, head, &trained);
        model.save(&model_folder.join(MODEL_FILE))?;
        if let Some(chosen) = trained.chosen_epoch {
            self.console.say(format_args!("{}: the model is of {}", category.name, chosen.in_words()));
        }
        training_outcome::tell(&self.record.spec, &model.metadata, summary.final_loss, self.console);
        Ok((model, summary))
    }

    /// The factor of a category's features, measured where the settings and the weights ask for it, once for all models that
    /// share them.
    fn feature_scale<B: Backend<Scalar = f32>>(
        &self,
        backend: &B,
        category: &Category,
        extracted: &Extracted<B>,
    ) -> anyhow::Result<f64> {
        let asked = self.record.spec.settings.training.feature_scale;
        match asked.settled(self.backbone.has_v1_scale) {
            FeatureScale::None => Ok(1.0),
            FeatureScale::Factor(factor) => Ok(factor),
            FeatureScale::Auto | FeatureScale::ByWeights => {
                let told = extracted.measured_scale.get().is_some();
                let measured = match extracted.measured_scale.get() {
                    Some(measured) => *measured,
                    None => measured_feature_scale(backend, &extracted.features)?,
                };
                let Some(factor) = *extracted.measured_scale.get_or_init(|| measured) else {
                    bail!(
                        "{}: the features of the training images do not vary, so they have no scale; check the images \
                         and the weights (`simplenet weights verify`), or name a factor with --feature-scale",
                        category.name
                    );
                };
                if !told {
                    self.console.say(format_args!(
                        "{}: features are multiplied by {factor:.4}, so that their channels deviate by {PRESUMED_STD} \
                         as the noise's sigma presumes (--feature-scale none takes them as they are)",
                        category.name
                    ));
                }
                Ok(factor)
            }
        }
    }

    fn train<B: Backend<Scalar = f32>>(
        &self,
        backend: &B,
        head: HeadConfig,
        images: Images<'_, B>,
        seed: u64,
        model_folder: &Path,
    ) -> anyhow::Result<TrainedHead> {
        let spec = &self.record.spec;
        let (category, features) = (images.category, &images.train.features);
        let mut test = match images.test {
            Some(test) => {
                let untrained = TrainedHead::default();
                let model = self.assemble(images, seed, head, &untrained);
                Some(EpochTest::new(category, test, &self.record, model, self.console)?)
            }
            None => None,
        };
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
            fingerprint: self.fingerprint(
                category,
                seed,
                head,
                features,
                test.as_ref().map(EpochTest::digest),
            )?,
            checkpoint: &checkpoint_path(model_folder),
        };
        if spec.calibration != CalibrationPlan::None && features.images.len() < 2 {
            self.console.warn(format_args!(
                "{}: one good image leaves none to hold out; the model gets no threshold",
                category.name
            ));
        }
        let log = model_folder.join("training.jsonl");
        let (mut current, mut logged) = (None, None::<Instant>);
        let name = |head: usize, heads: usize| {
            let what =
                if head + 1 == heads { "training".to_owned() } else { format!("calibration {}", head + 1) };
            let seed = if spec.seeds.len() > 1 { format!(", seed {seed}") } else { String::new() };
            format!("{}{seed}: {what}", category.name)
        };
        let mut message = String::new();
        let mut score = test.as_mut().map(|test| {
            |head: &NamedTensors| {
                test.score(backend, head).map_err(|error| TrainingError::Test(error.into_boxed_dyn_error()))
            }
        });
        let score = score.as_mut().map(|score| score as &mut TestScorer<'_>);
        let trained = training.run(backend, &features.cache, score, &mut |event: &Event<'_>| {
            let (head, task) = current.take().filter(|(head, _)| *head == event.head).unwrap_or_else(|| {
                (event.head, self.console.task(&name(event.head, event.heads), u64::from(event.steps)))
            });
            let mut task = task;
            if let Some(epoch) = event.epoch {
                message = format!(
                    "epoch {}  loss {:.4}  p+ {:.2}  p- {:.2}",
                    epoch.epoch, epoch.loss, epoch.positive, epoch.negative
                );
                if logged.is_none_or(|logged| logged.elapsed() >= LOG_INTERVAL) {
                    write_lines(&log, &epoch_records(event.history, self.selects_on_test()))?;
                    logged = Some(Instant::now());
                }
            }
            task.set(u64::from(event.step), message.as_str());
            current = Some((head, task));
            Ok(())
        })?;
        // Once more, whole: a kill may have come between the last checkpoint and its line, and then no epoch is left
        // to be told of.
        write_lines(&log, &epoch_records(&trained.history, self.selects_on_test()))?;
        Ok(trained)
    }

    fn assemble<B: Backend<Scalar = f32>>(
        &self,
        images: Images<'_, B>,
        seed: u64,
        head: HeadConfig,
        trained: &TrainedHead,
    ) -> Model {
        let spec = &self.record.spec;
        Model {
            metadata: ModelMetadata {
                format: FORMAT,
                category: images.category.name.clone(),
                backbone: self.backbone.identity.clone(),
                settings: spec.settings.clone(),
                head,
                seed,
                train_images: images.train.features.images.len(),
                synthetic_data: self.record.synthetic_data,
                ignore_exif: spec.ignore_exif,
                thresholds: Thresholds::calibrated(trained.calibration.as_ref()),
                calibration: trained.calibration.clone(),
                chosen_epoch: trained.chosen_epoch,
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
        test: Option<[u8; 32]>,
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
        // A test set that chooses the epoch is part of what is computed.
        if let Some(test) = test {
            hash.update(test);
        }
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// `training.jsonl`: a line an epoch, calibration heads before the shipped one.
fn epoch_records(history: &[Vec<EpochSummary>], selected_on_test: bool) -> Vec<EpochRecord> {
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
            held_out_spread: epoch.held_out_spread,
            i_auroc: epoch.i_auroc,
            p_auroc: epoch.p_auroc,
            selected_on_test,
        }));
    }
    records
}
