//! `predict`: scores, verdicts and places for files, folders or a list on stdin, a JSON line an image.

use super::Outcome;
use super::answers::{Answers, Counts};
use super::args::DeviceArgs;
use super::backbone::load_detector;
use super::console::Console;
use super::device::{self, Device};
use super::plans::PlansArgs;
use crate::backend::Backend;
use crate::data::{DataError, Loader, LoaderOptions, list_images};
use crate::detector::{Detector, InspectionTimes, ModelError, inspect};
use anyhow::{Context, bail};
use clap::Args;
use std::ffi::OsString;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Images that pass the network together unless asked otherwise.
const DEFAULT_BATCH: u16 = 8;

/// `predict`.
#[derive(Args, Clone, Debug)]
pub(super) struct PredictArgs {
    /// The model file.
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// Images or folders of images; `-` reads one path a line from stdin.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Paths on stdin end in NUL instead of a line break.
    #[arg(short = '0', long)]
    null: bool,
    /// Do not look into subfolders.
    #[arg(long)]
    flat: bool,
    /// Write an overlay of each image into this folder.
    #[arg(long, value_name = "DIR")]
    pub(super) overlays: Option<PathBuf>,
    /// Write a float TIFF map of each image, in its original size, into this folder.
    #[arg(long, value_name = "DIR")]
    pub(super) maps: Option<PathBuf>,
    /// Use this threshold on the image score instead of the model's.
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true)]
    threshold: Option<f32>,
    /// Exit with 1 if an image is defective or could not be read.
    #[arg(long)]
    pub(super) fail_on_defect: bool,
    /// Stop at the first unreadable image instead of reporting and skipping it.
    #[arg(long)]
    pub(super) strict: bool,
    /// Images that pass the network together.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_BATCH, value_parser = clap::value_parser!(u16).range(1..=1024))]
    batch: u16,
    /// Weights of the backbone, if the model needs others than embedded or installed ones.
    #[arg(long, value_name = "FILE")]
    weights: Option<String>,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    plans: PlansArgs,
}

/// Runs the verb.
pub(super) fn run(args: &PredictArgs, console: &Console) -> anyhow::Result<Outcome> {
    match device::open(&args.device, console)? {
        Device::Cpu(cpu, _) => run_on(&cpu, args, console),
        Device::Cuda(cuda) => run_on(&cuda, args, console),
    }
}

fn run_on<B: Backend<Scalar = f32>>(
    backend: &B,
    args: &PredictArgs,
    console: &Console,
) -> anyhow::Result<Outcome> {
    let (mut model, detector) = load_detector(backend, &args.model, args.weights.as_deref())?;
    if let Some(threshold) = args.threshold {
        if threshold.is_nan() {
            bail!("--threshold must be a number");
        }
        model.metadata.thresholds.image = Some(threshold);
    }
    if model.metadata.thresholds.image.is_none() {
        let cure = format!(
            "give one with --threshold, or store one with `simplenet threshold --model {} --set`",
            args.model.display()
        );
        if args.fail_on_defect {
            bail!("--fail-on-defect needs a threshold, and the model has none; {cure}");
        }
        console.warn(format_args!("the model has no threshold, so there are scores but no verdicts; {cure}"));
    }
    if model.metadata.synthetic_data {
        console.say("This model was trained on the synthetic demo set: it knows nothing about real parts.");
    }
    if let Some(chosen) = model.metadata.chosen_epoch.filter(|chosen| chosen.selected_on_test) {
        console.warn(format_args!("this model is of {}", chosen.in_words()));
    }
    let (asked, most) = (usize::from(args.batch), detector.most_images(backend));
    let batch = asked.min(most);
    if asked > most && asked > DEFAULT_BATCH.into() {
        console.say(format_args!(
            "--batch {asked}: no more than {most} of these images pass the network together"
        ));
    }
    let mut options = LoaderOptions::new(model.metadata.settings.features.preprocess);
    options.keep_original = args.overlays.is_some();
    options.exif = model.metadata.exif();
    let options = options.ahead_of_batches(batch);
    // Of a stream any number may have arrived: one image, where whoever writes it waits for its line, or as many as fit.
    let broken = Arc::new(OnceLock::new());
    let (paths, batches) = if args.paths == [PathBuf::from("-")] {
        (None, [1, batch])
    } else {
        let mut paths = Vec::new();
        for path in &args.paths {
            if path == Path::new("-") {
                bail!("`-` (paths on stdin) cannot be mixed with other paths");
            }
            match list_images(path, !args.flat) {
                Ok(images) => paths.extend(images),
                Err(error) if args.paths.len() == 1 || args.strict => return Err(error.into()),
                // One of many that is gone or shut costs the others nothing: it is reported as what cannot be read.
                Err(DataError::MissingFolder { path } | DataError::List { path, .. }) => paths.push(path),
                Err(error) => console.warn(format_args!("skipped: {error}")),
            }
        }
        if paths.is_empty() {
            bail!("there are no images in the given folders; PNG, JPEG, BMP and TIFF files are read");
        }
        let batches = [batch.min(paths.len()), paths.len() % batch];
        (Some(paths), batches)
    };
    for folder in args.overlays.iter().chain(&args.maps) {
        std::fs::create_dir_all(folder).with_context(|| {
            format!("cannot make the folder {}; choose a writable place", folder.display())
        })?;
    }
    args.plans.settle(backend, &detector, &model, Some(&args.model), &batches, console)?;
    // Not before: what decodes would disturb what is timed.
    let loader = match paths {
        Some(paths) => Loader::new(paths, options)?,
        None => Loader::streaming(stdin_paths(args.null, Arc::clone(&broken)), options)?,
    };
    detector.prepare(backend, batches[0])?;
    let answers = Answers { args, model: &model.metadata, console };
    let outcome = Prediction { answers, console }.execute(backend, &detector, loader, batch);
    match (broken.get(), outcome) {
        (Some(error), Ok(_)) => bail!(
            "standard input could not be read to its end ({error}): the images it named until then were scored, give \
             the others again"
        ),
        (Some(error), Err(outcome)) => {
            Err(outcome.context(format!("standard input could not be read to its end ({error})")))
        }
        (None, outcome) => outcome,
    }
}

/// Paths from stdin, one a line or NUL-terminated, as they arrive; any bytes but the separator. Where it cannot be read, the
/// paths end, and `broken` has the reason.
fn stdin_paths(
    null: bool,
    broken: Arc<OnceLock<std::io::Error>>,
) -> impl Iterator<Item = PathBuf> + Send + 'static {
    let separator = if null { 0 } else { b'\n' };
    let lines = std::io::BufReader::new(std::io::stdin()).split(separator);
    let lines = lines.map_while(move |line| line.map_err(|error| broken.set(error)).ok());
    lines.filter_map(move |mut bytes| {
        if !null && bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        (!bytes.is_empty()).then(|| path_of(bytes))
    })
}

#[cfg(unix)]
fn path_of(bytes: Vec<u8>) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    OsString::from_vec(bytes).into()
}

#[cfg(not(unix))]
fn path_of(bytes: Vec<u8>) -> PathBuf {
    OsString::from(String::from_utf8_lossy(&bytes).into_owned()).into()
}

/// Why the detector stopped before the end of its images.
enum Halt {
    /// It failed.
    Model(ModelError),
    /// Nobody takes its answers any more: that side knows why.
    Unheard,
}

impl From<ModelError> for Halt {
    fn from(error: ModelError) -> Self {
        Self::Model(error)
    }
}

struct Prediction<'a> {
    answers: Answers<'a>,
    console: &'a Console,
}

impl Prediction<'_> {
    /// Three sides at work at once: the loader decodes ahead, this thread scores, another writes pictures and lines. Each
    /// hands over batches and waits for the next side, so memory does not depend on the number of images.
    fn execute<B: Backend<Scalar = f32>>(
        self,
        backend: &B,
        detector: &Detector<B>,
        mut loader: Loader,
        batch: usize,
    ) -> anyhow::Result<Outcome> {
        let start = Instant::now();
        // Without room of its own: a batch waits with the detector until the one before is written.
        let (sender, receiver) = std::sync::mpsc::sync_channel(0);
        let (times, answered) = std::thread::scope(|scope| {
            let answers = scope.spawn(|| self.answers.write_all(receiver));
            let mut deliver = |inspected| sender.send(inspected).map_err(|_| Halt::Unheard);
            let times = inspect(backend, detector, &mut loader, batch, &mut deliver);
            drop(sender);
            (times, answers.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        let (counts, answering) = answered?;
        let times = match times {
            Ok(times) => times,
            Err(Halt::Model(error)) => return Err(error.into()),
            Err(Halt::Unheard) => {
                unreachable!("answers are taken until there is an error, which was returned")
            }
        };
        self.summarize(&counts, start.elapsed());
        self.console.detail(stage_report(&times, answering, start.elapsed()));

        let Counts { images, defects, unreadable, .. } = counts;
        if images + unreadable == 0 {
            bail!("standard input named no image; give one path a line, or NUL-terminated paths with -0");
        }
        if images == 0 {
            bail!("none of the {unreadable} images could be read; each is named above with its cure");
        }
        let failed = self.answers.args.fail_on_defect && (defects > 0 || unreadable > 0);
        Ok(if failed { Outcome::Verdict } else { Outcome::Success })
    }

    fn summarize(&self, counts: &Counts, elapsed: Duration) {
        let Counts { images, defects, unreadable, inspected } = *counts;
        let mut summary = format!("{images} {} scored", if images == 1 { "image" } else { "images" });
        if self.answers.model.thresholds.image.is_some() {
            summary += &format!(", {defects} defective");
        }
        if unreadable > 0 {
            summary += &format!(", {unreadable} unreadable and skipped");
        }
        let seconds = elapsed.as_secs_f64().max(1e-9);
        summary += &format!(", {:.1} images/s including decoding", images as f64 / seconds);
        self.console.say(summary);
        let outside = 1.0 - inspected / images.max(1) as f64;
        if images > 0 && outside > 0.005 {
            self.console.say(format_args!(
                "{:.0} % of the image area lies outside the crop and was not inspected (train with --fit stretch to \
                 see all)",
                100.0 * outside
            ));
        }
    }
}

/// Where the time went: what each side did, for how long the detector waited for the others, and so which one bounds.
fn stage_report(times: &InspectionTimes, answering: Duration, elapsed: Duration) -> String {
    let InspectionTimes { loading, waiting, model, delivering } = *times;
    let share = |time: Duration| 100.0 * time.as_secs_f64() / elapsed.as_secs_f64().max(1e-9);
    let row = |name: &str, time: Duration| format!("  {name:36} {:9.3} s", time.as_secs_f64());
    let of_the_whole = |name, time| format!("{}  {:3.0} %\n", row(name, time), share(time));
    let sides = [("decoding", waiting), ("the model", model), ("answers, pictures and output", delivering)];
    let (bound, _) = sides.into_iter().max_by_key(|side| side.1).unwrap_or(sides[1]);
    format!(
        "stages of {:.3} s:\n{}{}{}{} (of its threads, beside the model)\n{} (beside the model)\nbound by {bound}",
        elapsed.as_secs_f64(),
        of_the_whole("waiting for decoding", waiting),
        of_the_whole("model", model),
        of_the_whole("waiting for answers to be written", delivering),
        row("decode and preprocess", loading),
        row("answers, pictures and output", answering),
    )
}
