//! Testing one-class models: every test image passes the backbone once, and all models score it in that pass.

use super::console::Console;
use super::evaluation::{Evaluated, image_result, relative};
use crate::backend::Backend;
use crate::data::{Loader, LoaderOptions, OneClassSet, Sample};
use crate::detector::{Heads, Model, ModelMetadata, SubmittedScores, verdict};
use crate::head::AdaptorKind;
use crate::report::scores::{ImageKind, ImageScore};
use anyhow::bail;
use std::path::PathBuf;
use std::time::Instant;

/// What is needed to score the test images of all classes.
pub(super) struct OneClassTest<'a> {
    /// The images.
    pub set: &'a OneClassSet,
    /// How many images of each class there are at most, where not all were taken.
    pub subset: Option<usize>,
    /// Whether an unreadable image is an error.
    pub strict: bool,
    /// Where progress is told.
    pub console: &'a Console,
}

/// The scores of all test images by several models.
#[derive(Default)]
pub(super) struct ClassScores {
    /// The images that could be read, by their place in the test set.
    images: Vec<usize>,
    /// A list a model, with a score an image.
    scores: Vec<Vec<f32>>,
    /// Images that could not be read.
    skipped: usize,
    /// The inspected shares of all images, added.
    inspected: f64,
    /// Wall-clock seconds of the pass.
    seconds: f64,
}

/// Images of the test set by their places, and the scores that were asked for.
type UnderWay<B> = (Vec<usize>, SubmittedScores<B>);

impl OneClassTest<'_> {
    /// Passes every test image through the backbone once, and scores it with all models, whose heads stand in the same
    /// order.
    pub(super) fn score<B: Backend<Scalar = f32>>(
        &self,
        backend: &B,
        heads: &Heads<B>,
        models: &[&ModelMetadata],
    ) -> anyhow::Result<ClassScores> {
        let mut scored = ClassScores { scores: vec![Vec::new(); models.len()], ..ClassScores::default() };
        let tests = &self.set.test;
        let Some(model) = models.first().filter(|_| !tests.is_empty()) else { return Ok(scored) };
        let start = Instant::now();
        let most = heads.most_images(backend);
        let mut options = LoaderOptions::new(model.settings.features.preprocess);
        options.exif = model.exif();
        let paths = tests.iter().map(|test| test.path.clone()).collect();
        let mut task = self.console.task("testing all classes", tests.len() as u64);
        let mut pending: Vec<(usize, Sample)> = Vec::new();
        let mut under_way: Option<UnderWay<B>> = None;
        for loaded in Loader::new(paths, options.ahead_of_batches(most))? {
            match loaded.result {
                Ok(sample) => pending.push((loaded.index, sample)),
                Err(error) if self.strict => return Err(error.into()),
                Err(error) => {
                    task.warn(format_args!("skipped: {error}"));
                    scored.skipped += 1;
                }
            }
            let ended = loaded.index + 1 == tests.len();
            if !pending.is_empty() && (ended || pending.len() == most) {
                let inputs: Vec<_> = pending.iter().map(|(_, sample)| &sample.input).collect();
                let submitted = heads.submit(backend, &inputs)?;
                let inspected = pending.iter().map(|(_, sample)| sample.geometry.inspected_fraction());
                scored.inspected += inspected.sum::<f64>();
                // The batch before is fetched while the device works on this one.
                let batch = (pending.drain(..).map(|(index, _)| index).collect(), submitted);
                if let Some(before) = under_way.replace(batch) {
                    scored.take(backend, before)?;
                }
                task.set(loaded.index as u64 + 1, "");
            }
        }
        if let Some(last) = under_way {
            scored.take(backend, last)?;
        }
        drop(task);
        scored.seconds = start.elapsed().as_secs_f64();
        self.console.say(format_args!(
            "{} test images passed the backbone once and were scored by {} model{}",
            scored.images.len(),
            models.len(),
            if models.len() == 1 { "" } else { "s" }
        ));
        Ok(scored)
    }

    /// What the model at `place` reached: images of its own class are good, all others are not.
    pub(super) fn evaluate(
        &self,
        scored: &ClassScores,
        place: usize,
        model: &ModelMetadata,
    ) -> anyhow::Result<Evaluated> {
        let line = |(&index, &score): (&usize, &f32)| {
            let test = &self.set.test[index];
            let class = &self.set.names[test.label];
            let own = *class == model.category;
            ImageScore {
                path: relative(&test.path, &self.set.root),
                kind: if own { ImageKind::Good } else { ImageKind::Defective },
                defect: (!own).then(|| class.clone()),
                score,
                threshold: model.thresholds.image,
                verdict: verdict(score, &model.thresholds),
                region: None,
                map_max: None,
                has_mask: false,
                overlay: None,
                map: None,
                selected_on_test: model.selected_on_test(),
            }
        };
        let scores: Vec<ImageScore> = scored.images.iter().zip(&scored.scores[place]).map(line).collect();
        let mut result = image_result(model, &scores)?;
        result.skipped = scored.skipped;
        result.subset = self.subset;
        if !scores.is_empty() {
            result.not_inspected = Some(1.0 - scored.inspected / scores.len() as f64);
            // Its share: the times of all models add up to that of the pass.
            result.test_seconds = Some(scored.seconds / scored.scores.len() as f64);
        }
        Ok(Evaluated { result, scores })
    }
}

impl ClassScores {
    /// Books the scores of a batch.
    fn take<B: Backend<Scalar = f32>>(
        &mut self,
        backend: &B,
        (images, submitted): UnderWay<B>,
    ) -> anyhow::Result<()> {
        for (scores, batch) in self.scores.iter_mut().zip(submitted.collect(backend)?) {
            scores.extend(batch);
        }
        self.images.extend(images);
        Ok(())
    }
}

/// The class a model was trained for.
pub(super) fn find_class<'a>(set: &'a OneClassSet, model: &Model) -> anyhow::Result<&'a str> {
    if set.test.is_empty() {
        bail!("{} has no test images; `predict` scores any files", set.root.display());
    }
    let name = &model.metadata.category;
    match set.names.iter().find(|class| *class == name) {
        Some(class) => Ok(class),
        None => bail!(
            "the model was trained for `{name}`, and {} has the classes {}; give its folder with --data",
            set.root.display(),
            set.names.join(", ")
        ),
    }
}

/// Refuses models that cannot look at the same pass of a backbone.
pub(super) fn require_alike(models: &[Model], paths: &[PathBuf]) -> anyhow::Result<()> {
    let seen = |model: &Model| {
        let ModelMetadata { backbone, settings, ignore_exif, .. } = &model.metadata;
        let on_features = settings.training.adaptor == AdaptorKind::Mlp;
        (backbone.sha256.clone(), settings.features.clone(), on_features, *ignore_exif)
    };
    let other = models.iter().zip(paths).find(|(model, _)| seen(model) != seen(&models[0]));
    if let Some((_, path)) = other {
        bail!(
            "{} and {} have different backbones, adaptors or settings of features, and images pass a backbone once for \
             all models of a one-class test; test them one by one",
            paths[0].display(),
            path.display()
        );
    }
    Ok(())
}
