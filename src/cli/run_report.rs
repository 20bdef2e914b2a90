//! The end of a run: the table on stdout and `report.html`, put together from what the run folder holds.
//!
//! Everything is read back from files, so that a run that was resumed reports as one that was not.

use super::console::{Console, print, print_json};
use super::run_folder::{DataSource, RunFolder, RunRecord};
use super::{Outcome, comparison};
use crate::report::comparison::Comparison;
use crate::report::html::{self, CategoryReport, GalleryItem, Picture, RunReport};
use crate::report::jsonl::read_lines;
use crate::report::results::Results;
use crate::report::scores::ImageScore;
use crate::report::table::{self, Style};
use crate::report::training_log::EpochRecord;

/// How to read the results of one-class models.
const ONE_CLASS: &str =
    "One-class models: good are the test images of a model's own class, defective those of all others.";

/// Prints the table, writes the page, and says where things are.
pub(super) fn finish(
    folder: &RunFolder,
    record: &RunRecord,
    results: &Results,
    json: bool,
    console: &Console,
) -> anyhow::Result<Outcome> {
    let report = collect(folder, record, results)?;
    html::write(&folder.root().join("report.html"), &report)?;

    if json {
        print_json(&results.rows)?;
    } else {
        let mut text = table::render(results, Style::for_stdout());
        if record.synthetic_data {
            text += "Measured on the built-in synthetic demo set.\n";
        }
        if let DataSource::OneClass { .. } = record.spec.data {
            text += ONE_CLASS;
            text += "\n";
        }
        print(&text)?;
    }
    if record.spec.evaluation.compare_with_paper {
        comparison::tell(folder, results, json, console)?;
    }
    console.say(format_args!("\nreport     {}", folder.root().join("report.html").display()));
    if let Some(row) = results.rows.first() {
        let model =
            folder.model_folder(&row.category, row.seed, &record.spec.seeds).join("model.safetensors");
        console.say(format_args!("next       simplenet predict --model {} IMAGES", model.display()));
    }
    Ok(Outcome::Success)
}

fn collect(folder: &RunFolder, record: &RunRecord, results: &Results) -> anyhow::Result<RunReport> {
    let spec = &record.spec;
    let mut categories = Vec::new();
    for category in results.categories() {
        let mut training = Vec::new();
        for &seed in &spec.seeds {
            let path = folder.model_folder(category, seed, &spec.seeds).join("training.jsonl");
            let mut epochs: Vec<EpochRecord> = read_lines(&path)?;
            // The shipped head's; those of calibration heads stay in the file.
            epochs.retain(|epoch| epoch.head == "final");
            training.push(epochs);
        }
        let first = folder.model_folder(category, spec.seeds[0], &spec.seeds);
        let scores: Vec<ImageScore> = read_lines(&first.join("scores.jsonl"))?;
        let gallery = scores
            .iter()
            .filter_map(|score| {
                let path = folder.root().join(score.overlay.as_ref()?);
                Some(GalleryItem { score: score.clone(), picture: Picture::File(path) })
            })
            .collect();
        let image_threshold = results.of_category(category).next().and_then(|row| row.image_threshold);
        categories.push(CategoryReport {
            category: category.to_owned(),
            training,
            scores,
            image_threshold,
            gallery,
        });
    }
    let title = folder.root().file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(RunReport {
        title,
        data: spec.data.description(),
        backbone: record.backbone_description.clone(),
        device: record.device.clone(),
        preset: serde_json::to_value(spec.settings.preset)?.as_str().unwrap_or_default().to_owned(),
        finished: jiff::ZonedDateTime::now().strftime("%Y-%m-%d %H:%M").to_string(),
        synthetic: record.synthetic_data,
        selected_on_test: record.selected_on_test,
        results: results.clone(),
        // Where there is nothing to compare, the command says why.
        comparison: spec
            .evaluation
            .compare_with_paper
            .then(|| Comparison::with_paper(results).ok())
            .flatten(),
        categories,
        settings: flatten(&serde_json::to_value(&spec.settings)?),
        environment: vec![
            ("simplenet".to_owned(), record.version.clone()),
            ("compiler".to_owned(), record.compiler.clone()),
            ("started".to_owned(), record.started.clone()),
            ("device".to_owned(), record.device.clone()),
            ("backbone".to_owned(), record.backbone_description.clone()),
            ("backbone SHA-256".to_owned(), record.backbone.sha256.clone()),
        ],
        warnings: match spec.data {
            DataSource::OneClass { .. } => vec![ONE_CLASS.to_owned()],
            _ => Vec::new(),
        },
        command: record.command.join(" "),
    })
}

/// Nested settings as `outer.inner` and value.
fn flatten(value: &serde_json::Value) -> Vec<(String, String)> {
    fn walk(prefix: &str, value: &serde_json::Value, into: &mut Vec<(String, String)>) {
        match value {
            serde_json::Value::Object(map) => {
                for (key, value) in map {
                    let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                    walk(&name, value, into);
                }
            }
            serde_json::Value::String(text) => into.push((prefix.to_owned(), text.clone())),
            other => into.push((prefix.to_owned(), other.to_string())),
        }
    }
    let mut list = Vec::new();
    walk("", value, &mut list);
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_settings_become_dotted_names() {
        let value = serde_json::json!({"a": {"b": 1, "c": "x"}, "d": [2, 3]});
        let expected = [("a.b", "1"), ("a.c", "x"), ("d", "[2,3]")];
        assert_eq!(flatten(&value), expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }
}
