//! `figures`: the figures of the paper, drawn from a finished training.
//!
//! | figure | what it shows | here |
//! | --- | --- | --- |
//! | 2 | speed against image AUROC | [`speed`] |
//! | 4 | the spread of each feature dimension before and after the adaptor | [`adaptor`] |
//! | 7 | the loss over the epochs | [`loss`] |
//! | 8 | examples: image, ground truth, score map | [`examples`] |

mod adaptor;
mod examples;
mod loss;
mod speed;

use super::args::DeviceArgs;
use super::console::{Console, print};
use super::device::{self, Device};
use super::run_folder::{RunFolder, RunRecord};
use super::{Outcome, sentence};
use crate::backend::Backend;
use crate::files::write_whole;
use crate::report::results::Results;
use crate::report::svg::standalone;
use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};

/// `figures`.
#[derive(Args, Clone, Debug)]
pub(super) struct FiguresArgs {
    /// The folder of a finished training.
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// The paper's number of a figure; may be given several times, or as a list. Default: all that can be drawn.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "N")]
    figure: Vec<Figure>,
    /// Where figures go. Default: figures/ in the run's folder.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Figure 2: files of `simplenet bench --model RUN/… --json`, for the speed.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    bench: Vec<PathBuf>,
    /// Figure 2: further runs, with other backbones, that stand beside this one.
    #[arg(long, value_name = "RUN", num_args = 1..)]
    beside: Vec<PathBuf>,
    /// Figure 8: examples a category.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=32))]
    examples: u16,
    /// Figure 4: weights of the backbone. Default: those of the training.
    #[arg(long, value_name = "FILE")]
    weights: Option<String>,
    #[command(flatten)]
    device: DeviceArgs,
}

/// A figure by its number in the paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Figure {
    /// Speed against image AUROC; needs --bench.
    #[value(name = "2")]
    Speed,
    /// The spread of each feature dimension before and after the adaptor.
    #[value(name = "4")]
    Adaptor,
    /// The loss over the epochs.
    #[value(name = "7")]
    Loss,
    /// Examples of images, ground truth and score maps.
    #[value(name = "8")]
    Examples,
}

impl Figure {
    const ALL: [Self; 4] = [Self::Speed, Self::Adaptor, Self::Loss, Self::Examples];

    fn number(self) -> u8 {
        match self {
            Self::Speed => 2,
            Self::Adaptor => 4,
            Self::Loss => 7,
            Self::Examples => 8,
        }
    }
}

/// A figure that this run has not the makings of: no error unless the figure was asked for by its number.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Impossible(String);

/// A finished training, and where its figures go.
struct Run {
    folder: RunFolder,
    record: RunRecord,
    results: Results,
    output: PathBuf,
}

impl Run {
    fn open(root: &Path, output: Option<&Path>, console: &Console) -> anyhow::Result<Self> {
        let (folder, record) = RunFolder::read(root)?;
        let path = root.join("results.json");
        if !path.exists() {
            bail!(
                "{} has no results.json yet: the training has not finished; continue it with `simplenet train --resume {0}`",
                root.display()
            );
        }
        let results = Results::read_json(&path)?;
        let output = output.map_or_else(|| root.join("figures"), Path::to_owned);
        let run = Self { folder, record, results, output };
        run.warn_of_missing_models(console);
        Ok(run)
    }

    /// A training writes its results category by category: they may be those of a part.
    fn warn_of_missing_models(&self, console: &Console) {
        // Data that is gone does not hinder figures that need none.
        let Ok(categories) = self.record.spec.data.categories() else { return };
        let expected = categories.len() * self.record.spec.seeds.len();
        let finished = self.results.rows.len();
        if finished < expected {
            console.warn(format_args!(
                "{} has results of {finished} of its {expected} models, and figures are of these alone; finish it with \
                 `simplenet train --resume {0}`, or `sweep --resume` if it is a point of one",
                self.folder.root().display()
            ));
        }
    }

    /// The name of the run's folder, for pictures.
    fn name(&self) -> String {
        let root = std::path::absolute(self.folder.root());
        let root = root.as_deref().unwrap_or_else(|_| self.folder.root());
        root.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// What stands behind a description of this run's models, where the test set chose them.
    fn mark(&self) -> &'static str {
        selection_mark(&self.results)
    }

    /// The folder of one model.
    fn model_folder(&self, category: &str, seed: u64) -> PathBuf {
        self.folder.model_folder(category, seed, &self.record.spec.seeds)
    }

    /// Writes a chart as a file of its own.
    fn write_chart(&self, name: &str, chart: &str) -> anyhow::Result<PathBuf> {
        let path = self.output.join(name);
        write_whole(&path, |out| out.write_all(standalone(chart).as_bytes()))?;
        Ok(path)
    }
}

/// As [`Run::mark`], of any results.
fn selection_mark(results: &Results) -> &'static str {
    if results.selected_on_test() { ", SELECTED ON THE TEST SET" } else { "" }
}

/// Runs the verb.
pub(super) fn run(args: &FiguresArgs, console: &Console) -> anyhow::Result<Outcome> {
    let run = Run::open(&args.run, args.output.as_deref(), console)?;
    std::fs::create_dir_all(&run.output).with_context(|| {
        format!("cannot make the folder {}; choose a writable place with --output", run.output.display())
    })?;
    let mut drawn = 0;
    let mut failure = None;
    for figure in Figure::ALL {
        let asked = args.figure.contains(&figure);
        if !asked && !args.figure.is_empty() {
            continue;
        }
        match draw(figure, &run, args, console) {
            Ok(files) => {
                drawn += 1;
                for file in files {
                    print(&format!("{}\n", file.display()))?;
                }
            }
            Err(error) if !asked && error.is::<Impossible>() => {
                console.say(format_args!("figure {}: not drawn: {error}", figure.number()));
            }
            // The others are drawn all the same; the first failure ends the command, further ones are told here.
            Err(error) => {
                let error = error.context(format!("figure {}", figure.number()));
                match &failure {
                    None => failure = Some(error),
                    Some(_) => console.warn(sentence(&error)),
                }
            }
        }
    }
    match failure {
        Some(error) => Err(error),
        None if drawn == 0 => bail!("{} has not the makings of any figure", args.run.display()),
        None => Ok(Outcome::Success),
    }
}

fn draw(figure: Figure, run: &Run, args: &FiguresArgs, console: &Console) -> anyhow::Result<Vec<PathBuf>> {
    match figure {
        Figure::Speed => speed::draw(run, &args.bench, &args.beside, console),
        Figure::Adaptor => {
            adaptor::check(run)?;
            match device::open(&args.device, console)? {
                Device::Cpu(cpu, _) => draw_adaptor(&cpu, run, args, console),
                Device::Cuda(cuda) => draw_adaptor(&cuda, run, args, console),
            }
        }
        Figure::Loss => loss::draw(run),
        Figure::Examples => examples::draw(run, usize::from(args.examples), console),
    }
}

fn draw_adaptor<B: Backend<Scalar = f32>>(
    backend: &B,
    run: &Run,
    args: &FiguresArgs,
    console: &Console,
) -> anyhow::Result<Vec<PathBuf>> {
    // A model that carries its backbone takes no other weights.
    let spec = &run.record.spec;
    let recorded = spec.weights.as_deref().filter(|_| !spec.bundle);
    adaptor::draw(backend, run, args.weights.as_deref().or(recorded), console)
}
