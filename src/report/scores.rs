//! `scores.jsonl`: a line an image.

use serde::{Deserialize, Serialize};

use super::geometry::Rect;
use super::jsonl::{is_false, null_is_nan};

/// What is known of an image before it is scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageKind {
    /// Labelled good.
    Good,
    /// Labelled defective.
    Defective,
    /// No label: an image given to `predict`.
    Unknown,
}

/// What the detector says of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Accepted.
    Ok,
    /// Rejected.
    Defect,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Ok => "OK",
            Self::Defect => "DEFECT",
        })
    }
}

/// The score of one image; read and written by [`super::jsonl`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageScore {
    /// The image, as it was found: relative to the data folder where there is one.
    pub path: String,
    /// Its label.
    pub kind: ImageKind,
    /// The kind of defect, which is the name of its folder; none for good and unlabelled images.
    pub defect: Option<String>,
    /// The image score, in raw units: higher is more anomalous. NaN is `null` in the file.
    #[serde(with = "null_is_nan")]
    pub score: f32,
    /// The image threshold that gave the verdict.
    pub threshold: Option<f32>,
    /// The verdict; none where the model has no threshold.
    pub verdict: Option<Verdict>,
    /// The box of the largest anomalous region, in pixels of the original image; in the file `box`.
    #[serde(rename = "box")]
    pub region: Option<Rect>,
    /// The largest value of the smoothed map, which the region threshold is compared with.
    pub map_max: Option<f32>,
    /// Whether a ground-truth mask was found; always false for good and unlabelled images.
    #[serde(default)]
    pub has_mask: bool,
    /// The overlay, relative to the run folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay: Option<String>,
    /// The float map, relative to the run folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<String>,
    /// Whether the model was picked on the test set (`--select test`); written only when it was.
    #[serde(default, skip_serializing_if = "is_false")]
    pub selected_on_test: bool,
}

/// How a labelled image fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Defective, and accepted.
    Missed,
    /// Good, and rejected.
    FalseReject,
    /// Judged as labelled, or there is no label or no verdict.
    Other,
}

impl ImageScore {
    /// Whether the verdict contradicts the label, and how.
    pub fn outcome(&self) -> Outcome {
        match (self.kind, self.verdict) {
            (ImageKind::Defective, Some(Verdict::Ok)) => Outcome::Missed,
            (ImageKind::Good, Some(Verdict::Defect)) => Outcome::FalseReject,
            _ => Outcome::Other,
        }
    }

    /// The row this image belongs to in a plot: its kind of defect, else its label.
    pub fn group(&self) -> &str {
        match (&self.defect, self.kind) {
            (Some(defect), _) => defect,
            (None, ImageKind::Good) => "good",
            (None, ImageKind::Defective) => "defective",
            (None, ImageKind::Unknown) => "unlabelled",
        }
    }
}

/// A score as people read it: three decimals, an en dash where there is none.
pub fn score_text(score: Option<f32>) -> String {
    match score {
        Some(score) if score.is_finite() => format!("{score:.3}"),
        _ => "–".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::jsonl::{read_lines, write_lines};
    use super::*;

    #[test]
    fn a_line_holds_what_was_measured_and_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scores.jsonl");
        let rejected = ImageScore {
            path: "test/crack/Überlauf 01.png".into(),
            kind: ImageKind::Defective,
            defect: Some("crack".into()),
            score: 0.1 + 0.2,
            threshold: Some(0.25),
            verdict: Some(Verdict::Defect),
            region: Some(Rect { x0: 1, y0: 2, x1: 30, y1: 40 }),
            map_max: None,
            has_mask: true,
            overlay: None,
            map: None,
            selected_on_test: false,
        };
        let missed = ImageScore { verdict: Some(Verdict::Ok), score: -3.5e-8, ..rejected.clone() };
        write_lines(&path, [&rejected, &missed]).unwrap();
        let back: Vec<ImageScore> = read_lines(&path).unwrap();
        assert_eq!(back, [rejected.clone(), missed.clone()]);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(r#""verdict":"defect","box":[1,2,30,40],"map_max":null"#), "{text}");
        assert_eq!((rejected.outcome(), missed.outcome()), (Outcome::Other, Outcome::Missed));
        assert_eq!((rejected.group(), score_text(Some(f32::NAN)).as_str()), ("crack", "–"));
    }
}
