//! Score maps as float TIFF files, in the layout that MVTec's evaluation script reads.

use std::io::{Cursor, Seek, Write};
use std::path::{Path, PathBuf};

use tiff::TiffResult;
use tiff::decoder::{Decoder, DecodingResult};
use tiff::encoder::{TiffEncoder, TiffKind, colortype::Gray32Float};
use tiff::tags::Tag;

use super::geometry::ScoreMap;
use crate::files::{WriteError, write_whole};

/// What fits a classic TIFF file, whose offsets have 32 bits, with room for its tags.
const CLASSIC_LIMIT: usize = (1 << 32) - (1 << 20);

/// `<maps>/<category>/test/<defect>/<id>.tiff`: where MVTec's script looks for the map of a test image. `defect` is
/// the name of the image's folder (`good` for good images), `id` its file name without the extension.
pub fn map_path(maps: &Path, category: &str, defect: &str, image: &Path) -> PathBuf {
    let mut file = image.file_stem().unwrap_or_default().to_owned();
    // Not `with_extension`: the id may hold a dot of its own.
    file.push(".tiff");
    maps.join(category).join("test").join(defect).join(file)
}

/// Writes `map` as a TIFF of one 32-bit float sample a pixel, uncompressed; BigTIFF where 4 GiB do not suffice.
///
/// `description`, if not empty, becomes the file's ImageDescription, with what is not ASCII replaced by `?`.
///
/// # Errors
/// If the file cannot be written.
pub fn write_map(path: &Path, map: ScoreMap<'_>, description: &str) -> Result<(), WriteError> {
    let mut bytes = Cursor::new(Vec::new());
    let encoded = if size_of_val(map.values()) < CLASSIC_LIMIT {
        TiffEncoder::new(&mut bytes).and_then(|file| encode(file, map, description))
    } else {
        TiffEncoder::new_big(&mut bytes).and_then(|file| encode(file, map, description))
    };
    write_whole(path, |out| {
        encoded.map_err(std::io::Error::other)?;
        out.write_all(bytes.get_ref())
    })
}

fn encode<W: Write + Seek, K: TiffKind>(
    mut file: TiffEncoder<W, K>,
    map: ScoreMap<'_>,
    description: &str,
) -> TiffResult<()> {
    let mut image = file.new_image::<Gray32Float>(map.width(), map.height())?;
    if !description.is_empty() {
        // TIFF text is 7-bit and ends at a NUL.
        let printable = |c: char| if c.is_ascii() && !c.is_ascii_control() { c } else { '?' };
        let ascii: String = description.chars().map(printable).collect();
        image.encoder().write_tag(Tag::ImageDescription, ascii.as_str())?;
    }
    image.write_data(map.values())
}

/// A map that was read back.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredMap {
    values: Vec<f32>,
    width: u32,
    height: u32,
}

impl StoredMap {
    /// A view of it.
    pub fn view(&self) -> ScoreMap<'_> {
        ScoreMap::new(&self.values, self.width, self.height)
    }
}

/// Why a map could not be read back.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the map {}: {reason}; write it anew with `train` or `test`", path.display())]
pub struct MapError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub reason: String,
}

/// Reads what [`write_map`] wrote.
///
/// # Errors
/// If the file cannot be read or does not hold 32-bit float samples, one a pixel.
pub fn read_map(path: &Path) -> Result<StoredMap, MapError> {
    let failed = |reason: String| MapError { path: path.to_owned(), reason };
    let decoded = |file| -> TiffResult<_> {
        let mut decoder = Decoder::new(file)?;
        let (width, height) = decoder.dimensions()?;
        Ok((width, height, decoder.read_image()?))
    };
    let file = std::fs::File::open(path).map_err(|error| failed(error.to_string()))?;
    let (width, height, samples) =
        decoded(std::io::BufReader::new(file)).map_err(|error| failed(error.to_string()))?;
    match samples {
        DecodingResult::F32(values)
            if !values.is_empty() && values.len() == width as usize * height as usize =>
        {
            Ok(StoredMap { values, width, height })
        }
        _ => Err(failed("it does not hold one 32-bit float a pixel".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8]) -> (u32, u32, Vec<f32>) {
        let mut decoder = Decoder::new(Cursor::new(bytes)).unwrap();
        let (width, height) = decoder.dimensions().unwrap();
        assert_eq!(decoder.colortype().unwrap(), tiff::ColorType::Gray(32));
        let DecodingResult::F32(values) = decoder.read_image().unwrap() else { panic!("not float samples") };
        (width, height, values)
    }

    #[test]
    fn every_bit_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        for (width, height) in [(1, 1), (7, 5), (3000, 2), (1, 999)] {
            let values: Vec<f32> =
                (0..width * height).map(|i| (i as f32).sin() * 10_f32.powi(i as i32 % 60 - 30)).collect();
            let path = map_path(folder.path(), "cat", "crack", &PathBuf::from(format!("{width}.png")));
            write_map(&path, ScoreMap::new(&values, width, height), "").unwrap();
            assert_eq!(decoded(&std::fs::read(&path).unwrap()), (width, height, values.clone()));
            assert_eq!(read_map(&path).unwrap(), StoredMap { values, width, height });
        }
    }

    #[test]
    fn what_is_no_map_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("map.tiff");
        let said = |path: &Path| read_map(path).unwrap_err().to_string();
        assert!(said(&path).contains("map.tiff"));
        std::fs::write(&path, b"II*\0 and then nothing").unwrap();
        assert!(said(&path).contains("map.tiff"));
        image::GrayImage::new(2, 2).save(&path).unwrap();
        assert!(said(&path).contains("one 32-bit float a pixel"), "{}", said(&path));
    }

    #[test]
    fn the_large_form_holds_the_same() {
        let values = [0.5, -1.5, f32::MAX, f32::MIN_POSITIVE, 0.0, 3.0];
        let mut bytes = Cursor::new(Vec::new());
        encode(TiffEncoder::new_big(&mut bytes).unwrap(), ScoreMap::new(&values, 3, 2), "").unwrap();
        assert_eq!(bytes.get_ref()[2], 43, "the version number of BigTIFF");
        assert_eq!(decoded(bytes.get_ref()), (3, 2, values.to_vec()));
    }

    #[test]
    fn the_description_is_plain_ascii() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("map.tiff");
        write_map(&path, ScoreMap::new(&[1.0], 1, 1), "selected on the test set: é\u{0}").unwrap();
        let mut decoder = Decoder::new(Cursor::new(std::fs::read(&path).unwrap())).unwrap();
        let text = decoder.get_tag_ascii_string(Tag::ImageDescription).unwrap();
        assert_eq!(text, "selected on the test set: ??");
    }

    #[test]
    fn paths_are_those_of_the_evaluation_script() {
        let path =
            map_path(Path::new("runs/maps"), "hazelnut", "crack", Path::new("data/test/crack/00.1.png"));
        assert_eq!(path, Path::new("runs/maps/hazelnut/test/crack/00.1.tiff"));
    }
}
