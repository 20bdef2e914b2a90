//! The trained model as users hold it: load, predict, decide.

mod cached;
mod decision;
mod heads;
mod import;
mod inspection;
mod model_file;
mod passes;

pub use cached::detect_cached;
pub use decision::{Verdict, region, verdict};
pub use heads::{Heads, SubmittedScores};
pub use import::{ImportError, import_head};
pub use inspection::{Inspected, InspectionTimes, inspect};
pub use model_file::{BackboneIdentity, FORMAT, Model, ModelMetadata, Thresholds};
pub use passes::Submitted;

use crate::backbone::FeatureExtractor;
use crate::backbone::stages::{HEAD, MAP, Watch, unwatched};
use crate::backbone::weights::StateDict;
use crate::backend::{Backend, BackendError, DeviceTensor};
use crate::files::WriteError;
use crate::head::{DeployedHead, FoldedHead, MapMatrices, ProjectedHead, Scores};
use image::RgbImage;
use passes::Passes;
use std::path::PathBuf;

/// What can be wrong with a model.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file could not be read.
    #[error("cannot read the model {}: {source}; check the path", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is something else, or damaged.
    #[error("{} is no model of this program, or it is damaged: {reason}; copy it again, or train it again", path.display())]
    NotAModel {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file was written by another version of the program.
    #[error(
        "{} has model format {found}, and this program reads format {FORMAT}; use the program version that wrote it, \
         or train again", path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// The backbone at hand is not the one the head was trained on.
    #[error(
        "the model was trained on {} weights with SHA-256 {}, but the weights at hand have {found}; give the right \
         file with --weights, or train with --bundle to keep the backbone inside the model",
        expected.architecture, expected.sha256
    )]
    OtherBackbone {
        /// What the model needs.
        expected: BackboneIdentity,
        /// The hash of what was given.
        found: String,
    },
    /// The device failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// A model on a device, ready to score images.
#[derive(Debug)]
pub struct Detector<B: Backend> {
    // Before what they use: fields are dropped in this order.
    passes: Passes<B>,
    extractor: FeatureExtractor<B>,
    head: DetectorHead<B>,
    maps: MapMatrices<B>,
    side: usize,
}

/// How levels become scores.
#[derive(Debug)]
enum DetectorHead<B: Backend> {
    /// Projected level by level, resized after.
    Levels(ProjectedHead<B>),
    /// Behind an adaptor that is not linear: on the features.
    Features(DeployedHead<B>),
}

impl<B: Backend<Scalar = f32>> DetectorHead<B> {
    /// Folds a model's head and puts it on a device, behind the extractor it was trained on.
    fn new(backend: &B, model: &Model, extractor: &FeatureExtractor<B>) -> Result<Self, BackendError> {
        let folded = FoldedHead::new(model.metadata.head, &model.head)?;
        Ok(match folded.project(backend, extractor.level_channels())? {
            Some(head) => Self::Levels(head),
            None => Self::Features(folded.deploy(backend)?),
        })
    }
}

/// The answer for one image, in the network's geometry.
#[derive(Clone, Debug, PartialEq)]
pub struct Detection {
    /// The maximum of the raw score grid; NaN where any of its scores, and so of the map's, is no finite number.
    pub score: f32,
    /// The smoothed map, row-major, as wide and high as the network's input.
    pub map: Vec<f32>,
}

impl<B: Backend<Scalar = f32>> Detector<B> {
    /// Puts a model and its backbone on a device. A bundled model takes its backbone from itself and ignores
    /// `weights`.
    ///
    /// # Errors
    /// [`ModelError::OtherBackbone`] if the weights are not those the head was trained on.
    pub fn new(backend: &B, model: &Model, weights: &StateDict) -> Result<Self, ModelError> {
        let metadata = &model.metadata;
        let features = &metadata.settings.features;
        let identity = &metadata.backbone;
        let deepest = features.levels.deepest();
        let found = weights.hash(identity.architecture, deepest);
        if found != identity.sha256 {
            return Err(ModelError::OtherBackbone { expected: identity.clone(), found });
        }
        let extractor = FeatureExtractor::new(
            backend,
            identity.architecture,
            &weights.tensors,
            features.levels.clone(),
            features.aggregation,
        )?;
        Self::with_extractor(backend, model, extractor)
    }

    /// As [`Detector::new`], with an extractor that was built for the same settings and weights.
    pub fn with_extractor(
        backend: &B,
        model: &Model,
        extractor: FeatureExtractor<B>,
    ) -> Result<Self, ModelError> {
        let metadata = &model.metadata;
        let side = metadata.settings.features.preprocess.crop as usize;
        let grid = extractor.grid(side, side);
        let head = DetectorHead::new(backend, model, &extractor)?;
        let maps = MapMatrices::new(backend, grid, (side, side), metadata.settings.map_sigma)?;
        Ok(Self { passes: Passes::new(), extractor, head, maps, side })
    }

    /// How many images are scored together where nobody asks for more.
    pub fn images_per_pass(&self) -> usize {
        self.extractor.images_per_pass(self.side, self.side)
    }

    /// How many images are scored together at most: a GPU has room for more of them, and use.
    pub fn most_images(&self, backend: &B) -> usize {
        self.extractor.most_images(backend, self.side, self.side)
    }

    /// The frozen half.
    pub fn extractor(&self) -> &FeatureExtractor<B> {
        &self.extractor
    }

    /// Begins to score u8 RGB images `[N, side, side, 3]`: the device works while the caller prepares the next batch, or
    /// submits it. Passes of a size that recurs are recorded, see [`Backend::run_recorded`].
    ///
    /// # Panics
    /// If there is not a whole number of images, one at least.
    pub fn submit(&self, backend: &B, pixels: &[u8]) -> Result<Submitted<B>, ModelError> {
        let forward = |images: &B::Images| self.forward(backend, images, &mut unwatched);
        Ok(self.passes.submit(backend, pixels, self.shape(pixels), forward)?)
    }

    /// Runs passes of `images` empty images until everything about them is decided: kernels loaded, memory laid out, on a
    /// GPU the graph captured. Where that takes no passes, such as on the CPU, it does nothing.
    pub fn prepare(&self, backend: &B, images: usize) -> Result<(), ModelError> {
        let shape = [images, self.side, self.side];
        while !self.passes.is_recorded(backend, shape) {
            self.score(backend, &vec![0; images * self.side * self.side * 3])?;
        }
        Ok(())
    }

    /// Scores and maps of u8 RGB images `[N, side, side, 3]`.
    ///
    /// # Panics
    /// As [`Detector::submit`].
    pub fn score(&self, backend: &B, pixels: &[u8]) -> Result<Scores<f32>, ModelError> {
        self.submit(backend, pixels)?.collect(backend)
    }

    /// As [`Detector::score`], never recorded; `watch` hears of every stage: the backbone's, then [`HEAD`] and [`MAP`].
    ///
    /// # Panics
    /// As [`Detector::submit`].
    pub fn score_watched(
        &self,
        backend: &B,
        pixels: &[u8],
        watch: &mut Watch<'_>,
    ) -> Result<Scores<f32>, ModelError> {
        let images = backend.upload_images(pixels, self.shape(pixels))?;
        let outputs = self.forward(backend, &images, watch)?;
        Submitted::of(backend, &outputs)?.collect(backend)
    }

    /// The shape of a batch.
    fn shape(&self, pixels: &[u8]) -> [usize; 3] {
        let image = self.side * self.side * 3;
        assert!(
            !pixels.is_empty() && pixels.len().is_multiple_of(image),
            "a batch is one image or more of {0}×{0} pixels",
            self.side
        );
        [pixels.len() / image, self.side, self.side]
    }

    /// Everything between images and answers: grids `[N, H0, W0]`, maps `[N, side, side]`, maxima `[N]`.
    fn forward(
        &self,
        backend: &B,
        images: &B::Images,
        watch: &mut Watch<'_>,
    ) -> crate::backend::Result<[B::Tensor; 3]> {
        let scores = match &self.head {
            DetectorHead::Levels(head) => {
                head.anomaly_scores(backend, self.extractor.levels(backend, images, watch)?)?
            }
            DetectorHead::Features(head) => {
                let features = self.extractor.features_watched(backend, images, watch)?;
                let &[n, h, w, channels] = features.shape() else { unreachable!("features have four axes") };
                head.anomaly_scores(backend, &backend.reshape(features, &[n * h * w, channels]))?
            }
        };
        watch(HEAD)?;
        let scores = self.maps.finish(backend, scores)?;
        watch(MAP)?;
        Ok(scores)
    }

    /// Takes the detector apart to use its extractor again.
    pub fn into_extractor(self) -> FeatureExtractor<B> {
        self.extractor
    }

    /// Scores a batch of preprocessed images, each as large as the network's input.
    ///
    /// # Panics
    /// On an empty batch, and on an image of another size.
    pub fn detect(&self, backend: &B, images: &[&RgbImage]) -> Result<Vec<Detection>, ModelError> {
        Ok(detections(&self.submit_images(backend, images)?.collect(backend)?))
    }

    /// Begins to score a batch of preprocessed images, each as large as the network's input.
    ///
    /// # Panics
    /// As [`Detector::detect`].
    pub fn submit_images(&self, backend: &B, images: &[&RgbImage]) -> Result<Submitted<B>, ModelError> {
        self.submit(backend, &block_of(images, self.side))
    }
}

/// Images as one block of pixels `[N, side, side, 3]`.
///
/// # Panics
/// If there are none, or one of another size.
fn block_of(images: &[&RgbImage], side: usize) -> Vec<u8> {
    assert!(!images.is_empty(), "a batch is one image or more");
    let mut pixels = Vec::with_capacity(images.len() * side * side * 3);
    for image in images {
        let (width, height) = image.dimensions();
        assert!(
            [width, height].iter().all(|&extent| extent as usize == side),
            "an image of {width}×{height} pixels is not as large as the network's input, {side}×{side}"
        );
        pixels.extend_from_slice(image.as_raw());
    }
    pixels
}

/// The answers of a batch, one an image.
pub fn detections(scores: &Scores<f32>) -> Vec<Detection> {
    let pixels: usize = scores.maps.shape()[1..].iter().product();
    // A maximum passes over NaN, so that an image nothing is known of would look better than any other.
    let sound = |map: &[f32]| map.iter().all(|value| value.is_finite());
    let maps = scores.maps.data().chunks_exact(pixels);
    maps.zip(scores.image.data())
        .map(|(map, &score)| Detection {
            score: if sound(map) { score } else { f32::NAN },
            map: map.to_vec(),
        })
        .collect()
}
