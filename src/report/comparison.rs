//! A run's results beside those of the paper: of its Table 1 on MVTec AD, or of its Table 5 on CIFAR-10.

use std::fmt::Write as _;

use super::markdown::{self, Align};
use super::metric::{MeanStd, Metric};
use super::published::{self, OBJECTS, SIMPLENET, TEXTURES, Table};
use super::results::Results;
use super::table::{ABSENT, Style, clean, grid, percent};
use crate::data::CIFAR10_CLASSES;

/// A difference of more than so many points of percent is marked.
///
/// The paper prints one decimal of one run, and categories that are nearly solved differ by a few tenths from seed to
/// seed. Half a point is beyond both, for an average all the more; it is no test of significance.
pub const TOLERANCE: f64 = 0.5;

/// What stands behind a difference beyond [`TOLERANCE`].
const MARK: char = '*';

const COLUMNS: [(&str, Align); 7] = [
    ("", Align::Left),
    ("I-AUROC", Align::Right),
    ("paper", Align::Right),
    ("difference", Align::Right),
    ("P-AUROC", Align::Right),
    ("paper", Align::Right),
    ("difference", Align::Right),
];

/// The metrics that the paper reports.
const METRICS: [Metric; 2] = [Metric::IAuroc, Metric::PAuroc];

/// One metric of one row, ours and the paper's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// Ours over seeds, in 0..1; for an average only where every category of the group has the metric.
    pub ours: Option<MeanStd>,
    /// The paper's, in percent as printed.
    pub paper: Option<f64>,
}

impl Pair {
    /// Ours minus the paper's in points of percent, of the figures as they are printed: with one decimal.
    pub fn difference(&self) -> Option<f64> {
        // By the text itself: a tie may be rounded another way in binary.
        let ours: f64 = format!("{:.1}", 100.0 * self.ours?.mean).parse().ok()?;
        Some(ours - self.paper?)
    }

    /// Whether the difference is larger than [`TOLERANCE`].
    pub fn is_beyond_tolerance(&self) -> bool {
        // 99.5 − 99.0 is a rounding error more than a half.
        self.difference().is_some_and(|difference| difference.abs() > TOLERANCE + 1e-9)
    }

    /// Ours, the paper's and the difference as text; the place of the mark is kept free so that numbers line up.
    pub(super) fn cells(&self) -> [String; 3] {
        let paper = self.paper.map_or_else(|| ABSENT.to_owned(), |value| format!("{value:.1}"));
        let difference = self.difference().map_or_else(
            || ABSENT.to_owned(),
            |value| {
                let mark = if self.is_beyond_tolerance() { MARK } else { ' ' };
                let sign = match value {
                    v if v.abs() < 0.05 => "",
                    v if v < 0.0 => "−",
                    _ => "+",
                };
                format!("{sign}{:.1}{mark}", value.abs())
            },
        );
        [percent(self.ours), paper, difference]
    }
}

/// Whether these are the results of all categories of MVTec AD and no others, as far as names tell, with both metrics that
/// the paper reports.
pub fn covers_mvtec_ad(results: &Results) -> bool {
    let present = results.categories();
    let all = || TEXTURES.iter().chain(&OBJECTS);
    present.len() == all().count()
        && all().all(|name| present.contains(name))
        && METRICS
            .iter()
            .all(|&metric| results.overall(metric).is_some_and(|stats| stats.count == present.len()))
}

/// A category or an average.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The category, or which average.
    pub name: String,
    /// I-AUROC and P-AUROC.
    pub pairs: [Pair; 2],
}

/// The results of a run beside the paper's.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The paper's table.
    pub table: Table,
    /// A row a category that both have, in the paper's order.
    pub categories: Vec<Row>,
    /// Averages of textures, objects and all fifteen, as far as there is anything to average.
    pub averages: Vec<Row>,
    /// What must be known to read the figures, a sentence each.
    pub notes: Vec<String>,
}

impl Comparison {
    /// Compares with the paper's SimpleNet: category by category of MVTec AD as they are named, or the mean of CIFAR-10's
    /// classes.
    ///
    /// # Errors
    /// [`NothingToCompare`] where the paper reports nothing of the kind.
    pub fn with_paper(results: &Results) -> Result<Self, NothingToCompare> {
        let present = results.categories();
        let all: Vec<&str> = TEXTURES.into_iter().chain(OBJECTS).collect();
        let shared: Vec<&str> = all.iter().copied().filter(|name| present.contains(name)).collect();
        if shared.is_empty() {
            return Self::with_cifar10(results);
        }
        let categories =
            shared.iter().map(|name| row(name, name, |metric| results.over_seeds(name, metric))).collect();
        let mut averages = Vec::new();
        let mut notes = Vec::new();
        for (name, printed, group) in [
            ("textures", "mean_textures", &TEXTURES[..]),
            ("objects", "mean_objects", &OBJECTS),
            ("all", "mean", &all),
        ] {
            let members = Results {
                rows: results
                    .rows
                    .iter()
                    .filter(|row| group.contains(&row.category.as_str()))
                    .cloned()
                    .collect(),
            };
            let average = row(name, printed, |metric| {
                members.overall(metric).filter(|stats| stats.count == group.len())
            });
            notes.extend(absences(name, group, &members));
            if average.pairs.iter().any(|pair| pair.ours.is_some()) {
                averages.push(average);
            }
        }
        let mut comparison = Self { table: Table::Methods, categories, averages, notes: Vec::new() };
        let pairs = comparison.rows().flat_map(|row| row.pairs);
        comparison.notes.extend(marked(pairs));
        comparison.notes.push(selection(results).to_owned());
        comparison.notes.push(
            "categories are matched by name: the comparison holds for MVTec AD's own images, all of them"
                .to_owned(),
        );
        comparison.notes.extend(notes);
        let others: Vec<String> =
            present.iter().filter(|name| !all.contains(*name)).map(|name| clean(name)).collect();
        if !others.is_empty() {
            comparison.notes.push(format!("not among the paper's categories: {}", others.join(", ")));
        }
        Ok(comparison)
    }

    /// Compares with the mean over CIFAR-10's classes, which is all that the paper's Table 5 gives.
    fn with_cifar10(results: &Results) -> Result<Self, NothingToCompare> {
        let present = results.categories();
        let listed = || present.iter().map(|name| clean(name)).collect::<Vec<_>>().join(", ");
        if !present.iter().any(|name| CIFAR10_CLASSES.contains(name)) {
            return Err(NothingToCompare::OtherCategories { categories: listed() });
        }
        if let Some(images) = results.rows.iter().find_map(|row| row.subset) {
            return Err(NothingToCompare::Subset { images });
        }
        if present.len() != CIFAR10_CLASSES.len()
            || !CIFAR10_CLASSES.iter().all(|name| present.contains(name))
        {
            return Err(NothingToCompare::NotAllClasses { classes: listed() });
        }
        let image = Pair {
            ours: results.overall(Metric::IAuroc).filter(|stats| stats.count == present.len()),
            paper: published::find(Table::Cifar10, "mean", SIMPLENET).and_then(|row| row.i_auroc),
        };
        let pairs = [image, Pair { ours: None, paper: None }];
        let mut notes: Vec<String> = marked(pairs.into_iter()).into_iter().collect();
        if results.selected_on_test() {
            notes.push(
                "ours are of the epoch that does best on the test set: SELECTED ON THE TEST SET".to_owned(),
            );
        }
        notes.push(
            "classes are matched by name: the comparison holds for CIFAR-10's own images, all of them"
                .to_owned(),
        );
        let averages = vec![Row { name: "mean of ten classes".to_owned(), pairs }];
        Ok(Self { table: Table::Cifar10, categories: Vec::new(), averages, notes })
    }

    /// Categories, then averages.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.categories.iter().chain(&self.averages)
    }

    /// What is compared with what.
    pub fn title(&self) -> &'static str {
        match self.table {
            Table::Cifar10 => {
                "Beside the paper's Table 5 (SimpleNet, CIFAR-10, one class against the rest), in percent"
            }
            _ => "Beside the paper's Table 1 (SimpleNet, MVTec AD), in percent",
        }
    }

    /// The names of the columns; that of the rows' names is empty.
    pub fn header(&self) -> [&'static str; 7] {
        COLUMNS.map(|column| column.0)
    }

    /// The table for a terminal.
    pub fn text(&self, style: Style) -> String {
        let mut rows = vec![self.header().map(str::to_owned).to_vec()];
        rows.extend(self.rows().map(Row::cells));
        let mut out = format!("{}\n{}", self.title(), grid(&rows, self.averages.len(), style));
        for note in &self.notes {
            let _ = writeln!(out, "{note}");
        }
        out
    }

    /// The same in Markdown.
    pub fn markdown(&self) -> String {
        let rows: Vec<Vec<String>> = self.rows().map(Row::cells).collect();
        let mut out = format!("{}\n\n{}", self.title(), markdown::table(&COLUMNS, &rows));
        if !self.notes.is_empty() {
            out.push('\n');
        }
        for note in &self.notes {
            let _ = writeln!(out, "- {}", markdown::escape(note));
        }
        out
    }
}

impl Row {
    /// The row as text, a cell a column.
    pub fn cells(&self) -> Vec<String> {
        std::iter::once(self.name.clone()).chain(self.pairs.iter().flat_map(Pair::cells)).collect()
    }
}

fn row(name: &str, printed: &str, ours: impl Fn(Metric) -> Option<MeanStd>) -> Row {
    let paper = published::find(Table::Methods, printed, SIMPLENET);
    let pairs = METRICS.map(|metric| Pair {
        ours: ours(metric),
        paper: paper.and_then(|paper| if metric.is_pixel() { paper.p_auroc } else { paper.i_auroc }),
    });
    Row { name: name.to_owned(), pairs }
}

/// What the mark at differences means, where one is marked.
pub(super) fn marked(pairs: impl Iterator<Item = Pair>) -> Option<String> {
    let count = pairs.filter(Pair::is_beyond_tolerance).count();
    let figures = if count == 1 { "figure differs" } else { "figures differ" };
    (count > 0).then(|| format!("{MARK} {count} {figures} from the paper's by more than {TOLERANCE} points"))
}

/// Why a group has no average, for each metric that lacks one; once where both lack the same.
fn absences(name: &str, group: &[&str], members: &Results) -> Vec<String> {
    let missing = METRICS.map(|metric| {
        let lacks = |category: &&&str| members.over_seeds(category, metric).is_none();
        group.iter().filter(lacks).copied().collect::<Vec<_>>()
    });
    let sentence = |metrics: &str, missing: &[&str]| {
        let which = if missing.len() == group.len() {
            format!("none of the {} is here", group.len())
        } else {
            format!("{} missing", missing.join(", "))
        };
        format!("no average of {name}{metrics}: {which}")
    };
    match &missing {
        [image, pixel] if image == pixel && image.is_empty() => Vec::new(),
        [image, pixel] if image == pixel => vec![sentence("", image)],
        _ => METRICS
            .iter()
            .zip(&missing)
            .filter(|(_, missing)| !missing.is_empty())
            .map(|(metric, missing)| sentence(&format!(" in {}", metric.label()), missing))
            .collect(),
    }
}

/// On which epoch the figures are, which differs between the paper and an honest run.
fn selection(results: &Results) -> &'static str {
    if results.selected_on_test() {
        "the paper's figures are of the epoch that does best on the test set, and so are ours here: SELECTED ON THE TEST SET"
    } else {
        "the paper's figures are of the epoch that does best on the test set; ours are not picked there, so a little less is \
         to be expected"
    }
}

/// Why results cannot be set beside the paper's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NothingToCompare {
    /// No category is one that the paper reports.
    #[error(
        "nothing to compare with the paper: it reports the fifteen categories of MVTec AD and the ten classes of CIFAR-10, \
         by their names, and here there is only {categories}"
    )]
    OtherCategories {
        /// The categories of the run.
        categories: String,
    },
    /// Some of CIFAR-10's classes, or others with them.
    #[error(
        "nothing to compare with the paper: its Table 5 gives the mean over all ten classes of CIFAR-10, and here there is \
         only {classes}"
    )]
    NotAllClasses {
        /// The classes of the run.
        classes: String,
    },
    /// A part of CIFAR-10's images.
    #[error(
        "nothing to compare with the paper: its Table 5 is of CIFAR-10 whole, and these are figures of {images} images a \
         class; leave out --subset"
    )]
    Subset {
        /// Images of a class.
        images: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::super::results::CategoryResult;
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

    fn compared(rows: Vec<CategoryResult>) -> Comparison {
        Comparison::with_paper(&Results { rows }).unwrap()
    }

    /// The whole text, of which every number was worked out by hand from the paper's Table 1.
    #[test]
    fn ours_and_the_paper_side_by_side() {
        // The paper: wood 100 and 94.5, carpet 99.7 and 98.2, grid 99.7 and 98.8, leather 100 and 99.2, tile 99.8 and
        // 97.0, mean of textures 99.8 and 97.5.
        let mut rows: Vec<CategoryResult> =
            TEXTURES.iter().map(|name| result(name, 0, 0.997, Some(0.98))).collect();
        rows[4] = result("wood", 0, 0.99, Some(0.97));
        rows.push(result("nut|shell", 0, 1.0, None));
        let comparison = compared(rows);
        let expected = "\
Beside the paper's Table 1 (SimpleNet, MVTec AD), in percent
          I-AUROC  paper  difference  P-AUROC  paper  difference
────────────────────────────────────────────────────────────────
carpet       99.7   99.7        0.0      98.0   98.2       −0.2
grid         99.7   99.7        0.0      98.0   98.8       −0.8*
leather      99.7  100.0       −0.3      98.0   99.2       −1.2*
tile         99.7   99.8       −0.1      98.0   97.0       +1.0*
wood         99.0  100.0       −1.0*     97.0   94.5       +2.5*
────────────────────────────────────────────────────────────────
textures     99.6   99.8       −0.2      97.8   97.5       +0.3
* 5 figures differ from the paper's by more than 0.5 points
the paper's figures are of the epoch that does best on the test set; ours are not picked there, so a little less is to be expected
categories are matched by name: the comparison holds for MVTec AD's own images, all of them
no average of objects: none of the 10 is here
no average of all: bottle, cable, capsule, hazelnut, metal_nut, pill, screw, toothbrush, transistor, zipper missing
not among the paper's categories: nut|shell
";
        assert_eq!(comparison.text(Style::Plain), expected);
        let markdown = comparison.markdown();
        assert!(markdown.contains("| wood     |    99.0 | 100.0 |     −1.0\\* |"), "{markdown}");
        assert!(markdown.contains("- \\* 5 figures differ"), "{markdown}");
        assert!(markdown.contains("nut\\|shell"), "{markdown}");
    }

    #[test]
    fn all_fifteen_categories_have_every_average_with_its_scatter() {
        let names = || TEXTURES.into_iter().chain(OBJECTS);
        let rows =
            names().flat_map(|name| [0, 1].map(|s| result(name, s, 0.99 + 0.01 * s as f64, Some(0.98))));
        let comparison = compared(rows.collect());
        assert_eq!(comparison.categories.len(), 15);
        let averages: Vec<&str> = comparison.averages.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(averages, ["textures", "objects", "all"]);
        // Means 0.99 and 1 of the two seeds; their sample deviation is 0.01/√2.
        let cells = comparison.averages[2].cells();
        assert_eq!(cells, ["all", "99.5 ± 0.7", "99.6", "−0.1 ", "98.0 ± 0.0", "98.1", "−0.1 "]);
        assert!(!comparison.notes.iter().any(|note| note.contains("no average")), "{:?}", comparison.notes);
    }

    #[test]
    fn an_average_needs_every_category_in_that_metric() {
        let mut rows: Vec<CategoryResult> =
            TEXTURES.iter().map(|name| result(name, 0, 0.997, Some(0.98))).collect();
        rows[1].p_auroc = None;
        let comparison = compared(rows);
        assert_eq!(comparison.averages[0].cells()[4..], ["–", "97.5", "–"]);
        let note = "no average of textures in P-AUROC: grid missing";
        assert!(comparison.notes.iter().any(|found| found == note), "{:?}", comparison.notes);
    }

    #[test]
    fn a_difference_of_exactly_the_tolerance_is_not_marked() {
        let pair = |ours: f64, paper| Pair { ours: MeanStd::of(&[ours]), paper: Some(paper) };
        // What is printed decides: 0.9904 is shown as 99.0.
        for (ours, paper, marked) in
            [(0.99, 99.5, false), (0.9904, 99.5, false), (0.9894, 99.5, true), (1.0, 99.4, true)]
        {
            assert_eq!(pair(ours, paper).is_beyond_tolerance(), marked, "{ours} {paper}");
        }
        assert_eq!(pair(0.99, 99.0).cells()[2], "0.0 ");
        // 100 × 0.9925 is a tie and printed as 99.2; rounding 1000 × 0.9925 would take it up.
        assert_eq!(pair(0.9925, 99.2).cells(), ["99.2", "99.2", "0.0 "]);
    }

    #[test]
    fn the_mean_over_cifar_10_stands_beside_table_5() {
        let rows = || CIFAR10_CLASSES.map(|name| result(name, 0, 0.87, None)).to_vec();
        let comparison = compared(rows());
        assert!(comparison.title().contains("Table 5"), "{}", comparison.title());
        // The paper: 86.5, and no pixel metric.
        let cells = ["mean of ten classes", "87.0", "86.5", "+0.5 ", "–", "–", "–"];
        assert_eq!(comparison.rows().map(Row::cells).collect::<Vec<_>>(), [cells]);

        let said =
            |rows: Vec<CategoryResult>| Comparison::with_paper(&Results { rows }).unwrap_err().to_string();
        let part = rows().split_off(8);
        assert!(said(part).ends_with("all ten classes of CIFAR-10, and here there is only ship, truck"));
        let subset = rows().into_iter().map(|row| CategoryResult { subset: Some(50), ..row }).collect();
        assert!(said(subset).contains("50 images a class"));
    }

    #[test]
    fn a_run_without_a_category_of_the_paper_is_told_so() {
        let results =
            Results { rows: vec![result("cookie", 0, 1.0, None), result("nut\u{1b}", 0, 1.0, None)] };
        let error = Comparison::with_paper(&results).unwrap_err().to_string();
        assert!(error.contains("MVTec AD") && error.ends_with("cookie, nut\u{fffd}"), "{error}");
        let selected = CategoryResult { selected_on_test: true, ..result("wood", 0, 1.0, None) };
        assert!(compared(vec![selected]).notes.iter().any(|note| note.contains("SELECTED ON THE TEST SET")));
    }
}
