//! The panels that pictures of scored images are put together from.

use image::imageops::{FilterType, resize};
use image::{GrayImage, RgbImage};

use super::colormap::{ColorScale, color_of_byte};
use super::contour::{Segment, contours, mask_outline};
use super::draw::{Color, TextStyle, blend, stroke};
use super::geometry::ScoreMap;
use crate::data::Mask;

pub(super) const BACKGROUND: Color = [20, 22, 26];
pub(super) const WELL: Color = [32, 35, 41];
pub(super) const INK: Color = [236, 238, 242];
pub(super) const MUTED: Color = [150, 156, 168];
const TRUTH: Color = [64, 224, 160];
const OUTLINE: Color = [255, 64, 129];

pub(super) const HEADING: TextStyle = TextStyle { cap_height: 13.0, color: INK, weight: 1.15 };
pub(super) const LABEL: TextStyle = TextStyle { cap_height: 10.5, color: MUTED, weight: 1.0 };

/// The image at the size of a panel: averaged when shrunk, its pixels kept as squares when enlarged.
pub(super) fn scaled_image(image: &RgbImage, [width, height]: [u32; 2]) -> RgbImage {
    resize(image, width, height, filter(image.width(), width))
}

fn filter(from: u32, to: u32) -> FilterType {
    if to > from { FilterType::Nearest } else { FilterType::Triangle }
}

/// The scale from the image to a panel.
fn ratio(panel: &RgbImage, width: u32, height: u32) -> [f32; 2] {
    [panel.width() as f32 / width as f32, panel.height() as f32 / height as f32]
}

/// The thickness of an outline: 2 pixels on a full panel, never under 1.25.
pub(super) fn pen(panel: &RgbImage) -> f32 {
    (panel.width().max(panel.height()) as f32 / 256.0).clamp(1.25, 3.0)
}

/// A bright line on a dark one, which shows on any background.
pub(super) fn outline(panel: &mut RgbImage, segments: &[Segment], color: Color) {
    let pen = pen(panel);
    stroke(panel, segments, pen + 2.0, [0; 3], 0.55);
    stroke(panel, segments, pen, color, 1.0);
}

/// The image with what the mask leaves dimmed, and the outline of the mask.
pub(super) fn truth(base: &RgbImage, mask: &Mask) -> RgbImage {
    let mut panel = base.clone();
    let [width, height] = [panel.width(), panel.height()];
    let (mask_width, mask_height) = mask.dimensions();
    let cover = resize(mask.as_image(), width, height, filter(mask_width, width));
    for (x, y, pixel) in cover.enumerate_pixels() {
        let inside = f32::from(pixel.0[0]) / 255.0;
        blend(&mut panel, x, y, [0; 3], 0.6 * (1.0 - inside));
        blend(&mut panel, x, y, TRUTH, 0.25 * inside);
    }
    let scale = ratio(&panel, mask_width, mask_height);
    let segments: Vec<Segment> = mask_outline(mask).into_iter().map(|s| s.placed(scale, [0.0; 2])).collect();
    outline(&mut panel, &segments, TRUTH);
    panel
}

/// The image in grey under its scores in the colours of `scale`.
pub(super) fn heat(base: &RgbImage, map: ScoreMap<'_>, scale: ColorScale) -> RgbImage {
    // Positions on the scale, not scores, are averaged: clamped to 0..1 they fit 8 bits, and the table has as many.
    let positions = map.values().iter().map(|&score| (255.0 * scale.position(score)).round() as u8);
    let raw: Vec<u8> = positions.collect();
    let mut panel = base.clone();
    if let Some(positions) = GrayImage::from_raw(map.width(), map.height(), raw) {
        let positions = resize(&positions, panel.width(), panel.height(), filter(map.width(), panel.width()));
        for (x, y, position) in positions.enumerate_pixels() {
            let [r, g, b] = panel.get_pixel(x, y).0.map(u32::from);
            // Rec. 601 luma; darkened, so that brightness is left to the scores.
            let luma = 0.72 * (299 * r + 587 * g + 114 * b) as f32 / 1000.0;
            panel.get_pixel_mut(x, y).0 = [luma.round() as u8; 3];
            let t = f32::from(position.0[0]) / 255.0;
            blend(&mut panel, x, y, color_of_byte(position.0[0]), 0.35 + 0.5 * (2.0 * t).min(1.0));
        }
    }
    panel
}

/// Outlines on a panel what lies above `level`.
pub(super) fn outline_above(panel: &mut RgbImage, map: ScoreMap<'_>, level: f32) {
    let scale = ratio(panel, map.width(), map.height());
    let segments: Vec<Segment> =
        contours(map, level).into_iter().map(|segment| segment.placed(scale, [0.0; 2])).collect();
    outline(panel, &segments, OUTLINE);
}
