//! The results as a table of plain text for a terminal.

use std::fmt::Write as _;
use std::io::IsTerminal;

use super::metric::{MeanStd, Metric};
use super::results::{CategoryResult, Results};

/// What stands where a metric does not exist.
pub(super) const ABSENT: &str = "–";

/// Whether text may carry terminal escape codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Plain text.
    Plain,
    /// Bold and dim by ANSI codes.
    Ansi,
}

impl Style {
    /// The style for standard output: [`Style::Ansi`] on a terminal unless `NO_COLOR` is set (no-color.org: to
    /// anything but an empty string).
    pub fn for_stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if std::io::stdout().is_terminal() && !refused { Self::Ansi } else { Self::Plain }
    }

    fn paint(self, code: &str, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Ansi => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }
}

/// A metric in percent with one decimal, with its deviation over seeds where there is one; an en dash for none.
pub fn percent(stats: Option<MeanStd>) -> String {
    match stats {
        None => ABSENT.into(),
        Some(MeanStd { mean, std: None, .. }) => format!("{:.1}", 100.0 * mean),
        Some(MeanStd { mean, std: Some(std), .. }) => format!("{:.1} ± {:.1}", 100.0 * mean, 100.0 * std),
    }
}

/// The table: a row a category, a column a metric, a mean row where there are several categories, then notes.
///
/// Metrics are in percent with one decimal. With several seeds each cell is the mean ± the sample standard
/// deviation over seeds; the mean row's deviation is that of the mean over categories.
pub fn render(results: &Results, style: Style) -> String {
    let categories = results.categories();
    if categories.is_empty() {
        return "no results\n".into();
    }
    let header = std::iter::once(String::new()).chain(Metric::ALL.map(|metric| metric.label().to_owned()));
    let mut rows: Vec<Vec<String>> = vec![header.collect()];
    for &category in &categories {
        let cells = Metric::ALL.map(|metric| percent(results.over_seeds(category, metric)));
        rows.push(std::iter::once(clean(category)).chain(cells).collect());
    }
    if categories.len() > 1 {
        let cells = Metric::ALL.map(|metric| percent(results.overall(metric)));
        rows.push(std::iter::once("mean".to_owned()).chain(cells).collect());
    }
    let mut out = grid(&rows, usize::from(categories.len() > 1), style);
    for note in notes(results) {
        let _ = writeln!(out, "{note}");
    }
    out
}

/// Rows of text under each other: the first column at the left, the others at the right. The first row is the header;
/// the last `summary` rows stand below a rule and are bold like it.
pub(super) fn grid(rows: &[Vec<String>], summary: usize, style: Style) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().map(|row| display_width(&row[column])).max().unwrap_or(0))
        .collect();
    let rule = "─".repeat(widths.iter().sum::<usize>() + 2 * (widths.len().saturating_sub(1)));
    let first_of_summary = rows.len() - summary;
    let mut out = String::new();
    for (index, row) in rows.iter().enumerate() {
        if index == 1 || index == first_of_summary {
            let _ = writeln!(out, "{}", style.paint("2", &rule));
        }
        let mut line = pad_right(&row[0], widths[0]);
        for (cell, &width) in row.iter().zip(&widths).skip(1) {
            let padding = " ".repeat(2 + width - display_width(cell));
            let cell = if cell == ABSENT { style.paint("2", cell) } else { cell.clone() };
            let _ = write!(line, "{padding}{cell}");
        }
        let line = line.trim_end();
        let strong = index == 0 || index >= first_of_summary;
        let _ = writeln!(out, "{}", if strong { style.paint("1", line) } else { line.to_owned() });
    }
    out
}

/// What a reader must know to read the table: absent metrics and why, means over a part, seeds, selection.
pub fn notes(results: &Results) -> Vec<String> {
    let mut notes = Vec::new();
    let categories = results.categories();
    if results.selected_on_test() {
        notes.push(
            "SELECTED ON THE TEST SET: the epoch was picked by the figures above, which are therefore inflated."
                .into(),
        );
    }
    let subsets: std::collections::BTreeSet<usize> =
        results.rows.iter().filter_map(|row| row.subset).collect();
    for subset in subsets {
        notes.push(format!(
            "SUBSET OF {subset} IMAGES A CLASS: these are not figures of the whole data set and compare with none."
        ));
    }
    for (reason, metrics, names) in absences(results) {
        notes.push(format!("{ABSENT} {metrics}: {reason} ({names})"));
    }
    let partial: Vec<String> = Metric::ALL
        .into_iter()
        .filter_map(|metric| Some((metric, results.overall(metric)?.count)))
        .filter(|(_, count)| *count < categories.len())
        .map(|(metric, count)| format!("{} over {count} of {}", metric.label(), categories.len()))
        .collect();
    if !partial.is_empty() {
        notes.push(format!("mean: {} categories", partial.join(", ")));
    }
    // Every seed sees the same images.
    let total = |count: fn(&CategoryResult) -> usize| -> usize {
        categories.iter().map(|name| results.of_category(name).map(count).max().unwrap_or(0)).sum()
    };
    for (count, what) in [
        (total(|row| row.skipped), "images could not be read and were left out"),
        (
            total(|row| row.without_mask),
            "defective test images have no mask and are left out of pixel metrics",
        ),
    ] {
        if count > 0 {
            notes.push(format!("{count} {what}"));
        }
    }
    let outside: Vec<f64> = results.rows.iter().filter_map(|row| row.not_inspected).collect();
    let outside = outside.iter().sum::<f64>() / outside.len().max(1) as f64;
    if outside > 0.005 {
        notes.push(format!(
            "{:.0} % of the test images' area lies outside the crop and was not inspected (--fit stretch sees all)",
            100.0 * outside
        ));
    }
    let seeds = results.seeds();
    if seeds.len() > 1 {
        let list: Vec<String> = seeds.iter().map(u64::to_string).collect();
        notes.push(format!(
            "± is the sample standard deviation over {} seeds ({})",
            seeds.len(),
            list.join(", ")
        ));
    }
    notes
}

/// Absent metrics grouped by reason and by the categories concerned: reason, metrics, categories.
fn absences(results: &Results) -> Vec<(&'static str, String, String)> {
    // For each category, its absent metrics by reason; then categories with the same list are named together.
    let mut groups: Vec<(&'static str, Vec<&'static str>, Vec<String>)> = Vec::new();
    for category in results.categories() {
        let mut reasons: Vec<(&'static str, Vec<&'static str>)> = Vec::new();
        for metric in Metric::ALL {
            let Some(row) = results.of_category(category).find(|row| metric.of(row).is_none()) else {
                continue;
            };
            let reason = metric.reason_absent(row);
            match reasons.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, metrics)) => metrics.push(metric.label()),
                None => reasons.push((reason, vec![metric.label()])),
            }
        }
        for (reason, metrics) in reasons {
            match groups.iter_mut().find(|group| group.0 == reason && group.1 == metrics) {
                Some(group) => group.2.push(clean(category)),
                None => groups.push((reason, metrics, vec![clean(category)])),
            }
        }
    }
    groups
        .into_iter()
        .map(|(reason, metrics, names)| (reason, metrics.join(", "), names.join(", ")))
        .collect()
}

/// A name without control characters: a folder's name must not be able to steer a terminal.
pub(super) fn clean(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn pad_right(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(display_width(text))))
}

/// Columns a terminal gives `text`: two for East Asian wide and emoji characters, none for combining marks.
///
/// The ranges are the blocks of Unicode 16 that are wide or combining as a whole, which names of folders can be
/// expected to use; a rare character measured wrongly shifts one row of one table.
pub fn display_width(text: &str) -> usize {
    text.chars()
        .map(|character| match u32::from(character) {
            0x0300..=0x036f | 0x1ab0..=0x1aff | 0x1dc0..=0x1dff | 0x20d0..=0x20ff | 0xfe20..=0xfe2f => 0,
            0x200b..=0x200f | 0x2060..=0x2064 | 0xfe00..=0xfe0f | 0xfeff | 0xe0100..=0xe01ef => 0,
            0x1100..=0x115f | 0x2e80..=0x303e | 0x3041..=0x4dbf | 0x4e00..=0xa4cf | 0xa960..=0xa97f => 2,
            0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f | 0xff01..=0xff60 | 0xffe0..=0xffe6 => 2,
            0x1f300..=0x1f64f | 0x1f680..=0x1f6ff | 0x1f900..=0x1f9ff | 0x20000..=0x3fffd => 2,
            _ => 1,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::super::results::CategoryResult;
    use super::*;

    fn result(category: &str, seed: u64, i_auroc: f64) -> CategoryResult {
        CategoryResult {
            category: category.into(),
            seed,
            i_auroc: Some(i_auroc),
            i_ap: Some(1.0),
            i_f1max: Some(0.9),
            test_good: 3,
            test_defective: 4,
            without_mask: 4,
            ..Default::default()
        }
    }

    #[test]
    fn columns_line_up_and_absence_is_explained() {
        let mut nut = result("ナット", 0, 0.9964);
        nut.p_auroc = Some(0.5);
        nut.without_mask = 0;
        let text = render(&Results { rows: vec![nut, result("cookie", 0, 0.5)] }, Style::Plain);
        let expected = "        I-AUROC  P-AUROC  AUPRO   I-AP  I-F1max  P-AP  P-F1max
──────────────────────────────────────────────────────────────
ナット     99.6     50.0      –  100.0     90.0     –        –
cookie     50.0        –      –  100.0     90.0     –        –
──────────────────────────────────────────────────────────────
mean       74.8     50.0      –  100.0     90.0     –        –
– AUPRO, P-AP, P-F1max: not computed in this run (ナット)
– P-AUROC, AUPRO, P-AP, P-F1max: no defective image has a mask (cookie)
mean: P-AUROC over 1 of 2 categories
4 defective test images have no mask and are left out of pixel metrics
";
        assert_eq!(text, expected);
    }

    #[test]
    fn seeds_show_their_scatter_and_one_category_has_no_mean_row() {
        let rows = vec![result("a", 4, 0.98), result("a", 5, 0.99)];
        let text = render(&Results { rows }, Style::Plain);
        assert!(text.contains("a  98.5 ± 0.7"), "{text}");
        assert!(text.contains("over 2 seeds (4, 5)") && !text.contains("mean"), "{text}");
        assert!(text.contains("\n4 defective test images have no mask"), "{text}");
    }

    #[test]
    fn figures_of_a_subset_are_marked() {
        let row = CategoryResult { subset: Some(50), ..result("a", 0, 0.98) };
        let text =
            render(&Results { rows: vec![row.clone(), CategoryResult { seed: 1, ..row }] }, Style::Plain);
        assert_eq!(text.matches("SUBSET OF 50 IMAGES A CLASS").count(), 1, "{text}");
        assert!(!render(&Results { rows: vec![result("a", 0, 0.98)] }, Style::Plain).contains("SUBSET"));
    }

    #[test]
    fn codes_appear_only_where_asked_and_names_cannot_bring_their_own() {
        let mut row = result("a\u{1b}[31mred", 0, 0.5);
        row.selected_on_test = true;
        let results = Results { rows: vec![row] };
        let plain = render(&results, Style::Plain);
        assert!(!plain.contains('\u{1b}') && plain.contains("SELECTED ON THE TEST SET"));
        assert!(render(&results, Style::Ansi).contains("\u{1b}[1m"));
        assert_eq!(render(&Results::default(), Style::Plain), "no results\n");
    }

    #[test]
    fn widths_are_those_of_a_terminal() {
        assert_eq!(display_width("naïve"), 5);
        assert_eq!(display_width("nai\u{308}ve"), 5);
        assert_eq!(display_width("螺母 M8"), 7);
    }
}
