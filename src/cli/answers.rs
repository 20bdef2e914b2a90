//! What `predict` writes of images that were inspected: lines, overlays, maps.

use super::console::{Console, print};
use super::evaluation::{color_scale, save_picture};
use super::predict::PredictArgs;
use crate::data::{LoadedImage, Sample};
use crate::detector::{Detection, Inspected, ModelMetadata, Verdict, region, verdict};
use crate::report::geometry::ScoreMap;
use crate::report::jsonl::is_false;
use crate::report::maps::write_map;
use crate::report::overlay::{self, Overlay};
use anyhow::{Context, bail};
use rayon::prelude::*;
use serde::Serialize;
use std::path::Path;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// Bytes of an image's name in those of its pictures: with number and ending they stay below the 255 that file systems take.
const MOST_OF_NAME: usize = 240;

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
    #[serde(skip_serializing_if = "is_false")]
    selected_on_test: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// What was found.
#[derive(Default)]
pub(super) struct Counts {
    /// Images scored.
    pub images: usize,
    /// Of them, defective ones.
    pub defects: usize,
    /// Images that could not be read.
    pub unreadable: usize,
    /// The inspected shares of all images, added.
    pub inspected: f64,
}

/// What is said of one image.
struct Answer {
    line: String,
    defect: bool,
    /// The share of the image that was looked at; `None` where it could not be read.
    inspected: Option<f64>,
}

/// The side that writes.
pub(super) struct Answers<'a> {
    /// What to write, and where.
    pub args: &'a PredictArgs,
    /// Thresholds and colours.
    pub model: &'a ModelMetadata,
    /// Where warnings go.
    pub console: &'a Console,
}

impl Answers<'_> {
    /// Writes what is to be written of every batch, until there are no more, and counts. The time is that of its work.
    pub(super) fn write_all(&self, batches: Receiver<Vec<Inspected>>) -> anyhow::Result<(Counts, Duration)> {
        let (mut counts, mut busy) = (Counts::default(), Duration::ZERO);
        for mut batch in batches {
            let start = Instant::now();
            // Nothing behind an image that ends the run is answered.
            let unreadable = batch.iter().position(|inspected| inspected.loaded.result.is_err());
            if let (true, Some(first)) = (self.args.strict, unreadable) {
                batch.truncate(first + 1);
            }
            // A picture may take longer than its score; a line alone would only wait for a thread of the detector's.
            let answers: Vec<anyhow::Result<Answer>> = if self.makes_pictures() {
                batch.par_iter().map(|inspected| self.answer(inspected)).collect()
            } else {
                batch.iter().map(|inspected| self.answer(inspected)).collect()
            };
            let mut lines = String::new();
            for (inspected, answer) in batch.iter().zip(answers) {
                match (&inspected.loaded.result, self.args.strict) {
                    (Err(error), true) => {
                        print(&lines)?;
                        bail!("{error}");
                    }
                    (Err(error), false) => self.console.warn(format_args!("skipped: {error}")),
                    _ => {}
                }
                let Answer { line, defect, inspected: share } = match answer {
                    Ok(answer) => answer,
                    Err(error) => {
                        print(&lines)?;
                        return Err(error);
                    }
                };
                counts.images += usize::from(share.is_some());
                counts.unreadable += usize::from(share.is_none());
                counts.defects += usize::from(defect);
                counts.inspected += share.unwrap_or(0.0);
                lines += &line;
                lines.push('\n');
            }
            print(&lines)?;
            busy += start.elapsed();
        }
        Ok((counts, busy))
    }

    fn makes_pictures(&self) -> bool {
        self.args.overlays.is_some() || self.args.maps.is_some()
    }

    /// The line of one image.
    fn answer(&self, Inspected { loaded, detection }: &Inspected) -> anyhow::Result<Answer> {
        match &loaded.result {
            Ok(sample) => {
                let detection = detection.as_ref().context("the detector answers for every image")?;
                self.picture(loaded, sample, detection)
            }
            Err(error) => {
                let line = serde_json::to_string(&Line {
                    path: loaded.path.to_string_lossy().into_owned(),
                    score: None,
                    threshold: None,
                    verdict: None,
                    region: None,
                    inspected: None,
                    overlay: None,
                    map: None,
                    selected_on_test: self.model.selected_on_test(),
                    error: Some(error.to_string()),
                })?;
                Ok(Answer { line, defect: false, inspected: None })
            }
        }
    }

    /// The line of an image that was scored, its pictures written.
    fn picture(
        &self,
        loaded: &LoadedImage,
        sample: &Sample,
        detection: &Detection,
    ) -> anyhow::Result<Answer> {
        let geometry = &sample.geometry;
        let thresholds = &self.model.thresholds;
        let verdict = verdict(detection.score, thresholds);
        let region = region(&detection.map, geometry, thresholds, verdict);
        let original_map =
            if self.makes_pictures() { geometry.to_original(&detection.map) } else { Vec::new() };
        let (width, height) = geometry.original_size();
        let name = loaded.path.file_name().unwrap_or_default().to_string_lossy();
        // Numbered, since files of one name may come from many folders; and of the text that the JSON can hold.
        let ends = name.char_indices().map(|(begin, character)| begin + character.len_utf8());
        let stem = &name[..ends.take_while(|&end| end <= MOST_OF_NAME).last().unwrap_or(0)];
        let output = |folder: &Path, ending: &str| folder.join(format!("{:06}-{stem}{ending}", loaded.index));
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
        let line = serde_json::to_string(&Line {
            path: loaded.path.to_string_lossy().into_owned(),
            score: Some(detection.score),
            threshold: thresholds.image,
            verdict,
            region,
            inspected: Some(geometry.inspected_fraction()),
            overlay: picture.as_deref(),
            map: map.as_deref(),
            selected_on_test: self.model.selected_on_test(),
            error: None,
        })?;
        let defect = verdict == Some(Verdict::Defect);
        Ok(Answer { line, defect, inspected: Some(geometry.inspected_fraction()) })
    }
}
