//! What the model sees, at a glance: a row a category of image, ground truth and score map.

use image::RgbImage;
use image::imageops::replace;

use super::colormap::ColorScale;
use super::draw::fill;
use super::geometry::ScoreMap;
use super::panel::{BACKGROUND, HEADING, LABEL, WELL, heat, outline_above, scaled_image, truth};
use crate::data::Mask;

/// What one example is drawn from. Map and mask are in the geometry of `image`.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// What stands below it, such as the kind of defect.
    pub label: &'a str,
    /// The image.
    pub image: &'a RgbImage,
    /// The ground truth.
    pub mask: &'a Mask,
    /// The smoothed scores.
    pub map: ScoreMap<'a>,
    /// What the map is outlined at: what is above it is inside.
    pub level: f32,
    /// The colours of scores.
    pub scale: ColorScale,
}

/// An image, its ground truth and its score map, drawn small: a picture of many holds no full images.
#[derive(Clone, Debug)]
pub struct Example {
    label: String,
    panels: [RgbImage; 3],
}

/// The examples of one category.
#[derive(Clone, Debug)]
pub struct Row {
    /// What stands above them: the category.
    pub name: String,
    /// What stands beside its name, such as the threshold.
    pub detail: String,
    /// The examples, from left to right.
    pub examples: Vec<Example>,
}

/// The names of an example's panels.
const PANELS: [&str; 3] = ["image", "ground truth", "score map"];

/// The side of a panel.
const CELL: u32 = 144;
/// Between the panels of an example, between examples, and around everything.
const SEAM: u32 = 3;
const GAP: u32 = 18;
const MARGIN: u32 = 20;
/// A line of a heading, and one of a label.
const HEADING_LINE: u32 = 30;
const LABEL_LINE: u32 = 24;
/// Three panels.
const EXAMPLE: u32 = 3 * CELL + 2 * SEAM;

impl Example {
    /// Draws the panels of an example, at most 144 pixels on a side.
    ///
    /// # Panics
    /// If `map` or `mask` has another size than `image`: a fault of the caller.
    pub fn draw(source: Source<'_>) -> Self {
        let (width, height) = source.image.dimensions();
        assert_eq!(
            (source.map.width(), source.map.height()),
            (width, height),
            "the map has the image's size"
        );
        assert_eq!(source.mask.dimensions(), (width, height), "the mask has the image's size");
        let longest = f64::from(width.max(height));
        let side = |length: u32| ((f64::from(length) * f64::from(CELL) / longest).round() as u32).max(1);
        let base = scaled_image(source.image, [side(width), side(height)]);
        let mut map = heat(&base, source.map, source.scale);
        outline_above(&mut map, source.map, source.level);
        let truth = truth(&base, source.mask);
        Self { label: source.label.to_owned(), panels: [base, truth, map] }
    }
}

/// Draws the rows below each other, under a line `title` and as many lines of `notes` as there are.
pub fn render(title: &str, notes: &[&str], rows: &[Row]) -> RgbImage {
    let most = rows.iter().map(|row| row.examples.len()).max().unwrap_or(0).max(1) as u32;
    let inner = most * EXAMPLE + (most - 1) * GAP;
    let header = HEADING_LINE + LABEL_LINE * notes.len() as u32 + GAP;
    let row_height = HEADING_LINE + LABEL_LINE + CELL + LABEL_LINE + GAP;
    let (width, height) = (inner + 2 * MARGIN, 2 * MARGIN + header + row_height * rows.len() as u32);
    let mut picture = RgbImage::from_pixel(width, height, image::Rgb(BACKGROUND));
    let room = inner as f32;
    HEADING.draw(&mut picture, MARGIN as f32, MARGIN as f32, &HEADING.fitted(title, room));
    for (index, note) in notes.iter().enumerate() {
        let y = MARGIN + HEADING_LINE + LABEL_LINE * index as u32;
        LABEL.draw(&mut picture, MARGIN as f32, y as f32, &LABEL.fitted(note, room));
    }
    for (index, row) in rows.iter().enumerate() {
        draw_row(&mut picture, row, MARGIN + header + row_height * index as u32, room);
    }
    picture
}

/// Draws one row whose upper edge is `top`.
fn draw_row(picture: &mut RgbImage, row: &Row, top: u32, room: f32) {
    let left = MARGIN as f32;
    let name = HEADING.fitted(&row.name, room);
    HEADING.draw(picture, left, top as f32, &name);
    let beside = HEADING.width(&name) + 16.0;
    let detail = LABEL.fitted(&row.detail, room - beside);
    // On the line that the name stands on.
    LABEL.draw(picture, left + beside, top as f32 + HEADING.cap_height - LABEL.cap_height, &detail);
    let names = top + HEADING_LINE;
    let cells = names + LABEL_LINE;
    for (index, example) in row.examples.iter().enumerate() {
        let x = MARGIN + (EXAMPLE + GAP) * index as u32;
        for (place, (panel, name)) in example.panels.iter().zip(PANELS).enumerate() {
            let cell = x + (CELL + SEAM) * place as u32;
            LABEL.draw(picture, cell as f32, names as f32, name);
            fill(picture, [cell, cells, cell + CELL, cells + CELL], WELL, 1.0);
            let [right, down] = [panel.width(), panel.height()].map(|length| (CELL - length) / 2);
            replace(picture, panel, i64::from(cell + right), i64::from(cells + down));
        }
        let label = LABEL.fitted(&example.label, EXAMPLE as f32);
        LABEL.draw(picture, x as f32, (cells + CELL + 8) as f32, &label);
    }
}

#[cfg(test)]
mod tests {
    use super::super::colormap::color;
    use super::*;

    fn example(width: u32, height: u32) -> Example {
        let image = RgbImage::from_pixel(width, height, image::Rgb([200, 100, 50]));
        let left = |x: u32| x < width / 2;
        let mask = Mask::from_fn(width, height, |x, _| left(x));
        let values: Vec<f32> = (0..width * height).map(|i| f32::from(u8::from(left(i % width)))).collect();
        Example::draw(Source {
            label: "crack",
            image: &image,
            mask: &mask,
            map: ScoreMap::new(&values, width, height),
            level: 0.5,
            scale: ColorScale::new(0.0, 0.5),
        })
    }

    #[test]
    fn panels_show_image_truth_and_map_at_their_places() {
        let row =
            Row { name: "wood".into(), detail: "threshold 0.5".into(), examples: vec![example(72, 36); 2] };
        let picture = render("title", &["a note", "another"], &[row.clone(), row]);
        let width = 2 * MARGIN + 2 * EXAMPLE + GAP;
        let header = HEADING_LINE + 2 * LABEL_LINE + GAP;
        let row_height = HEADING_LINE + 2 * LABEL_LINE + CELL + GAP;
        assert_eq!(picture.dimensions(), (width, 2 * MARGIN + header + 2 * row_height));
        for (row, column) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let top = MARGIN + header + row_height * row + HEADING_LINE + LABEL_LINE;
            let left = MARGIN + (EXAMPLE + GAP) * column;
            let at =
                |panel: u32, x: u32, y: u32| picture.get_pixel(left + (CELL + SEAM) * panel + x, top + y).0;
            // Twice as wide as high: a quarter of the cell is empty above and below.
            assert_eq!(at(0, 72, 10), WELL);
            assert_eq!(at(0, 72, 72), [200, 100, 50]);
            // Ground truth: the defect is at the left, the rest is dimmed by 0.6.
            assert_eq!(at(1, 130, 72), [80, 40, 20]);
            assert!(at(1, 20, 72)[1] > 100);
            // The map: twice the distance to the threshold is the top of the scale, blended with the image by 0.85.
            let [hot, cold] = [at(2, 20, 72), at(2, 130, 72)];
            assert!(hot[0].abs_diff(color(1.0)[0]) < 40 && hot[0] > cold[0], "{hot:?} {cold:?}");
        }
    }

    #[test]
    fn every_shape_and_no_row_give_a_picture() {
        for (width, height) in [(1, 1), (1000, 3), (3, 1000), (144, 144)] {
            let [base, ..] = &example(width, height).panels;
            assert!(base.width() <= CELL && base.height() <= CELL && base.width().max(base.height()) == CELL);
        }
        let empty =
            render("a title that is longer than the picture can ever be wide, so that it is cut", &[], &[]);
        assert_eq!(empty.width(), 2 * MARGIN + EXAMPLE);
    }
}
