//! What is said of a model once it is trained: its threshold, and whether it learned anything.

use super::console::Console;
use super::run_folder::RunSpec;
use crate::detector::ModelMetadata;
use crate::training::{Calibration, CalibrationPlan};

/// A last loss beyond this share of what a head has that scores everything alike means that hardly anything was learned.
const HARDLY_LEARNED: f64 = 0.9;

/// Tells of a model that was just trained.
pub(super) fn tell(spec: &RunSpec, model: &ModelMetadata, final_loss: Option<f64>, console: &Console) {
    if let Some(loss) = final_loss {
        warn_if_hardly_learned(model, loss, console);
    }
    let category = &model.category;
    match &model.calibration {
        Some(calibration) => announce_threshold(category, calibration, console),
        None if spec.calibration != CalibrationPlan::None => {
            console.warn(format_args!("{category}: the model has no threshold"));
        }
        None => (),
    }
}

fn warn_if_hardly_learned(model: &ModelMetadata, loss: f64, console: &Console) {
    let training = &model.settings.training;
    let of_equal_scores = training.loss.of_equal_scores();
    if loss <= HARDLY_LEARNED * of_equal_scores {
        return;
    }
    // The settings' default for these weights may be to take features as they are.
    let cure = if model.head.feature_scale == 1.0 {
        "--feature-scale auto, which brings features to the scale that the noise's sigma presumes, or more --epochs"
    } else {
        "more --epochs, or a larger --noise-sigma"
    };
    console.warn(format_args!(
        "{}: the last epoch's loss is {loss:.3}, and a head that scores everything alike has {of_equal_scores:.3}: this \
         one has hardly learned to tell noise from good features, and its scores may mean little; try {cure}",
        model.category
    ));
}

fn announce_threshold(category: &str, calibration: &Calibration, console: &Console) {
    let held_out = calibration.held_out.scores.len();
    console.say(format_args!(
        "{category}: threshold {:.4} from {held_out} held-out good images; at most {:.0} % of good parts are rejected \
         ({:.0} % confidence)",
        calibration.image_threshold,
        100.0 * calibration.false_reject_bound,
        100.0 * calibration.confidence
    ));
    if calibration.is_weak() {
        let cure = match calibration.plan {
            CalibrationPlan::HoldOut => "--calibration-folds 5 holds out every image once",
            _ => "more good images make it firmer",
        };
        console.say(format_args!(
            "{category}: so few images were held out that the threshold is only their maximum; {cure}"
        ));
    }
}
