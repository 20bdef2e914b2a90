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
    let comparison = match Comparison::with_paper(results) {
        Ok(comparison) => comparison,
        Err(nothing) => {
            console.warn(nothing);
            return Ok(());
        }
    };
    let path = folder.root().join("comparison.md");
    write_whole(&path, |out| out.write_all(comparison.markdown().as_bytes()))?;
    if json {
        console.say(format_args!("compared   {}", path.display()));
        return Ok(());
    }
    print(&format!("\n{}", comparison.text(Style::for_stdout())))
}
