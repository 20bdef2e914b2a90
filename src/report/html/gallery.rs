//! Overlays on the page: worst errors first, small, and no more than the page can carry.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{FilterType, resize};
use rayon::prelude::*;

use super::CategoryReport;
use crate::report::escape::{escape, href};
use crate::report::scores::{ImageKind, ImageScore, Outcome, score_text};

/// Where a picture is.
#[derive(Clone, Debug)]
pub enum Picture {
    /// In memory.
    Image(RgbImage),
    /// In a file, which is read only if the picture is chosen: a run's overlays do not fit in memory.
    File(PathBuf),
}

/// A scored image and its overlay.
#[derive(Clone, Debug)]
pub struct GalleryItem {
    /// The score.
    pub score: ImageScore,
    /// The overlay.
    pub picture: Picture,
}

/// Pictures of one category at most, whatever their size.
const MOST: usize = 24;
/// The longest side of a picture on the page, in pixels: twice what a column of the page shows, for sharp screens.
const SIDE: u32 = 1080;
/// The longest side where the room for a category is less than [`AMPLE`]: rather more pictures than sharper ones.
const SMALL_SIDE: u32 = 720;
/// Bytes for a category that let about a dozen pictures of the full side in.
const AMPLE: usize = 1_000_000;
/// JPEG quality: text and outlines stay clean, and a picture takes 40–100 KB.
const QUALITY: u8 = 76;

/// The gallery of a category as HTML, using at most `budget` bytes for pictures, which is reduced by what was used.
///
/// The order: missed defects, the most confidently missed first; false rejects likewise; then the rest, closest
/// to the threshold first, for those are the next to go wrong. Where the model has no threshold, defects come first,
/// the least suspicious ahead.
pub(super) fn section(category: &CategoryReport, budget: &mut usize) -> String {
    if category.gallery.is_empty() {
        return String::new();
    }
    let mut items: Vec<&GalleryItem> = category.gallery.iter().collect();
    items.sort_by(|a, b| {
        let (first, second) = (rank(&a.score), rank(&b.score));
        first.0.cmp(&second.0).then(first.1.total_cmp(&second.1)).then(a.score.path.cmp(&b.score.path))
    });
    items.truncate(MOST);
    let side = if *budget >= AMPLE { SIDE } else { SMALL_SIDE };
    let thumbnails: Vec<_> = items.par_iter().map(|item| thumbnail(&item.picture, side)).collect();
    let mut cards = String::new();
    let mut shown = 0;
    for (item, thumbnail) in items.iter().zip(thumbnails) {
        let Some(card) = card(&item.score, thumbnail, budget) else { break };
        cards.push_str(&card);
        shown += 1;
    }
    let left_out = category.gallery.len() - shown;
    let remark = match left_out {
        0 => String::new(),
        1 => " One image is left out to keep this page small; the run folder has it.".into(),
        n => format!(" {n} images are left out to keep this page small; the run folder has them."),
    };
    format!(
        "<h3>Images</h3>\n<p class=\"hint\">Missed defects first, then false rejects, then the images closest to the \
         threshold. In the score map the mark in the colour bar is the threshold; pink outlines what lies above \
         it, the yellow box its largest region.{remark}</p>\n<div class=\"gallery\">\n{cards}</div>\n"
    )
}

/// The place of an image in the gallery: smaller comes first.
fn rank(score: &ImageScore) -> (u8, f32) {
    let margin = match score.threshold {
        Some(threshold) => score.score - threshold,
        None => score.score,
    };
    match (score.outcome(), score.verdict, score.kind) {
        (Outcome::Missed, ..) => (0, margin),
        (Outcome::FalseReject, ..) => (1, -margin),
        (Outcome::Other, Some(_), _) => (2, margin.abs()),
        (Outcome::Other, None, ImageKind::Defective) => (3, margin),
        (Outcome::Other, None, _) => (4, -margin),
    }
}

/// One picture with its caption; none where the budget does not suffice for it.
fn card(
    score: &ImageScore,
    thumbnail: Result<Thumbnail, image::ImageError>,
    budget: &mut usize,
) -> Option<String> {
    let verdict = score.verdict.map_or_else(String::new, |verdict| verdict.to_string());
    let summary = format!(
        "{}: score {}, threshold {}, {}",
        score.path,
        score_text(Some(score.score)),
        score_text(score.threshold),
        if verdict.is_empty() { "no verdict" } else { &verdict }
    );
    let picture = match thumbnail {
        Ok(Thumbnail { data, width, height }) => {
            *budget = budget.checked_sub(data.len())?;
            let image = format!(
                "<img loading=\"lazy\" width=\"{width}\" height=\"{height}\" alt=\"{}\" \
                 src=\"data:image/jpeg;base64,{data}\">",
                escape(&summary)
            );
            match &score.overlay {
                Some(file) => format!("<a href=\"{}\">{image}</a>", href(file)),
                None => image,
            }
        }
        Err(error) => {
            format!("<p class=\"missing\">The overlay cannot be shown: {}</p>", escape(&error.to_string()))
        }
    };
    let (class, tag) = match score.outcome() {
        Outcome::Missed => ("error", "missed"),
        Outcome::FalseReject => ("error", "false reject"),
        Outcome::Other => ("", ""),
    };
    let tag = if tag.is_empty() { String::new() } else { format!(" <b class=\"tag\">{tag}</b>") };
    Some(format!(
        "<figure class=\"{class}\">{picture}<figcaption>{tag}<span>{}</span> <span class=\"muted\">{}</span> \
         <span class=\"number\">{} / {}</span></figcaption></figure>\n",
        escape(&score.path),
        escape(score.group()),
        score_text(Some(score.score)),
        score_text(score.threshold)
    ))
}

/// A picture as base64 of a JPEG, with its size in pixels.
struct Thumbnail {
    data: String,
    width: u32,
    height: u32,
}

/// A picture shrunk to at most `limit` pixels on its longest side.
fn thumbnail(picture: &Picture, limit: u32) -> Result<Thumbnail, image::ImageError> {
    let opened;
    let image = match picture {
        Picture::Image(image) => image,
        Picture::File(path) => {
            opened = image::open(path)?.to_rgb8();
            &opened
        }
    };
    let longest = image.width().max(image.height()).max(1);
    let shrunk;
    let image = if longest > limit {
        let side = |side: u32| ((u64::from(side) * u64::from(limit) / u64::from(longest)) as u32).max(1);
        shrunk = resize(image, side(image.width()), side(image.height()), FilterType::Triangle);
        &shrunk
    } else {
        image
    };
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, QUALITY).encode_image(image)?;
    Ok(Thumbnail { data: STANDARD.encode(jpeg), width: image.width(), height: image.height() })
}
