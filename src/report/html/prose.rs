//! What the page says in sentences.

use crate::report::metric::{MeanStd, Metric};
use crate::report::results::{CategoryResult, Results};

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
    let pixels = pixels
        .map_or_else(String::new, |stats| format!(", and {} of such pixel pairs (P-AUROC)", figure(stats)));
    Some(format!(
        "On {tested}, its scores put {} of the pairs of a good and a defective image in the right order \
         (I-AUROC; 50\u{a0}% is guessing){pixels}.",
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
        "At its threshold it rejects {rejects} of {good} good test images and misses {missed} of {defective} defective ones{seeds}."
    ))
}

fn figure(stats: MeanStd) -> String {
    match stats.std {
        None => format!("{:.1}\u{a0}%", 100.0 * stats.mean),
        Some(std) => format!("{:.1}\u{a0}±\u{a0}{:.1}\u{a0}%", 100.0 * stats.mean, 100.0 * std),
    }
}

/// The sum over categories of a count that all seeds of a category share.
fn per_category(results: &Results, count: impl Fn(&CategoryResult) -> usize) -> usize {
    results.categories().into_iter().filter_map(|name| results.of_category(name).map(&count).max()).sum()
}

/// Held-out good images below which the page warns about the threshold: their 0.995 quantile is then little more
/// than the largest of a handful of scores.
const FEW_HELD_OUT: usize = 20;

/// Warnings that follow from the results, one a kind with the categories it concerns, then the caller's own.
pub(super) fn warnings(report: &RunReport) -> Vec<String> {
    let results = &report.results;
    // The categories that `value` concerns, each with its value, as `name (value)`.
    let concerned = |value: &dyn Fn(&[&CategoryResult]) -> Option<String>| {
        let named = results.categories().into_iter().filter_map(|name| {
            let rows: Vec<&CategoryResult> = results.of_category(name).collect();
            Some(format!("{name} ({})", value(&rows)?))
        });
        named.collect::<Vec<String>>().join(", ")
    };
    let most = |rows: &[&CategoryResult], count: fn(&CategoryResult) -> usize| {
        rows.iter().map(|row| count(row)).max().filter(|count| *count > 0).map(|count| count.to_string())
    };
    let no_threshold = |rows: &[&CategoryResult]| rows.iter().any(|row| row.image_threshold.is_none());
    let few = |rows: &[&CategoryResult]| {
        let held_out = rows.iter().map(|row| row.held_out_images).min()?;
        (!no_threshold(rows) && held_out < FEW_HELD_OUT).then(|| held_out.to_string())
    };
    let outside = |rows: &[&CategoryResult]| {
        let share = rows.iter().filter_map(|row| row.not_inspected).fold(0.0, f64::max);
        (share > 0.0).then(|| format!("{:.1}\u{a0}%", 100.0 * share))
    };
    let few_held_out = format!(
        "The threshold rests on fewer than {FEW_HELD_OUT} held-out good images and is a rough guess, to be checked against \
         parts of your own"
    );
    let kinds = [
        ("Images that could not be read and were left out", concerned(&|rows| most(rows, |row| row.skipped))),
        (
            "Defective images without a mask, which do not count in pixel metrics",
            concerned(&|rows| most(rows, |row| row.without_mask)),
        ),
        (
            "No threshold, so no image was accepted or rejected",
            concerned(&|rows| no_threshold(rows).then(|| counted(rows.len(), "model", "models"))),
        ),
        (few_held_out.as_str(), concerned(&few)),
        (
            "Part of each image lies outside the crop and was not inspected (shaded in the pictures); --fit stretch sees \
             all of it",
            concerned(&outside),
        ),
    ];
    let derived = kinds.into_iter().filter(|(_, names)| !names.is_empty());
    derived.map(|(what, names)| format!("{what}: {names}.")).chain(report.warnings.iter().cloned()).collect()
}
