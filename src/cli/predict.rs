//! `predict`: scores, verdicts and places for files, folders or a list on stdin, a JSON line an image.

use super::Outcome;
use super::args::DeviceArgs;
use super::backbone::load_detector;
use super::console::{Console, print};
use super::device::{self, Device};
use super::evaluation::{color_scale, save_picture};
use super::plans::PlansArgs;
use crate::backend::Backend;
use crate::data::{LoadedImage, Loader, LoaderOptions, list_images};
use crate::detector::{Detection, Detector, ModelMetadata, Verdict, region, verdict};
use crate::report::geometry::ScoreMap;
use crate::report::maps::write_map;
use crate::report::overlay::{self, Overlay};
use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;
use std::ffi::OsString;
use std::io::BufRead;
use std::path::{Path, PathBuf};

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
    overlays: Option<PathBuf>,
    /// Write a float TIFF map of each image, in its original size, into this folder.
    #[arg(long, value_name = "DIR")]
    maps: Option<PathBuf>,
    /// Use this threshold on the image score instead of the model's.
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true)]
    threshold: Option<f32>,
    /// Exit with 1 if an image is defective or could not be read.
    #[arg(long)]
    fail_on_defect: bool,
    /// Stop at the first unreadable image instead of reporting and skipping it.
    #[arg(long)]
    strict: bool,
    /// Images that pass the network together.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
    batch: u16,
    /// Weights of the backbone, if the model needs others than embedded or installed ones.
    #[arg(long, value_name = "FILE")]
    weights: Option<String>,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    plans: PlansArgs,
}

impl PredictArgs {
    /// Images that pass the network together.
    fn most<B: Backend<Scalar = f32>>(&self, detector: &Detector<B>) -> usize {
        usize::from(self.batch).min(detector.images_per_pass())
    }
}

/// One line of output.
#[derive(Serialize)]
struct Line<'a> {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<Verdict>,
    #[serde(rename = "box", skip_serializing_if = "Option::is_none")]
    region: Option<crate::rect::Rect>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inspected: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    overlay: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    map: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
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
    let mut options = LoaderOptions::new(model.metadata.settings.features.preprocess);
    options.keep_original = args.overlays.is_some();
    options.exif = model.metadata.exif();
    let most = args.most(&detector);
    // Of a stream any number may have arrived: one image, where whoever writes it waits for its line, or as many as fit.
    let (loader, batches) = if args.paths == [PathBuf::from("-")] {
        (Loader::streaming(stdin_paths(args.null), options)?, [1, most])
    } else {
        let mut paths = Vec::new();
        for path in &args.paths {
            if path == Path::new("-") {
                bail!("`-` (paths on stdin) cannot be mixed with other paths");
            }
            paths.extend(list_images(path, !args.flat)?);
        }
        if paths.is_empty() {
            bail!("there are no images in the given folders; PNG, JPEG, BMP and TIFF files are read");
        }
        let batches = [most.min(paths.len()), paths.len() % most];
        (Loader::new(paths, options)?, batches)
    };
    for folder in args.overlays.iter().chain(&args.maps) {
        std::fs::create_dir_all(folder).with_context(|| {
            format!("cannot make the folder {}; choose a writable place", folder.display())
        })?;
    }
    args.plans.settle(backend, &detector, &model, Some(&args.model), &batches, console)?;
    Prediction { args, model: &model.metadata, console, counts: Counts::default() }
        .execute(backend, &detector, loader)
}

/// Paths from stdin, one a line or NUL-terminated, as they arrive; any bytes but the separator.
fn stdin_paths(null: bool) -> impl Iterator<Item = PathBuf> + Send + 'static {
    let separator = if null { 0 } else { b'\n' };
    std::io::BufReader::new(std::io::stdin()).split(separator).map_while(Result::ok).filter_map(
        move |mut bytes| {
            if !null && bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
            (!bytes.is_empty()).then(|| path_of(bytes))
        },
    )
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

#[derive(Default)]
struct Counts {
    images: usize,
    defects: usize,
    unreadable: usize,
    inspected: f64,
}

struct Prediction<'a> {
    args: &'a PredictArgs,
    model: &'a ModelMetadata,
    console: &'a Console,
    counts: Counts,
}

impl Prediction<'_> {
    fn execute<B: Backend<Scalar = f32>>(
        mut self,
        backend: &B,
        detector: &Detector<B>,
        mut loader: Loader,
    ) -> anyhow::Result<Outcome> {
        let start = std::time::Instant::now();
        // A batch keeps unreadable images too, so that lines come in the order of the input.
        let most = self.args.most(detector);
        let mut batch: Vec<LoadedImage> = Vec::with_capacity(most);
        while let Some(loaded) = loader.next() {
            if let (Err(error), true) = (&loaded.result, self.args.strict) {
                self.flush(backend, detector, &mut batch)?;
                bail!("{error}");
            }
            batch.push(loaded);
            // Whoever writes one path and waits for its line must get it: an idle loader means nothing more is coming
            // for now.
            if batch.len() == most || loader.is_idle() {
                self.flush(backend, detector, &mut batch)?;
            }
        }
        self.flush(backend, detector, &mut batch)?;

        let Counts { images, defects, unreadable, inspected } = self.counts;
        let seconds = start.elapsed().as_secs_f64();
        let mut summary = format!("{images} {} scored", if images == 1 { "image" } else { "images" });
        if self.model.thresholds.image.is_some() {
            summary += &format!(", {defects} defective");
        }
        if unreadable > 0 {
            summary += &format!(", {unreadable} unreadable and skipped");
        }
        summary += &format!(", {:.1} images/s including decoding", images as f64 / seconds.max(1e-9));
        self.console.say(summary);
        let outside = 1.0 - inspected / images.max(1) as f64;
        if images > 0 && outside > 0.005 {
            self.console.say(format_args!(
                "{:.0} % of the image area lies outside the crop and was not inspected (train with --fit stretch to \
                 see all)",
                100.0 * outside
            ));
        }
        if images + unreadable == 0 {
            bail!("standard input named no image; give one path a line, or NUL-terminated paths with -0");
        }
        if images == 0 {
            bail!("none of the {unreadable} images could be read; each is named above with its cure");
        }
        let failed = self.args.fail_on_defect && (defects > 0 || unreadable > 0);
        Ok(if failed { Outcome::Verdict } else { Outcome::Success })
    }

    /// Scores a batch and prints its lines.
    fn flush<B: Backend<Scalar = f32>>(
        &mut self,
        backend: &B,
        detector: &Detector<B>,
        batch: &mut Vec<LoadedImage>,
    ) -> anyhow::Result<()> {
        let inputs: Vec<_> = batch
            .iter()
            .filter_map(|loaded| loaded.result.as_ref().ok())
            .map(|sample| &sample.input)
            .collect();
        let detections = if inputs.is_empty() { Vec::new() } else { detector.detect(backend, &inputs)? };
        let mut detections = detections.into_iter();
        let mut lines = String::new();
        for loaded in batch.drain(..) {
            let line = match &loaded.result {
                Ok(sample) => {
                    let detection = detections.next().context("the detector answers for every image")?;
                    self.answer(&loaded, sample, &detection)?
                }
                Err(error) => {
                    self.counts.unreadable += 1;
                    self.console.warn(format_args!("skipped: {error}"));
                    let line = Line {
                        path: loaded.path.to_string_lossy().into_owned(),
                        score: None,
                        threshold: None,
                        verdict: None,
                        region: None,
                        inspected: None,
                        overlay: None,
                        map: None,
                        error: Some(error.to_string()),
                    };
                    serde_json::to_string(&line)?
                }
            };
            lines += &line;
            lines.push('\n');
        }
        print(&lines)
    }

    /// The line of one image, its pictures written.
    fn answer(
        &mut self,
        loaded: &LoadedImage,
        sample: &crate::data::Sample,
        detection: &Detection,
    ) -> anyhow::Result<String> {
        let geometry = &sample.geometry;
        let thresholds = &self.model.thresholds;
        let verdict = verdict(detection.score, thresholds);
        let region = region(&detection.map, geometry, thresholds, verdict);
        self.counts.images += 1;
        self.counts.defects += usize::from(verdict == Some(Verdict::Defect));
        self.counts.inspected += geometry.inspected_fraction();

        let pictures = self.args.overlays.is_some() || self.args.maps.is_some();
        let original_map = if pictures { geometry.to_original(&detection.map) } else { Vec::new() };
        let (width, height) = geometry.original_size();
        let name = loaded.path.file_name().unwrap_or_default().to_string_lossy();
        // Numbered, since files of one name may come from many folders; and of the text that the JSON can hold.
        let output = |folder: &Path, ending: &str| folder.join(format!("{:06}-{name}{ending}", loaded.index));
        let map = match &self.args.maps {
            Some(folder) => {
                let path = output(folder, ".tiff");
                write_map(&path, ScoreMap::new(&original_map, width, height), "anomaly scores, smoothed")?;
                Some(path.to_string_lossy().into_owned())
            }
            None => None,
        };
        let picture = match (&self.args.overlays, &sample.original) {
            (Some(folder), Some(original)) => {
                let path = output(folder, ".jpg");
                let picture = overlay::render(&Overlay {
                    name: &name,
                    image: original,
                    map: ScoreMap::new(&original_map, width, height),
                    mask: None,
                    score: detection.score,
                    image_threshold: thresholds.image,
                    map_threshold: thresholds.map,
                    verdict,
                    scale: color_scale(self.model, &original_map),
                    region,
                    inspected: (geometry.inspected_fraction() < 1.0).then(|| geometry.inspected_rect()),
                    note: "",
                });
                save_picture(&picture, &path)?;
                Some(path.to_string_lossy().into_owned())
            }
            _ => None,
        };
        Ok(serde_json::to_string(&Line {
            path: loaded.path.to_string_lossy().into_owned(),
            score: Some(detection.score),
            threshold: thresholds.image,
            verdict,
            region,
            inspected: Some(geometry.inspected_fraction()),
            overlay: picture.as_deref(),
            map: map.as_deref(),
            error: None,
        })?)
    }
}
