//! Image files to 8-bit RGB.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Seek};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage};
use serde::{Deserialize, Serialize};

use super::convert::into_rgb;
use super::{DataError, cifar10, jpeg, tiff};

/// The most pixels an image may have: 500 megapixels, 1.5 GB as 8-bit RGB.
pub const MAX_PIXELS: u64 = 500_000_000;

/// What to do with the orientation a camera wrote into a file's EXIF data.
///
/// The orientation tag of a TIFF file is part of that format rather than EXIF: it is applied either way, as
/// `PIL.Image.open` does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exif {
    /// Turn the image upright, as viewers show it.
    #[default]
    Apply,
    /// Keep the pixels as they are stored, as `PIL.Image.open` does.
    Ignore,
}

/// Decodes a PNG, JPEG, BMP or TIFF file to 8-bit RGB.
///
/// Grey is replicated, a palette looked up, alpha dropped (not composited), and 16 bits become 8 by
/// `round(v / 257)`. The content decides on the format; the extension is a hint for content without a signature.
/// Colour profiles and gamma chunks are not applied, as in Pillow. A path below a file of CIFAR-10's binary version,
/// `data_batch_1.bin/0042`, names one of its records.
///
/// # Errors
/// A file that cannot be opened, is too large, or cannot be decoded in full: see [`DataError`].
pub fn decode(path: &Path, exif: Exif) -> Result<RgbImage, DataError> {
    Ok(into_rgb(open(path, exif)?))
}

/// Why bytes are not an image, before it is known which file they came from.
#[derive(Debug)]
pub(super) enum Failure {
    TooLarge { width: u32, height: u32, limit: u64 },
    Reason(String),
}

impl Failure {
    pub(super) fn new(reason: impl std::fmt::Display) -> Self {
        Self::Reason(reason.to_string())
    }

    fn of_file(self, path: &Path) -> DataError {
        let path = path.to_owned();
        match self {
            Self::TooLarge { width, height, limit } => DataError::TooLarge { path, width, height, limit },
            Self::Reason(reason) => DataError::Unreadable { path, reason },
        }
    }
}

/// As [`decode`], with the pixels as they are stored.
pub(super) fn open(path: &Path, exif: Exif) -> Result<DynamicImage, DataError> {
    if let Some((file, index)) = cifar10::record_of(path) {
        return cifar10::decode_record(file, index).map(DynamicImage::ImageRgb8);
    }
    let file = File::open(path).map_err(|source| DataError::Open { path: path.to_owned(), source })?;
    let hint = ImageFormat::from_path(path).ok();
    read_guarded(BufReader::new(file), hint, exif, MAX_PIXELS).map_err(|failure| failure.of_file(path))
}

/// [`read`], where a panic of a decoder is a failure like any other.
///
/// The decoders are large, and fed with whatever lies in a folder: a bug in one of them must cost that file, not the
/// run. Nothing but the reader is shared with the closure, and it is dropped with it.
fn read_guarded<R: BufRead + Seek>(
    reader: R,
    hint: Option<ImageFormat>,
    exif: Exif,
    max_pixels: u64,
) -> Result<DynamicImage, Failure> {
    catch_unwind(AssertUnwindSafe(|| read(reader, hint, exif, max_pixels)))
        .unwrap_or_else(|_| Err(Failure::new("the decoder failed on it")))
}

fn read<R: BufRead + Seek>(
    reader: R,
    hint: Option<ImageFormat>,
    exif: Exif,
    max_pixels: u64,
) -> Result<DynamicImage, Failure> {
    let mut reader = ImageReader::new(reader);
    if let Some(format) = hint {
        reader.set_format(format);
    }
    let reader = reader.with_guessed_format().map_err(Failure::new)?;
    match reader.format() {
        Some(ImageFormat::Tiff) => tiff::decode(reader.into_inner(), max_pixels),
        Some(ImageFormat::Jpeg) => {
            let mut bytes = Vec::new();
            reader.into_inner().read_to_end(&mut bytes).map_err(Failure::new)?;
            if !jpeg::reaches_end(&bytes) {
                return Err(Failure::new("the JPEG data is cut short"));
            }
            finish(ImageReader::with_format(Cursor::new(bytes), ImageFormat::Jpeg), exif, max_pixels)
        }
        Some(ImageFormat::Png | ImageFormat::Bmp) => finish(reader, exif, max_pixels),
        Some(other) => Err(Failure::new(format_args!("{other:?} images are not supported"))),
        None => Err(Failure::new("its content is of no known image format")),
    }
}

fn finish<R: BufRead + Seek>(
    mut reader: ImageReader<R>,
    exif: Exif,
    max_pixels: u64,
) -> Result<DynamicImage, Failure> {
    // Room for the largest allowed image at four 16-bit channels, and for the chunks beside the pixels.
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(max_pixels * 8 + (64 << 20));
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(reason)?;
    check_size(decoder.dimensions(), max_pixels)?;
    // EXIF data that cannot be parsed is as good as none: the pixels are still there.
    let orientation = match exif {
        Exif::Apply => decoder.orientation().unwrap_or(Orientation::NoTransforms),
        Exif::Ignore => Orientation::NoTransforms,
    };
    let mut image = DynamicImage::from_decoder(decoder).map_err(reason)?;
    image.apply_orientation(orientation);
    Ok(image)
}

/// Refuses images without pixels and images with too many, before memory is taken for them.
pub(super) fn check_size((width, height): (u32, u32), limit: u64) -> Result<(), Failure> {
    match u64::from(width) * u64::from(height) {
        0 => Err(Failure::new(format_args!("it says to be {width}x{height} pixels"))),
        pixels if pixels > limit => Err(Failure::TooLarge { width, height, limit }),
        _ => Ok(()),
    }
}

/// The decoder's own words, without the wrapper that names the format a second time.
fn reason(error: ImageError) -> Failure {
    match error {
        ImageError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Failure::new("the file is cut short")
        }
        error => Failure::new(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::convert::into_grey;
    use crate::data::fixtures::{self, number, pattern, sha256};
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    const SMALL: u64 = 1_000_000;

    fn read_bytes(bytes: &[u8]) -> Result<DynamicImage, Failure> {
        read_guarded(Cursor::new(bytes), None, Exif::Apply, SMALL)
    }

    #[test]
    fn every_mode_decodes_as_pillow_does() {
        let rows = fixtures::expected("files");
        assert!(rows.len() > 30);
        for row in rows {
            let path = fixtures::path(row["name"].as_str().unwrap());
            let image = decode(&path, Exif::Apply).unwrap();
            assert_eq!(image.dimensions(), (number(&row["size"][0]), number(&row["size"][1])), "{row}");
            assert_eq!(sha256(&image), row["rgb_sha256"].as_str().unwrap(), "{row}");
            let grey = into_grey(open(&path, Exif::Apply).unwrap());
            assert_eq!(sha256(&grey), row["grey_sha256"].as_str().unwrap(), "{row}");
        }
    }

    /// Flat quadrants, since JPEG decoders differ by a few grey levels.
    #[test]
    fn all_eight_orientations_are_turned_upright() {
        for row in fixtures::expected("upright") {
            let path = fixtures::path(row["name"].as_str().unwrap());
            assert_eq!(decode(&path, Exif::Ignore).unwrap().dimensions(), (48, 32));
            let image = decode(&path, Exif::Apply).unwrap();
            let (width, height) = image.dimensions();
            assert_eq!((width, height), (number(&row["size"][0]), number(&row["size"][1])));
            let corners = [(4, 4), (width - 5, 4), (4, height - 5), (width - 5, height - 5)];
            for (corner, (x, y)) in corners.into_iter().enumerate() {
                for channel in 0..3 {
                    let expected = number(&row["corners"][corner][channel]);
                    assert!(u32::from(image.get_pixel(x, y)[channel]).abs_diff(expected) <= 5, "{row}");
                }
            }
        }
        // An EXIF chunk of a PNG counts as well, and only when asked for; a TIFF's own tag always counts.
        assert_eq!(decode(&fixtures::path("turned.png"), Exif::Ignore).unwrap(), pattern(23, 17));
        let turned = decode(&fixtures::path("turned.tif"), Exif::Apply).unwrap();
        assert_eq!(decode(&fixtures::path("turned.tif"), Exif::Ignore).unwrap(), turned);
    }

    #[test]
    fn other_kinds_of_jpeg() {
        for name in ["grey.jpg", "progressive.jpg", "cmyk.jpg"] {
            assert_eq!(decode(&fixtures::path(name), Exif::Apply).unwrap().dimensions(), (48, 32), "{name}");
        }
    }

    #[test]
    fn the_content_decides_not_the_extension() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("really_a_png.jpg");
        std::fs::copy(fixtures::path("rgb.png"), &path).unwrap();
        assert_eq!(decode(&path, Exif::Apply).unwrap(), pattern(23, 17));
    }

    #[test]
    fn extreme_shapes_decode() {
        let folder = tempfile::tempdir().unwrap();
        for (name, width, height) in
            [("dot.png", 1, 1), ("dot.tif", 1, 1), ("dot.bmp", 1, 1), ("strip.png", 20000, 50)]
        {
            let path = folder.path().join(name);
            pattern(width, height).save(&path).unwrap();
            assert_eq!(decode(&path, Exif::Apply).unwrap(), pattern(width, height));
        }
    }

    #[test]
    fn every_error_names_its_file_and_a_cure() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing.png");
        let error = decode(&missing, Exif::Apply).unwrap_err().to_string();
        assert!(error.contains("missing.png") && error.contains("check that the file exists"), "{error}");
        for (name, content) in
            [("empty.png", &b""[..]), ("text.jpg", b"hello"), ("anim.gif", b"GIF89a123456")]
        {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            let error = decode(&path, Exif::Apply).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("leave it out"), "{error}");
        }
        assert!(decode(folder.path(), Exif::Apply).is_err(), "a folder is no image");
    }

    #[test]
    fn too_many_pixels_are_refused_before_memory_is_taken() {
        for name in ["rgb.png", "rgb.bmp", "rgb.tiff", "palette.tiff", "grey.jpg"] {
            let bytes = std::fs::read(fixtures::path(name)).unwrap();
            let failure = read(Cursor::new(bytes), None, Exif::Apply, 23 * 17 - 1).unwrap_err();
            assert!(matches!(failure, Failure::TooLarge { limit: 390, .. }), "{name}: {failure:?}");
        }
        let error = Failure::TooLarge { width: 30_000, height: 20_000, limit: MAX_PIXELS }
            .of_file(Path::new("big.png"));
        assert!(
            error.to_string().contains("big.png has 30000x20000 pixels, more than the 500 megapixels"),
            "{error}"
        );
    }

    const KINDS: [&str; 14] = [
        "rgb.png",
        "palette.png",
        "grey16.png",
        "orientation6.jpg",
        "progressive.jpg",
        "cmyk.jpg",
        "rgb.bmp",
        "palette.bmp",
        "one.bmp",
        "rgb.tiff",
        "palette.tiff",
        "lzw.tif",
        "planar.tif",
        "group4.tif",
    ];

    #[test]
    fn a_file_cut_short_is_unreadable_or_whole_in_spite_of_it() {
        for name in KINDS {
            let bytes = std::fs::read(fixtures::path(name)).unwrap();
            let whole = read_bytes(&bytes).unwrap();
            for len in 0..bytes.len() {
                if let Ok(image) = read_bytes(&bytes[..len]) {
                    assert!(
                        image == whole,
                        "{name} cut to {len} of {} bytes decodes to something else",
                        bytes.len()
                    );
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]
        #[test]
        fn damaged_files_give_an_image_or_an_error(
            kind in 0..KINDS.len(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        ) {
            let mut bytes = std::fs::read(fixtures::path(KINDS[kind])).unwrap();
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            match read_bytes(&bytes) {
                Ok(image) => prop_assert!((1..=SMALL).contains(&(u64::from(image.width()) * u64::from(image.height())))),
                Err(failure) => {
                    let error = failure.of_file(Path::new("damaged")).to_string();
                    prop_assert!(error.contains("damaged"), "{}", error);
                }
            }
        }
    }
}
