//! The parts of the page that are tables and charts.

use std::fmt::Write as _;

use crate::report::comparison::{Comparison, Row};
use crate::report::escape::escape;
use crate::report::metric::Metric;
use crate::report::results::{CategoryResult, Results};
use crate::report::scores::{ImageKind, ImageScore, score_text};
use crate::report::svg::{LineChart, Series, Strip, StripPlot, Tone};
use crate::report::table::{notes, percent};
use crate::report::training_log::EpochRecord;

use super::CategoryReport;

/// The results table with its notes. The threshold, which is a model's own, has a column where one seed ran.
pub(super) fn results_table(results: &Results) -> String {
    let categories = results.categories();
    let one_seed = results.seeds().len() == 1;
    let mut out = String::from(
        "<div class=\"scroll\"><table class=\"results\">\n<thead><tr><th scope=\"col\">Category</th>",
    );
    let metrics = Metric::ALL.map(|metric| (metric.label(), metric.explanation()));
    let threshold = [("Threshold", "The image threshold, in raw score units.")];
    let others = [
        ("False rejects", "Good test images rejected at the threshold."),
        ("Missed", "Defective test images accepted at the threshold."),
        ("Time", "Feature extraction and training."),
    ];
    let threshold = threshold.into_iter().filter(|_| one_seed);
    for (label, explanation) in metrics.into_iter().chain(threshold).chain(others) {
        let _ = write!(out, "<th scope=\"col\"><abbr title=\"{explanation}\">{label}</abbr></th>");
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for &category in &categories {
        let rows: Vec<&CategoryResult> = results.of_category(category).collect();
        let _ = write!(out, "<tr><th scope=\"row\">{}</th>", escape(category));
        for metric in Metric::ALL {
            let _ = write!(out, "<td>{}</td>", percent(results.over_seeds(category, metric)));
        }
        if one_seed {
            let _ = write!(out, "<td>{}</td>", score_text(rows.first().and_then(|row| row.image_threshold)));
        }
        let _ = writeln!(
            out,
            "<td>{}</td><td>{}</td><td>{}</td></tr>",
            share(rows.iter().map(|row| (row.false_rejects, row.test_good))),
            share(rows.iter().map(|row| (row.missed, row.test_defective))),
            mean(rows.iter().map(|row| seconds(row))).map_or_else(|| "–".into(), duration)
        );
    }
    out.push_str("</tbody>\n");
    if categories.len() > 1 {
        out.push_str("<tfoot><tr><th scope=\"row\">mean</th>");
        for metric in Metric::ALL {
            let _ = write!(out, "<td>{}</td>", percent(results.overall(metric)));
        }
        let _ = writeln!(out, "<td colspan=\"{}\"></td></tr></tfoot>", 3 + usize::from(one_seed));
    }
    out.push_str("</table></div>\n<p class=\"hint\">Metrics in percent; higher is better.");
    for note in notes(results) {
        let _ = write!(out, "<br>{}", escape(&note));
    }
    out.push_str("</p>\n");
    out
}

/// The results beside the paper's, averages at the foot, with the notes.
pub(super) fn comparison_table(comparison: &Comparison) -> String {
    let header: String =
        comparison.header().iter().map(|name| format!("<th scope=\"col\">{}</th>", escape(name))).collect();
    let part = |tag: &str, rows: &[Row]| -> String {
        let line = |row: &Row| -> String {
            // The mark's empty place lines numbers up in text; here it is only a blank.
            let cells = row.cells().split_off(1);
            let cells: String =
                cells.iter().map(|cell| format!("<td>{}</td>", escape(cell.trim_end()))).collect();
            format!("<tr><th scope=\"row\">{}</th>{cells}</tr>\n", escape(&row.name))
        };
        let lines: String = rows.iter().map(line).collect();
        if lines.is_empty() { lines } else { format!("<{tag}>{lines}</{tag}>\n") }
    };
    let notes: Vec<String> = comparison.notes.iter().map(|note| escape(note)).collect();
    format!(
        "<p>{}</p>\n<div class=\"scroll\"><table class=\"results\">\n<thead><tr>{header}</tr></thead>\n{}{}</table></div>\n\
         <p class=\"hint\">{}</p>\n",
        escape(comparison.title()),
        part("tbody", &comparison.categories),
        part("tfoot", &comparison.averages),
        notes.join("<br>")
    )
}

fn seconds(row: &CategoryResult) -> Option<f64> {
    match (row.extract_seconds, row.train_seconds) {
        (None, None) => None,
        (extract, train) => Some(extract.unwrap_or(0.0) + train.unwrap_or(0.0)),
    }
}

/// The mean over the seeds that have a value.
fn mean(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let known: Vec<f64> = values.flatten().filter(|value| value.is_finite()).collect();
    (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
}

/// `3 of 14`, summed over the seeds that have a count.
fn share(counts: impl Iterator<Item = (Option<usize>, usize)>) -> String {
    let known = counts.filter_map(|(count, of)| Some((count?, of)));
    match known.reduce(|a, b| (a.0 + b.0, a.1 + b.1)) {
        Some((count, of)) => format!("{count} of {of}"),
        None => "–".into(),
    }
}

/// A stretch of time for people.
pub(super) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 99.5 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.1} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

/// Two charts over the epochs: the loss, and the shares of features on their side of the margins.
pub(super) fn training_charts(category: &CategoryReport) -> String {
    if category.training.iter().all(Vec::is_empty) {
        return String::new();
    }
    let lines = |name: &str, tone: Tone, value: fn(&EpochRecord) -> f64| -> Vec<Series> {
        let seeds = category.training.iter();
        seeds
            .map(|epochs| Series {
                name: name.into(),
                tone,
                points: epochs.iter().map(|epoch| (f64::from(epoch.epoch), value(epoch))).collect(),
            })
            .collect()
    };
    let chart = |description: &str, y_label: &str, series: Vec<Series>, y_includes: Vec<f64>| {
        LineChart {
            description: format!("{}: {description}", category.category),
            x_label: "epoch".into(),
            y_label: y_label.into(),
            series,
            y_includes,
            size: [500.0, 250.0],
            ..LineChart::default()
        }
        .render()
    };
    let loss = chart("loss over epochs", "loss", lines("loss", Tone::Primary, |epoch| epoch.loss), vec![0.0]);
    let mut shares = lines("p⁺ good", Tone::Good, |epoch| 100.0 * epoch.p_plus);
    shares.extend(lines("p⁻ noised", Tone::Defect, |epoch| 100.0 * epoch.p_minus));
    let shares = chart(
        "share of features beyond their margin, in percent, over epochs",
        "beyond the margin, %",
        shares,
        vec![0.0, 100.0],
    );
    let seeds = match category.training.len() {
        0 | 1 => String::new(),
        n => format!(" A line a seed, {n} in all."),
    };
    format!(
        "<h3>Training</h3>\n<div class=\"charts\">\n{loss}{shares}</div>\n<p class=\"hint\">p⁺ is the share of good \
         features that score above their margin th⁺, p⁻ that of the same features with noise below th⁻.{seeds}</p>\n"
    )
}

/// Where the scores of each group lie: good images first, then each kind of defect by name.
pub(super) fn score_plot(category: &CategoryReport) -> String {
    if category.scores.is_empty() {
        return String::new();
    }
    let mut groups: Vec<(ImageKind, &str)> = Vec::new();
    for score in &category.scores {
        let group = (score.kind, score.group());
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    groups.sort_by_key(|(kind, name)| (*kind != ImageKind::Good, *name));
    let strip = |(kind, name): (ImageKind, &str)| {
        let members =
            category.scores.iter().filter(|score: &&ImageScore| score.kind == kind && score.group() == name);
        Strip {
            name: name.into(),
            tone: match kind {
                ImageKind::Good => Tone::Good,
                ImageKind::Defective => Tone::Defect,
                ImageKind::Unknown => Tone::Primary,
            },
            values: members.map(|score| f64::from(score.score)).collect(),
        }
    };
    let plot = StripPlot {
        description: format!("{}: image scores of good and defective test images", category.category),
        x_label: "image score (higher is more anomalous)".into(),
        strips: groups.into_iter().map(strip).collect(),
        threshold: category.image_threshold.map(f64::from),
        width: 1020.0,
    };
    format!("<h3>Scores</h3>\n{}", plot.render())
}

/// Names and values as a table; nothing where there are none.
pub(super) fn pairs(heading: &str, pairs: &[(String, String)]) -> String {
    if pairs.is_empty() {
        return String::new();
    }
    let mut out = format!("<h2>{heading}</h2>\n<div class=\"scroll\"><table class=\"pairs\"><tbody>\n");
    for (name, value) in pairs {
        let _ = writeln!(out, "<tr><th scope=\"row\">{}</th><td>{}</td></tr>", escape(name), escape(value));
    }
    out.push_str("</tbody></table></div>\n");
    out
}
