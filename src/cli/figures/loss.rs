//! Figure 7: the loss over the epochs, as mean and range over all models of the run.

use super::Run;
use crate::report::jsonl::read_lines;
use crate::report::svg::{Band, LineChart, Series, Tone};
use crate::report::training_log::{EpochRecord, over_trainings};
use std::path::PathBuf;

/// Draws `figure-7.svg`.
pub(super) fn draw(run: &Run) -> anyhow::Result<Vec<PathBuf>> {
    let mut trainings = Vec::new();
    for row in &run.results.rows {
        let path = run.model_folder(&row.category, row.seed).join("training.jsonl");
        let mut epochs: Vec<EpochRecord> = read_lines(&path)?;
        // The shipped head's; those of calibration heads are no result.
        epochs.retain(|epoch| epoch.head == "final");
        trainings.push(epochs);
    }
    let ranges = over_trainings(&trainings, |epoch| epoch.loss);
    let what = counted(run.results.categories().len(), run.results.seeds().len());
    let several = trainings.len() > 1;
    let mean = Series {
        name: if several { format!("mean of {what}") } else { "loss".to_owned() },
        tone: Tone::Primary,
        points: ranges.iter().map(|range| (f64::from(range.epoch), range.mean)).collect(),
    };
    let band = Band {
        name: "range".to_owned(),
        tone: Tone::Primary,
        points: ranges.iter().map(|range| (f64::from(range.epoch), range.low, range.high)).collect(),
    };
    let mark = run.mark();
    let chart = LineChart {
        description: format!("{}: training loss over the epochs of {what}{mark}", run.name()),
        x_label: format!("epoch{mark}"),
        y_label: "loss".to_owned(),
        series: vec![mean],
        bands: if several { vec![band] } else { Vec::new() },
        y_includes: vec![0.0],
        size: [640.0, 340.0],
    };
    Ok(vec![run.write_chart("figure-7.svg", &chart.render())?])
}

/// `15 categories × 3 seeds`.
fn counted(categories: usize, seeds: usize) -> String {
    let plural =
        |count: usize, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
    let categories = plural(categories, "category", "categories");
    if seeds > 1 { format!("{categories} × {}", plural(seeds, "seed", "seeds")) } else { categories }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_counted_in_words() {
        assert_eq!(
            [counted(1, 1), counted(15, 1), counted(2, 3)],
            ["1 category", "15 categories", "2 categories × 3 seeds"]
        );
    }
}
