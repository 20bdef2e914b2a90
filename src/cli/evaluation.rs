//! Scoring a test set: metrics, a line an image, overlays and maps.

use super::console::{Console, Task};
use super::run_folder::{EvaluationSpec, RunFolder};
use crate::backend::Backend;
use crate::data::{Category, Geometry, Loader, LoaderOptions, Mask, Sample, TestImage};
use crate::detector::{Detection, Detector, Model, ModelMetadata, detect_cached, region, verdict};
use crate::metrics::{self, AUPRO_FPR_LIMIT, LabelledMap, MetricError, Ranking};
use crate::report::colormap::{ColorScale, median};
use crate::report::geometry::ScoreMap;
use crate::report::maps::{map_path, write_map};
use crate::report::overlay::{self, Overlay};
use crate::report::results::CategoryResult;
use crate::report::scores::{ImageKind, ImageScore, Verdict};
use crate::training::Features;
use anyhow::Context;
use image::RgbImage;
use std::path::{Path, PathBuf};

/// What is needed to score a category's test images.
pub(super) struct Evaluation<'a> {
    /// The run folder pictures go to.
    pub folder: &'a RunFolder,
    /// The category.
    pub category: &'a Category,
    /// The model's metadata.
    pub model: &'a ModelMetadata,
    /// What is measured and written.
    pub spec: EvaluationSpec,
    /// Whether an unreadable image is an error.
    pub strict: bool,
    /// Whether the images are the program's own synthetic ones.
    pub synthetic: bool,
}

/// The scores of a test set.
pub(super) struct Evaluated {
    /// Metrics and counts; the training's fields are empty.
    pub result: CategoryResult,
    /// A line an image.
    pub scores: Vec<ImageScore>,
}

impl Evaluation<'_> {
    /// Scores every test image of the category.
    pub(super) fn run<B: Backend<Scalar = f32>>(
        &self,
        backend: &B,
        detector: &Detector<B>,
        console: &Console,
    ) -> anyhow::Result<Evaluated> {
        let start = std::time::Instant::now();
        let tests = &self.category.test;
        let mut collected = Collected::default();
        let mut task = console.task(&format!("{}: testing", self.category.name), tests.len() as u64);

        let mut options = LoaderOptions::new(self.model.settings.features.preprocess);
        options.keep_original = self.spec.overlays;
        options.exif = self.model.exif();
        let paths = tests.iter().map(|test| test.path.clone()).collect();
        let mut batch: Vec<(&TestImage, Sample)> = Vec::new();
        for loaded in Loader::new(paths, options)? {
            let test = &tests[loaded.index];
            match loaded.result {
                Ok(sample) => batch.push((test, sample)),
                Err(error) if self.strict => return Err(error.into()),
                Err(error) => {
                    task.warn(format_args!("skipped: {error}"));
                    collected.skipped += 1;
                }
            }
            if batch.len() == detector.images_per_pass() || loaded.index + 1 == tests.len() {
                let inputs: Vec<_> = batch.iter().map(|(_, sample)| &sample.input).collect();
                let detections =
                    if inputs.is_empty() { Vec::new() } else { detector.detect(backend, &inputs)? };
                for ((test, sample), detection) in batch.drain(..).zip(detections) {
                    let Sample { geometry, original, .. } = &sample;
                    self.take(&mut collected, test, geometry, original.as_ref(), &detection, &task)?;
                }
                task.set(loaded.index as u64 + 1, "");
            }
        }
        drop(task);
        let mut evaluated = self.measure(collected)?;
        evaluated.result.test_seconds = Some(start.elapsed().as_secs_f64());
        Ok(evaluated)
    }

    /// As [`Evaluation::run`], on features of the test images that were computed before and are shared by several models.
    /// There are no originals to draw overlays on.
    pub(super) fn run_on_features<B: Backend<Scalar = f32>>(
        &self,
        backend: &B,
        model: &Model,
        features: &Features<B>,
        console: &Console,
    ) -> anyhow::Result<Evaluated> {
        let start = std::time::Instant::now();
        let mut collected = Collected { skipped: features.skipped.len(), ..Collected::default() };
        let name = format!("{}: testing", self.category.name);
        let mut task = console.task(&name, features.images.len() as u64);
        // Where no test image could be read there is no pass to make.
        if !features.images.is_empty() {
            detect_cached(backend, model, features, &mut |position, detection| {
                let test = &self.category.test[features.places[position]];
                self.take(&mut collected, test, &features.geometries[position], None, detection, &task)?;
                task.set(position as u64 + 1, "");
                anyhow::Ok(())
            })?;
        }
        drop(task);
        let mut evaluated = self.measure(collected)?;
        evaluated.result.test_seconds = Some(start.elapsed().as_secs_f64());
        Ok(evaluated)
    }

    /// Books one image, and writes its pictures.
    fn take(
        &self,
        collected: &mut Collected,
        test: &TestImage,
        geometry: &Geometry,
        original: Option<&RgbImage>,
        detection: &Detection,
        task: &Task<'_>,
    ) -> anyhow::Result<()> {
        let thresholds = &self.model.thresholds;
        let exif = self.model.exif();
        let mask = match &test.mask {
            Some(path) if test.is_defect => match Mask::load(path, exif, geometry.original_size()) {
                Ok(mask) => Some(mask),
                Err(error) if self.strict => return Err(error.into()),
                Err(error) => {
                    task.warn(format_args!("mask left out: {error}"));
                    None
                }
            },
            _ => None,
        };
        let verdict = verdict(detection.score, thresholds);
        let found = region(&detection.map, geometry, thresholds, verdict);

        let needs_original = self.spec.overlays || self.spec.maps || self.spec.original_geometry;
        let original_map = if needs_original { geometry.to_original(&detection.map) } else { Vec::new() };
        let (width, height) = geometry.original_size();
        let mut line = ImageScore {
            path: relative(&test.path, &self.category.root),
            kind: if test.is_defect { ImageKind::Defective } else { ImageKind::Good },
            defect: test.is_defect.then(|| test.kind.clone()),
            score: detection.score,
            threshold: thresholds.image,
            verdict,
            region: found,
            map_max: Some(detection.map.iter().copied().fold(f32::NEG_INFINITY, f32::max)),
            has_mask: mask.is_some(),
            overlay: None,
            map: None,
            selected_on_test: self.model.selected_on_test(),
        };
        if self.spec.maps {
            let maps = self.folder.root().join("maps");
            let path = map_path(&maps, &self.category.name, &test.kind, Path::new(&file_name(&test.path)));
            write_map(&path, ScoreMap::new(&original_map, width, height), "anomaly scores, smoothed")?;
            line.map = Some(relative(&path, self.folder.root()));
        }
        if let Some(original) = original {
            let path = self.overlay_path(test);
            let name = format!("{}/{}", test.kind, file_name(&test.path));
            let picture = overlay::render(&Overlay {
                name: &name,
                image: original,
                map: ScoreMap::new(&original_map, width, height),
                mask: mask.as_ref(),
                score: detection.score,
                image_threshold: thresholds.image,
                map_threshold: thresholds.map,
                verdict,
                scale: color_scale(self.model, &original_map),
                region: found,
                inspected: (geometry.inspected_fraction() < 1.0).then(|| geometry.inspected_rect()),
                note: if self.synthetic { "synthetic demo data" } else { "" },
            });
            save_picture(&picture, &path)?;
            line.overlay = Some(relative(&path, self.folder.root()));
        }
        collected.book(self, test, geometry, detection, original_map, mask.as_ref());
        collected.scores.push(line);
        Ok(())
    }

    fn overlay_path(&self, test: &TestImage) -> PathBuf {
        // The whole name with its ending: `a.png` and `a.jpg` may lie side by side.
        let name = file_name(&test.path) + ".jpg";
        self.folder.root().join("overlays").join(&self.category.name).join(&test.kind).join(name)
    }

    /// The metrics of everything collected.
    fn measure(&self, collected: Collected) -> anyhow::Result<Evaluated> {
        let Collected { scores, skipped, maps, without_mask, inspected } = collected;
        let views = maps.iter().map(Map::view).collect::<Result<Vec<_>, _>>()?;
        // Without a single mask there are no pixel metrics: good images alone say nothing.
        let pixel = present(metrics::pixel_metrics(&views, AUPRO_FPR_LIMIT))?;
        let result = CategoryResult {
            category: self.category.name.clone(),
            p_auroc: pixel.as_ref().map(|pixel| pixel.auroc),
            p_ap: pixel.as_ref().map(|pixel| pixel.average_precision),
            p_f1max: pixel.as_ref().map(|pixel| pixel.f1_max.f1),
            aupro: pixel.as_ref().map(|pixel| pixel.aupro),
            skipped,
            without_mask,
            not_inspected: (!scores.is_empty()).then(|| 1.0 - inspected / scores.len() as f64),
            ..image_result(self.model, &scores)?
        };
        Ok(Evaluated { result, scores })
    }
}

/// What a model's scores of labelled images say: image metrics, verdicts, and what the model tells of itself. The rest is
/// left empty.
pub(super) fn image_result(model: &ModelMetadata, scores: &[ImageScore]) -> anyhow::Result<CategoryResult> {
    let image_scores: Vec<f32> = scores.iter().map(|line| line.score).collect();
    let defective: Vec<bool> = scores.iter().map(|line| line.kind == ImageKind::Defective).collect();
    let image = present(Ranking::new(&image_scores, &defective))?;
    let thresholds = &model.thresholds;
    let count = |kind, verdict| {
        thresholds
            .image
            .map(|_| scores.iter().filter(|line| line.kind == kind && line.verdict == Some(verdict)).count())
    };
    Ok(CategoryResult {
        category: model.category.clone(),
        seed: model.seed,
        i_auroc: image.as_ref().map(Ranking::auroc),
        i_ap: image.as_ref().map(Ranking::average_precision),
        i_f1max: image.as_ref().map(|ranking| ranking.f1_max().f1),
        train_images: model.train_images,
        held_out_images: model.calibration.as_ref().map_or(0, |c| c.held_out.scores.len()),
        test_good: defective.iter().filter(|&&defective| !defective).count(),
        test_defective: defective.iter().filter(|&&defective| defective).count(),
        image_threshold: thresholds.image,
        map_threshold: thresholds.map,
        false_rejects: count(ImageKind::Good, Verdict::Defect),
        missed: count(ImageKind::Defective, Verdict::Ok),
        epochs: model.epoch(),
        selected_on_test: model.selected_on_test(),
        ..CategoryResult::default()
    })
}

/// `None` where only one class is present, which is a fact about the test set and no error.
fn present<T>(metric: Result<T, MetricError>) -> anyhow::Result<Option<T>> {
    match metric {
        Ok(metric) => Ok(Some(metric)),
        Err(MetricError::OnlyOneClass { .. } | MetricError::Empty) => Ok(None),
        Err(error) => Err(error).context("the test set cannot be measured"),
    }
}

/// What accumulates over a test set.
#[derive(Default)]
struct Collected {
    scores: Vec<ImageScore>,
    skipped: usize,
    maps: Vec<Map>,
    without_mask: usize,
    inspected: f64,
}

/// A map with its ground truth, in the geometry pixel metrics are taken in.
struct Map {
    scores: Vec<f32>,
    mask: Vec<bool>,
    width: usize,
    height: usize,
}

impl Map {
    fn view(&self) -> Result<LabelledMap<'_>, MetricError> {
        LabelledMap::new(&self.scores, &self.mask, self.width, self.height)
    }
}

impl Collected {
    /// Keeps the map for pixel metrics; a defective image without a mask is left out of them and counted.
    fn book(
        &mut self,
        evaluation: &Evaluation<'_>,
        test: &TestImage,
        geometry: &Geometry,
        detection: &Detection,
        original_map: Vec<f32>,
        mask: Option<&Mask>,
    ) {
        self.inspected += geometry.inspected_fraction();
        if test.is_defect && mask.is_none() {
            self.without_mask += 1;
            return;
        }
        let map = if evaluation.spec.original_geometry {
            let (width, height) = geometry.original_size();
            let mask = mask.map_or_else(|| vec![false; original_map.len()], |mask| mask.pixels().collect());
            Map { scores: original_map, mask, width: width as usize, height: height as usize }
        } else {
            let preprocess = &evaluation.model.settings.features.preprocess;
            let side = geometry.input_size() as usize;
            let mask = mask.map_or_else(|| vec![false; side * side], |mask| preprocess.apply_mask(mask));
            Map { scores: detection.map.clone(), mask, width: side, height: side }
        };
        self.maps.push(map);
    }
}

/// Colours that mean the same in every image: from the level of good material to the threshold and beyond. A model
/// without calibration has neither, so each image gets its own range.
pub(super) fn color_scale(model: &ModelMetadata, map: &[f32]) -> ColorScale {
    let typical = model.calibration.as_ref().and_then(|calibration| {
        let mut medians = calibration.held_out.map_medians.clone();
        median(&mut medians)
    });
    match (typical, model.thresholds.map) {
        (Some(typical), Some(threshold)) if threshold > typical => ColorScale::new(typical, threshold),
        _ => ColorScale::within(map),
    }
}

/// Writes a picture as JPEG, whole or not at all.
pub(super) fn save_picture(picture: &image::RgbImage, path: &Path) -> anyhow::Result<()> {
    crate::files::write_whole(path, |out| {
        let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(out, 90);
        encoder.encode_image(picture).map_err(std::io::Error::other)
    })?;
    Ok(())
}

/// `path` relative to `root`, or whole where it lies elsewhere, for files that are read by people and programs.
pub(super) fn relative(path: &Path, root: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned()
}

/// The name as text, which is what JSON and pages can refer to.
fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
