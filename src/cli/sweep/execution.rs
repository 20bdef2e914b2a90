//! What a sweep does once everything is resolved: points that need the same features are trained together.

use super::progress::Progress;
use super::record::{PointRun, SweepRecord};
use crate::backbone::FeatureExtractor;
use crate::backend::Backend;
use crate::cli::backbone::{ResolvedBackbone, resolve_backbone};
use crate::cli::comparison;
use crate::cli::console::{Console, print, print_json};
use crate::cli::epoch_choice;
use crate::cli::evaluation::Evaluation;
use crate::cli::model_folder::{read_result, remove_earlier_marks, set_finished};
use crate::cli::model_training::Images;
use crate::cli::run_folder::{RunFolder, RunRecord};
use crate::cli::training_run::Run;
use crate::data::Category;
use crate::report::jsonl::write_lines;
use crate::report::results::Results;
use crate::report::sweep::{AxisValues, SweepReport, SweepRow};
use crate::settings::Selection;
use anyhow::bail;
use std::collections::BTreeMap;

/// A sweep in progress.
pub(super) struct Sweep<'a> {
    /// Where it goes.
    pub folder: &'a RunFolder,
    /// What it computes.
    pub record: &'a SweepRecord,
    /// Where progress is told.
    pub console: &'a Console,
}

/// A point that is trained.
struct PointInProgress<'a> {
    /// Its place in the grid.
    index: usize,
    run: Run<'a>,
    results: Results,
}

impl Sweep<'_> {
    /// Trains what is not finished yet; the results of every point, in the order of the grid.
    pub(super) fn execute<B: Backend<Scalar = f32>>(&self, backend: &B) -> anyhow::Result<Vec<SweepRow>> {
        let first = self.runs().next().map(|(_, _, record)| record);
        let Some(first) = first else { bail!("no point of this sweep can be trained here") };
        let console = self.console;
        console.say(format_args!(
            "sweep     {}: {} points",
            self.record.grid.title,
            self.record.grid.points.len()
        ));
        console.say(format_args!("data      {}", first.spec.data.description()));
        console.say(format_args!("device    {}", backend.description()));
        console.say(format_args!("output    {}", self.folder.root().display()));

        if let Some((_, _, selecting)) =
            self.runs().find(|(_, _, record)| record.spec.settings.training.select == Selection::Test)
        {
            epoch_choice::warn(&selecting.spec, console);
        }
        let mut results: BTreeMap<usize, Results> = BTreeMap::new();
        let categories = first.spec.data.categories()?;
        let models = self.runs().map(|(_, _, record)| record.spec.seeds.len() * categories.len()).sum();
        let mut progress = Progress::new(models);
        for category in categories {
            category.notes.iter().for_each(|note| console.warn(format_args!("{}: {note}", category.name)));
        }
        for group in self.groups()? {
            results.extend(self.group(backend, &group, &mut progress)?);
        }
        let rows = self.record.grid.points.iter().zip(&self.record.runs).enumerate();
        Ok(rows
            .map(|(index, (point, run))| SweepRow {
                label: point.label.clone(),
                values: point.values.clone(),
                results: results.remove(&index).unwrap_or_default(),
                published: self.record.grid.published(point),
                left_out: match run {
                    PointRun::LeftOut { reason } => Some(reason.clone()),
                    PointRun::Run { .. } => None,
                },
            })
            .collect())
    }

    /// Place, folder and record of every point that can be trained.
    fn runs(&self) -> impl Iterator<Item = (usize, &str, &RunRecord)> {
        self.record.runs.iter().enumerate().filter_map(|(index, run)| match run {
            PointRun::Run { folder, record } => Some((index, folder.as_str(), &**record)),
            PointRun::LeftOut { .. } => None,
        })
    }

    /// Points by the features they need, in the order of the first of each.
    fn groups(&self) -> anyhow::Result<Vec<Vec<usize>>> {
        let mut groups: Vec<(String, Vec<usize>)> = Vec::new();
        for (index, _, record) in self.runs() {
            let needed = serde_json::to_string(&(&record.backbone, &record.spec.settings.features))?;
            match groups.iter_mut().find(|(known, _)| *known == needed) {
                Some((_, members)) => members.push(index),
                None => groups.push((needed, vec![index])),
            }
        }
        Ok(groups.into_iter().map(|(_, members)| members).collect())
    }

    /// Trains the points of a group, category by category; a category's features are gone when the next begins.
    fn group<B: Backend<Scalar = f32>>(
        &self,
        backend: &B,
        members: &[usize],
        progress: &mut Progress,
    ) -> anyhow::Result<Vec<(usize, Results)>> {
        let chosen: Vec<_> = self.runs().filter(|(index, ..)| members.contains(index)).collect();
        let spec = &chosen[0].2.spec;
        let features = &spec.settings.features;
        let backbone = resolve_backbone(&spec.backbone, spec.weights.as_deref(), features.levels.deepest())?;
        if backbone.identity != chosen[0].2.backbone {
            bail!(
                "{} was begun with other weights of {} than those found now; put them back to continue it",
                self.folder.root().display(),
                backbone.identity.architecture
            );
        }
        let mut points = Vec::new();
        for (index, folder, record) in chosen {
            points.push(self.point(index, folder, record, &backbone)?);
        }
        let extractor = FeatureExtractor::new(
            backend,
            backbone.identity.architecture,
            &backbone.weights.tensors,
            features.levels.clone(),
            features.aggregation,
        )?;
        for category in spec.data.categories()? {
            self.category(backend, &extractor, &category, &mut points, progress)?;
        }
        for point in &points {
            point.run.write_results(&point.results)?;
        }
        Ok(points.into_iter().map(|point| (point.index, point.results)).collect())
    }

    fn point<'a>(
        &'a self,
        index: usize,
        folder: &str,
        record: &RunRecord,
        backbone: &'a ResolvedBackbone,
    ) -> anyhow::Result<PointInProgress<'a>> {
        let root = self.folder.root().join("points").join(folder);
        // A point's folder is a run folder like any other: `figures`, `test` and people read it as one.
        let folder = if root.join("run.json").exists() {
            let (folder, begun) = RunFolder::open(&root)?;
            // What is finished in there would pass for results of this sweep.
            if begun != *record {
                bail!("{} belongs to another sweep; remove it, or choose another --output", root.display());
            }
            folder
        } else {
            let folder = RunFolder::create(Some(&root))?;
            folder.write_json("run.json", record)?;
            folder
        };
        let run = Run { folder, record: record.clone(), backbone, console: self.console, json: false };
        Ok(PointInProgress { index, run, results: Results::default() })
    }

    /// Trains and tests every point and seed of a category that is not finished yet.
    fn category<B: Backend<Scalar = f32>>(
        &self,
        backend: &B,
        extractor: &FeatureExtractor<B>,
        category: &Category,
        points: &mut [PointInProgress<'_>],
        progress: &mut Progress,
    ) -> anyhow::Result<()> {
        let mut shared = None;
        for point in points {
            let (run, label) = (&point.run, &self.record.grid.points[point.index].label);
            let spec = &run.record.spec;
            for &seed in &spec.seeds {
                let model_folder = run.folder.model_folder(&category.name, seed, &spec.seeds);
                run.folder.tidy(&model_folder);
                if let Some(result) = read_result(&model_folder) {
                    remove_earlier_marks(&model_folder)?;
                    let place = progress.skip();
                    let name = &category.name;
                    self.console.say(format_args!("{place} {label}: {name}, seed {seed}: finished before"));
                    point.results.rows.push(result);
                    continue;
                }
                let place = progress.begin();
                self.console.say(format_args!("{place} {label}: {}, seed {seed}", category.name));
                if shared.is_none() {
                    let train = run.features(backend, extractor, category)?;
                    shared = Some((train, run.test_features(backend, extractor, category)?));
                }
                let Some((train, test)) = &shared else { unreachable!("just computed") };
                let images = Images { category, train, test: run.selects_on_test().then_some(test) };
                let (model, summary) = run.trained_model(backend, extractor, images, seed, &model_folder)?;
                let evaluation = Evaluation {
                    folder: &run.folder,
                    category,
                    model: &model.metadata,
                    spec: spec.evaluation,
                    strict: spec.strict,
                    synthetic: run.record.synthetic_data,
                };
                let evaluated = evaluation.run_on_features(backend, &model, test, self.console)?;
                write_lines(&model_folder.join("scores.jsonl"), &evaluated.scores)?;
                let result = summary.complete(evaluated.result);
                set_finished(&model_folder, &result)?;
                point.results.rows.push(result);
                progress.end();
            }
        }
        Ok(())
    }

    /// Writes tables and plots, and prints the table.
    pub(super) fn report(&self, rows: Vec<SweepRow>, json: bool) -> anyhow::Result<()> {
        let axes = self.record.grid.axes.iter();
        let report = SweepReport {
            title: self.record.grid.title.clone(),
            axes: axes
                .map(|axis| AxisValues {
                    key: axis.key.clone(),
                    values: axis.values.clone(),
                    numbers: axis.numbers(),
                })
                .collect(),
            rows,
            synthetic: self.runs().any(|(_, _, record)| record.synthetic_data),
        };
        let root = self.folder.root();
        report.write(root)?;
        if json {
            print_json(&report.summary())?;
        } else {
            print(&report.markdown())?;
        }
        if self.runs().any(|(_, _, record)| record.spec.evaluation.compare_with_paper) {
            let points = report.rows.iter().filter(|row| row.left_out.is_none());
            let points: Vec<_> = points.map(|row| (row.label.as_str(), &row.results)).collect();
            comparison::tell_points(self.folder, &points, json, self.console)?;
        }
        self.console
            .say(format_args!("\nresults   {}, sweep.csv, sweep.svg", root.join("sweep.md").display()));
        Ok(())
    }
}
