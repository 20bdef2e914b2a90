//! Figure 8: examples of every category, with the map outlined at the threshold that the paper draws.

use super::super::console::Console;
use super::super::evaluation::relative;
use super::super::run_folder::DataSource;
use super::{Impossible, Run};
use crate::data::{Category, Exif, Mask, TestImage, decode};
use crate::files::write_whole;
use crate::metrics::{F1Max, LabelledMap, MetricError, Ranking};
use crate::report::colormap::{ColorScale, median};
use crate::report::jsonl::read_lines;
use crate::report::maps::{StoredMap, read_map};
use crate::report::qualitative::{Example, Row, Source, render};
use crate::report::scores::ImageScore;
use anyhow::{Context, bail};
use image::ImageFormat;
use std::collections::HashMap;
use std::io::Cursor;
use std::path::PathBuf;

/// A test image that has a map and, if it is defective, a mask.
struct Tested<'a> {
    image: &'a TestImage,
    map: StoredMap,
    mask: Option<Mask>,
}

/// Draws `figure-8.png`.
pub(super) fn draw(run: &Run, most: usize, console: &Console) -> anyhow::Result<Vec<PathBuf>> {
    let spec = &run.record.spec;
    if !spec.evaluation.maps {
        let reason = match spec.data {
            DataSource::OneClass { .. } => {
                "one-class models are tested by their image scores, and make no maps"
            }
            _ => {
                "the run kept no maps: it is a point of a sweep, or was trained with --no-maps; train again without it, into \
                 another --output, and they are written"
            }
        };
        return Err(Impossible(reason.to_owned()).into());
    }
    let known = spec.data.categories()?;
    let mut rows = Vec::new();
    for name in run.results.categories() {
        let Some(category) = known.iter().find(|category| category.name == name) else {
            bail!("the category {name} is no longer in {}; put its images back", spec.data.description());
        };
        let mut task = console.task(&format!("{name}: maps"), category.test.len() as u64);
        match row(run, category, most, &mut |done| task.set(done, ""))? {
            Some(row) => rows.push(row),
            None => task.warn(format_args!(
                "figure 8 leaves {name} out: its test set has no defective image with a mask, or no other pixel"
            )),
        }
    }
    if rows.is_empty() {
        return Err(Impossible(
            "no category has a defective test image with a mask, so there is no ground truth to draw"
                .to_owned(),
        )
        .into());
    }
    let title = format!("{}: {}", run.name(), run.record.backbone.architecture);
    let mut notes = vec![
        "outlined: the threshold of the best pixel F1 on the test set itself. THIS THRESHOLD USES TEST LABELS.",
        "examples: the first images of each kind of defect by name, not chosen by their scores",
    ];
    if run.results.rows.iter().any(|row| row.not_inspected.is_some_and(|share| share > 0.005)) {
        notes.push("what the crop leaves out of an image counts as scored lowest");
    }
    if run.record.synthetic_data {
        notes.push("synthetic demo data");
    }
    if run.results.selected_on_test() {
        notes.push("SELECTED ON THE TEST SET");
    }
    let mut png = Cursor::new(Vec::new());
    render(&title, &notes, &rows)
        .write_to(&mut png, ImageFormat::Png)
        .context("cannot encode the picture")?;
    let path = run.output.join("figure-8.png");
    write_whole(&path, |out| out.write_all(png.get_ref()))?;
    Ok(vec![path])
}

/// The row of a category; none where its maps and masks do not tell defects from the rest.
fn row(
    run: &Run,
    category: &Category,
    most: usize,
    progress: &mut dyn FnMut(u64),
) -> anyhow::Result<Option<Row>> {
    let tested = tested(run, category, progress)?;
    let Some(best) = best_threshold(&tested)? else { return Ok(None) };
    // The F1 counts what is at the threshold, an outline what is above its level.
    let level = best.threshold.next_down();
    let scale = ColorScale::new(typical(&tested), best.threshold);
    let exif = exif(run);
    let mut examples = Vec::new();
    for index in chosen(&tested, most) {
        let Tested { image, map, mask: Some(mask) } = &tested[index] else { continue };
        let picture = decode(&image.path, exif)?;
        if picture.dimensions() != mask.dimensions() {
            bail!("{} has changed since it was scored; test the models again", image.path.display());
        }
        let label = &image.kind;
        examples.push(Example::draw(Source { label, image: &picture, mask, map: map.view(), level, scale }));
    }
    let detail = format!(
        "threshold {:.3}, which uses test labels (pixel F1 {:.1} %)",
        best.threshold,
        100.0 * best.f1
    );
    Ok(Some(Row { name: category.name.clone(), detail, examples }))
}

fn exif(run: &Run) -> Exif {
    if run.record.spec.ignore_exif { Exif::Ignore } else { Exif::Apply }
}

/// The test images whose maps the run keeps (those of its first seed), in the data's order. Defective ones without a
/// mask are left out, as they are of pixel metrics.
fn tested<'a>(
    run: &Run,
    category: &'a Category,
    progress: &mut dyn FnMut(u64),
) -> anyhow::Result<Vec<Tested<'a>>> {
    let first = run.record.spec.seeds[0];
    let scores: Vec<ImageScore> = read_lines(&run.model_folder(&category.name, first).join("scores.jsonl"))?;
    let lines: HashMap<&str, &ImageScore> = scores.iter().map(|line| (line.path.as_str(), line)).collect();
    let mut tested = Vec::new();
    for (index, image) in category.test.iter().enumerate() {
        progress(index as u64 + 1);
        let Some(&line) = lines.get(relative(&image.path, &category.root).as_str()) else { continue };
        let Some(map) = &line.map else { continue };
        // A mask that could not be read counted as none.
        if image.is_defect && !line.has_mask {
            continue;
        }
        let map = read_map(&run.folder.root().join(map))?;
        let size = (map.view().width(), map.view().height());
        let mask = match &image.mask {
            Some(mask) if image.is_defect => Some(Mask::load(mask, exif(run), size)?),
            _ => None,
        };
        tested.push(Tested { image, map, mask });
    }
    Ok(tested)
}

/// The threshold of the best F1 over all pixels of all images at their original size; none where one class is absent.
fn best_threshold(tested: &[Tested<'_>]) -> anyhow::Result<Option<F1Max>> {
    let masks: Vec<Vec<bool>> = tested
        .iter()
        .map(|tested| match &tested.mask {
            Some(mask) => mask.pixels().collect(),
            None => vec![false; tested.map.view().values().len()],
        })
        .collect();
    let mut maps = Vec::new();
    for (tested, mask) in tested.iter().zip(&masks) {
        let view = tested.map.view();
        maps.push(LabelledMap::new(view.values(), mask, view.width() as usize, view.height() as usize)?);
    }
    match Ranking::of_pixels(&maps) {
        Ok(ranking) => Ok(Some(ranking.f1_max())),
        Err(MetricError::OnlyOneClass { .. } | MetricError::Empty) => Ok(None),
        Err(error) => Err(error).context("the maps cannot be measured"),
    }
}

/// The level of good material: the median of the medians of good images' maps, or of all where no good one was tested.
fn typical(tested: &[Tested<'_>]) -> f32 {
    let medians = |good_only: bool| -> Vec<f32> {
        let of = tested.iter().filter(|tested| !good_only || !tested.image.is_defect);
        of.filter_map(|tested| median(&mut tested.map.view().values().to_vec())).collect()
    };
    let mut known = medians(true);
    if known.is_empty() {
        known = medians(false);
    }
    median(&mut known).unwrap_or_default()
}

/// At most `most` images with masks: the first of each kind of defect, then the second of each, and so on; in the
/// order of kinds.
fn chosen(tested: &[Tested<'_>], most: usize) -> Vec<usize> {
    // (how many of its kind came before, position)
    let mut ranked: Vec<(usize, usize)> = Vec::new();
    for (index, image) in tested.iter().enumerate().filter(|(_, tested)| tested.mask.is_some()) {
        let same = |&&(_, other): &&(usize, usize)| tested[other].image.kind == image.image.kind;
        ranked.push((ranked.iter().filter(same).count(), index));
    }
    ranked.sort_unstable();
    let mut indices: Vec<usize> = ranked.into_iter().take(most).map(|(_, index)| index).collect();
    indices.sort_unstable();
    indices
}
