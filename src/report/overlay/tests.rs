use super::*;
use image::codecs::png::{CompressionType, FilterType as PngFilter, PngEncoder};
use image::imageops::{FilterType, resize};

use crate::report::colormap::color;

/// A 16 × 12 image with a gradient, a mask in its middle and a map that peaks there.
fn example() -> (RgbImage, Vec<f32>, Mask) {
    let image = RgbImage::from_fn(16, 12, |x, y| image::Rgb([8 * x as u8 + 60, 10 * y as u8 + 60, 120]));
    let map = (0..12 * 16)
        .map(|i| {
            let (x, y) = ((i % 16) as f32 - 8.0, (i / 16) as f32 - 6.0);
            1.0 - (x * x + y * y).sqrt() / 8.0
        })
        .collect();
    let inside = |x: u32, y: u32| (6..11).contains(&x) && (4..8).contains(&y);
    let mask = Mask::from_fn(16, 12, inside);
    (image, map, mask)
}

fn overlay<'a>(image: &'a RgbImage, map: &'a [f32], mask: Option<&'a Mask>) -> Overlay<'a> {
    Overlay {
        name: "test/crack/000.png",
        image,
        map: ScoreMap::new(map, image.width(), image.height()),
        mask,
        score: 0.832,
        image_threshold: Some(0.514),
        map_threshold: Some(0.5),
        verdict: Some(Verdict::Defect),
        scale: ColorScale::new(0.0, 0.5),
        region: Some(Rect { x0: 5, y0: 3, x1: 12, y1: 9 }),
        inspected: None,
        note: "",
    }
}

/// The picture made once, looked at and found right; a quarter of its size, to keep the file small. `SIMPLENET_WRITE_FIXTURES=1 cargo test --lib report` writes it
/// anew after an intended change.
#[test]
fn the_picture_is_the_one_that_was_looked_at() {
    let (image, map, mask) = example();
    let inspected = Some(Rect { x0: 1, y0: 1, x1: 15, y1: 11 });
    let picture = render(&Overlay { inspected, note: "a remark", ..overlay(&image, &map, Some(&mask)) });
    let picture = resize(&picture, picture.width() / 4, picture.height() / 4, FilterType::Triangle);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/report/overlay.png");
    if std::env::var_os("SIMPLENET_WRITE_FIXTURES").is_some() {
        let file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
        let png = PngEncoder::new_with_quality(file, CompressionType::Best, PngFilter::Adaptive);
        picture.write_with_encoder(png).unwrap();
    }
    let golden = image::open(path).unwrap().to_rgb8();
    assert_eq!(picture.dimensions(), golden.dimensions());
    // Platforms may differ in the last bit of a power or a square root, and so by a step of 8 bits here and there.
    let worst = picture.as_raw().iter().zip(golden.as_raw()).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(worst <= Some(2), "differs by {worst:?}");
}

#[test]
fn good_images_have_no_panel_for_a_truth() {
    let (image, map, mask) = example();
    let (with, without) = (render(&overlay(&image, &map, Some(&mask))), render(&overlay(&image, &map, None)));
    assert_eq!(with.width() - without.width(), 20 * 16 + GAP);
    assert_eq!(with.height(), without.height());
}

#[test]
fn colours_follow_the_scale_of_the_run() {
    let image = RgbImage::new(64, 64);
    for (score, position) in [(0.0, 0.0), (0.5, 0.5), (9.0, 1.0), (f32::NAN, 1.0)] {
        let map = vec![score; 64 * 64];
        let panel = heat(
            &image,
            ScoreMap::new(&map, image.width(), image.height()),
            overlay(&image, &map, None).scale,
        );
        let opacity = if position == 0.0 { 0.35 } else { 0.85 };
        let expected = color(position).map(|channel| (f32::from(channel) * opacity).round());
        let found = panel.get_pixel(32, 32).0.map(f32::from);
        for (a, b) in found.into_iter().zip(expected) {
            assert!((a - b).abs() <= 2.0, "{score}: {found:?} against {expected:?}");
        }
    }
}

#[test]
fn what_was_not_inspected_is_shaded() {
    let image = RgbImage::from_pixel(512, 512, image::Rgb([255; 3]));
    let mut panel = image.clone();
    shade_outside(&mut panel, placed(Rect { x0: 100, y0: 0, x1: 412, y1: 512 }, [512, 512], [512, 512]));
    assert!(panel.get_pixel(50, 256).0[0] < 120 && panel.get_pixel(460, 256).0[0] < 120);
    assert_eq!(panel.get_pixel(256, 256).0, [255; 3]);
    let mut whole = image.clone();
    shade_outside(&mut whole, [0.0, 0.0, 512.0, 512.0]);
    assert_eq!(whole, image, "nothing is shaded where everything was inspected");
}

#[test]
fn the_truth_is_bright_and_the_rest_dark() {
    let image = RgbImage::from_pixel(512, 400, image::Rgb([200; 3]));
    let mask = Mask::from_fn(512, 400, |x, _| x >= 256);
    let panel = truth(&image, &mask);
    assert_eq!(panel.get_pixel(50, 200).0, [80; 3]);
    assert!(panel.get_pixel(450, 200).0[1] > 190);
}

#[test]
fn every_size_gives_a_picture_of_bounded_size() {
    for (width, height) in [(1, 1), (20_000, 50), (50, 20_000), (2, 1), (4000, 3000), (321, 320), (1, 700)] {
        let image = RgbImage::from_pixel(width, height, image::Rgb([90; 3]));
        let map = vec![0.4; (width * height) as usize];
        let mask = Mask::from_fn(width, height, |_, _| false);
        let region = Some(Rect { x0: 0, y0: 0, x1: width, y1: height });
        let inspected = Some(Rect { x0: width / 8, y0: 0, x1: width - width / 8, y1: height });
        let picture = render(&Overlay { region, inspected, ..overlay(&image, &map, Some(&mask)) });
        assert!(
            picture.width() <= 4 * (PANEL + GAP) + 2 * MARGIN,
            "{width}×{height}: {:?}",
            picture.dimensions()
        );
        assert!(
            picture.height() <= 4 * (PANEL + CAPTION) + 100,
            "{width}×{height}: {:?}",
            picture.dimensions()
        );
    }
}

#[test]
fn a_map_without_relief_has_no_outline() {
    let (image, _, _) = example();
    let map = vec![0.5; 16 * 12];
    let flat = overlay(&image, &map, None);
    let base = scaled_image(&image, [320, 240]);
    assert_eq!(decision_panel(&base, &Overlay { region: None, ..flat }), base);
    let scored =
        Overlay { score: f32::NAN, image_threshold: None, verdict: None, map_threshold: None, ..flat };
    assert!(render(&scored).width() > 900, "a score that is missing still gives a picture");
}

#[test]
fn a_narrow_header_never_cuts_a_number() {
    let (image, map, _) = example();
    let wide = Header::of(&overlay(&image, &map, None), 900.0);
    assert_eq!((wide.score.as_str(), wide.two_lines), ("score 0.832  threshold 0.514", false));
    let narrow = Header::of(&overlay(&image, &map, None), 300.0);
    assert_eq!((narrow.score.as_str(), narrow.two_lines), ("score 0.832", true));
    assert_eq!(narrow.name, "test/crack/000.png");
}
