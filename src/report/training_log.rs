//! `training.jsonl`: a line an epoch.

use serde::{Deserialize, Serialize};

use super::jsonl::{is_false, null_is_nan};

/// What one epoch of training did; read and written by [`super::jsonl`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// The head that was trained, by the name the run gives it: a category, with its seed where several run.
    pub head: String,
    /// The epoch, from 1.
    pub epoch: u32,
    /// The mean of the loss over the epoch's batches. NaN is `null` in the file.
    #[serde(with = "null_is_nan")]
    pub loss: f64,
    /// The share of normal features that score above th⁺, in 0..1.
    #[serde(with = "null_is_nan")]
    pub p_plus: f64,
    /// The share of noised features that score below th⁻, in 0..1.
    #[serde(with = "null_is_nan")]
    pub p_minus: f64,
    /// Wall-clock time of the epoch in seconds.
    pub seconds: f64,
    /// How much the scores of a calibration head's held-out images differ after this epoch, in units of the gap between good
    /// features and those with noise, where the run looks at them every epoch and the head has learned something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out_spread: Option<f64>,
    /// Image AUROC on the test set after this epoch, where the run measures it every epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub i_auroc: Option<f64>,
    /// Pixel AUROC on the test set after this epoch, where the run measures it every epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_auroc: Option<f64>,
    /// Whether this run picks its epoch on the test set (`--select test`); written only when it does.
    #[serde(default, skip_serializing_if = "is_false")]
    pub selected_on_test: bool,
}

/// What one epoch was like over several trainings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EpochRange {
    /// The epoch, from 1.
    pub epoch: u32,
    /// The mean of the trainings.
    pub mean: f64,
    /// The least of them.
    pub low: f64,
    /// The greatest of them.
    pub high: f64,
}

/// A value of each epoch over several trainings: of the epochs that every one of them has, for a mean over others would
/// jump where a training ends. A value that is no number makes its epoch's range one too.
pub fn over_trainings(
    trainings: &[Vec<EpochRecord>],
    value: impl Fn(&EpochRecord) -> f64,
) -> Vec<EpochRange> {
    let Some((first, others)) = trainings.split_first() else { return Vec::new() };
    let of_epoch = |first: &EpochRecord| {
        let mut values = vec![value(first)];
        for training in others {
            values.push(value(training.iter().find(|record| record.epoch == first.epoch)?));
        }
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let (low, high) = match mean.is_nan() {
            true => (f64::NAN, f64::NAN),
            false => {
                values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)))
            }
        };
        Some(EpochRange { epoch: first.epoch, mean, low, high })
    };
    first.iter().filter_map(of_epoch).collect()
}

#[cfg(test)]
mod tests {
    use super::super::jsonl::{read_lines, write_lines};
    use super::*;

    #[test]
    fn a_log_comes_back_even_after_training_diverged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("category/training.jsonl");
        let first = EpochRecord {
            head: "nut, \"large\"".into(),
            epoch: 1,
            loss: 0.763_512_345_678_9,
            p_plus: 0.25,
            p_minus: 0.5,
            seconds: 0.47,
            held_out_spread: None,
            i_auroc: None,
            p_auroc: Some(0.5),
            selected_on_test: true,
        };
        let diverged =
            EpochRecord { epoch: 2, loss: f64::NAN, selected_on_test: false, p_auroc: None, ..first.clone() };
        write_lines(&path, [&first, &diverged]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text.lines().nth(1).unwrap(),
            r#"{"head":"nut, \"large\"","epoch":2,"loss":null,"p_plus":0.25,"p_minus":0.5,"seconds":0.47}"#
        );
        let back: Vec<EpochRecord> = read_lines(&path).unwrap();
        assert_eq!(back[0], first);
        assert!(back[1].loss.is_nan() && back[1].epoch == 2);
    }

    #[test]
    fn trainings_are_averaged_over_the_epochs_they_share() {
        let training = |losses: &[f64]| -> Vec<EpochRecord> {
            let record = |(index, &loss): (usize, &f64)| EpochRecord {
                head: "final".into(),
                epoch: index as u32 + 1,
                loss,
                p_plus: 0.0,
                p_minus: 0.0,
                seconds: 0.0,
                held_out_spread: None,
                i_auroc: None,
                p_auroc: None,
                selected_on_test: false,
            };
            losses.iter().enumerate().map(record).collect()
        };
        let all = [training(&[1.0, 0.5, f64::NAN, 0.25]), training(&[3.0, 0.25, 1.0])];
        let found = over_trainings(&all, |record| record.loss);
        assert_eq!(found[0], EpochRange { epoch: 1, mean: 2.0, low: 1.0, high: 3.0 });
        assert_eq!(found[1], EpochRange { epoch: 2, mean: 0.375, low: 0.25, high: 0.5 });
        assert!(found[2].mean.is_nan() && found[2].low.is_nan() && found.len() == 3);
        assert!(over_trainings(&[], |record| record.loss).is_empty());
    }
}
