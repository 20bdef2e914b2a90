//! One picture a scored image: the image, its ground truth, the score map and the decision, side by side.

use image::RgbImage;

use super::colormap::{ColorScale, color_of_byte};
use super::contour::Segment;
use super::draw::{Color, blend, fill, frame, stroke};
use super::geometry::{Rect, ScoreMap};
use super::panel::{
    BACKGROUND, HEADING, INK, LABEL, MUTED, WELL, heat, outline, outline_above, pen, scaled_image, truth,
};
use super::scores::{Verdict, score_text};
use crate::data::Mask;

/// Everything an overlay shows. Map, mask and rectangles are in the geometry of `image`.
#[derive(Clone, Copy, Debug)]
pub struct Overlay<'a> {
    /// The file name.
    pub name: &'a str,
    /// The image.
    pub image: &'a RgbImage,
    /// The smoothed scores.
    pub map: ScoreMap<'a>,
    /// The ground truth, where the image is defective and has a mask.
    pub mask: Option<&'a Mask>,
    /// The image score.
    pub score: f32,
    /// The threshold on the image score.
    pub image_threshold: Option<f32>,
    /// The threshold that the map is outlined at.
    pub map_threshold: Option<f32>,
    /// The verdict.
    pub verdict: Option<Verdict>,
    /// The colours of scores, the same for every overlay of a run.
    pub scale: ColorScale,
    /// The box of the largest region.
    pub region: Option<Rect>,
    /// What the detector looked at; the rest is shaded. None: everything.
    pub inspected: Option<Rect>,
    /// A remark for the header, such as that the model was selected on the test set; may be empty.
    pub note: &'a str,
}

/// The longest side of a panel; 1024 where panels of a long image are stacked.
const PANEL: u32 = 512;
/// Images smaller than this are enlarged by a whole factor, so that their pixels can be told apart.
const SMALL: u32 = 320;
/// The smallest area a panel is given on the picture, however thin its image is.
const LEAST: [u32; 2] = [160, 24];
const MARGIN: u32 = 14;
const GAP: u32 = 10;
/// The caption below a panel.
const CAPTION: u32 = 30;
/// The colour bar beside the caption of the score map.
const BAR: [u32; 2] = [120, 9];
/// One line of the header.
const LINE: u32 = 32;

const GREEN: Color = [34, 139, 84];
const RED: Color = [208, 52, 56];
const BOX: Color = [255, 214, 10];

/// Where things go: sizes in pixels of the picture.
struct Layout {
    /// The scaled image.
    scaled: [u32; 2],
    /// The area of a panel, which the scaled image is centred in.
    panel: [u32; 2],
    stacked: bool,
}

impl Layout {
    fn of(width: u32, height: u32) -> Self {
        // Beyond 2 : 1 four panels side by side would be a ribbon.
        let stacked = u64::from(width) > 2 * u64::from(height);
        let limit = if stacked { 2 * PANEL } else { PANEL };
        let longest = width.max(height);
        let scaled = if longest > limit {
            let shrunk = |side: u32| {
                let exact = f64::from(side) * f64::from(limit) / f64::from(longest);
                (exact.round() as u32).max(1)
            };
            [shrunk(width), shrunk(height)]
        } else {
            let factor = (SMALL / longest).max(1);
            [width * factor, height * factor]
        };
        let panel = [scaled[0].max(LEAST[0]), scaled[1].max(LEAST[1])];
        Self { scaled, panel, stacked }
    }

    /// The upper left corner of panel `index` below a header of the given height.
    fn origin(&self, index: u32, header: u32) -> [u32; 2] {
        let [column, row] = if self.stacked { [0, index] } else { [index, 0] };
        [MARGIN + column * (self.panel[0] + GAP), header + row * (self.panel[1] + CAPTION)]
    }

    /// The size of the picture.
    fn picture(&self, panels: u32, header: u32) -> [u32; 2] {
        let [x, y] = self.origin(panels - 1, header);
        [x + self.panel[0] + MARGIN, y + self.panel[1] + CAPTION + MARGIN / 2]
    }
}

/// Draws the overlay.
///
/// Panels: the image; the ground truth where there is a mask; the image in grey under the score map, in the colours
/// of `scale`; the image with the outline of the map at its threshold and the box. They stand side by side, or one
/// above the other where the image is more than twice as wide as high. Above them the file name, the
/// verdict, the score and its threshold. Panels are at most 512 pixels on a side (1024 when stacked).
///
/// # Panics
/// If `map` or `mask` has another size than `image`: a fault of the caller.
pub fn render(overlay: &Overlay<'_>) -> RgbImage {
    let (width, height) = overlay.image.dimensions();
    assert_eq!(
        (overlay.map.width(), overlay.map.height()),
        (width, height),
        "the map must have the image's size"
    );
    let layout = Layout::of(width, height);
    let base = scaled_image(overlay.image, layout.scaled);
    let mut panels = vec![("image", base.clone())];
    if let Some(mask) = overlay.mask {
        assert_eq!(mask.dimensions(), (width, height), "the mask must have the image's size");
        panels.push(("ground truth", truth(&base, mask)));
    }
    let mut heat = heat(&base, overlay.map, overlay.scale);
    let mut decision = decision_panel(&base, overlay);
    if let Some(inspected) = overlay.inspected {
        let inspected = placed(inspected, layout.scaled, [width, height]);
        shade_outside(&mut heat, inspected);
        shade_outside(&mut decision, inspected);
    }
    panels.push(("score map", heat));
    panels.push(("decision", decision));

    let count = panels.len() as u32;
    let inner = layout.picture(count, 0)[0] - 2 * MARGIN;
    let header = Header::of(overlay, inner as f32);
    let [picture_width, picture_height] = layout.picture(count, header.height());
    let mut picture = RgbImage::from_pixel(picture_width, picture_height, image::Rgb(BACKGROUND));
    header.draw(&mut picture, inner as f32);
    for (index, (caption, panel)) in panels.iter().enumerate() {
        let [x, y] = layout.origin(index as u32, header.height());
        fill(&mut picture, [x, y, x + layout.panel[0], y + layout.panel[1]], WELL, 1.0);
        let left = x + (layout.panel[0] - layout.scaled[0]) / 2;
        let top = y + (layout.panel[1] - layout.scaled[1]) / 2;
        image::imageops::replace(&mut picture, panel, i64::from(left), i64::from(top));
        let baseline = (y + layout.panel[1] + 9) as f32;
        LABEL.draw(&mut picture, x as f32, baseline, caption);
        let bar = LABEL.width(caption).ceil() as u32 + 14;
        if *caption == "score map" && bar + BAR[0] <= layout.panel[0] {
            color_bar(&mut picture, x + bar, y + layout.panel[1] + 10);
        }
    }
    picture
}

fn decision_panel(base: &RgbImage, overlay: &Overlay<'_>) -> RgbImage {
    let mut panel = base.clone();
    let (width, height) = (overlay.map.width(), overlay.map.height());
    if let Some(level) = overlay.map_threshold {
        outline_above(&mut panel, overlay.map, level);
    }
    if let Some(region) = overlay.region {
        let [x0, y0, x1, y1] = placed(region, [panel.width(), panel.height()], [width, height]);
        // The pen runs along the middle of the border pixels, so the frame stays on the panel.
        let half = 0.5 * pen(&panel);
        let box_lines = frame([x0 + half, y0 + half, (x1 - half).max(x0 + half), (y1 - half).max(y0 + half)]);
        outline(&mut panel, &box_lines, BOX);
    }
    panel
}

/// A rectangle of the image on a panel.
fn placed(rect: Rect, panel: [u32; 2], image: [u32; 2]) -> [f32; 4] {
    let scale = [panel[0] as f32 / image[0] as f32, panel[1] as f32 / image[1] as f32];
    let [x0, y0, x1, y1]: [u32; 4] = rect.into();
    [x0 as f32 * scale[0], y0 as f32 * scale[1], x1 as f32 * scale[0], y1 as f32 * scale[1]]
}

/// Dims and hatches what lies outside a rectangle, and draws its border.
fn shade_outside(panel: &mut RgbImage, inspected: [f32; 4]) {
    let [x0, y0, x1, y1] = inspected.map(|edge| edge.round() as u32);
    if x0 == 0 && y0 == 0 && x1 >= panel.width() && y1 >= panel.height() {
        return;
    }
    for y in 0..panel.height() {
        for x in 0..panel.width() {
            if (x0..x1).contains(&x) && (y0..y1).contains(&y) {
                continue;
            }
            blend(panel, x, y, BACKGROUND, 0.72);
            if (x + y) % 8 < 1 {
                blend(panel, x, y, MUTED, 0.4);
            }
        }
    }
    let [left, top, right, bottom] = inspected;
    stroke(panel, &frame([left, top, right, bottom]), 1.0, INK, 0.55);
}

/// The colours from the typical level to twice the distance of the threshold, with a mark at the threshold.
fn color_bar(picture: &mut RgbImage, left: u32, top: u32) {
    let [width, height] = BAR;
    for x in 0..width {
        let color = color_of_byte((255 * x / (width - 1)) as u8);
        fill(picture, [left + x, top, left + x + 1, top + height], color, 1.0);
    }
    let middle = left + width / 2;
    fill(picture, [middle - 1, top - 3, middle + 1, top + height + 3], INK, 1.0);
}

/// File name, verdict and score, on one line or, where the picture is narrow, on two.
struct Header {
    name: String,
    verdict: Option<Verdict>,
    score: String,
    note: String,
    /// Whether the name has a line of its own.
    two_lines: bool,
}

impl Header {
    fn of(overlay: &Overlay<'_>, width: f32) -> Self {
        // The font has no en dash.
        let ascii = |score| score_text(score).replace('–', "-");
        let mut score = format!("score {}", ascii(Some(overlay.score)));
        let chip = overlay.verdict.map_or(0.0, chip_width);
        if overlay.image_threshold.is_some() {
            let both = format!("{score}  threshold {}", ascii(overlay.image_threshold));
            // Rather one number than half of another.
            if chip + HEADING.width(&both) <= width {
                score = both;
            }
        }
        let right = chip + HEADING.width(&score);
        // Twelve characters of a name are worth a line of their own.
        let two_lines =
            width - right < HEADING.width("012345678901").max(HEADING.width(overlay.name).min(0.5 * width));
        let name_width = if two_lines { width } else { width - right - 16.0 };
        Self {
            name: HEADING.fitted(overlay.name, name_width),
            verdict: overlay.verdict,
            score,
            note: LABEL.fitted(overlay.note, width),
            two_lines,
        }
    }

    fn height(&self) -> u32 {
        let lines = 1 + u32::from(self.two_lines) + u32::from(!self.note.is_empty());
        MARGIN + lines * LINE
    }

    fn draw(&self, picture: &mut RgbImage, width: f32) {
        let left = MARGIN as f32;
        let mut y = MARGIN as f32;
        HEADING.draw(picture, left, y, &self.name);
        let chip = self.verdict.map_or(0.0, chip_width);
        let x = if self.two_lines {
            y += LINE as f32;
            left
        } else {
            left + width - chip - HEADING.width(&self.score)
        };
        if let Some(verdict) = self.verdict {
            let color = if verdict == Verdict::Ok { GREEN } else { RED };
            // A thick line with round ends is the rounded badge.
            let middle = y + 0.5 * HEADING.cap_height;
            let (from, to) = ([x + 11.0, middle], [x + chip - 14.0 - 11.0, middle]);
            stroke(picture, &[Segment { from, to }], 23.0, color, 1.0);
            HEADING.draw(picture, x + 11.0, y, &verdict.to_string());
        }
        HEADING.draw(picture, x + chip, y, &self.score);
        if !self.note.is_empty() {
            LABEL.draw(picture, left, y + LINE as f32, &self.note);
        }
    }
}

/// The width of the verdict's badge with the space after it.
fn chip_width(verdict: Verdict) -> f32 {
    HEADING.width(&verdict.to_string()) + 2.0 * 11.0 + 14.0
}

#[cfg(test)]
mod tests;
