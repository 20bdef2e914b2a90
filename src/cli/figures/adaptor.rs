//! Figure 4: how much each dimension of the training features spreads before and after the adaptor.

use super::super::backbone::load_detector;
use super::super::console::Console;
use super::{Impossible, Run};
use crate::backend::{Backend, Epoch};
use crate::data::{Category, Exif, LoaderOptions};
use crate::detector::{Detector, Model};
use crate::files::write_whole;
use crate::head::{AdaptorKind, Head, HeadConfig};
use crate::metrics::ColumnSpread;
use crate::report::svg::{Distribution, Histogram, Panel, Tone, panels};
use crate::training::{Features, extract_features};
use anyhow::{Context, bail};
use std::path::PathBuf;

/// The size of one category's chart, and charts side by side.
const SIZE: [f64; 2] = [460.0, 260.0];
const COLUMNS: usize = 3;
/// Bins of a histogram of one to two thousand dimensions.
const BINS: usize = 48;

/// The standard deviations of one model's dimensions.
struct Spread {
    category: String,
    seed: u64,
    before: Vec<f64>,
    after: Vec<f64>,
}

/// Whether the run's models have an adaptor to look behind.
pub(super) fn check(run: &Run) -> Result<(), Impossible> {
    if run.record.spec.settings.training.adaptor == AdaptorKind::None {
        return Err(Impossible(
            "the models of this run have no adaptor (--adaptor none), so there is no before and after"
                .to_owned(),
        ));
    }
    Ok(())
}

/// Passes every training image through backbone and adaptor, and draws `figure-4.svg` and `figure-4.csv`.
pub(super) fn draw<B: Backend<Scalar = f32>>(
    backend: &B,
    run: &Run,
    weights: Option<&str>,
    console: &Console,
) -> anyhow::Result<Vec<PathBuf>> {
    let mut spreads = Vec::new();
    let known = run.record.spec.data.categories()?;
    for name in run.results.categories() {
        let Some(category) = known.iter().find(|category| category.name == name) else {
            bail!(
                "the category {name} is no longer in {}; put its images back, or train anew",
                run.record.spec.data.description()
            );
        };
        spreads.extend(of_category(backend, run, category, weights, console)?);
    }
    let files = vec![run.write_chart("figure-4.svg", &chart(run, &spreads))?, write_csv(run, &spreads)?];
    Ok(files)
}

/// The spreads of a category's models, one a seed; the features before the adaptor are the same for all.
fn of_category<B: Backend<Scalar = f32>>(
    backend: &B,
    run: &Run,
    category: &Category,
    weights: Option<&str>,
    console: &Console,
) -> anyhow::Result<Vec<Spread>> {
    let file = |seed: u64| run.model_folder(&category.name, seed).join("model.safetensors");
    let seeds: Vec<u64> = run.results.of_category(&category.name).map(|row| row.seed).collect();
    let first = seeds.first().context("a category with results has a seed")?;
    let (model, detector) = load_detector(backend, &file(*first), weights)?;
    let features = features(backend, run, category, &model, &detector, console)?;
    let batch = model.metadata.settings.training.batch;
    let mut spreads = Vec::new();
    for seed in seeds {
        let model = Model::load(&file(seed))?;
        let head = Head::from_tensors(backend, model.metadata.head, &model.head)?;
        let [before, after] = spread(backend, &features, &head, batch)?.with_context(|| {
            format!("{}: one feature does not spread; train on more images", category.name)
        })?;
        spreads.push(Spread { category: category.name.clone(), seed, before, after });
    }
    Ok(spreads)
}

/// The features of the training images, as the training saw them.
fn features<B: Backend<Scalar = f32>>(
    backend: &B,
    run: &Run,
    category: &Category,
    model: &Model,
    detector: &Detector<B>,
    console: &Console,
) -> anyhow::Result<Features<B>> {
    let spec = &run.record.spec;
    let mut loader = LoaderOptions::new(model.metadata.settings.features.preprocess);
    loader.exif = if spec.ignore_exif { Exif::Ignore } else { Exif::Apply };
    let mut cache = run.folder.cache_options(spec);
    cache.spill_folder.clone_from(&run.output);
    let mut task = console.task(&format!("{}: features", category.name), category.train.len() as u64);
    let mut progress = |done: usize| task.set(done as u64, "");
    let features =
        extract_features(backend, detector.extractor(), &category.train, loader, &cache, &mut progress)?;
    for (_, error) in &features.skipped {
        task.warn(format_args!("skipped: {error}"));
    }
    if features.images.is_empty() {
        bail!("none of the training images of {} can be read any more", category.name);
    }
    Ok(features)
}

/// The standard deviation of each dimension over all positions of all images, multiplied as the head's training saw them:
/// before and after the adaptor. None where there is but one position.
fn spread<B: Backend<Scalar = f32>>(
    backend: &B,
    features: &Features<B>,
    head: &Head<B>,
    batch: usize,
) -> anyhow::Result<Option<[Vec<f64>; 2]>> {
    let HeadConfig { channels, feature_scale, .. } = head.config();
    let (mut before, mut after) = (ColumnSpread::new(channels), ColumnSpread::new(channels));
    let order: Vec<u32> = (0..features.images.len() as u32).collect();
    let mut schedule = backend.schedule(order.len(), batch)?;
    backend.begin_epoch(&mut schedule, &Epoch { order: &order, first_step: 0, done: 0 })?;
    for images in order.chunks(batch) {
        let rows = backend.gather_rows(&features.cache, &schedule, images.len(), feature_scale)?;
        backend.end_step(&mut schedule)?;
        before.add(backend.download(&rows)?.data());
        let adapted = head.adapt(backend, &rows)?.context("the adaptor was checked to be there")?;
        after.add(backend.download(&adapted)?.data());
    }
    Ok(before.std().zip(after.std()).map(|(before, after)| [before, after]))
}

/// A histogram a category, all seeds together.
fn chart(run: &Run, spreads: &[Spread]) -> String {
    let categories = run.results.categories();
    let chart_of = |category: &str| {
        let pooled = |values: fn(&Spread) -> &[f64]| -> Vec<f64> {
            let of_category = spreads.iter().filter(|spread| spread.category == category);
            of_category.flat_map(|spread| values(spread).iter().copied()).collect()
        };
        let distributions = vec![
            Distribution {
                name: "before the adaptor".to_owned(),
                tone: Tone::Primary,
                values: pooled(|spread| &spread.before),
            },
            Distribution {
                name: "after".to_owned(),
                tone: Tone::Defect,
                values: pooled(|spread| &spread.after),
            },
        ];
        Histogram {
            description: format!(
                "{category}: standard deviation of each feature dimension before and after the adaptor"
            ),
            x_label: "standard deviation of a dimension".to_owned(),
            y_label: "dimensions, %".to_owned(),
            distributions,
            x_includes: vec![0.0],
            bins: BINS,
            size: SIZE,
        }
        .render()
    };
    let all: Vec<Panel> = categories
        .iter()
        .map(|category| Panel { title: (*category).to_owned(), chart: chart_of(category) })
        .collect();
    let description = format!(
        "{}: standard deviation of each dimension of the training features before and after the adaptor",
        run.name()
    );
    panels(&description, &all, SIZE, COLUMNS)
}

/// A line a model and dimension.
fn write_csv(run: &Run, spreads: &[Spread]) -> anyhow::Result<PathBuf> {
    let path = run.output.join("figure-4.csv");
    write_whole(&path, |out| {
        let mut csv = csv::Writer::from_writer(out);
        csv.write_record(["category", "seed", "dimension", "before", "after"])?;
        for Spread { category, seed, before, after } in spreads {
            for (dimension, (before, after)) in before.iter().zip(after).enumerate() {
                let numbers =
                    [seed.to_string(), dimension.to_string(), before.to_string(), after.to_string()];
                csv.write_record(std::iter::once(category).chain(&numbers))?;
            }
        }
        csv.flush()
    })?;
    Ok(path)
}
