//! Figure 2: images a second against image AUROC.

use super::super::console::Console;
use super::super::model_folder::MODEL_FILE;
use super::super::run_folder::RunRecord;
use super::{Impossible, Run, selection_mark};
use crate::benchmark::{Network, PAPER_RATE, network};
use crate::report::comparison::Comparison;
use crate::report::metric::{MeanStd, Metric};
use crate::report::published::{self, SIMPLENET, Table};
use crate::report::results::Results;
use crate::report::svg::{LabelledPoint, ScatterPlot};
use crate::settings::{Preset, Settings};
use anyhow::{Context, bail};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// What of `bench --json` is drawn.
#[derive(Deserialize)]
struct BenchFile {
    results: Vec<Measured>,
}

/// One measurement.
#[derive(Deserialize)]
struct Measured {
    engine: String,
    scope: String,
    backbone: String,
    size: u32,
    /// Not told by others than this program, who are given the paper's.
    network: Option<Network>,
    precision: String,
    batch: usize,
    device: String,
    images_per_second: f64,
    images_per_second_low: f64,
    images_per_second_high: f64,
}

/// How good one run is.
#[derive(Clone)]
struct Quality {
    backbone: String,
    size: u32,
    network: Network,
    i_auroc: MeanStd,
    results: Results,
}

/// Draws `figure-2.svg`: a point a measurement whose network one of the runs was trained with.
pub(super) fn draw(
    run: &Run,
    bench: &[PathBuf],
    beside: &[PathBuf],
    console: &Console,
) -> anyhow::Result<Vec<PathBuf>> {
    let architecture = run.record.backbone.architecture;
    let model = match run.results.rows.first() {
        Some(row) => run.model_folder(&row.category, row.seed).join(MODEL_FILE),
        None => bail!("{} has no results", run.folder.root().display()),
    };
    let measure = format!("simplenet bench --model {} --json > bench.json", model.display());
    if bench.is_empty() {
        return Err(
            Impossible(format!("it needs a speed: run `{measure}` and give --bench bench.json")).into()
        );
    }
    let mut runs = vec![quality(&run.record, &run.results, run.folder.root())?];
    for root in beside {
        let other = Run::open(root, None, console)?;
        runs.push(quality(&other.record, &other.results, root)?);
    }
    let categories = |quality: &Quality| {
        let mut names: Vec<String> = quality.results.categories().into_iter().map(str::to_owned).collect();
        names.sort_unstable();
        names
    };
    if let Some(position) = runs.iter().position(|quality| categories(quality) != categories(&runs[0])) {
        bail!(
            "{} was tested on other categories than {}, and their means do not compare; give runs over the same data",
            beside[position - 1].display(),
            run.folder.root().display()
        );
    }
    let mut points = Vec::new();
    for path in bench {
        let before = points.len();
        for measured in read(path)? {
            points.extend(
                runs.iter()
                    .filter(|quality| fits(&measured, quality))
                    .map(|quality| point(&measured, quality)),
            );
        }
        if points.len() == before {
            console.warn(format_args!(
                "{}: no figure of scope model is of a run's network (this run: {architecture} at {} pixels, {})",
                path.display(),
                runs[0].size,
                in_words(&runs[0].network)
            ));
        }
    }
    if points.is_empty() {
        return Err(Impossible(format!(
            "no --bench file has a speed of {architecture} at {} pixels with {}; measure it with `{measure}`",
            runs[0].size,
            in_words(&runs[0].network)
        ))
        .into());
    }
    points.extend(paper(&runs[0].results));
    // One series has no legend: what it is stands with the axis.
    let only = &points[0].series;
    let on =
        if points.iter().all(|point| point.series == *only) { format!(" on {only}") } else { String::new() };
    let plot = ScatterPlot {
        description: format!("{}: images a second against image AUROC", run.name()),
        x_label: format!("images/s{on}, from images to maps in memory (logarithmic)"),
        y_label: "I-AUROC, %".to_owned(),
        log_x: true,
        points,
        size: [720.0, 420.0],
    };
    Ok(vec![run.write_chart("figure-2.svg", &plot.render())?])
}

fn quality(record: &RunRecord, results: &Results, root: &Path) -> anyhow::Result<Quality> {
    let Some(i_auroc) = results.overall(Metric::IAuroc) else {
        return Err(
            Impossible(format!("{} has no image AUROC: its data has no test set", root.display())).into()
        );
    };
    Ok(Quality {
        backbone: record.backbone.architecture.to_string(),
        size: record.spec.settings.features.preprocess.crop,
        network: network(&record.spec.settings),
        i_auroc,
        results: results.clone(),
    })
}

fn read(path: &Path) -> anyhow::Result<Vec<Measured>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read {}; check the path", path.display()))?;
    let file: BenchFile = serde_json::from_str(&text).with_context(|| {
        format!("{} is not what `simplenet bench --json` prints; write it anew", path.display())
    })?;
    Ok(file.results)
}

/// `levels=[2, 3], hidden=1024`.
fn in_words(network: &Network) -> String {
    network.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
}

/// Whether a speed is that of the network whose quality is known.
fn fits(measured: &Measured, quality: &Quality) -> bool {
    let told = measured.network.clone().unwrap_or_else(|| network(&Settings::preset(Preset::Paper)));
    measured.scope == "model"
        && measured.backbone == quality.backbone
        && measured.size == quality.size
        && told == quality.network
}

fn point(measured: &Measured, quality: &Quality) -> LabelledPoint {
    let MeanStd { mean, std, .. } = quality.i_auroc;
    // The device's first words; the rest is how it was set up.
    let device = measured.device.split([',', '(']).next().unwrap_or_default().trim();
    let engine = if measured.engine == "simplenet" { "" } else { &format!("{}, ", measured.engine) };
    LabelledPoint {
        label: format!("{}, batch {}{}", measured.backbone, measured.batch, selection_mark(&quality.results)),
        series: format!("{engine}{device}, {}", measured.precision),
        x: measured.images_per_second,
        x_range: Some([measured.images_per_second_low, measured.images_per_second_high]),
        y: 100.0 * mean,
        y_std: std.map(|std| 100.0 * std),
    }
}

/// The paper's own point, where the run is over all of MVTec AD as the paper's figure is.
fn paper(results: &Results) -> Option<LabelledPoint> {
    let comparison = Comparison::with_paper(results).ok()?;
    let whole = comparison.averages.iter().any(|row| row.name == "all" && row.pairs[0].ours.is_some());
    let i_auroc = published::find(Table::Methods, "mean", SIMPLENET)?.i_auroc?;
    whole.then(|| LabelledPoint {
        label: "paper, batch 1".to_owned(),
        series: "paper, RTX 3080 Ti".to_owned(),
        x: PAPER_RATE,
        x_range: None,
        y: i_auroc,
        y_std: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::published::{OBJECTS, TEXTURES};
    use crate::report::results::CategoryResult;

    #[test]
    fn the_papers_point_stands_beside_a_run_over_all_of_mvtec_ad_alone() {
        let row = |name: &&str| CategoryResult {
            category: (*name).to_owned(),
            i_auroc: Some(0.99),
            ..CategoryResult::default()
        };
        let mut results = Results { rows: TEXTURES.iter().chain(&OBJECTS).map(row).collect() };
        let point = paper(&results).unwrap();
        // Its Table 1 and its text: 99.6 % at 77 images/s.
        assert_eq!((point.x, point.y), (77.0, 99.6));
        results.rows.pop();
        assert!(paper(&results).is_none());
    }

    #[test]
    fn only_the_same_network_at_the_same_size_fits() {
        let measured = |scope: &str, backbone: &str, size| Measured {
            engine: "simplenet".to_owned(),
            scope: scope.to_owned(),
            backbone: backbone.to_owned(),
            size,
            network: None,
            precision: "f32".to_owned(),
            batch: 8,
            device: "CPU, 2 threads, fast convolutions".to_owned(),
            images_per_second: 10.0,
            images_per_second_low: 9.0,
            images_per_second_high: 11.0,
        };
        let quality = Quality {
            backbone: "resnet18".to_owned(),
            size: 224,
            network: network(&Settings::preset(Preset::Paper)),
            i_auroc: MeanStd { mean: 0.5, std: Some(0.25), count: 2 },
            results: Results::default(),
        };
        let selected = CategoryResult { selected_on_test: true, ..CategoryResult::default() };
        let selected = Quality { results: Results { rows: vec![selected] }, ..quality.clone() };
        let fitting = measured("model", "resnet18", 224);
        assert!(fits(&fitting, &quality));
        for other in [("files", "resnet18", 224), ("model", "resnet50", 224), ("model", "resnet18", 288)] {
            assert!(!fits(&measured(other.0, other.1, other.2), &quality), "{other:?}");
        }
        let marked = point(&fitting, &selected).label;
        assert_eq!(marked, "resnet18, batch 8, SELECTED ON THE TEST SET");
        let mut wide = Settings::preset(Preset::Paper);
        wide.training.hidden = 2048;
        let wide = Measured { network: Some(network(&wide)), ..measured("model", "resnet18", 224) };
        assert!(!fits(&wide, &quality));
        let point = point(&fitting, &quality);
        assert_eq!((point.label.as_str(), point.series.as_str()), ("resnet18, batch 8", "CPU, f32"));
        assert_eq!(
            (point.x, point.x_range, point.y, point.y_std),
            (10.0, Some([9.0, 11.0]), 50.0, Some(25.0))
        );
    }
}
