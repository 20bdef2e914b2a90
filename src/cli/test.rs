//! `test`: metrics of trained models on a data set.

use super::args::{DataArgs, DeviceArgs};
use super::backbone::load_detector;
use super::console::{Console, print, print_json};
use super::device::{self, Device};
use super::evaluation::{Evaluated, Evaluation};
use super::one_class_test::{self, OneClassTest};
use super::plans::PlansArgs;
use super::run_folder::{DataSource, RunFolder};
use super::train::EvaluationArgs;
use super::{Outcome, comparison};
use crate::backend::Backend;
use crate::data::{Category, OneClassSet};
use crate::detector::{Detector, Heads, Model, ModelMetadata};
use crate::report::jsonl::{is_false, write_lines};
use crate::report::metric::Metric;
use crate::report::results::Results;
use crate::report::table::{self, Style};
use anyhow::bail;
use clap::Args;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// `test`.
#[derive(Args, Clone, Debug)]
pub(super) struct TestArgs {
    /// Model files; each is tested on the category, or the class, it was trained for.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    model: Vec<PathBuf>,
    #[command(flatten)]
    data: DataArgs,
    /// Weights of the backbone, if the models need others than embedded or installed ones.
    #[arg(long, value_name = "FILE")]
    weights: Option<String>,
    #[command(flatten)]
    evaluation: EvaluationArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    plans: PlansArgs,
    /// Exit with 1 if a metric's mean is below a bound, such as i_auroc=0.95; may be given several times.
    #[arg(long, value_name = "METRIC=X")]
    fail_below: Vec<String>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Where results go. Default: runs/<date-time>.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// `run.json` of a test.
#[derive(Serialize)]
struct TestRecord<'a> {
    version: &'a str,
    command: Vec<String>,
    device: String,
    data: &'a DataSource,
    models: Vec<String>,
    synthetic_data: bool,
    #[serde(skip_serializing_if = "is_false")]
    selected_on_test: bool,
}

/// Runs the verb.
pub(super) fn run(args: &TestArgs, console: &Console) -> anyhow::Result<Outcome> {
    let device = device::open(&args.device, console)?;
    let description = device.description();
    match device {
        Device::Cpu(cpu, _) => run_on(&cpu, description, args, console),
        Device::Cuda(cuda) => run_on(&cuda, description, args, console),
    }
}

fn run_on<B: Backend<Scalar = f32>>(
    backend: &B,
    device: String,
    args: &TestArgs,
    console: &Console,
) -> anyhow::Result<Outcome> {
    let bounds = args.fail_below.iter().map(|text| parse_bound(text)).collect::<anyhow::Result<Vec<_>>>()?;
    if args.data.ignore_exif {
        bail!("--ignore-exif belongs to `train`: images are tested as the model was trained; leave it out");
    }
    let source = DataSource::from_args(&args.data)?;
    let set = source.one_class()?;
    let categories = if set.is_none() { source.categories()? } else { Vec::new() };
    let models = args.model.iter().map(|path| Model::load(path)).collect::<Result<Vec<_>, _>>()?;
    let mut places: Vec<(String, u64)> = Vec::new();
    for (model, path) in models.iter().zip(&args.model) {
        let category = match &set {
            Some(set) => one_class_test::find_class(set, model)?,
            None => &find_category(&categories, model)?.name,
        };
        let place = (category.to_owned(), model.metadata.seed);
        if places.contains(&place) {
            bail!("{}: another --model has the same category and seed; test them one by one", path.display());
        }
        places.push(place);
    }
    if set.is_some() {
        one_class_test::require_alike(&models, &args.model)?;
    }
    // Loaded before anything is written: missing weights are the commonest reason why a test cannot start.
    let first = load_detector(backend, &args.model[0], args.weights.as_deref())?;
    let folder = RunFolder::create(args.output.as_deref())?;
    let record = TestRecord {
        version: env!("CARGO_PKG_VERSION"),
        command: std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect(),
        device,
        data: &source,
        models: args.model.iter().map(|path| path.display().to_string()).collect(),
        synthetic_data: source.is_synthetic(),
        selected_on_test: models.iter().any(|model| model.metadata.selected_on_test()),
    };
    folder.write_json("run.json", &record)?;
    if source.is_synthetic() {
        console.say("These images are synthetic; give your own with --data.");
    }

    let mut test =
        Test { args, console, source: &source, folder: &folder, places, results: Results::default() };
    match &set {
        Some(set) => test.classes(backend, first.1, set, &models)?,
        None => test.categories(backend, first, &categories)?,
    }
    let results = test.results;
    if args.json {
        print_json(&results.rows)?;
    } else {
        print(&table::render(&results, Style::for_stdout()))?;
    }
    if args.evaluation.spec().compare_with_paper {
        comparison::tell(&folder, &results, args.json, console)?;
    }
    console.say(format_args!("results in {}", folder.root().display()));
    let mut outcome = Outcome::Success;
    for (metric, bound) in bounds {
        let value = results.overall(metric).map(|stats| stats.mean);
        if value.is_none_or(|value| value < bound) {
            let found = value.map_or("absent".to_owned(), |value| format!("{value:.4}"));
            console.warn(format_args!("{} is {found}, below {bound}", metric.key()));
            outcome = Outcome::Verdict;
        }
    }
    Ok(outcome)
}

/// A test in progress.
struct Test<'a> {
    args: &'a TestArgs,
    console: &'a Console,
    source: &'a DataSource,
    folder: &'a RunFolder,
    /// Category and seed of every model.
    places: Vec<(String, u64)>,
    results: Results,
}

impl Test<'_> {
    /// Tests model by model, each on its category.
    fn categories<B: Backend<Scalar = f32>>(
        &mut self,
        backend: &B,
        first: (Model, Detector<B>),
        categories: &[Category],
    ) -> anyhow::Result<()> {
        let (args, console) = (self.args, self.console);
        let mut first = Some(first);
        let mut pictured = BTreeSet::new();
        for path in &args.model {
            let loaded =
                first.take().map_or_else(|| load_detector(backend, path, args.weights.as_deref()), Ok);
            let (model, detector): (Model, Detector<_>) = loaded?;
            let category = find_category(categories, &model)?;
            if let Some(chosen) = model.metadata.chosen_epoch.filter(|chosen| chosen.selected_on_test) {
                console.warn(format_args!("{}: this model is of {}", path.display(), chosen.in_words()));
            }
            if category.name != model.metadata.category {
                console.warn(format_args!(
                    "the model was trained for `{}` and is tested on `{}`, the only category there is",
                    model.metadata.category, category.name
                ));
            }
            category.notes.iter().for_each(|note| console.warn(format_args!("{}: {note}", category.name)));
            let (pass, images) = (detector.images_per_pass(), category.test.len());
            let batches = [pass.min(images), images % pass];
            args.plans.settle(backend, &detector, &model, Some(path), &batches, console)?;
            let evaluation = Evaluation {
                folder: self.folder,
                category,
                model: &model.metadata,
                // As in a training of several seeds, pictures are the first model's.
                spec: args.evaluation.spec().pictures_if(pictured.insert(category.name.clone())),
                strict: args.data.strict,
                synthetic: self.source.is_synthetic(),
            };
            self.book(evaluation.run(backend, &detector, console)?)?;
        }
        Ok(())
    }

    /// Tests all models on the test images of all classes, in one pass.
    fn classes<B: Backend<Scalar = f32>>(
        &mut self,
        backend: &B,
        first: Detector<B>,
        set: &OneClassSet,
        models: &[Model],
    ) -> anyhow::Result<()> {
        set.notes.iter().for_each(|note| self.console.warn(note));
        let preprocess = &models[0].metadata.settings.features.preprocess;
        let mut heads = Heads::new(first.into_extractor(), preprocess);
        models.iter().try_for_each(|model| heads.add(backend, model))?;
        let metadata: Vec<&ModelMetadata> = models.iter().map(|model| &model.metadata).collect();
        let (subset, strict) = (self.source.subset(), self.args.data.strict);
        let test = OneClassTest { set, subset, strict, console: self.console };
        let scored = test.score(backend, &heads, &metadata)?;
        for (place, model) in metadata.into_iter().enumerate() {
            self.book(test.evaluate(&scored, place, model)?)?;
        }
        Ok(())
    }

    /// Writes what a model reached.
    fn book(&mut self, evaluated: Evaluated) -> anyhow::Result<()> {
        let Evaluated { result, scores } = evaluated;
        let seeds = self.places.iter().filter(|(category, _)| *category == result.category);
        let seeds: Vec<u64> = seeds.map(|&(_, seed)| seed).collect();
        let place = self.folder.model_folder(&result.category, result.seed, &seeds);
        write_lines(&place.join("scores.jsonl"), &scores)?;
        self.results.rows.push(result);
        self.results.write_csv(&self.folder.root().join("results.csv"))?;
        self.results.write_json(&self.folder.root().join("results.json"))?;
        Ok(())
    }
}

/// The model's category, or the only one there is.
fn find_category<'a>(categories: &'a [Category], model: &Model) -> anyhow::Result<&'a Category> {
    let name = &model.metadata.category;
    let found = categories.iter().find(|category| category.name == *name);
    let only = if let [only] = categories { Some(only) } else { None };
    let Some(category) = found.or(only) else {
        let known: Vec<&str> = categories.iter().map(|category| category.name.as_str()).collect();
        bail!(
            "the model was trained for `{name}`, and the data has {}; give its folder with --data",
            known.join(", ")
        );
    };
    if category.test.is_empty() {
        bail!("{} has no test images; `predict` scores any files", category.root.display());
    }
    Ok(category)
}

fn parse_bound(text: &str) -> anyhow::Result<(Metric, f64)> {
    let parsed = text.split_once('=').and_then(|(name, value)| {
        let metric = Metric::ALL.into_iter().find(|metric| metric.key() == name.trim())?;
        let bound: f64 = value.trim().parse().ok()?;
        bound.is_finite().then_some((metric, bound))
    });
    let keys = || Metric::ALL.map(Metric::key).join(", ");
    match parsed {
        Some(bound) => Ok(bound),
        None => bail!("--fail-below {text}: write METRIC=X, such as i_auroc=0.95; metrics are {}", keys()),
    }
}
