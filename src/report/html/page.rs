//! The page as a whole.

use std::fmt::Write as _;

use crate::report::escape::escape;
use crate::report::svg;

use super::{CategoryReport, RunReport, gallery, prose, sections};

const STYLE: &str = include_str!("style.css");

/// What all pictures of the page may take together, in bytes of base64; charts and tables come on top.
const PICTURES: usize = 4_000_000;

pub(super) fn render(report: &RunReport) -> String {
    let title = escape(&report.title);
    let mut out = String::with_capacity(PICTURES + 1_000_000);
    let _ = write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n\
         <style>\n{STYLE}{}</style>\n</head>\n<body>\n",
        svg::STYLE
    );
    header(&mut out, report, &title);
    out.push_str("<main>\n");
    summary(&mut out, report);
    if !report.results.rows.is_empty() {
        let _ = write!(out, "<h2>Results</h2>\n{}", sections::results_table(&report.results));
    }
    if let Some(comparison) = &report.comparison {
        let _ = write!(out, "<h2>Beside the paper</h2>\n{}", sections::comparison_table(comparison));
    }
    categories(&mut out, &report.categories);
    out.push_str(&sections::pairs("Settings", &report.settings));
    out.push_str(&sections::pairs("Environment", &report.environment));
    if !report.command.is_empty() {
        let command = escape(&report.command);
        let _ = write!(
            out,
            "<h2>How to reproduce</h2>\n<p>With the same data, weights and version, this command makes the run \
             again:</p>\n<pre><code>{command}</code></pre>\n"
        );
    }
    let version = env!("CARGO_PKG_VERSION");
    let _ = write!(out, "</main>\n<footer>Written by simplenet {version}.</footer>\n</body>\n</html>\n");
    out
}

fn header(out: &mut String, report: &RunReport, title: &str) {
    let badge = if report.synthetic { "<span class=\"badge\">synthetic demo data</span>" } else { "" };
    let _ = write!(out, "<header>\n<p class=\"kicker\">SimpleNet run report</p>\n<h1>{title} {badge}</h1>\n");
    let facts: Vec<String> = [&report.backbone, &report.preset, &report.device, &report.finished]
        .into_iter()
        .filter(|fact| !fact.is_empty())
        .map(|fact| escape(fact))
        .collect();
    if !facts.is_empty() {
        let _ = writeln!(out, "<p class=\"facts\">{}</p>", facts.join(" · "));
    }
    out.push_str("</header>\n");
}

fn summary(out: &mut String, report: &RunReport) {
    if report.selected_on_test || report.results.selected_on_test() {
        out.push_str(
            "<div class=\"banner\" role=\"alert\"><b>Selected on the test set.</b> The epoch was picked by the very \
             figures below, so they are inflated and do not tell how the model does on new images.</div>\n",
        );
    }
    let _ = writeln!(out, "<p class=\"summary\">{}</p>", escape(&prose::summary(report).join(" ")));
    if report.synthetic {
        out.push_str(
            "<p>The images are drawn by the program itself, so the figures show that everything works, not how \
             well it does on real parts.</p>\n",
        );
    }
    let warnings = prose::warnings(report);
    if !warnings.is_empty() {
        out.push_str("<div class=\"warnings\"><h2>Please note</h2><ul>\n");
        for warning in warnings {
            let _ = writeln!(out, "<li>{}</li>", escape(&warning));
        }
        out.push_str("</ul></div>\n");
    }
}

fn categories(out: &mut String, categories: &[CategoryReport]) {
    if categories.len() > 1 {
        out.push_str("<nav aria-label=\"Categories\">");
        for (index, category) in categories.iter().enumerate() {
            let _ = write!(out, "<a href=\"#category-{index}\">{}</a> ", escape(&category.category));
        }
        out.push_str("</nav>\n");
    }
    let mut left = PICTURES;
    for (index, category) in categories.iter().enumerate() {
        // An equal share of what is left: what one category does not need, those after it may use.
        let mut budget = left / (categories.len() - index);
        let share = budget;
        let _ = write!(
            out,
            "<section id=\"category-{index}\">\n<h2>{}</h2>\n{}{}{}</section>\n",
            escape(&category.category),
            sections::score_plot(category),
            sections::training_charts(category),
            gallery::section(category, &mut budget)
        );
        left -= share - budget;
    }
}
