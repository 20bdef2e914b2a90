//! Data sets of classes, each to be learned on its own: images of every other class are then the anomalies.

use std::path::{Path, PathBuf};

use super::layout::{draw, unknown_category};
use super::list::{file_name, list};
use super::{Category, DataError, cifar10};

const EXPECTED: &str = "  a folder a class       classes alone     CIFAR-10 binary version
  train/<class>/*.png    <class>/*.png     cifar-10-batches-bin/
  test/<class>/*.png                         data_batch_1.bin … data_batch_5.bin
                                             test_batch.bin";

/// A data set of classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneClassSet {
    /// Its folder.
    pub root: PathBuf,
    /// The names of all classes.
    pub names: Vec<String>,
    /// The classes to learn, in the order of the names.
    pub classes: Vec<Class>,
    /// The test images of all classes, whichever are learned; empty where there are none.
    pub test: Vec<ClassImage>,
    /// What a user should be told once.
    pub notes: Vec<String>,
}

/// A class to learn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// The index of its name.
    pub label: usize,
    /// Its training images.
    pub train: Vec<PathBuf>,
}

/// An image of a known class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassImage {
    /// The file, or the record of one.
    pub path: PathBuf,
    /// The index of its class's name.
    pub label: usize,
}

/// A data set as it lies there, whole.
#[derive(Debug, Default)]
pub(super) struct ClassImages {
    /// The classes' names, by label.
    pub(super) names: Vec<String>,
    /// The training images.
    pub(super) train: Vec<ClassImage>,
    /// The test images.
    pub(super) test: Vec<ClassImage>,
    /// What a user should be told.
    pub(super) notes: Vec<String>,
}

impl OneClassSet {
    /// Finds the classes under `root`: CIFAR-10's binary version, `train/<class>/` and `test/<class>/`, or `<class>/`.
    ///
    /// Only the classes `chosen` are learned, all if none is; the test images are those of all classes either way. Where
    /// `subset` is given, only so many images of each class are taken, the first ones, for training and for testing alike.
    ///
    /// # Errors
    /// A missing folder, no class at all, a chosen one that is not there, or a damaged distribution of CIFAR-10.
    pub fn discover(root: &Path, chosen: &[String], subset: Option<usize>) -> Result<Self, DataError> {
        let found = match cifar10::find(root) {
            Some(folder) => cifar10::read(&folder)?,
            None => read_folders(root)?,
        };
        let ClassImages { names, train, test, notes } = found;
        let count = names.len();
        let most = subset.unwrap_or(usize::MAX);

        let mut classes: Vec<Class> = (0..count).map(|label| Class { label, train: Vec::new() }).collect();
        for image in first_of_each(train, count, most) {
            classes[image.label].train.push(image.path);
        }
        classes.retain(|class| !class.train.is_empty());
        let known = || classes.iter().map(|class| names[class.label].as_str());
        if let Some(name) = chosen.iter().find(|name| !known().any(|known| known == *name)) {
            return Err(unknown_category(root, name, known()));
        }
        classes.retain(|class| chosen.is_empty() || chosen.contains(&names[class.label]));
        Ok(Self { root: root.to_owned(), classes, test: first_of_each(test, count, most), names, notes })
    }

    /// The classes to learn as categories of good images, without their test images: those belong to all of them.
    pub fn categories(&self) -> Vec<Category> {
        let category = |class: &Class| Category {
            name: self.names[class.label].clone(),
            train: class.train.clone(),
            test: Vec::new(),
            root: self.root.clone(),
            notes: Vec::new(),
        };
        self.classes.iter().map(category).collect()
    }
}

/// The first `most` images of each of `classes` classes, in their order.
fn first_of_each(mut images: Vec<ClassImage>, classes: usize, most: usize) -> Vec<ClassImage> {
    let mut taken = vec![0; classes];
    images.retain(|image| {
        taken[image.label] += 1;
        taken[image.label] <= most
    });
    images
}

/// Reads a folder a class, below `train` and `test` where there is a `train`.
fn read_folders(root: &Path) -> Result<ClassImages, DataError> {
    let listing = list(root)?;
    if cifar10::is_python_version(root) {
        let reason = "it holds CIFAR-10's version for Python".to_owned();
        return Err(DataError::Cifar10 { path: root.to_owned(), reason });
    }
    let mut images = ClassImages::default();
    let train = root.join("train");
    if train.is_dir() {
        images.train = images.read(&train)?;
    } else {
        images.train = images.read(root)?;
    }
    if images.train.is_empty() {
        let (expected, found) = (EXPECTED.to_owned(), draw(&listing));
        return Err(DataError::NoClasses { root: root.to_owned(), expected, found });
    }
    let learned = images.names.len();
    let test = root.join("test");
    if train.is_dir() && test.is_dir() {
        images.test = images.read(&test)?;
    }
    images.remark(learned);
    Ok(images)
}

impl ClassImages {
    /// The images in the subfolders of `folder`, whose names become classes.
    fn read(&mut self, folder: &Path) -> Result<Vec<ClassImage>, DataError> {
        let mut images = Vec::new();
        for class in list(folder)?.folders {
            let paths = list(&class)?.images;
            if paths.is_empty() {
                self.notes.push(format!("{} holds no image and is left out", class.display()));
                continue;
            }
            let name = file_name(&class).to_string_lossy().into_owned();
            let known = self.names.iter().position(|known| *known == name);
            let label = known.unwrap_or_else(|| {
                self.names.push(name);
                self.names.len() - 1
            });
            images.extend(paths.into_iter().map(|path| ClassImage { path, label }));
        }
        Ok(images)
    }

    /// Notes what is missing of the test set, where the first `learned` classes have training images.
    fn remark(&mut self, learned: usize) {
        if self.test.is_empty() {
            self.notes.push(
                "there are no test images (test/<class>/ beside train/<class>/), so that nothing is measured"
                    .to_owned(),
            );
            return;
        }
        let untested = (0..learned).filter(|&label| !self.test.iter().any(|image| image.label == label));
        let untested: Vec<&str> = untested.map(|label| self.names[label].as_str()).collect();
        if !untested.is_empty() {
            self.notes.push(format!("without test images of their own: {}", untested.join(", ")));
        }
        if self.names.len() > learned {
            let others = self.names[learned..].join(", ");
            self.notes.push(format!("only in test/, so that they count as other classes alone: {others}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::discover;
    use crate::data::fixtures::touch;

    fn find(root: &Path) -> OneClassSet {
        OneClassSet::discover(root, &[], None).unwrap()
    }

    fn names(set: &OneClassSet) -> Vec<&str> {
        set.classes.iter().map(|class| set.names[class.label].as_str()).collect()
    }

    /// Classes and file names of the test images.
    fn tests<'a>(set: &'a OneClassSet) -> Vec<(&'a str, &'a str)> {
        let name = |image: &'a ClassImage| image.path.file_name().unwrap().to_str().unwrap();
        set.test.iter().map(|image| (set.names[image.label].as_str(), name(image))).collect()
    }

    #[test]
    fn a_folder_a_class() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let files = [
            "train/oak/2.png",
            "train/oak/1.jpg",
            "train/oak/readme.txt",
            "train/ash/5.png",
            "train/elm/notes.txt",
            "test/ash/6.png",
            "test/fir/8.png",
            "test/ash/7.png",
        ];
        touch(root, &files);
        let set = find(root);
        assert_eq!(names(&set), ["ash", "oak"]);
        assert_eq!(set.classes[1].train, ["1.jpg", "2.png"].map(|name| root.join("train/oak").join(name)));
        assert_eq!(tests(&set), [("ash", "6.png"), ("ash", "7.png"), ("fir", "8.png")]);
        let notes = set.notes.join("\n");
        for note in ["elm holds no image", "own: oak", "alone: fir"] {
            assert!(notes.contains(note), "{notes}");
        }

        let one = OneClassSet::discover(root, &["oak".to_owned()], Some(1)).unwrap();
        assert_eq!((names(&one), one.classes[0].train.len()), (vec!["oak"], 1));
        assert_eq!(tests(&one), [("ash", "6.png"), ("fir", "8.png")]);
        let categories = one.categories();
        assert_eq!((categories.len(), categories[0].name.as_str(), categories[0].test.len()), (1, "oak", 0));

        let error = OneClassSet::discover(root, &["oek".to_owned()], None).unwrap_err().to_string();
        assert!(error.contains("did you mean \"oak\"?") && error.contains("ash, oak"), "{error}");
        assert!(OneClassSet::discover(root, &["fir".to_owned()], None).is_err());
    }

    #[test]
    fn classes_alone_have_no_test_set() {
        let root = tempfile::tempdir().unwrap();
        touch(root.path(), &["oak/1.png", "ash/1.png", "ash/2.png"]);
        let set = find(root.path());
        assert_eq!((names(&set), set.test.len()), (vec!["ash", "oak"], 0));
        assert!(set.notes[0].contains("no test images"), "{:?}", set.notes);
    }

    #[test]
    fn cifar_10_is_found_in_its_folder_and_from_above() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("cifar-10-batches-bin");
        cifar10::tests::write(&folder, &[8, 8, 1, 8]);
        let above = find(root.path());
        assert_eq!(above.names, cifar10::CLASSES);
        assert_eq!(names(&above), ["automobile", "ship"]);
        let ships: Vec<PathBuf> = [(1, 0), (1, 1), (1, 3), (2, 0)]
            .map(|(file, record)| folder.join(format!("data_batch_{file}.bin/{record:04}")))
            .into();
        assert_eq!((above.classes[1].train.len(), &above.classes[1].train[..4]), (15, &ships[..]));
        assert_eq!(above.test.len(), 4);
        assert_eq!(find(&folder).classes, above.classes);

        let subset = OneClassSet::discover(&folder, &["ship".to_owned()], Some(2)).unwrap();
        assert_eq!((names(&subset), &subset.classes[0].train[..]), (vec!["ship"], &ships[..2]));
        assert_eq!(tests(&subset), [("ship", "0000"), ("ship", "0001"), ("automobile", "0002")]);

        // What is no set of categories says what is.
        for place in [root.path(), &folder] {
            let error = discover(place, &[]).unwrap_err().to_string();
            assert!(error.contains("CIFAR-10") && error.contains("--one-class"), "{error}");
        }
    }

    #[test]
    fn what_holds_no_classes_is_said() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        touch(root, &["a/b/1.png", "2.png"]);
        let error = OneClassSet::discover(root, &[], None).unwrap_err().to_string();
        assert!(error.contains("train/<class>/*.png") && error.contains("  a/\n  1 images"), "{error}");
        touch(root, &["cifar-10-batches-py/data_batch_1", "cifar-10-batches-py/test_batch"]);
        let error = OneClassSet::discover(root, &[], None).unwrap_err().to_string();
        assert!(error.contains("version for Python") && error.contains("cifar-10-binary.tar.gz"), "{error}");
        assert!(OneClassSet::discover(&root.join("no"), &[], None).is_err());
    }
}
