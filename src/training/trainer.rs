//! The training of one head on cached features: Algorithm 1 of the paper.

use super::TrainingError;
use super::optimizer::Optimizer;
use crate::backend::{
    self, Backend, Epoch, LOSS_TOTALS, Noise, TOTAL_LOSS, TOTAL_NEGATIVE, TOTAL_POSITIVE, TOTAL_ROWS,
};
use crate::head::{Head, HeadConfig};
use crate::random::philox::{Philox, Stream};
use crate::settings::TrainingSettings;
use crate::tensor::Scalar;
use crate::tensor_file::NamedTensors;
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;

/// What one head learns from, and how.
#[derive(Clone, Debug)]
pub struct TrainingPlan {
    /// Loss, optimisers, epochs, batch.
    pub settings: TrainingSettings,
    /// The head to train; its features are multiplied as it says.
    pub head: HeadConfig,
    /// Seed of initial values, order and noise.
    pub seed: u64,
    /// The images of the feature cache that this head sees.
    pub images: Vec<u32>,
}

impl TrainingPlan {
    /// Optimiser steps of one epoch; the last may have fewer images.
    pub fn steps_per_epoch(&self) -> u32 {
        self.images.len().div_ceil(self.settings.batch) as u32
    }
}

/// One finished epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochSummary {
    /// Counted from 1.
    pub epoch: u32,
    /// Mean loss over the images.
    pub loss: f64,
    /// p⁺: share of normal rows scored above th⁺.
    pub positive: f64,
    /// p⁻: share of anomalous rows scored below th⁻.
    pub negative: f64,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// How much scores of held-out good images differ, in units of the gap between good features and those with noise, of
    /// the fold of a calibration head; where the run looks at them every epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out_spread: Option<f64>,
    /// Image AUROC on the test set, where the run looks at that every epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub i_auroc: Option<f64>,
    /// Pixel AUROC on the test set, where the run looks at that every epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_auroc: Option<f64>,
}

impl EpochSummary {
    /// An epoch of which nothing but its loss is known.
    pub fn new(epoch: u32, loss: f64) -> Self {
        Self {
            epoch,
            loss,
            positive: 0.0,
            negative: 0.0,
            seconds: 0.0,
            held_out_spread: None,
            i_auroc: None,
            p_auroc: None,
        }
    }
}

/// Where a training stands: what a checkpoint keeps beside tensors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Finished epochs.
    pub epoch: u32,
    /// Finished steps of the present epoch.
    pub step_in_epoch: u32,
    /// Finished optimiser steps in all: Adam's t, and the noise's counter.
    pub step: u32,
    /// Seconds spent in the present epoch.
    pub epoch_seconds: f64,
}

/// Hears of every step: the trainer after it, and the summary if it ended an epoch.
pub type Observer<'a, 'b, B> =
    dyn FnMut(&HeadTrainer<'b, B>, Option<&EpochSummary>) -> Result<(), TrainingError> + 'a;

/// An [`Observer`] that may end the training.
pub type EndingObserver<'a, 'b, B> =
    dyn FnMut(&HeadTrainer<'b, B>, Option<&EpochSummary>) -> Result<ControlFlow<()>, TrainingError> + 'a;

/// A head in training.
#[derive(Debug)]
pub struct HeadTrainer<'b, B: Backend> {
    backend: &'b B,
    plan: TrainingPlan,
    head: Head<B>,
    optimizer: Optimizer<B>,
    totals: B::Tensor,
    schedule: B::Schedule,
    position: Position,
}

const TOTALS: &str = "totals";

impl<'b, B: Backend> HeadTrainer<'b, B> {
    /// A fresh head.
    pub fn new(backend: &'b B, plan: TrainingPlan) -> Result<Self, TrainingError> {
        Self::from_head(backend, Head::initial(backend, plan.head, plan.seed)?, plan)
    }

    /// A head with given initial values.
    pub fn from_head(backend: &'b B, head: Head<B>, plan: TrainingPlan) -> Result<Self, TrainingError> {
        let optimizer =
            Optimizer::new(backend, &head, plan.settings.adaptor_rule, plan.settings.discriminator_rule)?;
        let totals = backend.zeros(&[LOSS_TOTALS])?;
        let schedule = backend.schedule(plan.images.len(), plan.settings.batch)?;
        Ok(Self { backend, plan, head, optimizer, totals, schedule, position: Position::default() })
    }

    /// Continues where [`HeadTrainer::state`] left off.
    pub fn resume(
        backend: &'b B,
        plan: TrainingPlan,
        position: Position,
        state: &NamedTensors<B::Scalar>,
    ) -> Result<Self, TrainingError> {
        let mut trainer = Self::from_head(backend, Head::from_tensors(backend, plan.head, state)?, plan)?;
        trainer.optimizer.restore(backend, &trainer.head, state)?;
        trainer.totals = backend.upload(&state[TOTALS])?;
        trainer.position = position;
        Ok(trainer)
    }

    /// Every tensor a resumed training needs: head, moments, and the sums of the present epoch.
    pub fn state(&self) -> Result<NamedTensors<B::Scalar>, TrainingError> {
        let mut tensors = self.head.to_tensors(self.backend)?;
        self.optimizer.save(self.backend, &self.head, &mut tensors)?;
        tensors.insert(TOTALS.to_owned(), self.backend.download(&self.totals)?);
        Ok(tensors)
    }

    /// Names and shapes of [`HeadTrainer::state`], by which a reader checks a file.
    pub fn state_tensors(plan: &TrainingPlan) -> Vec<(String, Vec<usize>)> {
        let config = plan.head;
        let mut list: Vec<_> = config.tensors().into_iter().map(|(n, s)| (n.to_owned(), s)).collect();
        for prefix in ["first", "second"] {
            list.extend(config.parameters().into_iter().map(|(n, s)| (format!("{prefix}.{n}"), s)));
        }
        list.push((TOTALS.to_owned(), vec![LOSS_TOTALS]));
        list
    }

    /// Where the training stands.
    pub fn position(&self) -> Position {
        self.position
    }

    /// What is learned from, and how.
    pub fn plan(&self) -> &TrainingPlan {
        &self.plan
    }

    /// The head as it is now.
    pub fn head(&self) -> &Head<B> {
        &self.head
    }

    /// Trains to the end, calling `observe` after every step; with the summary when the step ended an epoch.
    ///
    /// Nothing is read from the device within an epoch: its sums come back once, at its end. Steps are recorded, those of
    /// whole batches and the last ones of the epochs each for themselves, unless the host has to copy their features.
    pub fn run(
        &mut self,
        cache: &B::FeatureCache,
        observe: &mut Observer<'_, 'b, B>,
    ) -> Result<(), TrainingError> {
        self.run_until(cache, &mut |trainer, epoch| {
            observe(trainer, epoch).map(|()| ControlFlow::Continue(()))
        })
    }

    /// As [`HeadTrainer::run`], until `observe` breaks it off.
    pub fn run_until(
        &mut self,
        cache: &B::FeatureCache,
        observe: &mut EndingObserver<'_, 'b, B>,
    ) -> Result<(), TrainingError> {
        let backend = self.backend;
        let recordable = backend.reads_features(cache);
        let (mut whole, mut last) = (B::Recording::default(), B::Recording::default());
        while self.position.epoch < self.plan.settings.epochs {
            let mut start = std::time::Instant::now();
            let order = Philox::new(self.plan.seed, Stream::Shuffle, self.position.epoch)
                .permutation(self.plan.images.len());
            let order: Vec<u32> = order.into_iter().map(|i| self.plan.images[i as usize]).collect();
            let Position { step, step_in_epoch, .. } = self.position;
            let (first_step, done) = (step - step_in_epoch, step_in_epoch as usize);
            backend.begin_epoch(&mut self.schedule, &Epoch { order: &order, first_step, done })?;
            for batch in order.chunks(self.plan.settings.batch).skip(done) {
                let images = batch.len();
                if recordable {
                    let recording = if images == self.plan.settings.batch { &mut whole } else { &mut last };
                    backend.run_recorded(recording, &mut || {
                        self.step(cache, images)?;
                        Ok(Vec::new())
                    })?;
                } else {
                    self.step(cache, images)?;
                }
                self.position.step += 1;
                self.position.step_in_epoch += 1;
                let ends = self.position.step_in_epoch == self.plan.steps_per_epoch();
                let summary = if ends { Some(self.finish_epoch(start)?) } else { None };
                if !ends {
                    self.position.epoch_seconds += start.elapsed().as_secs_f64();
                }
                if observe(self, summary.as_ref())?.is_break() {
                    return Ok(());
                }
                // Whoever watches takes nothing of the epoch's time.
                start = std::time::Instant::now();
            }
        }
        Ok(())
    }

    /// One optimiser step on given images of the cache, outside of any epoch.
    pub fn step_on(&mut self, cache: &B::FeatureCache, images: &[u32]) -> Result<(), TrainingError> {
        let mut schedule = self.backend.schedule(images.len(), images.len())?;
        let epoch = Epoch { order: images, first_step: self.position.step, done: 0 };
        self.backend.begin_epoch(&mut schedule, &epoch)?;
        std::mem::swap(&mut self.schedule, &mut schedule);
        let result = self.step(cache, images.len());
        std::mem::swap(&mut self.schedule, &mut schedule);
        self.position.step += 1;
        Ok(result?)
    }

    /// The schedule's present step, of `images` images: the same operations on the same memory every time, and nothing of
    /// the host's.
    fn step(&mut self, cache: &B::FeatureCache, images: usize) -> backend::Result<()> {
        let settings = &self.plan.settings;
        let (backend, schedule) = (self.backend, &mut self.schedule);
        let noise = Noise {
            sigma: settings.noise_sigma,
            mixtures: settings.noise_mixtures,
            seed: self.plan.seed,
            schedule,
        };
        let features = backend.gather_rows(cache, schedule, images, self.plan.head.feature_scale)?;
        let (tape, scores) = self.head.record(backend, features, noise)?;
        let gradient = tape.loss(scores, settings.loss, images, &mut self.totals)?;
        let gradients = tape.backward(scores, gradient)?;
        self.optimizer.step(backend, &mut self.head, &gradients, schedule)?;
        backend.end_step(schedule)
    }

    fn finish_epoch(&mut self, last_step: std::time::Instant) -> Result<EpochSummary, TrainingError> {
        let totals = self.backend.download(&self.totals)?;
        let total = |index: usize| totals.data()[index].to_f64();
        self.backend.clear(&mut self.totals)?;
        let loss = total(TOTAL_LOSS) / self.plan.images.len() as f64;
        let summary = EpochSummary {
            positive: total(TOTAL_POSITIVE) / total(TOTAL_ROWS),
            negative: total(TOTAL_NEGATIVE) / total(TOTAL_ROWS),
            seconds: self.position.epoch_seconds + last_step.elapsed().as_secs_f64(),
            ..EpochSummary::new(self.position.epoch + 1, loss)
        };
        self.position = Position { epoch: summary.epoch, step: self.position.step, ..Position::default() };
        if !loss.is_finite() {
            return Err(TrainingError::Diverged { epoch: summary.epoch });
        }
        Ok(summary)
    }
}
