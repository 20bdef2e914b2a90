//! `demo`: writes the built-in synthetic data set.

use super::Outcome;
use super::console::Console;
use crate::data::demo;
use clap::Args;
use std::path::PathBuf;

/// `demo`.
#[derive(Args, Clone, Debug)]
pub(super) struct DemoArgs {
    /// Where the set goes: a new or empty folder.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Runs the verb.
pub(super) fn run(args: &DemoArgs, console: &Console) -> anyhow::Result<Outcome> {
    let summary = demo::write(&args.folder)?;
    console.say(format_args!(
        "wrote {} synthetic images in {} categories; train on them with `simplenet train --data {}`",
        summary.images,
        summary.categories.len(),
        args.folder.display()
    ));
    Ok(Outcome::Success)
}
