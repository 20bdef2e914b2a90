//! Training: calibration heads first, then the head that is shipped, with checkpoints on the way.

mod calibration;
mod checkpoint;
mod feature_scale;
mod features;
mod optimizer;
mod trainer;

pub use calibration::{
    CONFIDENCE, Calibration, CalibrationPlan, FEW_IMAGES, FOLDS, Fold, HeldOut, THRESHOLD_QUANTILE,
};
pub use checkpoint::{Checkpoint, Progress, checkpoint_path};
pub use feature_scale::{PRESUMED_STD, measured_feature_scale};
pub use features::{Features, extract_features};
pub use optimizer::Optimizer;
pub use trainer::{EpochSummary, HeadTrainer, Observer, Position, TrainingPlan};

use crate::backend::{Backend, BackendError, Epoch};
use crate::data::DataError;
use crate::files::WriteError;
use crate::head::{FoldedHead, HeadConfig, Scorer};
use crate::settings::TrainingSettings;
use crate::tensor_file::NamedTensors;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A checkpoint is written at the end of an epoch, of short ones after so much time: reading the state back takes longer
/// than a GPU takes for the epoch.
const EPOCH_INTERVAL: Duration = Duration::from_secs(1);
/// And within long epochs at least this often.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(20);

/// What a training can fail at.
#[derive(Debug, thiserror::Error)]
pub enum TrainingError {
    /// The device failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The images could not be loaded at all.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A checkpoint cannot be used.
    #[error("{}: this checkpoint cannot be used: {reason}; delete it to train this model from the start", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The loss is no number any more.
    #[error(
        "the loss became infinite in epoch {epoch}; check that the backbone's weights are the right ones (`simplenet \
         weights verify`), and --noise-sigma"
    )]
    Diverged {
        /// The epoch.
        epoch: u32,
    },
}

/// One model to train.
#[derive(Clone, Debug)]
pub struct ModelTraining<'a> {
    /// Loss, optimisers, epochs, batch.
    pub settings: &'a TrainingSettings,
    /// The head to train.
    pub head: HeadConfig,
    /// The features' grid `(H0, W0)`.
    pub grid: (usize, usize),
    /// The network's input `(H, W)`, the size of maps.
    pub size: (usize, usize),
    /// Smoothing of maps in pixels.
    pub map_sigma: f64,
    /// Number of good images in the cache.
    pub images: usize,
    /// Seed of everything random.
    pub seed: u64,
    /// How thresholds are found.
    pub calibration: CalibrationPlan,
    /// Identifies data, backbone, settings and seed.
    pub fingerprint: String,
    /// Where the checkpoint lies.
    pub checkpoint: &'a Path,
}

/// What a training gives.
#[derive(Debug)]
pub struct TrainedHead {
    /// Adaptor and discriminator.
    pub tensors: NamedTensors,
    /// Thresholds, where calibration was asked for and possible.
    pub calibration: Option<Calibration>,
    /// The epochs of every head: calibration folds first, the shipped head last.
    pub history: Vec<Vec<EpochSummary>>,
}

/// A step forward, as it is reported to whoever watches.
#[derive(Debug)]
pub struct Event<'a> {
    /// Which head is in training, counted from 0.
    pub head: usize,
    /// Heads in all: calibration folds, then the shipped one.
    pub heads: usize,
    /// Finished steps of this head.
    pub step: u32,
    /// Steps of this head in all.
    pub steps: u32,
    /// The summary, if the step ended an epoch.
    pub epoch: Option<&'a EpochSummary>,
    /// Finished epochs of every head so far.
    pub history: &'a [Vec<EpochSummary>],
}

/// The seed of calibration head `fold`: its own draws, so that it is no copy of the shipped head.
fn fold_seed(seed: u64, fold: usize) -> u64 {
    seed.wrapping_add((fold as u64 + 1) << 40)
}

impl ModelTraining<'_> {
    /// Trains every head that is left, from the checkpoint where one lies at the agreed place, and removes nothing:
    /// the caller deletes the checkpoint once the model is written.
    pub fn run<B: Backend<Scalar = f32>>(
        &self,
        backend: &B,
        cache: &B::FeatureCache,
        watch: &mut dyn FnMut(&Event<'_>) -> Result<(), TrainingError>,
    ) -> Result<TrainedHead, TrainingError> {
        let folds = self.calibration.folds(self.images, self.seed);
        let heads = folds.len() + 1;
        let mut checkpoint = self.load_checkpoint(heads)?;
        let all: Vec<u32> = (0..self.images as u32).collect();

        loop {
            let index = checkpoint.progress.head;
            let fold = folds.get(index);
            let plan = TrainingPlan {
                settings: self.settings.clone(),
                head: self.head,
                seed: if fold.is_some() { fold_seed(self.seed, index) } else { self.seed },
                images: fold.map_or_else(|| all.clone(), |fold| fold.train.clone()),
            };
            let resumed = checkpoint.trainer(backend, plan.clone(), self.checkpoint)?;
            let mut trainer = match resumed {
                Some(trainer) => trainer,
                None => HeadTrainer::new(backend, plan)?,
            };
            self.train_head(&mut trainer, cache, heads, &mut checkpoint, watch)?;
            let tensors = trainer.head().to_tensors(backend)?;
            let Some(fold) = fold else {
                let Progress { held_out, history, .. } = checkpoint.progress;
                let calibration = Calibration::new(self.calibration, held_out, THRESHOLD_QUANTILE);
                return Ok(TrainedHead { tensors, calibration, history });
            };
            self.score_held_out(backend, cache, &tensors, fold, &mut checkpoint.progress.held_out)?;
            checkpoint.progress.head += 1;
            checkpoint.progress.position = Position::default();
            checkpoint.state.clear();
            checkpoint.save(self.checkpoint)?;
        }
    }

    fn load_checkpoint(&self, heads: usize) -> Result<Checkpoint, TrainingError> {
        let fresh = Progress {
            fingerprint: self.fingerprint.clone(),
            head: 0,
            position: Position::default(),
            history: vec![Vec::new(); heads],
            held_out: HeldOut::default(),
        };
        match Checkpoint::load(self.checkpoint)? {
            None => Ok(Checkpoint { progress: fresh, state: NamedTensors::new() }),
            Some(found) => {
                let same = found.progress.fingerprint == self.fingerprint
                    && found.progress.history.len() == heads
                    && found.progress.head < heads;
                if same {
                    return Ok(found);
                }
                Err(TrainingError::Checkpoint {
                    path: self.checkpoint.to_owned(),
                    reason: "it belongs to other data, settings or weights".to_owned(),
                })
            }
        }
    }

    /// Runs one head to its end, saving on the way.
    fn train_head<B: Backend<Scalar = f32>>(
        &self,
        trainer: &mut HeadTrainer<'_, B>,
        cache: &B::FeatureCache,
        heads: usize,
        checkpoint: &mut Checkpoint,
        watch: &mut dyn FnMut(&Event<'_>) -> Result<(), TrainingError>,
    ) -> Result<(), TrainingError> {
        let head = checkpoint.progress.head;
        let steps = trainer.plan().steps_per_epoch().saturating_mul(self.settings.epochs);
        let (begun, mut saved) = (Instant::now(), None::<Instant>);
        trainer.run(cache, &mut |trainer, epoch| {
            checkpoint.progress.history[head].extend(epoch.cloned());
            let since = saved.unwrap_or(begun).elapsed();
            // The first epoch's, so that there is something to resume, and the last one's: what follows may take its time.
            let due = saved.is_none() || trainer.position().step == steps || since >= EPOCH_INTERVAL;
            if (epoch.is_some() && due) || since >= CHECKPOINT_INTERVAL {
                checkpoint.progress.position = trainer.position();
                checkpoint.state = trainer.state()?;
                checkpoint.save(self.checkpoint)?;
                saved = Some(Instant::now());
            }
            watch(&Event {
                head,
                heads,
                step: trainer.position().step,
                steps,
                epoch,
                history: &checkpoint.progress.history,
            })
        })
    }

    /// Scores the images a calibration head has not seen.
    fn score_held_out<B: Backend<Scalar = f32>>(
        &self,
        backend: &B,
        cache: &B::FeatureCache,
        tensors: &NamedTensors,
        fold: &Fold,
        held_out: &mut HeldOut,
    ) -> Result<(), TrainingError> {
        let folded = FoldedHead::new(self.head, tensors)?;
        let scorer = Scorer::new(backend, &folded, self.grid, self.size, self.map_sigma)?;
        let mut schedule = backend.schedule(fold.held_out.len(), self.settings.batch)?;
        let epoch = Epoch { order: &fold.held_out, first_step: 0, done: 0 };
        backend.begin_epoch(&mut schedule, &epoch)?;
        for batch in fold.held_out.chunks(self.settings.batch) {
            let features = backend.gather_rows(cache, &schedule, batch.len(), 1.0)?;
            backend.end_step(&mut schedule)?;
            let scores = scorer.score(backend, &features)?;
            held_out.scores.extend(scores.image.data());
            for map in scores.maps.data().chunks_exact(self.size.0 * self.size.1) {
                held_out.map_maxima.push(map.iter().copied().fold(f32::NEG_INFINITY, f32::max));
                let mut sorted = map.to_vec();
                let middle = sorted.len() / 2;
                held_out.map_medians.push(*sorted.select_nth_unstable_by(middle, f32::total_cmp).1);
            }
        }
        Ok(())
    }
}
