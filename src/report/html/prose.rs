//! What the page says in sentences.

use crate::report::metric::{MeanStd, Metric};
use crate::report::results::Results;

use super::RunReport;

/// `1 image`, `2 images`.
pub(super) fn counted(count: usize, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}

/// The summary: what was trained, on what, how well it tells good from defective. One sentence an entry.
pub(super) fn summary(report: &RunReport) -> Vec<String> {
    let results = &report.results;
    let categories = results.categories();
    if results.rows.is_empty() {
        return vec!["No model was trained in this run.".into()];
    }
    let images: usize = per_category(results, |row| row.train_images);
    let seeds = results.seeds().len();
    let mut first = format!(
        "SimpleNet learned {} from {}",
        match categories[..] {
            [only] => format!("what a good “{only}” looks like"),
            _ => format!("what good parts of {} categories look like", categories.len()),
        },
        counted(images, "good image", "good images")
    );
    if !report.data.is_empty() {
        first.push_str(&format!(" of {}", report.data));
    }
    if !report.backbone.is_empty() {
        first.push_str(&format!(", on features of {}", report.backbone));
    }
    if seeds > 1 {
        first.push_str(&format!(", {seeds} times with different seeds"));
    }
    first.push('.');
    let mut sentences = vec![first];
    sentences.extend(quality(results));
    sentences.extend(decisions(results));
    sentences
}

/// How well scores separate, in words and figures.
fn quality(results: &Results) -> Option<String> {
    let good = per_category(results, |row| row.test_good);
    let defective = per_category(results, |row| row.test_defective);
    let tested = format!(
        "{} and {}",
        counted(good, "good test image", "good test images"),
        counted(defective, "defective one", "defective ones")
    );
    let Some(image) = results.overall(Metric::IAuroc) else {
        return Some(match (good, defective) {
            (0, 0) => "There was no test set, so how well it works on defects was not measured.".into(),
            _ => format!("With {tested}, how well scores separate the two could not be measured."),
        });
    };
    let pixels = results.overall(Metric::PAuroc);
    let pixels = pixels.map_or_else(String::new, |stats| format!(", and {} of single pixels", figure(stats)));
    Some(format!(
        "On {tested}, its scores rank {} of image pairs correctly (I-AUROC, 50 % is guessing){pixels}.",
        figure(image)
    ))
}

/// What the thresholds did on the test set; where several seeds ran, over all of them.
fn decisions(results: &Results) -> Option<String> {
    let judged = results.rows.iter().filter(|row| row.false_rejects.is_some() || row.missed.is_some());
    let (mut rejects, mut missed, mut good, mut defective) = (0, 0, 0, 0);
    for row in judged {
        rejects += row.false_rejects.unwrap_or(0);
        missed += row.missed.unwrap_or(0);
        good += row.test_good;
        defective += row.test_defective;
    }
    if good + defective == 0 {
        return None;
    }
    let seeds = if results.seeds().len() > 1 { ", all seeds together" } else { "" };
    Some(format!(
        "At the threshold chosen from held-out good images alone it rejects {rejects} of {good} good test images and \
         misses {missed} of {defective} defective ones{seeds}."
    ))
}

fn figure(stats: MeanStd) -> String {
    match stats.std {
        None => format!("{:.1} %", 100.0 * stats.mean),
        Some(std) => format!("{:.1} ± {:.1} %", 100.0 * stats.mean, 100.0 * std),
    }
}

/// The sum over categories of a count that all seeds of a category share.
fn per_category(
    results: &Results,
    count: impl Fn(&crate::report::results::CategoryResult) -> usize,
) -> usize {
    results.categories().into_iter().filter_map(|name| results.of_category(name).map(&count).max()).sum()
}

/// Held-out good images below which the page warns about the threshold: their 0.995 quantile is then
/// little more than the largest of a handful of scores.
const FEW_HELD_OUT: usize = 20;

/// Warnings that follow from the results, then the caller's own.
pub(super) fn warnings(report: &RunReport) -> Vec<String> {
    let mut warnings = Vec::new();
    let results = &report.results;
    for category in results.categories() {
        let most = |count: fn(&crate::report::results::CategoryResult) -> usize| {
            results.of_category(category).map(count).max().unwrap_or(0)
        };
        let skipped = most(|row| row.skipped);
        if skipped > 0 {
            let images = counted(skipped, "image was", "images were");
            warnings.push(format!("{category}: {images} unreadable and left out."));
        }
        let without_mask = most(|row| row.without_mask);
        if without_mask > 0 {
            let images = counted(without_mask, "defective image has", "defective images have");
            warnings.push(format!("{category}: {images} no mask and do not count in pixel metrics."));
        }
        let held_out = results.of_category(category).map(|row| row.held_out_images).min().unwrap_or(0);
        if results.of_category(category).any(|row| row.image_threshold.is_none()) {
            warnings
                .push(format!("{category}: there is no threshold, so no image was accepted or rejected."));
        } else if held_out < FEW_HELD_OUT {
            let images = counted(held_out, "held-out good image", "held-out good images");
            warnings.push(format!(
                "{category}: the threshold rests on {images}; under {FEW_HELD_OUT} it is a rough guess, so check it \
                 against parts of your own."
            ));
        }
        let unseen = results.of_category(category).filter_map(|row| row.not_inspected).fold(0.0, f64::max);
        if unseen > 0.0 {
            warnings.push(format!(
                "{category}: {:.1} % of an image lies outside the crop and was not inspected (shaded in the \
                 pictures); --fit stretch sees all of it.",
                100.0 * unseen
            ));
        }
    }
    warnings.extend(report.warnings.iter().cloned());
    warnings
}
