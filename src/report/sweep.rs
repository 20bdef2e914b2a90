//! What a sweep found: `sweep.csv`, `sweep.md`, `sweep.svg`.

mod plot;

use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

use super::comparison::{self, Pair};
use super::markdown::{self, Align};
use super::metric::{MeanStd, Metric};
use super::published::Published;
use super::results::{Results, number};
use super::svg::standalone;
use super::table::{self, percent};
use crate::files::{WriteError, write_whole};

/// A point of a sweep and what its models reached.
#[derive(Clone, Debug, Default)]
pub struct SweepRow {
    /// What it is called.
    pub label: String,
    /// The settings that make it, by key.
    pub values: Vec<(String, String)>,
    /// A row a category and seed.
    pub results: Results,
    /// What the paper reports for this setting on MVTec AD, where the sweep repeats one of its tables.
    pub published: Option<&'static Published>,
    /// Why it was not trained, if it was not.
    pub left_out: Option<String>,
}

/// A setting that varies.
#[derive(Clone, Debug)]
pub struct AxisValues {
    /// Its key.
    pub key: String,
    /// Its values, as typed.
    pub values: Vec<String>,
    /// Its values as numbers, if all are.
    pub numbers: Option<Vec<f64>>,
}

/// A whole sweep.
#[derive(Clone, Debug)]
pub struct SweepReport {
    /// What varies, in words.
    pub title: String,
    /// What varies, one by one; empty where points are no grid.
    pub axes: Vec<AxisValues>,
    /// The points.
    pub rows: Vec<SweepRow>,
    /// Whether the images are the program's own synthetic ones.
    pub synthetic: bool,
}

/// A point in `--json`.
#[derive(Debug, Serialize)]
pub struct SummaryRow<'a> {
    label: &'a str,
    values: BTreeMap<&'a str, &'a str>,
    /// Means over categories, their deviation over seeds.
    metrics: BTreeMap<&'static str, Option<MeanStd>>,
    /// Models that were trained.
    models: usize,
    selected_on_test: bool,
    left_out: Option<&'a str>,
}

/// Metrics of tables and plots; `sweep.csv` has all.
const SHOWN: [Metric; 3] = [Metric::IAuroc, Metric::PAuroc, Metric::Aupro];
/// Metrics the paper has.
const COMPARED: [Metric; 2] = [Metric::IAuroc, Metric::PAuroc];

impl SweepReport {
    /// Writes the three files.
    ///
    /// # Errors
    /// If one cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), WriteError> {
        self.write_csv(&folder.join("sweep.csv"))?;
        let text = self.markdown();
        write_whole(&folder.join("sweep.md"), |out| out.write_all(text.as_bytes()))?;
        let picture = standalone(&self.plot());
        write_whole(&folder.join("sweep.svg"), |out| out.write_all(picture.as_bytes()))
    }

    /// A row a model: the point, a column for each setting that varies, category, seed, metrics in 0..1, and what the
    /// training took. Settings that a point leaves as they are, and metrics that do not exist, are empty cells.
    fn write_csv(&self, path: &Path) -> Result<(), WriteError> {
        let keys = self.keys();
        write_whole(path, |out| {
            let mut csv = csv::Writer::from_writer(out);
            let training = ["epochs", "final_loss", "train_seconds", "selected_on_test"];
            let columns = ["point"].into_iter().chain(keys.iter().copied()).chain(["category", "seed"]);
            csv.write_record(columns.chain(Metric::ALL.map(Metric::key)).chain(training))?;
            for row in &self.rows {
                for result in &row.results.rows {
                    let mut cells = vec![row.label.clone()];
                    cells.extend(keys.iter().map(|key| row.value(key).unwrap_or_default().to_owned()));
                    cells.extend([result.category.clone(), result.seed.to_string()]);
                    cells.extend(Metric::ALL.map(|metric| number(metric.of(result))));
                    cells.push(result.epochs.to_string());
                    cells.extend([number(result.final_loss), number(result.train_seconds)]);
                    cells.push(result.selected_on_test.to_string());
                    csv.write_record(cells)?;
                }
            }
            csv.flush()
        })
    }

    /// Every key that a point sets, in order of appearance.
    fn keys(&self) -> Vec<&str> {
        let mut keys = Vec::new();
        for (key, _) in self.rows.iter().flat_map(|row| &row.values) {
            if !keys.contains(&key.as_str()) {
                keys.push(key);
            }
        }
        keys
    }

    /// The tables as markdown: means over categories, then each category, then what must be known to read them.
    pub fn markdown(&self) -> String {
        let mut out = format!("# {}\n\n", self.title);
        out += &self.overall();
        let categories = self.categories();
        if categories.len() > 1 {
            for metric in COMPARED {
                out += &format!("\n## {} by category\n\n", metric.label());
                out += &self.by_category(metric, &categories);
            }
        }
        let notes = self.notes(&categories);
        if !notes.is_empty() {
            out.push('\n');
        }
        for note in notes {
            out += &format!("- {note}\n");
        }
        out
    }

    fn overall(&self) -> String {
        // The paper's columns stand beside ours; what the two differ by only where both are of the same images.
        let compares = self.rows.iter().any(|row| row.published.is_some());
        let (compares, differs) = (compares, compares && self.covers_mvtec_ad());
        let mut columns = vec![("setting", Align::Left)];
        for metric in SHOWN {
            columns.push((metric.label(), Align::Right));
            if compares && COMPARED.contains(&metric) {
                columns.push(("paper", Align::Right));
                columns.extend(differs.then_some(("difference", Align::Right)));
            }
        }
        columns.push(("models", Align::Right));
        let rows = self.rows.iter().map(|row| {
            let mut cells = vec![row.marked_label()];
            for metric in SHOWN {
                let pair = row.pair(metric);
                let [ours, paper, difference] = pair.cells();
                cells.push(if row.left_out.is_some() { "not run".to_owned() } else { ours });
                if compares && COMPARED.contains(&metric) {
                    cells.push(paper);
                    cells.extend(differs.then_some(difference));
                }
            }
            cells.push(row.results.rows.len().to_string());
            cells
        });
        markdown::table(&columns, &rows.collect::<Vec<_>>())
    }

    /// Whether what was trained was trained on MVTec AD as the paper has it, as far as names tell.
    fn covers_mvtec_ad(&self) -> bool {
        self.rows
            .iter()
            .filter(|row| row.left_out.is_none())
            .all(|row| comparison::covers_mvtec_ad(&row.results))
    }

    fn by_category(&self, metric: Metric, categories: &[String]) -> String {
        let mut columns = vec![("setting", Align::Left)];
        columns.extend(categories.iter().map(|name| (name.as_str(), Align::Right)));
        let rows = self.rows.iter().filter(|row| row.left_out.is_none()).map(|row| {
            let mut cells = vec![row.marked_label()];
            cells.extend(categories.iter().map(|name| percent(row.results.over_seeds(name, metric))));
            cells
        });
        markdown::table(&columns, &rows.collect::<Vec<_>>())
    }

    fn categories(&self) -> Vec<String> {
        let rows = self.rows.iter().find(|row| !row.results.rows.is_empty());
        rows.map_or_else(Vec::new, |row| row.results.categories().iter().map(|&n| n.to_owned()).collect())
    }

    fn notes(&self, categories: &[String]) -> Vec<String> {
        let mut notes = Vec::new();
        if self.synthetic {
            notes.push("Measured on the built-in synthetic demo set.".to_owned());
        }
        let seeds = self.rows.iter().map(|row| row.results.seeds().len()).max().unwrap_or(0);
        notes.push(match (categories.len(), seeds) {
            (1, 1) => "One category, one seed: nothing is known of how figures scatter.".to_owned(),
            (1, seeds) => format!("Mean ± sample standard deviation over {seeds} seeds, in percent."),
            (categories, 1) => {
                format!("Means over {categories} categories, in percent; one seed: nothing is known of their scatter.")
            }
            (categories, seeds) => format!(
                "Means over {categories} categories ± the sample standard deviation of that mean over {seeds} seeds, in \
                 percent."
            ),
        });
        notes.extend(self.notes_on_the_paper());
        for row in &self.rows {
            if let Some(reason) = &row.left_out {
                notes.push(format!("{} was not run: {reason}", row.label));
            }
        }
        // What every table of results says: selection on the test set, subsets, absent metrics, images left out.
        for note in
            self.rows.iter().filter(|row| row.left_out.is_none()).flat_map(|row| table::notes(&row.results))
        {
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
        notes
    }

    /// What must be known to set the paper's figures beside these.
    fn notes_on_the_paper(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.rows.iter().all(|row| row.published.is_none()) {
            return notes;
        }
        let paper =
            "The paper's figures are of MVTec AD's 15 categories, with the best epoch picked on the test set";
        if self.covers_mvtec_ad() {
            notes.push(format!("{paper}; categories are matched by name."));
            let pairs = self.rows.iter().flat_map(|row| COMPARED.map(|metric| row.pair(metric)));
            notes.extend(comparison::marked(pairs).map(|note| markdown::escape(&note) + "."));
        } else {
            notes.push(format!("{paper}; they compare with nothing else, and no differences are given."));
        }
        // Rows of one caveat together.
        let mut caveats: Vec<(&str, Vec<&str>)> = Vec::new();
        for row in &self.rows {
            let Some(note) = row.published.map(|row| row.note.as_str()).filter(|note| !note.is_empty())
            else {
                continue;
            };
            match caveats.iter_mut().find(|(known, _)| *known == note) {
                Some((_, labels)) => labels.push(&row.label),
                None => caveats.push((note, vec![&row.label])),
            }
        }
        notes.extend(
            caveats.into_iter().map(|(note, labels)| format!("The paper's {}: {note}.", labels.join(", "))),
        );
        notes
    }

    /// What `--json` prints: a row a point.
    pub fn summary(&self) -> Vec<SummaryRow<'_>> {
        let summary =
            |row: &'_ SweepRow| Metric::ALL.map(|metric| (metric.key(), row.results.overall(metric)));
        self.rows
            .iter()
            .map(|row| SummaryRow {
                label: &row.label,
                values: row.values.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
                metrics: summary(row).into_iter().collect(),
                models: row.results.rows.len(),
                selected_on_test: row.results.selected_on_test(),
                left_out: row.left_out.as_deref(),
            })
            .collect()
    }
}

impl SweepRow {
    /// Its label as tables print it: beside points that were not, one that was picked on the test set must stand out.
    fn marked_label(&self) -> String {
        let mark = if self.results.selected_on_test() { " (SELECTED ON THE TEST SET)" } else { "" };
        format!("{}{mark}", self.label)
    }

    /// Ours and the paper's.
    fn pair(&self, metric: Metric) -> Pair {
        let paper = self.published.filter(|_| COMPARED.contains(&metric));
        Pair {
            ours: self.results.overall(metric),
            paper: paper.and_then(|row| if metric.is_pixel() { row.p_auroc } else { row.i_auroc }),
        }
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.values.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::report::published::{self, Table};
    use crate::report::results::CategoryResult;

    fn row(label: &str, value: (&str, &str), scores: &[(&str, u64, f64)]) -> SweepRow {
        let results = scores.iter().map(|&(category, seed, i_auroc)| CategoryResult {
            category: category.to_owned(),
            seed,
            i_auroc: Some(i_auroc),
            p_auroc: Some(i_auroc - 0.25),
            ..CategoryResult::default()
        });
        SweepRow {
            label: label.to_owned(),
            values: vec![(value.0.to_owned(), value.1.to_owned())],
            results: Results { rows: results.collect() },
            ..SweepRow::default()
        }
    }

    /// Three points of one axis, the last left out.
    pub(in crate::report::sweep) fn report() -> SweepReport {
        let mut rows = vec![
            row(
                "p=1",
                ("p", "1"),
                &[("nut", 0, 0.5), ("nut", 1, 0.75), ("cookie", 0, 1.0), ("cookie", 1, 1.0)],
            ),
            row(
                "p=3",
                ("p", "3"),
                &[("nut", 0, 1.0), ("nut", 1, 1.0), ("cookie", 0, 1.0), ("cookie", 1, 1.0)],
            ),
            row("p=5", ("p", "5"), &[]),
        ];
        rows[0].published = published::find(Table::Levels, "mean", "levels 1");
        rows[2].left_out = Some("its weights are not installed".to_owned());
        let values: Vec<String> = ["1", "3", "5"].map(str::to_owned).into();
        let axis = AxisValues { key: "p".into(), values, numbers: Some(vec![1.0, 3.0, 5.0]) };
        SweepReport { title: "Side | of it".into(), axes: vec![axis], rows, synthetic: false }
    }

    #[test]
    fn tables_hold_means_with_their_scatter_and_say_what_is_missing() {
        let text = report().markdown();
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| p=")).collect();
        // Means over categories are 0.75 and 0.875 under the two seeds: 81.25 ± 8.84. The paper's Table 2 has 93.0 and 94.2.
        let cells: Vec<&str> = rows[0].split('|').map(str::trim).collect();
        assert_eq!(cells[1..8], ["p=1", "81.2 ± 8.8", "93.0", "56.2 ± 8.8", "94.2", "–", "4"]);
        assert!(text.contains("- The paper's p=1: level marks inferred from row order."), "{text}");
        assert!(text.contains("no differences are given") && !text.contains("| difference"), "{text}");
        assert!(rows[1].contains("100.0 ± 0.0") && rows[2].contains("not run"), "{text}");
        assert!(text.contains("p=5 was not run: its weights are not installed"), "{text}");
        assert!(text.contains("with the best epoch picked on the test set"), "{text}");
        // By category: 0.625 ± 0.177 over the seeds of nut.
        assert!(text.contains("## I-AUROC by category") && text.contains("62.5 ± 17.7"), "{text}");
    }

    #[test]
    fn points_that_were_picked_on_the_test_set_stand_out() {
        let mut report = report();
        assert!(!report.markdown().contains("SELECTED") && !report.plot().contains("SELECTED"));
        report.rows[1].results.rows[0].selected_on_test = true;
        let text = report.markdown();
        // In the table of means, and in those of categories.
        assert_eq!(text.matches("| p=3 (SELECTED ON THE TEST SET) |").count(), 3, "{text}");
        assert!(text.contains("| p=1 ") && !text.contains("p=1 (SELECTED"), "{text}");
        assert!(text.contains("SELECTED ON THE TEST SET: the epoch was picked"), "{text}");
        let mark = "I-AUROC, IN PART SELECTED ON THE TEST SET";
        assert!(report.plot().contains(mark) && report.plot().contains("P-AUROC, IN PART"));
        report.rows[0].results.rows[0].selected_on_test = true;
        assert!(report.plot().contains("I-AUROC, SELECTED ON THE TEST SET"));
    }

    #[test]
    fn over_all_of_mvtec_ad_differences_from_the_paper_are_given_and_marked() {
        let names: Vec<&str> = published::TEXTURES.into_iter().chain(published::OBJECTS).collect();
        let scores: Vec<_> = names.iter().map(|&name| (name, 0, 1.0)).collect();
        let mut all = report();
        all.rows = vec![row("levels=1", ("levels", "1"), &scores)];
        all.rows[0].published = published::find(Table::Levels, "mean", "levels 1");
        let text = all.markdown();
        let line = text.lines().find(|line| line.starts_with("| levels=1")).unwrap();
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        // 100 − 93.0 and 75 − 94.2.
        assert_eq!(cells[2..8], ["100.0", "93.0", "+7.0\\*", "75.0", "94.2", "−19.2\\*"], "{text}");
        assert!(text.contains("\\* 2 figures differ from the paper's by more than 0.5 points"), "{text}");
        // One category fewer is another average.
        all.rows[0].results.rows.pop();
        assert!(!all.markdown().contains("difference |"), "{}", all.markdown());
    }

    #[test]
    fn every_model_has_a_row_in_the_csv() {
        let folder = tempfile::tempdir().unwrap();
        let mut diverged = report();
        diverged.rows[0].results.rows[0].final_loss = Some(f64::NAN);
        diverged.write(folder.path()).unwrap();
        let text = std::fs::read_to_string(folder.path().join("sweep.csv")).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("point,p,category,seed,i_auroc,p_auroc,aupro,"), "{}", lines[0]);
        assert_eq!(lines.len(), 1 + 8);
        assert!(lines[2].starts_with("p=1,1,nut,1,0.75,0.5,,"), "{}", lines[2]);
        // As in `results.csv`, and as it reads after a resumption: what is no number is empty.
        assert!(lines[1].ends_with(",0,,,false"), "{}", lines[1]);
        assert!(folder.path().join("sweep.md").exists());
    }
}
