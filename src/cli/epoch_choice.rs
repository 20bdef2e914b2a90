//! `--select` and `--early-stop` on the command line: what they need, and the test set as `--select test` looks at it.

use super::console::Console;
use super::run_folder::RunRecord;
use super::run_folder::{DataSource, RunSpec};
use crate::backend::Backend;
use crate::data::{Category, Mask};
use crate::detector::{Model, detect_cached};
use crate::metrics::{LabelledMap, MetricError, Ranking};
use crate::settings::{EarlyStop, Selection, Settings};
use crate::tensor_file::NamedTensors;
use crate::training::{CalibrationPlan, Features, TestAurocs};
use anyhow::{Context, bail};
use sha2::{Digest, Sha256};

/// Refuses what cannot be done before anything is written.
pub(super) fn check(
    settings: &Settings,
    calibration: CalibrationPlan,
    data: &DataSource,
) -> anyhow::Result<()> {
    let training = &settings.training;
    for (asked, option) in [
        (training.select == Selection::Holdout, "--select holdout"),
        (training.early_stop == EarlyStop::Plateau, "--early-stop plateau"),
    ] {
        if asked && calibration == CalibrationPlan::None {
            bail!(
                "{option} goes by good images that are held out, and --calibration-folds none holds out none; give \
                 --calibration-folds 1 (a fifth of the images) or 5 (each once)"
            );
        }
    }
    if training.select != Selection::Test {
        return Ok(());
    }
    if let DataSource::OneClass { .. } = data {
        bail!(
            "--select test is not for --one-class: all its models are tested together once they are trained; choose \
             --select last or holdout"
        );
    }
    for category in data.categories()? {
        let defective = category.test.iter().filter(|test| test.is_defect).count();
        if defective == 0 || defective == category.test.len() {
            bail!(
                "--select test picks the epoch on good and defective test images, and {} has not both; add them (a test \
                 folder, or --test-good and --test-bad), leave the category out with --category, or choose --select \
                 last or holdout",
                category.name
            );
        }
    }
    Ok(())
}

/// Says so where results will be those of the test set's own choice.
pub(super) fn warn(spec: &RunSpec, console: &Console) {
    if spec.settings.training.select == Selection::Test {
        console.warn(
            "--select test: the epoch is picked on the test set, so every result will be inflated, and says so",
        );
    }
}

/// The test set as it is scored after every epoch: features and truth in memory, so that the backbone runs once.
pub(super) struct EpochTest<'a, B: Backend> {
    features: &'a Features<B>,
    defective: Vec<bool>,
    /// The truth about every image in the geometry of pixel metrics; none of defective ones without a mask.
    masks: Vec<Option<Truth>>,
    /// Whether pixel metrics cover the whole original image.
    original_geometry: bool,
    /// The model, whose head is that of the epoch.
    model: Model,
}

/// Whether each pixel is defect, in the geometry of pixel metrics.
struct Truth {
    pixels: Vec<bool>,
    width: usize,
    height: usize,
}

impl<'a, B: Backend<Scalar = f32>> EpochTest<'a, B> {
    /// Reads the truth about images whose features are there.
    pub(super) fn new(
        category: &Category,
        features: &'a Features<B>,
        record: &RunRecord,
        model: Model,
        console: &Console,
    ) -> anyhow::Result<Self> {
        let preprocess = &model.metadata.settings.features.preprocess;
        let original_geometry = record.spec.evaluation.original_geometry;
        let (mut defective, mut masks) = (Vec::new(), Vec::new());
        for (&place, geometry) in features.places.iter().zip(&features.geometries) {
            let test = &category.test[place];
            defective.push(test.is_defect);
            let mask = match &test.mask {
                Some(path) if test.is_defect => {
                    match Mask::load(path, model.metadata.exif(), geometry.original_size()) {
                        Ok(mask) => Some(mask),
                        Err(error) if record.spec.strict => return Err(error.into()),
                        Err(error) => {
                            console.warn(format_args!("mask left out: {error}"));
                            None
                        }
                    }
                }
                _ => None,
            };
            if test.is_defect && mask.is_none() {
                masks.push(None);
                continue;
            }
            let (width, height) = if original_geometry {
                let (width, height) = geometry.original_size();
                (width as usize, height as usize)
            } else {
                let side = geometry.input_size() as usize;
                (side, side)
            };
            let pixels = match mask {
                None => vec![false; width * height],
                Some(mask) if original_geometry => mask.pixels().collect(),
                Some(mask) => preprocess.apply_mask(&mask),
            };
            masks.push(Some(Truth { pixels, width, height }));
        }
        if defective.iter().all(|&one| one == defective[0]) {
            bail!(
                "--select test picks the epoch on good and defective test images, and of {} only one kind could be read; \
                 each that could not is named above with its cure",
                category.name
            );
        }
        Ok(Self { features, defective, masks, original_geometry, model })
    }

    /// Identifies images and truth: what the choice depends on beside the training.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.features.digest);
        for (defective, mask) in self.defective.iter().zip(&self.masks) {
            hash.update([u8::from(*defective), u8::from(mask.is_some())]);
            if let Some(mask) = mask {
                hash.update(mask.pixels.iter().map(|&pixel| u8::from(pixel)).collect::<Vec<u8>>());
            }
        }
        hash.finalize().into()
    }

    /// What a head with these tensors reaches.
    pub(super) fn score(&mut self, backend: &B, head: &NamedTensors) -> anyhow::Result<TestAurocs> {
        self.model.head.clone_from(head);
        let mut scores = Vec::with_capacity(self.defective.len());
        let mut maps: Vec<Option<Vec<f32>>> = Vec::with_capacity(self.defective.len());
        detect_cached(backend, &self.model, self.features, &mut |position, detection| {
            scores.push(detection.score);
            maps.push(self.masks[position].as_ref().map(|_| {
                if self.original_geometry {
                    self.features.geometries[position].to_original(&detection.map)
                } else {
                    detection.map.clone()
                }
            }));
            anyhow::Ok(())
        })?;
        let image =
            Ranking::new(&scores, &self.defective).context("the test set cannot be measured")?.auroc();
        let pairs =
            maps.iter().zip(&self.masks).filter_map(|(map, mask)| Some((map.as_ref()?, mask.as_ref()?)));
        let views = pairs.map(|(map, mask)| LabelledMap::new(map, &mask.pixels, mask.width, mask.height));
        let pixel = match Ranking::of_pixels(&views.collect::<Result<Vec<_>, _>>()?) {
            Ok(ranking) => Some(ranking.auroc()),
            // Without a single mask there are no pixel metrics.
            Err(MetricError::OnlyOneClass { .. } | MetricError::Empty) => None,
            Err(error) => return Err(error).context("the test set cannot be measured"),
        };
        Ok(TestAurocs { image, pixel })
    }
}
