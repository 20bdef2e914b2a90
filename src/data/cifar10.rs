//! CIFAR-10 as its authors distribute it: the "binary version", six files of 10,000 images.
//!
//! A record is one byte with the class, then 32×32 pixels in three planes, red, green and blue, each row by row: 3,073
//! bytes (<https://www.cs.toronto.edu/~kriz/cifar.html>). Here a record is named by a path below its file,
//! `cifar-10-batches-bin/data_batch_3.bin/0042`, as members of an archive are: loaders, tables and messages then need no
//! second kind of image.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use image::RgbImage;

use super::DataError;
use super::one_class::{ClassImage, ClassImages};

/// The classes of CIFAR-10 in the order of their labels.
pub const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// Width and height of every image.
const SIDE: u32 = 32;
/// Bytes of one of a record's three planes.
const PLANE: usize = (SIDE * SIDE) as usize;
/// Bytes of a record.
const RECORD: usize = 1 + 3 * PLANE;
/// The folder in the distribution's archive.
const FOLDER: &str = "cifar-10-batches-bin";
const TRAIN_FILES: [&str; 5] =
    ["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"];
const TEST_FILE: &str = "test_batch.bin";
const NAMES_FILE: &str = "batches.meta.txt";

/// The folder of the binary version: `root`, or the one of the archive's name below it; `None` where neither is one.
pub(super) fn find(root: &Path) -> Option<PathBuf> {
    let holds_files =
        |folder: &PathBuf| TRAIN_FILES.into_iter().chain([TEST_FILE]).any(|name| folder.join(name).is_file());
    [root.to_owned(), root.join(FOLDER)].into_iter().find(holds_files)
}

/// Whether `root` is, or holds, the version for Python, which has the same files without an ending.
pub(super) fn is_python_version(root: &Path) -> bool {
    [root.to_owned(), root.join("cifar-10-batches-py")]
        .iter()
        .any(|folder| folder.join("data_batch_1").is_file() && folder.join("test_batch").is_file())
}

/// Lists every record of the distribution in `folder`, with its class.
///
/// # Errors
/// A file that is missing, cut short, or holds a label of no class.
pub(super) fn read(folder: &Path) -> Result<ClassImages, DataError> {
    let missing: Vec<&str> =
        TRAIN_FILES.into_iter().chain([TEST_FILE]).filter(|name| !folder.join(name).is_file()).collect();
    if !missing.is_empty() {
        return Err(damaged(folder, format!("{} is missing", missing.join(", "))));
    }
    let mut train = Vec::new();
    for name in TRAIN_FILES {
        train.extend(records(&folder.join(name))?);
    }
    let (names, test) = (names(&folder.join(NAMES_FILE))?, records(&folder.join(TEST_FILE))?);
    Ok(ClassImages { names, train, test, notes: Vec::new() })
}

/// The records of one file.
fn records(path: &Path) -> Result<Vec<ClassImage>, DataError> {
    let bytes = std::fs::read(path).map_err(|source| DataError::Open { path: path.to_owned(), source })?;
    if bytes.is_empty() || bytes.len() % RECORD != 0 {
        let reason =
            format!("it has {} bytes, which is no whole number of records of {RECORD} bytes", bytes.len());
        return Err(damaged(path, reason));
    }
    bytes
        .chunks_exact(RECORD)
        .enumerate()
        .map(|(index, record)| {
            let label = check_label(path, index as u64, record[0])?;
            Ok(ClassImage { path: path.join(format!("{index:04}")), label })
        })
        .collect()
}

/// The names of the classes: those of the distribution where its list is there, a line a class.
fn names(path: &Path) -> Result<Vec<String>, DataError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok(CLASSES.map(str::to_owned).into());
        }
        Err(error) => return Err(damaged(path, error.to_string())),
    };
    let names: Vec<String> =
        text.lines().map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    // Names become names of folders.
    let usable = |name: &String| name.chars().all(|c| c.is_alphanumeric() || "-_ ".contains(c));
    let distinct = (1..names.len()).all(|i| !names[..i].contains(&names[i]));
    if names.len() != CLASSES.len() || !distinct || !names.iter().all(usable) {
        return Err(damaged(path, "it does not name ten classes, a line each".to_owned()));
    }
    Ok(names)
}

/// The file and the index of the record that `path` names; `None` where it names something else.
pub(super) fn record_of(path: &Path) -> Option<(&Path, u64)> {
    let file = path.parent()?;
    let name = path.file_name()?.to_str()?;
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
    let may_be = is_number && file.extension().is_some_and(|extension| extension == "bin");
    (may_be && file.is_file()).then(|| Some((file, name.parse().ok()?)))?
}

/// Reads one record.
///
/// # Errors
/// A file that cannot be opened or ends before the record does, or a label of no class.
pub(super) fn decode_record(file: &Path, index: u64) -> Result<RgbImage, DataError> {
    let cannot_open = |source| DataError::Open { path: file.to_owned(), source };
    let mut reader = File::open(file).map_err(cannot_open)?;
    let mut record = [0; RECORD];
    let start = index.checked_mul(RECORD as u64);
    let read = start.ok_or(ErrorKind::UnexpectedEof.into()).and_then(|start| {
        reader.seek(SeekFrom::Start(start))?;
        reader.read_exact(&mut record)
    });
    match read {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            let length = reader.metadata().map_err(cannot_open)?.len();
            let whole = length / RECORD as u64;
            return Err(damaged(
                file,
                format!("it ends before record {index}: {length} bytes are {whole} whole records"),
            ));
        }
        Err(error) => return Err(damaged(file, error.to_string())),
        Ok(()) => {}
    }
    check_label(file, index, record[0])?;
    let planes = &record[1..];
    Ok(RgbImage::from_fn(SIDE, SIDE, |x, y| {
        let pixel = (y * SIDE + x) as usize;
        image::Rgb([planes[pixel], planes[PLANE + pixel], planes[2 * PLANE + pixel]])
    }))
}

/// The label, if it is that of a class.
fn check_label(file: &Path, index: u64, label: u8) -> Result<usize, DataError> {
    let class = usize::from(label);
    if class < CLASSES.len() {
        return Ok(class);
    }
    Err(damaged(file, format!("record {index} has label {label}, and there are only 0 to 9")))
}

fn damaged(path: &Path, reason: String) -> DataError {
    DataError::Cifar10 { path: path.to_owned(), reason }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::data::convert::into_grey;
    use crate::data::decode::open;
    use crate::data::{Exif, decode};

    /// A record whose pixel at (x, y) is (`first` + x, 2y, x + y).
    fn record(label: u8, first: u8) -> Vec<u8> {
        let plane = |value: fn(u8, u8, u8) -> u8| {
            (0..SIDE as u8).flat_map(move |y| (0..SIDE as u8).map(move |x| value(x, y, first)))
        };
        let planes = [plane(|x, _, first| first + x), plane(|_, y, _| 2 * y), plane(|x, y, _| x + y)];
        std::iter::once(label).chain(planes.into_iter().flatten()).collect()
    }

    /// The whole distribution with records of the given labels in every file.
    pub(in crate::data) fn write(folder: &Path, labels: &[u8]) {
        std::fs::create_dir_all(folder).unwrap();
        for (number, name) in (0..).zip(TRAIN_FILES.into_iter().chain([TEST_FILE])) {
            let bytes: Vec<u8> = labels.iter().flat_map(|&label| record(label, 10 * number)).collect();
            std::fs::write(folder.join(name), bytes).unwrap();
        }
    }

    #[test]
    fn records_are_listed_and_read_by_their_paths() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(FOLDER);
        assert_eq!(find(root.path()), None);
        write(&folder, &[3, 0, 9]);
        assert_eq!(find(root.path()), Some(folder.clone()));
        assert_eq!(find(&folder), Some(folder.clone()));

        let set = read(&folder).unwrap();
        assert_eq!(set.names, CLASSES);
        assert_eq!((set.train.len(), set.test.len()), (15, 3));
        assert_eq!(set.train[4], ClassImage { path: folder.join("data_batch_2.bin/0001"), label: 0 });
        assert_eq!(set.test[2], ClassImage { path: folder.join("test_batch.bin/0002"), label: 9 });

        let image = decode(&set.train[4].path, Exif::Apply).unwrap();
        assert_eq!(image.dimensions(), (32, 32));
        for (x, y) in [(0, 0), (31, 0), (0, 31), (7, 20)] {
            assert_eq!(image.get_pixel(x, y).0, [10 + x as u8, 2 * y as u8, (x + y) as u8]);
        }
        // Grey as of any other image: (19595·10 + 2¹⁵) >> 16 = 3.
        let grey = into_grey(open(&set.train[4].path, Exif::Apply).unwrap());
        assert_eq!(grey.get_pixel(0, 0).0, [3]);
    }

    #[test]
    fn what_only_looks_like_a_record_is_a_file_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        std::fs::create_dir(folder.join("camera.bin")).unwrap();
        let image = RgbImage::from_pixel(3, 2, image::Rgb([1, 2, 3]));
        image.save_with_format(folder.join("camera.bin/0001"), image::ImageFormat::Png).unwrap();
        assert_eq!(decode(&folder.join("camera.bin/0001"), Exif::Apply).unwrap(), image);
        write(folder, &[1]);
        assert_eq!(record_of(&folder.join("test_batch.bin/0000")).unwrap().1, 0);
        for other in ["test_batch.bin/first", "test_batch.bin", "absent.bin/0000", "test_batch.bin/+1"] {
            assert_eq!(record_of(&folder.join(other)), None, "{other}");
        }
    }

    #[test]
    fn names_come_from_the_distribution() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        write(folder, &[1]);
        let own: Vec<String> = (0..10).map(|i| format!("class-{i}")).collect();
        std::fs::write(folder.join(NAMES_FILE), own.join("\n") + "\n\n").unwrap();
        assert_eq!(read(folder).unwrap().names, own);
        for bad in ["one\ntwo\n".to_owned(), own.join("\n").replace('3', "/../x"), "a\n".repeat(10)] {
            std::fs::write(folder.join(NAMES_FILE), &bad).unwrap();
            let error = read(folder).unwrap_err().to_string();
            assert!(error.contains(NAMES_FILE) && error.contains("ten classes"), "{error}");
        }
    }

    #[track_caller]
    fn assert_says(error: &DataError, words: &[&str]) {
        let error = error.to_string();
        for word in words.iter().chain(&["CIFAR-10 binary version", "cifar-10-binary.tar.gz"]) {
            assert!(error.contains(word), "`{word}` is not in: {error}");
        }
    }

    #[test]
    fn damage_is_named_with_its_file_and_a_cure() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path();
        write(folder, &[0, 1]);
        let file = folder.join("data_batch_4.bin");
        let whole = std::fs::read(&file).unwrap();

        std::fs::write(&file, &whole[..whole.len() - 1]).unwrap();
        assert_says(&read(folder).unwrap_err(), &["data_batch_4.bin", "6145 bytes"]);
        let error = decode(&file.join("0001"), Exif::Apply).unwrap_err();
        assert_says(&error, &["data_batch_4.bin", "ends before record 1", "1 whole records"]);
        assert!(decode(&file.join("0000"), Exif::Apply).is_ok());
        for beyond in ["0002", "99999999999999999999", "18446744073709551615"] {
            assert!(decode(&file.join(beyond), Exif::Apply).is_err(), "{beyond}");
        }
        std::fs::write(&file, b"").unwrap();
        assert_says(&read(folder).unwrap_err(), &["data_batch_4.bin", "0 bytes"]);

        let mut other = whole;
        other[RECORD] = 10;
        std::fs::write(&file, &other).unwrap();
        assert_says(&read(folder).unwrap_err(), &["data_batch_4.bin", "record 1 has label 10"]);
        assert_says(&decode(&file.join("0001"), Exif::Apply).unwrap_err(), &["record 1 has label 10"]);

        std::fs::remove_file(&file).unwrap();
        std::fs::remove_file(folder.join(TEST_FILE)).unwrap();
        assert_says(&read(folder).unwrap_err(), &["data_batch_4.bin, test_batch.bin is missing"]);
    }
}
