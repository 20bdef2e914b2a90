//! `weights`: lists, fetches, imports and verifies backbone weights.

use super::console::{Console, print, print_json};
use super::{Environment, Outcome};
use crate::backbone::architecture::Architecture;
use crate::backbone::weights::WeightsError;
use crate::backbone::weights::fetch::{FetchOptions, fetch};
use crate::backbone::weights::store::{self, Installed, Status};
use anyhow::Context;
use clap::{Args, Subcommand};
use std::fmt::Write;
use std::path::PathBuf;

/// `weights`.
#[derive(Args, Clone, Debug)]
pub(super) struct WeightsArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Debug, Subcommand)]
enum Action {
    /// Shows every backbone and where its weights are.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Downloads torchvision's ImageNet weights of a backbone, checks them, and installs them.
    Fetch {
        /// The backbone, such as wide_resnet50_2.
        name: Architecture,
    },
    /// Installs weights from a safetensors or .pth file.
    Import {
        /// The file.
        file: PathBuf,
        /// The backbone they are for. Default: the one they fit.
        #[arg(long, value_name = "NAME")]
        backbone: Option<Architecture>,
    },
    /// Reads weights again and compares them with their record.
    Verify {
        /// An installed backbone's name, or a file.
        target: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Runs the verb.
pub(super) fn run(args: &WeightsArgs, console: &Console) -> anyhow::Result<Outcome> {
    match &args.action {
        Action::List { json } => list(*json),
        Action::Fetch { name } => download(*name, console),
        Action::Import { file, backbone } => {
            let installed = store::import(&folder()?, file, *backbone)?;
            report(&installed, console);
            Ok(Outcome::Success)
        }
        Action::Verify { target, json } => verify(target, *json),
    }
}

fn folder() -> anyhow::Result<PathBuf> {
    store::folder().context(Environment(
        "this system names no cache folder; set SIMPLENET_WEIGHTS_DIR to a folder for weights".to_owned(),
    ))
}

fn report(installed: &Installed, console: &Console) {
    console.say(format_args!(
        "installed {} in {} (from {}, SHA-256 of its tensors {})",
        installed.record.architecture,
        installed.path.display(),
        installed.record.source,
        installed.record.hash
    ));
}

fn list(json: bool) -> anyhow::Result<Outcome> {
    let listings = store::list(store::folder().as_deref())?;
    if json {
        print_json(&listings)?;
        return Ok(Outcome::Success);
    }
    let mut text = String::new();
    for listing in listings {
        let name = listing.architecture.name();
        let state = match listing.status {
            Status::Embedded { bytes, .. } => format!("inside this program ({})", megabytes(bytes)),
            Status::Installed(installed) => format!(
                "installed  {} ({}, from {})",
                installed.path.display(),
                megabytes(installed.bytes),
                installed.record.source
            ),
            Status::Unusable { path, problem } => format!("UNUSABLE   {}: {problem}", path.display()),
            Status::Missing { .. } => format!("missing    get it: simplenet weights fetch {name}"),
        };
        writeln!(text, "{name:18} {state}")?;
    }
    print(&text)?;
    Ok(Outcome::Success)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

fn download(name: Architecture, console: &Console) -> anyhow::Result<Outcome> {
    let mut task = None;
    let options = FetchOptions::from_environment()?;
    let installed = fetch(name, &options, &mut |done, total| {
        let total = total.unwrap_or(done);
        let task = task.get_or_insert_with(|| console.task(&format!("fetching {name}"), total));
        task.set(done, format!("{} of {}", megabytes(done), megabytes(total)));
    })?;
    drop(task);
    report(&installed, console);
    Ok(Outcome::Success)
}

fn verify(target: &str, json: bool) -> anyhow::Result<Outcome> {
    let verified = store::verify(store::folder().as_deref(), target)?;
    if json {
        print_json(&verified)?;
        return Ok(Outcome::Success);
    }
    let place =
        verified.path.as_ref().map_or("inside this program".to_owned(), |path| path.display().to_string());
    let comparison = match (&verified.known, &verified.record) {
        (Some(_), _) => "this is the file torchvision publishes".to_owned(),
        (None, Some(record)) => format!("agrees with its record: from {}", record.source),
        (None, None) => "it carries no record to compare with".to_owned(),
    };
    print(&format!(
        "{place}\nfits        {}\ntensors     SHA-256 {}\nfile        SHA-256 {}\n{comparison}\n",
        verified.architecture, verified.hash, verified.file_sha256
    ))?;
    Ok(Outcome::Success)
}

/// Whether an error is about this machine and not about what was typed.
pub(super) fn is_environment(error: &WeightsError) -> bool {
    matches!(
        error,
        WeightsError::NotInstalled { .. }
            | WeightsError::NoFolder
            | WeightsError::Download { .. }
            | WeightsError::Status { .. }
            | WeightsError::Busy { .. }
    )
}
