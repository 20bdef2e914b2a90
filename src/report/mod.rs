//! What a user looks at after a run: tables, score maps, overlays, charts and the HTML page.
//!
//! Everything here takes plain values (numbers, images, slices) and gives text, pictures or files. Nothing here
//! computes a score or a metric, and nothing here decides: verdicts, thresholds and boxes come from the detector.

pub mod colormap;
pub mod comparison;
pub mod contour;
pub mod draw;
pub mod escape;
pub mod font;
pub mod geometry;
pub mod html;
pub mod jsonl;
pub mod maps;
pub mod markdown;
pub mod metric;
pub mod overlay;
mod panel;
pub mod published;
pub mod qualitative;
pub mod results;
pub mod scores;
pub mod svg;
pub mod sweep;
pub mod table;
pub mod training_log;
