//! Many models on one backbone: an image passes it once, and every head scores what comes out.

use super::passes::{Passes, Submitted};
use super::{DetectorHead, Model, ModelError};
use crate::backbone::FeatureExtractor;
use crate::backbone::stages::{HEAD, Watch, unwatched};
use crate::backend::{Backend, DeviceTensor};
use crate::data::Preprocess;
use crate::head::LevelRows;
use image::RgbImage;

/// The heads of several models that see the same images through the same backbone: those of ten classes, or of several
/// seeds.
///
/// Their weights lie on the device together, 6 MB a head for the default backbone.
#[derive(Debug)]
pub struct Heads<B: Backend> {
    // Before what they use: fields are dropped in this order.
    passes: Passes<B>,
    extractor: FeatureExtractor<B>,
    heads: Vec<DetectorHead<B>>,
    side: usize,
}

/// A batch that was given to the device, and whose scores were not asked for yet.
#[derive(Debug)]
#[must_use = "the scores are there to be collected"]
pub struct SubmittedScores<B: Backend> {
    submitted: Submitted<B>,
    images: usize,
}

/// What the heads look at.
enum Seen<T> {
    /// The levels, each on its own grid.
    Levels(Vec<LevelRows<T>>),
    /// The features, `[N·H0·W0, C]`.
    Features(T),
}

impl<B: Backend<Scalar = f32>> Heads<B> {
    /// No heads yet, behind a backbone that sees images as `preprocess` makes them.
    pub fn new(extractor: FeatureExtractor<B>, preprocess: &Preprocess) -> Self {
        Self { passes: Passes::new(), extractor, heads: Vec::new(), side: preprocess.crop as usize }
    }

    /// Puts the head of a model on the device, behind those that are there. The model must have been trained on the
    /// backbone, and with the settings of features, that the extractor was built for.
    ///
    /// # Panics
    /// If one of the adaptors is an `mlp` and another is not.
    pub fn add(&mut self, backend: &B, model: &Model) -> Result<(), ModelError> {
        let head = DetectorHead::new(backend, model, &self.extractor)?;
        let kind = std::mem::discriminant(&head);
        let alike = self.heads.iter().all(|other| std::mem::discriminant(other) == kind);
        assert!(alike, "all heads look at levels, or all at features");
        self.heads.push(head);
        // What was recorded knows nothing of this head.
        self.passes = Passes::new();
        Ok(())
    }

    /// How many images pass the backbone together at most.
    pub fn most_images(&self, backend: &B) -> usize {
        self.extractor.most_images(backend, self.side, self.side)
    }

    /// Begins to score a batch of preprocessed images, each as large as the network's input: the device works while the
    /// caller prepares the next one.
    ///
    /// # Panics
    /// On an empty batch, and on an image of another size.
    pub fn submit(&self, backend: &B, images: &[&RgbImage]) -> Result<SubmittedScores<B>, ModelError> {
        let (pixels, shape) = self.batch(images);
        let forward = |images: &B::Images| self.forward(backend, images, &mut unwatched);
        let submitted = self.passes.submit(backend, &pixels, shape, forward)?;
        Ok(SubmittedScores { submitted, images: images.len() })
    }

    /// As [`Heads::submit`], never recorded; `watch` hears of every stage: the backbone's, then [`HEAD`] once a head.
    ///
    /// # Panics
    /// As there.
    pub fn submit_watched(
        &self,
        backend: &B,
        images: &[&RgbImage],
        watch: &mut Watch<'_>,
    ) -> Result<SubmittedScores<B>, ModelError> {
        let (pixels, shape) = self.batch(images);
        let grids = self.forward(backend, &backend.upload_images(&pixels, shape)?, watch)?;
        Ok(SubmittedScores { submitted: Submitted::of(backend, &grids)?, images: images.len() })
    }

    /// Images as one block of pixels `[N, side, side, 3]`, and its shape without the channels.
    fn batch(&self, images: &[&RgbImage]) -> (Vec<u8>, [usize; 3]) {
        (super::block_of(images, self.side), [images.len(), self.side, self.side])
    }

    /// From images to the score grid of every head, `[N·H0·W0]` each.
    fn forward(
        &self,
        backend: &B,
        images: &B::Images,
        watch: &mut Watch<'_>,
    ) -> crate::backend::Result<Vec<B::Tensor>> {
        let seen = match self.heads.first() {
            None => return Ok(Vec::new()),
            Some(DetectorHead::Levels(_)) => {
                let levels = self.extractor.levels(backend, images, watch)?.into_iter();
                Seen::Levels(levels.map(|level| LevelRows::new(backend, level)).collect())
            }
            Some(DetectorHead::Features(_)) => {
                let features = self.extractor.features_watched(backend, images, watch)?;
                let &[n, h, w, channels] = features.shape() else { unreachable!("features have four axes") };
                Seen::Features(backend.reshape(features, &[n * h * w, channels]))
            }
        };
        let mut grids = Vec::with_capacity(self.heads.len());
        for head in &self.heads {
            grids.push(match (head, &seen) {
                (DetectorHead::Levels(head), Seen::Levels(levels)) => {
                    head.anomaly_scores_of(backend, levels)?
                }
                (DetectorHead::Features(head), Seen::Features(features)) => {
                    head.anomaly_scores(backend, features)?
                }
                _ => unreachable!("all heads are of one kind"),
            });
            watch(HEAD)?;
        }
        Ok(grids)
    }

    /// Takes the heads apart to use their extractor again.
    pub fn into_extractor(self) -> FeatureExtractor<B> {
        self.extractor
    }
}

impl<B: Backend<Scalar = f32>> SubmittedScores<B> {
    /// Waits for the image scores: a list a head, in the order they were added, with a score an image.
    ///
    /// # Errors
    /// What the device failed at.
    pub fn collect(self, backend: &B) -> Result<Vec<Vec<f32>>, ModelError> {
        let grids = self.submitted.outputs(backend)?;
        let scores = |grid: &[f32]| grid.chunks_exact(grid.len() / self.images).map(image_score).collect();
        Ok(grids.iter().map(|grid| scores(grid.data())).collect())
    }
}

/// The maximum of an image's grid; NaN where any of it is no finite number, as [`super::Detection::score`] has it.
fn image_score(grid: &[f32]) -> f32 {
    if grid.iter().all(|score| score.is_finite()) {
        grid.iter().copied().fold(f32::NEG_INFINITY, f32::max)
    } else {
        f32::NAN
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbone::architecture::Architecture;
    use crate::backbone::stages::NORMALIZE;
    use crate::backbone::weights::StateDict;
    use crate::backend::cpu::Cpu;
    use crate::detector::{BackboneIdentity, Detector, FORMAT, ModelMetadata, Thresholds};
    use crate::head::{AdaptorKind, Head};
    use crate::settings::{Preset, Settings};
    use crate::tensor::relative_error;
    use std::panic::AssertUnwindSafe;

    const SIDE: u32 = 32;
    const IMAGES: u32 = 3;
    const HEADS: u64 = 4;

    fn images() -> Vec<RgbImage> {
        let image = |number| {
            RgbImage::from_fn(SIDE, SIDE, |x, y| {
                image::Rgb(
                    [x * 7 + number * 40, y * 5 + x * number, (x * y) ^ number].map(|value| value as u8),
                )
            })
        };
        (0..IMAGES).map(image).collect()
    }

    fn extractor(cpu: &Cpu<f32>, settings: &Settings, weights: &StateDict) -> FeatureExtractor<Cpu<f32>> {
        let features = &settings.features;
        let (levels, aggregation) = (features.levels.clone(), features.aggregation);
        FeatureExtractor::new(cpu, Architecture::Resnet18Slim, &weights.tensors, levels, aggregation).unwrap()
    }

    fn settings(adaptor: AdaptorKind) -> Settings {
        let mut settings = Settings::preset(Preset::Paper);
        settings.features.preprocess = settings.features.preprocess.with_side(SIDE);
        (settings.training.adaptor, settings.training.hidden) = (adaptor, 24);
        settings
    }

    /// A head as a training begins with it.
    fn model(cpu: &Cpu<f32>, settings: &Settings, weights: &StateDict, seed: u64) -> Model {
        let config = settings.training.head(extractor(cpu, settings, weights).channels());
        let head = Head::initial(cpu, config, seed).unwrap().to_tensors(cpu).unwrap();
        let architecture = Architecture::Resnet18Slim;
        let sha256 = weights.hash(architecture, settings.features.levels.deepest());
        let metadata = ModelMetadata {
            format: FORMAT,
            category: "class".to_owned(),
            backbone: BackboneIdentity { architecture, sha256, origin: None },
            settings: settings.clone(),
            head: config,
            seed,
            train_images: 1,
            synthetic_data: false,
            ignore_exif: false,
            calibration: None,
            thresholds: Thresholds::default(),
            chosen_epoch: None,
        };
        Model { metadata, head, backbone: None }
    }

    #[test]
    fn every_head_scores_as_its_detector_does_and_the_backbone_runs_once() {
        let cpu = Cpu::<f32>::new();
        let weights = StateDict::synthetic(Architecture::Resnet18Slim, 3);
        let images = images();
        let images: Vec<&RgbImage> = images.iter().collect();
        for adaptor in [AdaptorKind::Linear, AdaptorKind::Mlp] {
            let settings = settings(adaptor);
            let mut heads = Heads::new(extractor(&cpu, &settings, &weights), &settings.features.preprocess);
            let models: Vec<Model> = (0..HEADS).map(|seed| model(&cpu, &settings, &weights, seed)).collect();
            models.iter().for_each(|model| heads.add(&cpu, model).unwrap());

            let mut stages = Vec::new();
            let mut watch = |stage| {
                stages.push(stage);
                Ok(())
            };
            let watched = heads.submit_watched(&cpu, &images, &mut watch).unwrap().collect(&cpu).unwrap();
            let count = |name| stages.iter().filter(|stage| **stage == name).count();
            assert_eq!((count(NORMALIZE), count("layer3"), count(HEAD)), (1, 1, HEADS as usize));

            let scores = heads.submit(&cpu, &images).unwrap().collect(&cpu).unwrap();
            assert_eq!(scores, watched);
            for (model, scores) in models.iter().zip(&scores) {
                let detector = Detector::new(&cpu, model, &weights).unwrap();
                let alone = detector.detect(&cpu, &images).unwrap();
                let alone: Vec<f64> = alone.iter().map(|found| f64::from(found.score)).collect();
                // The same operations on the same numbers; 1e-6 leaves room for sums of f32 in another order.
                let error = relative_error(scores, &alone);
                assert!(error <= 1e-6, "{adaptor:?}: {error:.1e}");
            }
            assert_ne!(scores[0], scores[1]);
        }
    }

    /// Also by a detector. Neither comes from a file: whoever calls has made a mistake, which the message names.
    #[test]
    fn a_batch_of_nothing_and_an_image_of_another_size_are_refused() {
        let cpu = Cpu::<f32>::new();
        let weights = StateDict::synthetic(Architecture::Resnet18Slim, 3);
        let settings = settings(AdaptorKind::Linear);
        let model = model(&cpu, &settings, &weights, 0);
        let mut heads = Heads::new(extractor(&cpu, &settings, &weights), &settings.features.preprocess);
        heads.add(&cpu, &model).unwrap();
        let detector = Detector::new(&cpu, &model, &weights).unwrap();
        let smaller = RgbImage::new(SIDE - 1, SIDE);
        for (images, expected) in [(&[][..], "one image or more"), (&[&smaller][..], "31×32 pixels")] {
            let refusals = [
                std::panic::catch_unwind(AssertUnwindSafe(|| drop(heads.submit(&cpu, images)))),
                std::panic::catch_unwind(AssertUnwindSafe(|| {
                    drop(heads.submit_watched(&cpu, images, &mut unwatched));
                })),
                std::panic::catch_unwind(AssertUnwindSafe(|| drop(detector.submit_images(&cpu, images)))),
            ];
            for refusal in refusals {
                let payload = refusal.expect_err("it is refused");
                let message = payload
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or(payload.downcast_ref::<&str>().copied());
                assert!(message.is_some_and(|message| message.contains(expected)), "{message:?}");
            }
        }
    }

    #[test]
    fn a_score_of_a_grid_that_is_not_sound_is_none() {
        assert_eq!(image_score(&[-3.0, -1.5, -2.0]), -1.5);
        for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(image_score(&[1.0, broken]).is_nan());
        }
    }
}
