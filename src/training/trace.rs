//! What the held-out images of a fold scored after every epoch of its head.
//!
//! A few numbers an image and epoch, so they are kept for all epochs where an epoch is chosen afterwards: thresholds then
//! come from the very epoch that the shipped head is of, and no head has to be kept or trained again for them.

use super::HeldOut;
use crate::tensor::Tensor;
use crate::tensor_file::NamedTensors;

/// Scores, map maxima and map medians.
const KINDS: usize = 3;

/// The scores of one fold: a view of the tensor `[epochs, 3, images]` they are kept in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trace<'a> {
    images: usize,
    values: &'a [f32],
}

fn name(fold: usize) -> String {
    format!("held-out.{fold}")
}

impl<'a> Trace<'a> {
    /// The trace of a fold, as far as one is kept.
    pub(super) fn of(kept: &'a NamedTensors, fold: usize) -> Option<Self> {
        let tensor = kept.get(&name(fold))?;
        match *tensor.shape() {
            [_, KINDS, images] => Some(Self { images, values: tensor.data() }),
            _ => None,
        }
    }

    /// Adds an epoch to the trace of a fold.
    pub(super) fn append(kept: &mut NamedTensors, fold: usize, epoch: &HeldOut) {
        let mut values = kept.remove(&name(fold)).map(Tensor::into_data).unwrap_or_default();
        values.extend(epoch.scores.iter().chain(&epoch.map_maxima).chain(&epoch.map_medians));
        let images = epoch.scores.len();
        let epochs = values.len() / (KINDS * images);
        kept.insert(name(fold), Tensor::new([epochs, KINDS, images], values));
    }

    /// Held-out images.
    pub(super) fn images(&self) -> usize {
        self.images
    }

    /// Epochs.
    pub(super) fn epochs(&self) -> usize {
        self.values.len() / (KINDS * self.images)
    }

    /// The image scores after an epoch, counted from 1.
    pub(super) fn scores(&self, epoch: u32) -> &'a [f32] {
        self.kind(epoch, 0)
    }

    /// Everything kept of an epoch, counted from 1, at the end of what other folds said.
    pub(super) fn extend(&self, epoch: u32, all: &mut HeldOut) {
        all.scores.extend(self.kind(epoch, 0));
        all.map_maxima.extend(self.kind(epoch, 1));
        all.map_medians.extend(self.kind(epoch, 2));
    }

    fn kind(&self, epoch: u32, kind: usize) -> &'a [f32] {
        let row = KINDS * (epoch as usize - 1) + kind;
        &self.values[row * self.images..][..self.images]
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A trace with the given image scores, a list an epoch.
    pub(in crate::training) fn kept(folds: &[Vec<Vec<f32>>]) -> NamedTensors {
        let mut kept = NamedTensors::new();
        for (fold, epochs) in folds.iter().enumerate() {
            for scores in epochs {
                let held_out = HeldOut {
                    scores: scores.clone(),
                    map_maxima: scores.iter().map(|score| score - 0.25).collect(),
                    map_medians: scores.iter().map(|score| score - 1.0).collect(),
                };
                Trace::append(&mut kept, fold, &held_out);
            }
        }
        kept
    }

    #[test]
    fn what_is_appended_comes_back_epoch_by_epoch() {
        let kept = kept(&[vec![vec![1.0, 2.0], vec![3.0, 4.0], vec![5.0, 6.0]], vec![vec![7.0]]]);
        let trace = Trace::of(&kept, 0).unwrap();
        assert_eq!((trace.epochs(), trace.images()), (3, 2));
        assert_eq!(trace.scores(2), [3.0, 4.0]);
        let mut all = HeldOut::default();
        trace.extend(3, &mut all);
        Trace::of(&kept, 1).unwrap().extend(1, &mut all);
        assert_eq!(all.scores, [5.0, 6.0, 7.0]);
        assert_eq!(all.map_maxima, [4.75, 5.75, 6.75]);
        assert_eq!(all.map_medians, [4.0, 5.0, 6.0]);
        assert!(Trace::of(&kept, 2).is_none());
    }
}
