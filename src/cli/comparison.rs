//! `--compare paper`: a run's results beside the paper's.

use super::console::{Console, print};
use super::run_folder::RunFolder;
use crate::files::write_whole;
use crate::report::comparison::Comparison;
use crate::report::results::Results;
use crate::report::table::Style;

/// Writes the comparison to `comparison.md` and prints it below the results, or only says where it is where stdout is
/// JSON. Where there is nothing to compare, a warning says why.
pub(super) fn tell(
    folder: &RunFolder,
    results: &Results,
    json: bool,
    console: &Console,
) -> anyhow::Result<()> {
    match Comparison::with_paper(results) {
        Ok(comparison) => {
            let text = comparison.text(Style::for_stdout());
            write_and_print(folder, &comparison.markdown(), &text, json, console)
        }
        Err(nothing) => {
            console.warn(nothing);
            Ok(())
        }
    }
}

/// The same for the points of a sweep, a comparison each.
pub(super) fn tell_points(
    folder: &RunFolder,
    points: &[(&str, &Results)],
    json: bool,
    console: &Console,
) -> anyhow::Result<()> {
    let (mut markdown, mut text) = (String::new(), Vec::new());
    for (label, results) in points {
        match Comparison::with_paper(results) {
            Ok(comparison) => {
                markdown += &format!("## {label}\n\n{}\n", comparison.markdown());
                text.push(format!("{label}\n{}", comparison.text(Style::for_stdout())));
            }
            // Points share their data: what one lacks, all lack.
            Err(nothing) => {
                console.warn(nothing);
                return Ok(());
            }
        }
    }
    write_and_print(folder, &markdown, &text.join("\n"), json, console)
}

fn write_and_print(
    folder: &RunFolder,
    markdown: &str,
    text: &str,
    json: bool,
    console: &Console,
) -> anyhow::Result<()> {
    let path = folder.root().join("comparison.md");
    write_whole(&path, |out| out.write_all(markdown.as_bytes()))?;
    if json {
        console.say(format_args!("compared   {}", path.display()));
        return Ok(());
    }
    print(&format!("\n{text}"))
}
