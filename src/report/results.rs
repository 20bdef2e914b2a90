//! `results.csv` and `results.json`: what each category reached.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::jsonl::{ReadError, read_text};
use super::metric::{MeanStd, Metric};
use crate::files::{WriteError, write_whole};

/// What one model (a category under one seed) reached. Metrics lie in 0..1; one that does not exist is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CategoryResult {
    /// The category.
    pub category: String,
    /// The seed it was trained under.
    pub seed: u64,
    /// Area under the ROC curve of image scores.
    pub i_auroc: Option<f64>,
    /// Area under the ROC curve of pixel scores.
    pub p_auroc: Option<f64>,
    /// Area under the per-region overlap curve up to a false positive rate of 0.3.
    pub aupro: Option<f64>,
    /// Average precision of image scores.
    pub i_ap: Option<f64>,
    /// The best F1 on image scores.
    pub i_f1max: Option<f64>,
    /// Average precision of pixel scores.
    pub p_ap: Option<f64>,
    /// The best F1 on pixel scores.
    pub p_f1max: Option<f64>,
    /// Good images the head was trained on.
    pub train_images: usize,
    /// Good images held out of training, which the thresholds come from.
    pub held_out_images: usize,
    /// Good images in the test set.
    pub test_good: usize,
    /// Defective images in the test set.
    pub test_defective: usize,
    /// Images of any set that could not be read and were left out.
    pub skipped: usize,
    /// Defective test images without a mask, left out of pixel metrics.
    pub without_mask: usize,
    /// The threshold on the image score, in raw units.
    pub image_threshold: Option<f32>,
    /// The threshold on the smoothed map, in raw units.
    pub map_threshold: Option<f32>,
    /// Good test images rejected at `image_threshold`.
    pub false_rejects: Option<usize>,
    /// Defective test images accepted at `image_threshold`.
    pub missed: Option<usize>,
    /// The mean share of a test image's pixels that lie outside the crop and were not inspected, in 0..1.
    pub not_inspected: Option<f64>,
    /// Epochs trained.
    pub epochs: u32,
    /// The loss of the last epoch.
    pub final_loss: Option<f64>,
    /// Wall-clock seconds of feature extraction.
    pub extract_seconds: Option<f64>,
    /// Wall-clock seconds of training, extraction not included.
    pub train_seconds: Option<f64>,
    /// Wall-clock seconds of scoring and measuring the test set.
    pub test_seconds: Option<f64>,
    /// Whether the epoch was picked on the test set (`--select test`), which inflates every metric above.
    pub selected_on_test: bool,
    /// How many images of each class were taken at most, where not all were (`--subset`): every metric above is then that
    /// of another, smaller data set.
    pub subset: Option<usize>,
}

/// A CSV column that holds a value of one result; aggregates leave it empty.
type Column = (&'static str, fn(&CategoryResult) -> String);

const COLUMNS: [Column; 18] = [
    ("train_images", |r| r.train_images.to_string()),
    ("held_out_images", |r| r.held_out_images.to_string()),
    ("test_good", |r| r.test_good.to_string()),
    ("test_defective", |r| r.test_defective.to_string()),
    ("skipped", |r| r.skipped.to_string()),
    ("without_mask", |r| r.without_mask.to_string()),
    ("image_threshold", |r| cell(r.image_threshold.filter(|x| x.is_finite()))),
    ("map_threshold", |r| cell(r.map_threshold.filter(|x| x.is_finite()))),
    ("false_rejects", |r| cell(r.false_rejects)),
    ("missed", |r| cell(r.missed)),
    ("not_inspected", |r| number(r.not_inspected)),
    ("epochs", |r| r.epochs.to_string()),
    ("final_loss", |r| number(r.final_loss)),
    ("extract_seconds", |r| number(r.extract_seconds)),
    ("train_seconds", |r| number(r.train_seconds)),
    ("test_seconds", |r| number(r.test_seconds)),
    ("selected_on_test", |r| r.selected_on_test.to_string()),
    ("subset", |r| cell(r.subset)),
];

fn cell(value: Option<impl Display>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

pub(super) fn number(value: Option<f64>) -> String {
    cell(value.filter(|value| value.is_finite()))
}

/// The results of a run, in the order they were made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Results {
    /// One entry a category and seed.
    pub rows: Vec<CategoryResult>,
}

/// `results.json` as it is written.
#[derive(Serialize)]
struct ResultsFile<'a> {
    selected_on_test: bool,
    results: &'a [CategoryResult],
    over_seeds: BTreeMap<&'a str, BTreeMap<&'static str, Option<MeanStd>>>,
    mean: BTreeMap<&'static str, Option<MeanStd>>,
}

/// The part of `results.json` that the rest follows from.
#[derive(Deserialize)]
struct ResultsRows {
    results: Vec<CategoryResult>,
}

impl Results {
    /// The categories, in order of their first result.
    pub fn categories(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !names.contains(&row.category.as_str()) {
                names.push(&row.category);
            }
        }
        names
    }

    /// The seeds, in order of their first result.
    pub fn seeds(&self) -> Vec<u64> {
        let mut seeds = Vec::new();
        for row in &self.rows {
            if !seeds.contains(&row.seed) {
                seeds.push(row.seed);
            }
        }
        seeds
    }

    /// The results of one category, one a seed.
    pub fn of_category<'a>(&'a self, category: &'a str) -> impl Iterator<Item = &'a CategoryResult> {
        self.rows.iter().filter(move |row| row.category == category)
    }

    /// Whether any model was picked on the test set.
    pub fn selected_on_test(&self) -> bool {
        self.rows.iter().any(|row| row.selected_on_test)
    }

    /// A category's metric over the seeds that have it.
    pub fn over_seeds(&self, category: &str, metric: Metric) -> Option<MeanStd> {
        let values: Vec<f64> = self.of_category(category).filter_map(|row| metric.of(row)).collect();
        MeanStd::of(&values)
    }

    /// The mean of a metric over the categories that have it, under one seed.
    pub fn over_categories(&self, seed: u64, metric: Metric) -> Option<MeanStd> {
        let rows = self.rows.iter().filter(|row| row.seed == seed);
        let values: Vec<f64> = rows.filter_map(|row| metric.of(row)).collect();
        MeanStd::of(&values)
    }

    /// The figure a paper would print: the mean over categories of each category's mean over its seeds.
    ///
    /// `std` tells how that mean scatters from seed to seed; it is none unless at least two seeds have the metric
    /// in the same number of categories as a whole run has, for means over different categories do not compare.
    /// `count` is the number of categories.
    pub fn overall(&self, metric: Metric) -> Option<MeanStd> {
        let categories = self.categories();
        let means: Vec<f64> =
            categories.iter().filter_map(|name| Some(self.over_seeds(name, metric)?.mean)).collect();
        let count = means.len();
        let whole_seeds = self.seeds().into_iter().filter_map(|seed| self.over_categories(seed, metric));
        let by_seed: Vec<f64> =
            whole_seeds.filter(|mean| mean.count == count).map(|mean| mean.mean).collect();
        let std = MeanStd::of(&by_seed).and_then(|stats| stats.std);
        MeanStd::of(&means).map(|stats| MeanStd { std, count, ..stats })
    }

    /// Writes `results.csv`.
    ///
    /// One row a category and seed; then rows whose `category` is `mean` (over categories), one a seed. Where
    /// several seeds ran, rows follow whose `seed` is `mean` or `std` (over seeds): a pair a category, and at the
    /// end the pair for the mean over categories. Metrics are in 0..1 and the shortest text that reads back to the
    /// same `f64`; what does not exist is an empty cell, and so is all but the metrics in aggregates, which are only marked
    /// where a model was selected on the test set.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_csv(&self, path: &Path) -> Result<(), WriteError> {
        write_whole(path, |out| {
            let mut csv = csv::Writer::from_writer(out);
            let columns = COLUMNS.iter().map(|(name, _)| *name);
            csv.write_record(
                ["category"].into_iter().chain(Metric::ALL.map(Metric::key)).chain(["seed"]).chain(columns),
            )?;
            for row in &self.rows {
                let metrics = Metric::ALL.map(|metric| number(metric.of(row)));
                let others = COLUMNS.iter().map(|(_, value)| value(row));
                let seed = row.seed.to_string();
                csv.write_record(
                    [row.category.clone()].into_iter().chain(metrics).chain([seed]).chain(others),
                )?;
            }
            for (category, seed, metrics) in self.aggregates() {
                let selected = self.selected_on_test();
                let others = COLUMNS.iter().map(|(name, _)| match *name {
                    "selected_on_test" if selected => selected.to_string(),
                    _ => String::new(),
                });
                let metrics = metrics.map(number);
                csv.write_record([category].into_iter().chain(metrics).chain([seed]).chain(others))?;
            }
            csv.flush()
        })
    }

    /// The rows of `results.csv` that hold no single result: category, seed, metrics.
    fn aggregates(&self) -> Vec<(String, String, [Option<f64>; 7])> {
        let seeds = self.seeds();
        let mut rows = Vec::new();
        for &seed in &seeds {
            let mean = |metric| self.over_categories(seed, metric).map(|stats| stats.mean);
            rows.push(("mean".to_owned(), seed.to_string(), Metric::ALL.map(mean)));
        }
        if seeds.len() > 1 {
            let mut pair = |name: &str, stats: [Option<MeanStd>; 7]| {
                rows.push((name.to_owned(), "mean".to_owned(), stats.map(|s| s.map(|s| s.mean))));
                rows.push((name.to_owned(), "std".to_owned(), stats.map(|s| s.and_then(|s| s.std))));
            };
            for category in self.categories() {
                pair(category, Metric::ALL.map(|metric| self.over_seeds(category, metric)));
            }
            pair("mean", Metric::ALL.map(|metric| self.overall(metric)));
        }
        rows
    }

    /// Writes `results.json`: `results` (every field of every result), `over_seeds` (by category and metric),
    /// `mean` (by metric, over categories), `selected_on_test`. What does not exist is `null`.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_json(&self, path: &Path) -> Result<(), WriteError> {
        let by_metric = |of: &dyn Fn(Metric) -> Option<MeanStd>| {
            Metric::ALL.into_iter().map(|metric| (metric.key(), of(metric))).collect()
        };
        let categories = self.categories().into_iter();
        let file = ResultsFile {
            selected_on_test: self.selected_on_test(),
            results: &self.rows,
            over_seeds: categories.map(|name| (name, by_metric(&|m| self.over_seeds(name, m)))).collect(),
            mean: by_metric(&|metric| self.overall(metric)),
        };
        write_whole(path, |out| {
            serde_json::to_writer_pretty(&mut *out, &file)?;
            out.write_all(b"\n")
        })
    }

    /// Reads `results.json`.
    ///
    /// # Errors
    /// If the file cannot be read or is not such a file.
    pub fn read_json(path: &Path) -> Result<Self, ReadError> {
        let file: ResultsRows = serde_json::from_str(&read_text(path)?)
            .map_err(|source| ReadError::Json { path: path.to_owned(), line: source.line(), source })?;
        Ok(Self { rows: file.results })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(category: &str, seed: u64, i_auroc: f64, p_auroc: Option<f64>) -> CategoryResult {
        CategoryResult {
            category: category.into(),
            seed,
            i_auroc: Some(i_auroc),
            p_auroc,
            ..Default::default()
        }
    }

    fn written(results: &Results) -> Vec<Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.csv");
        results.write_csv(&path).unwrap();
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_path(path).unwrap();
        reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect()
    }

    #[test]
    fn one_seed_gives_a_row_a_category_and_a_mean_row() {
        let mut first = result("nut, large", 7, 1.0, Some(0.1 + 0.2));
        first.image_threshold = Some(0.3);
        let rows = written(&Results { rows: vec![first, result("cookie", 7, 0.75, None)] });
        assert_eq!(
            rows[0][..9],
            ["category", "i_auroc", "p_auroc", "aupro", "i_ap", "i_f1max", "p_ap", "p_f1max", "seed"]
        );
        assert_eq!(rows[1][..4], ["nut, large", "1", "0.30000000000000004", ""]);
        assert!(rows[1..].iter().all(|row| row[8] == "7"));
        assert_eq!(rows[2][..4], ["cookie", "0.75", "", ""]);
        assert_eq!(rows[3][..4], ["mean", "0.875", "0.30000000000000004", ""]);
        let threshold = rows[0].iter().position(|name| name == "image_threshold").unwrap();
        assert_eq!([&rows[1][threshold], &rows[2][threshold]], ["0.3", ""]);
        assert_eq!(rows.len(), 4);
    }

    #[test]
    fn several_seeds_add_rows_of_means_and_deviations() {
        let rows = vec![
            result("a", 0, 0.5, None),
            result("b", 0, 1.0, Some(f64::NAN)),
            result("a", 1, 0.75, None),
            result("b", 1, 1.0, Some(0.5)),
        ];
        let rows = written(&Results { rows });
        let keys: Vec<_> = rows[5..].iter().map(|row| (row[0].as_str(), row[8].as_str())).collect();
        assert_eq!(
            keys,
            [
                ("mean", "0"),
                ("mean", "1"),
                ("a", "mean"),
                ("a", "std"),
                ("b", "mean"),
                ("b", "std"),
                ("mean", "mean"),
                ("mean", "std")
            ]
        );
        let column: Vec<_> = rows[5..].iter().map(|row| row[1].as_str()).collect();
        let deviation = (0.125_f64 * 0.125 * 2.0).sqrt().to_string();
        let deviation_of_mean = (0.0625_f64 * 0.0625 * 2.0).sqrt().to_string();
        assert_eq!(
            column,
            ["0.75", "0.875", "0.625", deviation.as_str(), "1", "0", "0.8125", deviation_of_mean.as_str()]
        );
        let pixel: Vec<_> = rows[1..].iter().map(|row| row[2].as_str()).collect();
        assert_eq!(pixel, ["", "", "", "0.5", "", "0.5", "", "", "0.5", "", "0.5", ""]);
    }

    #[test]
    fn json_comes_back_and_says_when_the_test_set_was_used_to_select() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.json");
        let mut honest = result("a", 3, 1.0 / 3.0, None);
        honest.false_rejects = Some(2);
        honest.map_threshold = Some(0.1);
        let selected = CategoryResult { selected_on_test: true, ..result("b", 3, 0.9, Some(0.8)) };
        let results = Results { rows: vec![honest, selected] };
        results.write_json(&path).unwrap();
        assert_eq!(Results::read_json(&path).unwrap(), results);
        let json: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(json["selected_on_test"], true);
        assert_eq!(json["results"][0]["p_auroc"], serde_json::Value::Null);
        assert_eq!(json["over_seeds"]["a"]["p_auroc"], serde_json::Value::Null);
        assert_eq!(json["mean"]["p_auroc"]["mean"], 0.8);
        assert_eq!(json["mean"]["p_auroc"]["count"], 1);
        std::fs::write(&path, "{}").unwrap();
        assert!(Results::read_json(&path).unwrap_err().to_string().contains("results.json, line 1"));
    }

    #[test]
    fn an_empty_run_writes_a_header_alone() {
        assert_eq!(written(&Results::default()).len(), 1);
    }
}
