//! `threshold`: shows or sets a model's decision thresholds, in raw score units.

use super::Outcome;
use super::console::{Console, print, print_json};
use crate::detector::{Model, Thresholds};
use crate::training::{Calibration, ChosenEpoch, THRESHOLD_QUANTILE};
use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;

/// `threshold`.
#[derive(Args, Clone, Debug)]
pub(super) struct ThresholdArgs {
    /// The model file; it is changed in place unless --output is given.
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// Set the threshold on the image score: larger is a defect.
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true, conflicts_with = "quantile")]
    set: Option<f32>,
    /// Set the threshold on the smoothed map: larger is part of a defective region.
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true, conflicts_with = "quantile")]
    set_map: Option<f32>,
    /// Take both thresholds at another quantile of the held-out good images' scores (the default is 0.995).
    #[arg(long, value_name = "Q")]
    quantile: Option<f64>,
    /// Go back to the thresholds that calibration found.
    #[arg(long, conflicts_with_all = ["set", "set_map", "quantile"])]
    reset: bool,
    /// Write the changed model here instead.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Shown<'a> {
    thresholds: Thresholds,
    #[serde(skip_serializing_if = "Option::is_none")]
    chosen_epoch: Option<ChosenEpoch>,
    calibration: Option<&'a Calibration>,
}

/// Runs the verb.
pub(super) fn run(args: &ThresholdArgs, console: &Console) -> anyhow::Result<Outcome> {
    let mut model = Model::load(&args.model)?;
    let before = model.metadata.thresholds;
    let held_out = || {
        model.metadata.calibration.as_ref().with_context(|| {
            format!(
                "{} holds no scores of held-out images (it was trained with --calibration-folds none); set a \
                 threshold with --set",
                args.model.display()
            )
        })
    };
    let mut thresholds = before;
    // Training takes its thresholds at THRESHOLD_QUANTILE, so that is what there is to go back to.
    let quantile = args.quantile.or(args.reset.then_some(THRESHOLD_QUANTILE));
    if let Some(quantile) = quantile {
        if !(0.0..=1.0).contains(&quantile) {
            bail!("--quantile {quantile}: a quantile lies between 0 and 1");
        }
        let old = held_out()?;
        let taken = Calibration::new(old.plan, old.held_out.clone(), quantile)
            .context("the model's list of held-out scores is empty")?;
        thresholds = Thresholds::calibrated(Some(&taken));
        model.metadata.calibration = Some(taken);
    }
    for (given, place, by_hand) in [
        (args.set, &mut thresholds.image, &mut thresholds.image_set_by_hand),
        (args.set_map, &mut thresholds.map, &mut thresholds.map_set_by_hand),
    ] {
        if let Some(value) = given {
            if !value.is_finite() {
                bail!("a threshold must be a finite number, not {value}");
            }
            *place = Some(value);
            *by_hand = true;
        }
    }
    model.metadata.thresholds = thresholds;

    let changes = args.set.is_some() || args.set_map.is_some() || args.quantile.is_some() || args.reset;
    if changes || args.output.is_some() {
        let target = args.output.as_ref().unwrap_or(&args.model);
        model.save(target)?;
        console.say(format_args!("written to {}", target.display()));
    }
    if args.json {
        let calibration = model.metadata.calibration.as_ref();
        let chosen_epoch = model.metadata.chosen_epoch;
        print_json(&Shown { thresholds, chosen_epoch, calibration })?;
    } else {
        print(&in_words(&model, &thresholds)?)?;
    }
    Ok(Outcome::Success)
}

fn in_words(model: &Model, thresholds: &Thresholds) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let words = |value: Option<f32>, by_hand: bool| match value {
        None => "none: scores without verdicts".to_owned(),
        Some(value) if by_hand => format!("{value}  (set by hand)"),
        Some(value) => format!("{value}  (from held-out good images)"),
    };
    writeln!(text, "image score > {}", words(thresholds.image, thresholds.image_set_by_hand))?;
    writeln!(text, "map value   > {}", words(thresholds.map, thresholds.map_set_by_hand))?;
    if let Some(chosen) = model.metadata.chosen_epoch {
        writeln!(text, "the model is of {}", chosen.in_words())?;
    }
    let Some(calibration) = &model.metadata.calibration else { return Ok(text) };
    let scores = &calibration.held_out.scores;
    let above = thresholds.image.map_or(0, |threshold| scores.iter().filter(|&&s| s > threshold).count());
    let total = scores.len();
    let bound = crate::metrics::clopper_pearson_upper(above as u64, total as u64, calibration.confidence);
    writeln!(
        text,
        "{above} of {total} held-out good images lie above: at most {:.1} % of good parts are rejected ({:.0} % \
         confidence)",
        100.0 * bound,
        100.0 * calibration.confidence
    )?;
    if calibration.is_weak() {
        write!(text, "{total} held-out images are few")?;
        if calibration.rejected == 0 {
            write!(text, ": their {} quantile is only their maximum", calibration.quantile)?;
        }
        writeln!(text)?;
    }
    Ok(text)
}
