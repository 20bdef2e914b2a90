//! Drawing into an [`RgbImage`]: fills, anti-aliased lines, text.

use image::RgbImage;

use super::contour::Segment;
use super::font;

/// An 8-bit sRGB colour.
pub type Color = [u8; 3];

/// Mixes `color` into the pixel at (x, y) with the given opacity in 0..1.
///
/// # Panics
/// If the point lies outside the image.
pub fn blend(image: &mut RgbImage, x: u32, y: u32, color: Color, opacity: f32) {
    let pixel = &mut image.get_pixel_mut(x, y).0;
    for (old, new) in pixel.iter_mut().zip(color) {
        let (from, to) = (f32::from(*old), f32::from(new));
        *old = (from + opacity * (to - from)).round() as u8;
    }
}

/// Fills columns `x0..x1` of rows `y0..y1`, as far as they lie on the image.
pub fn fill(image: &mut RgbImage, [x0, y0, x1, y1]: [u32; 4], color: Color, opacity: f32) {
    for y in y0..y1.min(image.height()) {
        for x in x0..x1.min(image.width()) {
            blend(image, x, y, color, opacity);
        }
    }
}

/// Draws lines with a round pen of the given thickness in pixels, as far as they lie on the image.
///
/// Where segments overlap, a pixel takes the largest coverage and not the sum, so that joints do not show at an
/// opacity below 1.
pub fn stroke(image: &mut RgbImage, segments: &[Segment], thickness: f32, color: Color, opacity: f32) {
    let radius = 0.5 * thickness;
    let reach = radius + 1.0;
    let ends = segments.iter().flat_map(|segment| [segment.from, segment.to]);
    let (mut low, mut high) = ([f32::INFINITY; 2], [f32::NEG_INFINITY; 2]);
    for end in ends {
        for axis in 0..2 {
            low[axis] = low[axis].min(end[axis] - reach);
            high[axis] = high[axis].max(end[axis] + reach);
        }
    }
    let size = [image.width(), image.height()];
    // `as` saturates: what lies left of or above the image becomes 0.
    let clip = |value: f32, axis: usize| (value as u32).min(size[axis]);
    let origin = [clip(low[0], 0), clip(low[1], 1)];
    let end = [clip(high[0].ceil(), 0), clip(high[1].ceil(), 1)];
    if segments.is_empty() || origin[0] >= end[0] || origin[1] >= end[1] {
        return;
    }
    let width = (end[0] - origin[0]) as usize;
    let mut coverage = vec![0.0_f32; width * (end[1] - origin[1]) as usize];
    for segment in segments {
        let (from, to) = (segment.from, segment.to);
        let range = |axis: usize| {
            let first = clip(from[axis].min(to[axis]) - reach, axis).max(origin[axis]);
            first..clip((from[axis].max(to[axis]) + reach).ceil(), axis).min(end[axis])
        };
        for y in range(1) {
            for x in range(0) {
                let distance = distance_to([x as f32 + 0.5, y as f32 + 0.5], segment);
                let covered = (radius + 0.5 - distance).clamp(0.0, 1.0);
                let cell = &mut coverage[(y - origin[1]) as usize * width + (x - origin[0]) as usize];
                *cell = cell.max(covered);
            }
        }
    }
    for (index, &covered) in coverage.iter().enumerate().filter(|(_, covered)| **covered > 0.0) {
        let (x, y) = (origin[0] + (index % width) as u32, origin[1] + (index / width) as u32);
        blend(image, x, y, color, opacity * covered);
    }
}

/// The distance from a point to the nearest point of a segment.
fn distance_to(point: [f32; 2], segment: &Segment) -> f32 {
    let along = [segment.to[0] - segment.from[0], segment.to[1] - segment.from[1]];
    let away = [point[0] - segment.from[0], point[1] - segment.from[1]];
    let square = along[0] * along[0] + along[1] * along[1];
    let t =
        if square > 0.0 { ((away[0] * along[0] + away[1] * along[1]) / square).clamp(0.0, 1.0) } else { 0.0 };
    (away[0] - t * along[0]).hypot(away[1] - t * along[1])
}

/// The four sides of a rectangle given by two corners.
pub fn frame([x0, y0, x1, y1]: [f32; 4]) -> [Segment; 4] {
    let corners = [[x0, y0], [x1, y0], [x1, y1], [x0, y1]];
    std::array::from_fn(|k| Segment { from: corners[k], to: corners[(k + 1) % 4] })
}

/// How a line of text is set.
#[derive(Clone, Copy, Debug)]
pub struct TextStyle {
    /// The height of a capital letter in pixels.
    pub cap_height: f32,
    /// The colour.
    pub color: Color,
    /// The thickness of the pen relative to the regular one.
    pub weight: f32,
}

impl TextStyle {
    fn unit(&self) -> f32 {
        self.cap_height / font::CAP_HEIGHT
    }

    /// The width of `text` in pixels: from the left edge of its first character to the right edge of its last.
    pub fn width(&self, text: &str) -> f32 {
        let characters = text.chars().count() as f32;
        if characters == 0.0 { 0.0 } else { (characters * font::ADVANCE - 1.0) * self.unit() }
    }

    /// `text`, or as much of its beginning and end as fits `width` with two dots between.
    ///
    /// The end of a file name tells images apart, so it is kept.
    pub fn fitted(&self, text: &str, width: f32) -> String {
        let characters: Vec<char> = text.chars().collect();
        let room = ((width / self.unit() + 1.0) / font::ADVANCE).max(0.0) as usize;
        if characters.len() <= room {
            return text.to_owned();
        }
        let kept = room.saturating_sub(2);
        let (head, tail) = (kept / 3, kept - kept / 3);
        let dots = "..".chars().take(room);
        characters[..head]
            .iter()
            .copied()
            .chain(dots)
            .chain(characters[characters.len() - tail..].iter().copied())
            .collect()
    }

    /// Draws one line of text whose first capital has its upper left corner at (x, y).
    pub fn draw(&self, image: &mut RgbImage, x: f32, y: f32, text: &str) {
        let unit = self.unit();
        let pen = (0.95 * self.weight * unit).max(1.0);
        for (index, character) in text.chars().enumerate() {
            let offset = [x + 0.5 * pen + index as f32 * font::ADVANCE * unit, y];
            let strokes: Vec<Segment> = font::strokes(character)
                .into_iter()
                .map(|stroke| stroke.placed([unit, unit], offset))
                .collect();
            stroke(image, &strokes, pen, self.color, 1.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lit(image: &RgbImage) -> f64 {
        image.pixels().map(|pixel| f64::from(pixel.0[0]) / 255.0).sum()
    }

    #[test]
    fn a_line_covers_its_length_times_its_thickness() {
        let mut image = RgbImage::new(40, 20);
        let line = Segment { from: [5.0, 10.0], to: [35.0, 10.0] };
        stroke(&mut image, &[line], 2.0, [255; 3], 1.0);
        // 30 × 2 and two half discs of radius 1.
        assert!((lit(&image) - 63.1).abs() < 1.0, "{}", lit(&image));
        assert_eq!(image.get_pixel(20, 9).0, [255; 3]);
        assert_eq!(image.get_pixel(20, 12).0, [0; 3]);
    }

    #[test]
    fn crossing_lines_do_not_add_up() {
        let mut image = RgbImage::new(20, 20);
        let line = Segment { from: [0.0, 10.0], to: [20.0, 10.0] };
        stroke(&mut image, &[line, line], 4.0, [200; 3], 0.5);
        assert_eq!(image.get_pixel(10, 10).0, [100; 3]);
    }

    #[test]
    fn what_lies_outside_is_left_out() {
        let mut image = RgbImage::new(4, 4);
        let far = Segment { from: [-1e9, -1e9], to: [-50.0, -50.0] };
        stroke(&mut image, &[far], 3.0, [255; 3], 1.0);
        stroke(&mut image, &[], 3.0, [255; 3], 1.0);
        fill(&mut image, [9, 9, 12, 12], [255; 3], 1.0);
        assert_eq!(lit(&image), 0.0);
        stroke(&mut image, &[Segment { from: [-10.0, 2.0], to: [100.0, 2.0] }], 2.0, [255; 3], 1.0);
        assert_eq!(lit(&image), 8.0);
    }

    #[test]
    fn long_names_keep_their_end() {
        let style = TextStyle { cap_height: 6.0, color: [255; 3], weight: 1.0 };
        assert_eq!(style.width("ab"), 11.0);
        assert_eq!(style.fitted("short.png", 60.0), "short.png");
        let fitted = style.fitted("a_very_long_name_0001.png", 60.0);
        assert_eq!(fitted, "a_..01.png");
        assert!(style.width(&fitted) <= 60.0);
        assert_eq!(style.fitted("name", 0.0), "");
    }

    #[test]
    fn text_is_drawn_where_it_is_put() {
        let style = TextStyle { cap_height: 12.0, color: [255; 3], weight: 1.0 };
        let mut image = RgbImage::new(40, 20);
        style.draw(&mut image, 4.0, 4.0, "I");
        // Two pixels a unit, so the pen is 1.9 wide and the stem of the I, column 2, runs along 4 + 0.95 + 2·2 = 8.95:
        // the centre of pixel 8 is 0.45 away (1.45 − 0.45 covers it), that of pixel 9 0.55 (0.9 of it).
        assert_eq!(image.get_pixel(8, 10).0, [255; 3]);
        assert!(image.get_pixel(9, 10).0[0].abs_diff(229) <= 1);
        assert_eq!([3, 7, 10].map(|x| image.get_pixel(x, 10).0[0].min(26)), [0, 0, 0]);
    }
}
