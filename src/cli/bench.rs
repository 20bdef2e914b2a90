//! `bench`: images a second and latency, with the protocol printed.

use super::Outcome;
use super::args::DeviceArgs;
use super::backbone::{load_detector, resolve_backbone};
use super::console::{Console, print, print_json};
use super::device::{self, Device};
use super::plans::PlansArgs;
use crate::backbone::FeatureExtractor;
use crate::backend::{Backend, CachePrecision, FeatureCacheOptions};
use crate::benchmark::{
    ProductRate, Protocol, Report, Scope, Setup, Subject, measure_files, measure_model, measure_training,
    network, render, time_stages, untrained,
};
use crate::data::{demo, discover, list_images};
use crate::settings::{Preset, Settings};
use anyhow::{Context, bail};
use clap::builder::RangedU64ValueParser;
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The network that is measured where none is named: the paper's.
const DEFAULT_BACKBONE: &str = "wide_resnet50_2";
/// Its weights: at hand everywhere, and as fast as any others.
const DEFAULT_WEIGHTS: &str = "synthetic:0";
const CPU_BATCHES: [usize; 2] = [1, 8];
const GPU_BATCHES: [usize; 3] = [1, 16, 64];
/// Images of the scopes `files` and `train` where none are given: those of a small category.
const DEFAULT_IMAGES: usize = 28;

/// `bench`.
#[derive(Args, Clone, Debug)]
pub(super) struct BenchArgs {
    /// What the clock covers; may be given several times, or as a list.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "model")]
    scope: Vec<ScopeName>,
    /// A trained model. Without it: an untrained head on the backbone, which is as fast.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["backbone", "size"])]
    model: Option<PathBuf>,
    /// Backbone by torchvision's name. Default: wide_resnet50_2.
    #[arg(long, value_name = "NAME")]
    backbone: Option<String>,
    /// Weights: a safetensors or .pth file, `embedded`, or `synthetic:SEED`. Default: synthetic:0, as fast as any, or those
    /// that the model names.
    #[arg(long, value_name = "FILE")]
    weights: Option<String>,
    /// Side of the network's input. Default: 224.
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(..=16_384))]
    size: Option<u32>,
    /// Batch sizes. Default: 1,8 on the CPU and 1,16,64 on a GPU; for training that of the settings.
    #[arg(long, value_name = "LIST", value_delimiter = ',',
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=4096))]
    batch: Vec<usize>,
    /// Images or folders of images for the scopes files and train. Default: the built-in demo set.
    #[arg(long, value_name = "PATH")]
    data: Vec<PathBuf>,
    /// How many images the scopes files and train take, again from the first where there are fewer. Default: all that
    /// are given, or 28 of the demo set.
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    images: Option<usize>,
    /// Also time the stages of a forward pass, with the scope model.
    #[arg(long)]
    stages: bool,
    /// Runs that count, 5 or more. Default: as many as fit --seconds, and at least 5.
    #[arg(long, value_name = "N")]
    repeats: Option<usize>,
    /// Runs before the clock counts. Default: as many as fit a fifth of --seconds, and at least 3.
    #[arg(long, value_name = "N")]
    warmups: Option<usize>,
    /// Time for each figure, where --repeats does not say how often.
    #[arg(long, value_name = "S", default_value_t = 10.0, allow_negative_numbers = true)]
    seconds: f64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    plans: PlansArgs,
}

/// What the clock covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ScopeName {
    /// Images in host memory to maps and scores in host memory: the papers' protocol.
    Model,
    /// Files to maps and scores, decoding included.
    Files,
    /// Epochs of the head, and the features' extraction apart.
    Train,
}

impl From<ScopeName> for Scope {
    fn from(name: ScopeName) -> Self {
        match name {
            ScopeName::Model => Self::Model,
            ScopeName::Files => Self::Files,
            ScopeName::Train => Self::Train,
        }
    }
}

/// Runs the verb.
pub(super) fn run(args: &BenchArgs, console: &Console) -> anyhow::Result<Outcome> {
    if !(args.seconds >= 0.0 && args.seconds <= 86_400.0) {
        bail!("--seconds {}: give 0 to 86400", args.seconds);
    }
    let protocol = Protocol::new(args.warmups, args.repeats, Duration::from_secs_f64(args.seconds))?;
    if args.stages && !args.scope.contains(&ScopeName::Model) {
        bail!("--stages are those of the scope model; add --scope model");
    }
    let device = device::open(&args.device, console)?;
    let description = device.description();
    let bench = |batches| Bench { args, console, protocol, description, batches };
    match device {
        Device::Cpu(cpu, _) => bench(&CPU_BATCHES).execute(&cpu),
        Device::Cuda(cuda) => bench(&GPU_BATCHES).execute(&cuda),
    }
}

/// A benchmark on an open device.
struct Bench<'a> {
    args: &'a BenchArgs,
    console: &'a Console,
    protocol: Protocol,
    /// The device in words.
    description: String,
    /// Batch sizes where none are asked for.
    batches: &'static [usize],
}

impl Bench<'_> {
    fn execute<B: Backend<Scalar = f32>>(self, backend: &B) -> anyhow::Result<Outcome> {
        let (subject, setup) = self.subject(backend)?;
        let images = if self.args.scope.iter().any(|scope| *scope != ScopeName::Model) {
            Some(self.images()?)
        } else {
            None
        };
        self.settle_plans(backend, &subject, images.as_ref())?;
        let product = ProductRate::measure(backend)?;
        let mut results = Vec::new();
        for scope in [ScopeName::Model, ScopeName::Files, ScopeName::Train] {
            if !self.args.scope.contains(&scope) {
                continue;
            }
            let files = images.as_ref().map_or(&[][..], |images| &images.files);
            for batch in self.batches(scope, backend, &subject) {
                self.console.say(format_args!("{}, batch {batch} …", Scope::from(scope)));
                let protocol = &self.protocol;
                results.push(match scope {
                    ScopeName::Model => {
                        let mut result = measure_model(backend, &subject, &setup, batch, protocol, &product)?;
                        if self.args.stages {
                            result.stages = Some(time_stages(backend, &subject, batch, protocol)?);
                        }
                        result
                    }
                    ScopeName::Files => {
                        measure_files(backend, &subject, &setup, files, batch, protocol, &product)?
                    }
                    ScopeName::Train => {
                        let spill = tempfile::tempdir().context("cannot make a temporary folder")?;
                        let cache = FeatureCacheOptions {
                            precision: CachePrecision::F32,
                            limit_bytes: 4 << 30,
                            spill_folder: spill.path().to_owned(),
                        };
                        measure_training(backend, &subject, &setup, files, &cache, batch, protocol, &product)?
                    }
                });
            }
        }
        let pipelined = results.iter().any(|result| result.pipelined_seconds.is_some());
        let report = Report {
            format: 1,
            program: format!("simplenet {}", env!("CARGO_PKG_VERSION")),
            device: self.description.clone(),
            protocol: self.protocol.in_words(pipelined),
            product_tflops: product.tflops(),
            results,
        };
        if self.args.json {
            print_json(&report)?;
        } else {
            print(&render(&report, &product))?;
        }
        Ok(Outcome::Success)
    }

    /// Chooses how every batch that will be measured is computed. Trainings are timed as they are: nothing is chosen.
    fn settle_plans<B: Backend<Scalar = f32>>(
        &self,
        backend: &B,
        subject: &Subject<B>,
        images: Option<&Images>,
    ) -> anyhow::Result<()> {
        let args = self.args;
        let mut batches = Vec::new();
        if args.scope.contains(&ScopeName::Model) {
            batches.extend(self.batches(ScopeName::Model, backend, subject));
        }
        if let (true, Some(images)) = (args.scope.contains(&ScopeName::Files), images) {
            let count = images.files.len();
            for batch in self.batches(ScopeName::Files, backend, subject) {
                batches.extend([batch.min(count), count % batch]);
            }
        }
        let (detector, model) = (&subject.detector, &subject.model);
        args.plans.settle(backend, detector, model, args.model.as_deref(), &batches, self.console)
    }

    /// The model to measure, and its description.
    fn subject<B: Backend<Scalar = f32>>(&self, backend: &B) -> anyhow::Result<(Subject<B>, Setup)> {
        let args = self.args;
        let (subject, weights) = match &args.model {
            Some(path) => {
                let (model, detector) = load_detector(backend, path, args.weights.as_deref())?;
                let named = args.weights.clone().or_else(|| model.metadata.backbone.origin.clone());
                let weights = named.unwrap_or_else(|| "of the model, or installed".to_owned());
                (Subject { model, detector }, weights)
            }
            None => {
                let weights = args.weights.as_deref().unwrap_or(DEFAULT_WEIGHTS);
                let name = args.backbone.as_deref().unwrap_or(DEFAULT_BACKBONE);
                (self.untrained(backend, name, weights)?, weights.to_owned())
            }
        };
        let setup = Setup {
            backbone: subject.model.metadata.backbone.architecture.name().to_owned(),
            weights,
            size: subject.side(),
            network: network(&subject.model.metadata.settings),
            precision: args.device.precision.clone(),
            conv: args.device.conv.name().to_owned(),
            threads: rayon::current_num_threads(),
            device: self.description.clone(),
        };
        Ok((subject, setup))
    }

    fn untrained<B: Backend<Scalar = f32>>(
        &self,
        backend: &B,
        name: &str,
        weights: &str,
    ) -> anyhow::Result<Subject<B>> {
        let mut settings = Settings::preset(Preset::Paper);
        if let Some(size) = self.args.size {
            settings.features.preprocess = settings.features.preprocess.with_side(size);
        }
        settings.validate()?;
        let features = &settings.features;
        let backbone = resolve_backbone(name, Some(weights), features.levels.deepest())?;
        let extractor = FeatureExtractor::new(
            backend,
            backbone.identity.architecture,
            &backbone.weights.tensors,
            features.levels.clone(),
            features.aggregation,
        )?;
        Ok(untrained(backend, backbone.identity, settings, extractor)?)
    }

    /// The batch sizes of a scope, each once.
    fn batches<B: Backend<Scalar = f32>>(
        &self,
        scope: ScopeName,
        backend: &B,
        subject: &Subject<B>,
    ) -> Vec<usize> {
        let mut batches = match scope {
            _ if !self.args.batch.is_empty() => self.args.batch.clone(),
            ScopeName::Train => vec![subject.model.metadata.settings.training.batch],
            ScopeName::Model | ScopeName::Files => self.batches.to_vec(),
        };
        if scope == ScopeName::Files {
            let most = subject.detector.most_images(backend);
            if batches.iter().any(|&batch| batch > most) {
                self.console.say(format_args!("files: predict takes at most {most} of these images at once"));
            }
            batches.iter_mut().for_each(|batch| *batch = most.min(*batch));
        }
        let mut seen = Vec::new();
        batches.retain(|batch| {
            !seen.contains(batch) && {
                seen.push(*batch);
                true
            }
        });
        batches
    }

    /// The images of the scopes that read some.
    fn images(&self) -> anyhow::Result<Images> {
        let mut guard = None;
        let given = &self.args.data;
        let mut found = Vec::new();
        if given.is_empty() {
            let folder = tempfile::tempdir().context("cannot make a temporary folder for the demo images")?;
            demo::write(&folder.path().join("demo"))?;
            found = demo_images(&folder.path().join("demo"))?;
            guard = Some(folder);
        }
        for path in given {
            found.extend(list_images(path, true)?);
        }
        let count = self.args.images.unwrap_or(if given.is_empty() { DEFAULT_IMAGES } else { found.len() });
        let files = found.iter().cycle().take(count).cloned().collect();
        Ok(Images { files, _guard: guard })
    }
}

/// Good images of the demo set, category by category.
fn demo_images(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut images = Vec::new();
    for category in discover(folder, &[])? {
        images.extend(category.train);
    }
    Ok(images)
}

/// Files, and the folder they are in if it was made for them.
struct Images {
    files: Vec<PathBuf>,
    _guard: Option<tempfile::TempDir>,
}
