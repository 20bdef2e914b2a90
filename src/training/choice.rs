//! How many epochs each head trains, and which epoch the model is of.
//!
//! Calibration heads train first, so what they say of held-out images can decide on the shipped head, which still learns
//! from every good image.

use super::plateau::has_settled;
use super::selection::{FoldTraining, choose, deviations};
use super::trace::Trace;
use super::{Checkpoint, EpochSummary, Fold, HeldOut, TrainingError};
use crate::settings::{EarlyStop, Selection, TrainingSettings};
use crate::tensor_file::NamedTensors;
use serde::{Deserialize, Serialize};

/// The epoch a model is of, where its training was asked to choose it or to end early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChosenEpoch {
    /// The epoch, from 1.
    pub epoch: u32,
    /// How many there were to choose from: fewer than the settings' where calibration heads settled early.
    pub of: u32,
    /// Whether it is the one that did best on the test set, which inflates every result on that set.
    pub selected_on_test: bool,
}

impl ChosenEpoch {
    /// In words, for people.
    pub fn in_words(&self) -> String {
        let Self { epoch, of, selected_on_test } = self;
        let warning = "SELECTED ON THE TEST SET: results of this model on that set are inflated";
        if *selected_on_test {
            format!("epoch {epoch} of {of}, {warning}")
        } else {
            format!("epoch {epoch} of {of}, chosen without test images")
        }
    }
}

/// What a head reaches on the test set after an epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TestAurocs {
    /// Of image scores.
    pub image: f64,
    /// Of pixel scores, where there are masks.
    pub pixel: Option<f64>,
}

/// Scores the test set with the tensors of a head.
pub type TestScorer<'a> = dyn FnMut(&NamedTensors) -> Result<TestAurocs, TrainingError> + 'a;

/// The epoch with the best image AUROC of a history; of equals the one with the best pixel AUROC, of these the earliest.
pub(super) fn best_on_test(history: &[EpochSummary]) -> Option<u32> {
    let key = |epoch: &EpochSummary| {
        let absent = f64::NEG_INFINITY;
        [epoch.i_auroc.unwrap_or(absent), epoch.p_auroc.unwrap_or(absent)]
    };
    let mut best: Option<&EpochSummary> = None;
    for epoch in history {
        if best.is_none_or(|best| key(epoch) > key(best)) {
            best = Some(epoch);
        }
    }
    best.map(|best| best.epoch)
}

/// How the epochs of one model's heads are decided.
#[derive(Clone, Copy, Debug)]
pub(super) struct EpochChoice<'a> {
    settings: &'a TrainingSettings,
    folds: &'a [Fold],
}

impl<'a> EpochChoice<'a> {
    /// # Errors
    /// [`TrainingError::NothingHeldOut`] where the choice needs held-out images that are not there.
    pub(super) fn new(settings: &'a TrainingSettings, folds: &'a [Fold]) -> Result<Self, TrainingError> {
        let comparable = folds.iter().any(|fold| fold.held_out.len() > 1);
        if settings.select == Selection::Holdout && !comparable {
            return Err(TrainingError::NothingHeldOut { option: "--select holdout", needed: "two" });
        }
        if settings.early_stop == EarlyStop::Plateau && folds.is_empty() {
            return Err(TrainingError::NothingHeldOut { option: "--early-stop plateau", needed: "one" });
        }
        Ok(Self { settings, folds })
    }

    /// Whether the epoch is not simply the last of those asked for: then held-out scores of every epoch are kept, and the
    /// model tells its epoch.
    pub(super) fn is_made(&self) -> bool {
        !(self.settings.select.is_default() && self.settings.early_stop.is_default())
    }

    /// Epochs that every fold has which is finished by now.
    fn shared(&self, checkpoint: &Checkpoint) -> u32 {
        let finished = &checkpoint.progress.history[..self.folds.len().min(checkpoint.progress.head)];
        let lengths = finished.iter().map(|epochs| epochs.len() as u32);
        lengths.min().unwrap_or(u32::MAX).min(self.settings.epochs)
    }

    /// How many epochs the head trains that comes next, at most.
    pub(super) fn epochs(&self, checkpoint: &Checkpoint) -> u32 {
        let shared = self.shared(checkpoint);
        if checkpoint.progress.head < self.folds.len() || self.settings.select != Selection::Holdout {
            return shared;
        }
        let losses = losses(&checkpoint.progress.history[..self.folds.len()]);
        choose(&self.trainings(checkpoint, &losses), shared, self.settings.loss)
    }

    /// Notes what the held-out images of a fold scored after an epoch.
    pub(super) fn note_fold(
        &self,
        checkpoint: &mut Checkpoint,
        fold: usize,
        scores: &HeldOut,
        summary: &mut EpochSummary,
    ) {
        Trace::append(&mut checkpoint.kept, fold, scores);
        let sum = deviations(&scores.scores, self.settings.loss, summary.loss);
        summary.held_out_spread = sum.map(|sum| sum / scores.scores.len() as f64);
    }

    /// Whether the head of a fold ends before its last epoch.
    pub(super) fn has_settled(&self, checkpoint: &Checkpoint, fold: usize) -> bool {
        let losses = losses(&checkpoint.progress.history[fold..=fold]);
        self.settings.early_stop == EarlyStop::Plateau
            && Trace::of(&checkpoint.kept, fold).is_some_and(|scores| {
                has_settled(&FoldTraining { losses: &losses[0], scores }, self.settings.loss)
            })
    }

    /// Notes what the shipped head reached on the test set, and keeps its tensors if it never was better.
    pub(super) fn note_test(
        &self,
        checkpoint: &mut Checkpoint,
        reached: TestAurocs,
        tensors: NamedTensors,
        summary: &mut EpochSummary,
    ) {
        (summary.i_auroc, summary.p_auroc) = (Some(reached.image), reached.pixel);
        let mut history = checkpoint.progress.history[self.folds.len()].clone();
        history.push(summary.clone());
        if best_on_test(&history) == Some(summary.epoch) {
            checkpoint
                .kept
                .extend(tensors.into_iter().map(|(name, tensor)| (format!("{BEST}{name}"), tensor)));
        }
    }

    /// The epoch the model is of, once all heads are trained.
    pub(super) fn chosen(&self, checkpoint: &Checkpoint) -> ChosenEpoch {
        let shipped = &checkpoint.progress.history[self.folds.len()];
        let selected_on_test = self.settings.select == Selection::Test;
        let last = shipped.last().map_or(0, |epoch| epoch.epoch);
        let best = if selected_on_test { best_on_test(shipped) } else { None };
        ChosenEpoch { epoch: best.unwrap_or(last), of: self.shared(checkpoint), selected_on_test }
    }

    /// What held-out images scored after an epoch, all folds in a row.
    pub(super) fn held_out(&self, checkpoint: &Checkpoint, epoch: u32) -> HeldOut {
        let mut all = HeldOut::default();
        for fold in 0..self.folds.len() {
            if let Some(trace) = Trace::of(&checkpoint.kept, fold) {
                trace.extend(epoch, &mut all);
            }
        }
        all
    }

    /// Says in words what a checkpoint lacks for this choice.
    pub(super) fn check(&self, checkpoint: &Checkpoint) -> Result<(), &'static str> {
        if !self.is_made() {
            return Ok(());
        }
        let history = &checkpoint.progress.history;
        for (index, (fold, epochs)) in self.folds.iter().zip(history).enumerate() {
            let (epochs, images) = (epochs.len(), fold.held_out.len());
            let found = Trace::of(&checkpoint.kept, index).map(|trace| (trace.epochs(), trace.images()));
            if found.unwrap_or((0, images)) != (epochs, images) {
                return Err("scores of held-out images are missing");
            }
        }
        let tested = &history[self.folds.len()];
        let without = tested.is_empty() || checkpoint.kept.keys().any(|name| name.starts_with(BEST));
        if self.settings.select == Selection::Test && !(without && tested.iter().all(|e| e.i_auroc.is_some()))
        {
            return Err("the best epoch so far is missing");
        }
        Ok(())
    }

    fn trainings<'t>(&self, checkpoint: &'t Checkpoint, losses: &'t [Vec<f64>]) -> Vec<FoldTraining<'t>> {
        let of_fold = |(fold, losses): (usize, &'t Vec<f64>)| {
            Trace::of(&checkpoint.kept, fold).map(|scores| FoldTraining { losses, scores })
        };
        losses.iter().enumerate().filter_map(of_fold).collect()
    }
}

/// Prefix of the best head's tensors.
const BEST: &str = "best.";

/// Takes the tensors of the head that was best on the test set.
pub(super) fn take_best(kept: NamedTensors) -> NamedTensors {
    let named =
        kept.into_iter().filter_map(|(name, tensor)| Some((name.strip_prefix(BEST)?.to_owned(), tensor)));
    named.collect()
}

fn losses(history: &[Vec<EpochSummary>]) -> Vec<Vec<f64>> {
    history.iter().map(|epochs| epochs.iter().map(|epoch| epoch.loss).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Position, Progress};
    use super::*;
    use crate::settings::{Preset, Settings};
    use crate::tensor::Tensor;

    fn tested(aurocs: &[(f64, Option<f64>)]) -> Vec<EpochSummary> {
        let epoch = |(index, &(image, pixel)): (usize, &(f64, Option<f64>))| EpochSummary {
            i_auroc: Some(image),
            p_auroc: pixel,
            ..EpochSummary::new(index as u32 + 1, 0.1)
        };
        aurocs.iter().enumerate().map(epoch).collect()
    }

    #[test]
    fn the_best_epoch_is_that_of_images_then_of_pixels_then_the_earliest() {
        let best = |aurocs: &[(f64, Option<f64>)]| best_on_test(&tested(aurocs));
        assert_eq!(best(&[(0.5, Some(0.9)), (0.75, Some(0.5)), (0.7, Some(1.0))]), Some(2));
        assert_eq!(best(&[(1.0, Some(0.5)), (1.0, Some(0.75)), (1.0, Some(0.75)), (0.5, None)]), Some(2));
        assert_eq!(best(&[(1.0, None), (1.0, None)]), Some(1));
        assert_eq!(best(&[]), None);
    }

    #[test]
    fn a_checkpoint_that_lacks_what_the_choice_needs_is_found_out() {
        let mut settings = Settings::preset(Preset::Paper).training;
        settings.select = Selection::Test;
        let folds = [Fold { train: vec![0], held_out: vec![1, 2] }];
        let choice = EpochChoice::new(&settings, &folds).unwrap();
        let mut checkpoint = Checkpoint {
            progress: Progress {
                fingerprint: String::new(),
                head: 0,
                position: Position::default(),
                history: vec![Vec::new(); 2],
                held_out: HeldOut::default(),
            },
            state: NamedTensors::new(),
            kept: NamedTensors::new(),
        };
        assert_eq!(choice.check(&checkpoint), Ok(()));
        let scores = |images: usize| HeldOut {
            scores: vec![1.0; images],
            map_maxima: vec![1.0; images],
            map_medians: vec![1.0; images],
        };
        for (images, sound) in [(2, true), (3, false)] {
            checkpoint.kept.clear();
            let mut epoch = EpochSummary::new(1, 0.25);
            choice.note_fold(&mut checkpoint, 0, &scores(images), &mut epoch);
            checkpoint.progress.history[0] = vec![epoch];
            assert_eq!(choice.check(&checkpoint).is_ok(), sound);
        }
        checkpoint.kept.clear();
        assert!(choice.check(&checkpoint).is_err(), "an epoch without scores");
        choice.note_fold(&mut checkpoint, 0, &scores(2), &mut EpochSummary::new(1, 0.25));

        // The best head stays when a later one is worse, and gives way to a better one.
        let head = |value: f32| NamedTensors::from([("w".to_owned(), Tensor::new([1], vec![value]))]);
        for (number, image, kept) in [(1u8, 0.75, 1.0), (2, 0.5, 1.0), (3, 0.875, 3.0)] {
            let mut epoch = EpochSummary::new(u32::from(number), 0.25);
            let reached = TestAurocs { image, pixel: None };
            choice.note_test(&mut checkpoint, reached, head(f32::from(number)), &mut epoch);
            checkpoint.progress.history[1].push(epoch);
            assert_eq!(checkpoint.kept["best.w"].data(), [kept]);
        }
        assert_eq!(choice.check(&checkpoint), Ok(()));
        let chosen = ChosenEpoch { epoch: 3, of: 160, selected_on_test: true };
        assert_eq!(choice.chosen(&checkpoint), chosen);
        assert_eq!(take_best(checkpoint.kept.clone()), head(3.0));
        checkpoint.kept.remove("best.w");
        assert!(choice.check(&checkpoint).is_err(), "no best head");
    }

    #[test]
    fn a_choice_that_needs_held_out_images_says_so() {
        let mut settings = Settings::preset(Preset::Paper).training;
        let fold = |held_out: &[u32]| Fold { train: vec![9], held_out: held_out.to_vec() };
        assert!(!EpochChoice::new(&settings, &[]).unwrap().is_made());
        settings.select = Selection::Test;
        assert!(EpochChoice::new(&settings, &[]).unwrap().is_made());
        settings.select = Selection::Holdout;
        for folds in [&[][..], &[fold(&[1]), fold(&[2])]] {
            let error = EpochChoice::new(&settings, folds).unwrap_err().to_string();
            assert!(error.contains("--select holdout") && error.contains("two"), "{error}");
        }
        assert!(EpochChoice::new(&settings, &[fold(&[1]), fold(&[2, 3])]).is_ok());
        settings.select = Selection::Last;
        settings.early_stop = EarlyStop::Plateau;
        assert!(EpochChoice::new(&settings, &[]).unwrap_err().to_string().contains("--early-stop plateau"));
        assert!(EpochChoice::new(&settings, &[fold(&[1])]).is_ok());
    }
}
