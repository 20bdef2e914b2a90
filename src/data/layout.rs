//! Data sets as people store them: MVTec AD, BTAD, a bare folder of good images, or folders named one by one.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::list::{Listing, file_name, list};
use super::masks::{Kind, Masks, test_images};
use super::{DataError, cifar10};
use crate::spelling::nearest;

/// The names, in any case, of a folder of good images.
pub const GOOD_NAMES: [&str; 3] = ["good", "ok", "normal"];

const EXPECTED: &str = "  MVTec AD, BTAD            good images only
  <category>/               <category>/
    train/good/*.png          good/*.png
    test/good/*.png
    test/<defect>/*.png     good may also be ok or normal; test and
    ground_truth/<defect>/  ground_truth may be missing; the folder may
      <image>_mask.png      be one category or hold many

  Folders of classes, each to be learned on its own: add --one-class";

/// The images of one kind of part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Category {
    /// Its name: that of its folder, or as given.
    pub name: String,
    /// Good images to learn from, sorted.
    pub train: Vec<PathBuf>,
    /// Images to test on, by kind and then by name; empty where there are none.
    pub test: Vec<TestImage>,
    /// Its folder.
    pub root: PathBuf,
    /// What a user should be told once: masks that are missing or belong to nothing, folders that were not read.
    pub notes: Vec<String>,
}

/// An image whose answer is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestImage {
    /// The file.
    pub path: PathBuf,
    /// `"good"`, or the name of the defect's folder.
    pub kind: String,
    /// Whether the part is defective.
    pub is_defect: bool,
    /// Where it is defective. Good images have none.
    pub mask: Option<PathBuf>,
}

/// Folders that follow no layout.
#[derive(Clone, Debug)]
pub struct PlainFolders {
    /// The category's name.
    pub name: String,
    /// Good images to learn from.
    pub train_good: PathBuf,
    /// Good images to test on.
    pub test_good: Option<PathBuf>,
    /// Defect images: a subfolder a kind, or images directly, whose kind is then the folder's own name.
    pub test_bad: Option<PathBuf>,
    /// Masks of the defect images, in the same subfolders or directly.
    pub masks: Option<PathBuf>,
}

/// Finds the categories under `root`, which may be one itself; all of them if `chosen` is empty, sorted by name.
///
/// # Errors
/// A missing folder, no category at all, a chosen category that is not there, or one without good images.
pub fn discover(root: &Path, chosen: &[String]) -> Result<Vec<Category>, DataError> {
    let listing = list(root)?;
    let folders = if is_category(&listing)? {
        vec![root.to_owned()]
    } else {
        let mut folders = Vec::new();
        for folder in &listing.folders {
            if is_category(&list(folder)?)? {
                folders.push(folder.clone());
            }
        }
        folders
    };
    if folders.is_empty() {
        if cifar10::find(root).is_some() {
            return Err(DataError::OnlyClasses { root: root.to_owned() });
        }
        return Err(DataError::NoCategory {
            root: root.to_owned(),
            expected: EXPECTED.to_owned(),
            found: draw(&listing),
        });
    }
    let named: Vec<(String, PathBuf)> =
        folders.into_iter().map(|folder| (category_name(&folder), folder)).collect();
    for name in chosen {
        if !named.iter().any(|(known, _)| known == name) {
            return Err(unknown_category(root, name, named.iter().map(|(name, _)| name.as_str())));
        }
    }
    named
        .into_iter()
        .filter(|(name, _)| chosen.is_empty() || chosen.contains(name))
        .map(|(name, folder)| read_category(name, folder))
        .collect()
}

/// Whether a folder with this content is a category: it has a `train` folder, or images in a folder of good ones.
fn is_category(listing: &Listing) -> Result<bool, DataError> {
    for folder in &listing.folders {
        if file_name(folder) == "train" || (is_good(file_name(folder)) && !list(folder)?.images.is_empty()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a folder of this name holds good images.
pub(super) fn is_good(name: &OsStr) -> bool {
    GOOD_NAMES.iter().any(|good| name.eq_ignore_ascii_case(good))
}

fn category_name(folder: &Path) -> String {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    // "." and ".." have no name of their own.
    name(folder)
        .or_else(|| name(&std::fs::canonicalize(folder).ok()?))
        .unwrap_or_else(|| "category".to_owned())
}

fn read_category(name: String, root: PathBuf) -> Result<Category, DataError> {
    let mut notes = Vec::new();
    let train_folder = root.join("train");
    let has_train = train_folder.is_dir();
    let mut train = Vec::new();
    let mut unread = 0;
    for folder in list(if has_train { &train_folder } else { &root })?.folders {
        let images = list(&folder)?.images;
        if is_good(file_name(&folder)) {
            train.extend(images);
        } else if has_train {
            unread += images.len();
        }
    }
    if train.is_empty() {
        let base = if has_train { "train/" } else { "" };
        return Err(no_good_images(root, GOOD_NAMES.map(|good| format!("{base}{good}/")).join(", ")));
    }
    if unread > 0 {
        notes.push(format!(
            "{unread} images under train/ are not in good/, ok/ or normal/ and are not learnt from"
        ));
    }

    let mut good = Vec::new();
    let mut defects = Vec::new();
    let test_folder = root.join("test");
    if has_train && test_folder.is_dir() {
        let listing = list(&test_folder)?;
        if !listing.images.is_empty() {
            notes.push(format!(
                "{} images lie in test/ itself and are not tested: only its subfolders say what is good",
                listing.images.len()
            ));
        }
        for folder in listing.folders {
            let images = list(&folder)?.images;
            if is_good(file_name(&folder)) {
                good.extend(images);
            } else {
                defects.push(Kind { folder: file_name(&folder).to_owned(), images });
            }
        }
    }
    let masks = root.join("ground_truth");
    let masks = if has_train && masks.is_dir() { Masks::read(&masks)? } else { Masks::default() };
    let test = test_images(good, defects, masks, &mut notes);
    Ok(Category { name, train, test, root, notes })
}

/// A category from folders that follow no layout.
///
/// # Errors
/// A folder that is missing or cannot be listed, or no image where images were promised.
pub fn from_folders(folders: PlainFolders) -> Result<Category, DataError> {
    let images_of = |folder: PathBuf| match list(&folder)?.images {
        images if images.is_empty() => Err(DataError::NoImages { folder, recursive: false }),
        images => Ok(images),
    };
    let PlainFolders { name, train_good, test_good, test_bad, masks } = folders;
    let train = list(&train_good)?.images;
    if train.is_empty() {
        return Err(no_good_images(train_good, "the folder itself".to_owned()));
    }
    let good = test_good.map_or(Ok(Vec::new()), images_of)?;
    let mut defects = Vec::new();
    if let Some(folder) = test_bad {
        let listing = list(&folder)?;
        for subfolder in listing.folders {
            let images = list(&subfolder)?.images;
            defects.push(Kind { folder: file_name(&subfolder).to_owned(), images });
        }
        if !listing.images.is_empty() {
            defects.push(Kind { folder: category_name(&folder).into(), images: listing.images });
        }
        if defects.iter().all(|kind| kind.images.is_empty()) {
            return Err(DataError::NoImages { folder, recursive: true });
        }
    }
    let masks = masks.map_or_else(|| Ok(Masks::default()), |folder| Masks::read(&folder))?;
    let mut notes = Vec::new();
    let test = test_images(good, defects, masks, &mut notes);
    Ok(Category { name, train, test, root: train_good, notes })
}

fn no_good_images(folder: PathBuf, looked_for: String) -> DataError {
    DataError::NoGoodImages { folder, looked_for }
}

/// The error for a name that is none of those `known`.
pub(super) fn unknown_category<'a>(
    root: &Path,
    name: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> DataError {
    let suggestion = nearest(name, known.clone()).map(str::to_owned);
    let available = known.collect::<Vec<_>>().join(", ");
    DataError::UnknownCategory { root: root.to_owned(), name: name.to_owned(), suggestion, available }
}

/// The first few entries of a folder, a line each.
pub(super) fn draw(listing: &Listing) -> String {
    const MOST: usize = 8;
    let mut lines: Vec<String> = Vec::new();
    for folder in listing.folders.iter().take(MOST) {
        lines.push(format!("  {}/", file_name(folder).to_string_lossy()));
    }
    if listing.folders.len() > MOST {
        lines.push(format!("  and {} more folders", listing.folders.len() - MOST));
    }
    if !listing.images.is_empty() {
        lines.push(format!("  {} images", listing.images.len()));
    }
    if listing.others > 0 {
        lines.push(format!("  {} other files", listing.others));
    }
    if lines.is_empty() { "  nothing".to_owned() } else { lines.join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::fixtures::touch;

    fn kinds(category: &Category) -> Vec<(&str, bool, bool)> {
        category
            .test
            .iter()
            .map(|image| (image.kind.as_str(), image.is_defect, image.mask.is_some()))
            .collect()
    }

    #[test]
    fn an_mvtec_tree() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        for name in ["zipper", "bottle"] {
            let files = [
                "train/good/001.png",
                "train/good/000.png",
                "train/good/.DS_Store",
                "test/good/000.png",
                "test/hole/000.png",
                "test/hole/001.png",
                "test/crack/000.png",
                "ground_truth/hole/000_mask.png",
                "ground_truth/hole/000.png",
                "ground_truth/crack/000.bmp",
                "ground_truth/crack/007_mask.png",
                "license.txt",
            ];
            touch(&root.join(name), &files);
        }
        touch(root, &["readme.txt", "notes/todo.txt"]);
        let all = discover(root, &[]).unwrap();
        assert_eq!(
            all.iter().map(|category| category.name.as_str()).collect::<Vec<_>>(),
            ["bottle", "zipper"]
        );
        let bottle = &all[0];
        assert_eq!(bottle.root, root.join("bottle"));
        assert_eq!(
            bottle.train,
            ["000.png", "001.png"].map(|name| root.join("bottle/train/good").join(name))
        );
        let expected =
            [("good", false, false), ("crack", true, true), ("hole", true, true), ("hole", true, false)];
        assert_eq!(kinds(bottle), expected);
        assert_eq!(bottle.test[1].mask, Some(root.join("bottle/ground_truth/crack/000.bmp")));
        assert_eq!(bottle.test[2].mask, Some(root.join("bottle/ground_truth/hole/000_mask.png")));
        assert_eq!(bottle.notes.len(), 2, "{:?}", bottle.notes);
        assert!(bottle.notes[0].starts_with("1 of 3 defect images have no mask"), "{:?}", bottle.notes);
        assert!(bottle.notes[1].starts_with("2 masks match no defect image"), "{:?}", bottle.notes);

        // One category of the root by name, and by its own folder.
        assert_eq!(discover(root, &["bottle".to_owned()]).unwrap(), all[..1]);
        assert_eq!(discover(&root.join("bottle"), &[]).unwrap(), all[..1]);
        let error = discover(root, &["botle".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("did you mean \"bottle\"?") && error.contains("bottle, zipper"), "{error}");
        let error = discover(root, &["carpet".to_owned()]).unwrap_err().to_string();
        assert!(!error.contains("did you mean"), "{error}");
    }

    #[test]
    fn btad_and_a_bare_folder_of_good_images() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        touch(
            &root.join("01"),
            &["train/ok/1.bmp", "test/ok/2.bmp", "test/ko/3.bmp", "ground_truth/ko/3.png"],
        );
        touch(&root.join("02"), &["OK/1.png", "OK/2.png", "defective/3.png"]);
        let found = discover(root, &[]).unwrap();
        assert_eq!(kinds(&found[0]), [("good", false, false), ("ko", true, true)]);
        assert!(found[0].notes.is_empty(), "{:?}", found[0].notes);
        assert_eq!((found[1].name.as_str(), found[1].train.len(), found[1].test.len()), ("02", 2, 0));
        assert_eq!(discover(&root.join("02"), &[]).unwrap()[0], found[1]);
    }

    #[test]
    fn images_that_will_not_be_used_are_mentioned() {
        let root = tempfile::tempdir().unwrap();
        touch(root.path(), &["train/good/1.png", "train/bad/2.png", "test/3.png"]);
        let found = discover(root.path(), &[]).unwrap();
        assert_eq!((found.len(), found[0].train.len(), found[0].test.len()), (1, 1, 0));
        assert_eq!(found[0].notes.len(), 2, "{:?}", found[0].notes);
    }

    #[test]
    fn folders_named_one_by_one() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let files = [
            "a/1.png",
            "b/2.png",
            "c/3.png",
            "c/dent/4.png",
            "c/scratch/4.png",
            "m/3.png",
            "m/dent/4_mask.png",
        ];
        touch(root, &[&files[..], &["empty/x.txt"]].concat());
        let folders = PlainFolders {
            name: "part".to_owned(),
            train_good: root.join("a"),
            test_good: Some(root.join("b")),
            test_bad: Some(root.join("c")),
            masks: Some(root.join("m")),
        };
        let category = from_folders(folders.clone()).unwrap();
        let expected =
            [("good", false, false), ("dent", true, true), ("scratch", true, false), ("c", true, true)];
        assert_eq!(kinds(&category), expected);
        let empty = Some(root.join("empty"));
        for broken in [
            PlainFolders { train_good: root.join("empty"), ..folders.clone() },
            PlainFolders { test_good: empty.clone(), ..folders.clone() },
            PlainFolders { test_bad: empty, ..folders.clone() },
            PlainFolders { masks: Some(root.join("missing")), ..folders },
        ] {
            let error = from_folders(broken).unwrap_err().to_string();
            assert!(error.contains("empty") || error.contains("missing"), "{error}");
        }
    }

    #[test]
    fn every_error_says_what_was_expected() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        assert!(matches!(discover(&root.join("no"), &[]), Err(DataError::MissingFolder { .. })));
        touch(root, &["pictures/1.png", "2.png", "3.txt"]);
        assert!(matches!(discover(&root.join("2.png"), &[]), Err(DataError::NotAFolder { .. })));
        let error = discover(root, &[]).unwrap_err().to_string();
        assert!(
            error.contains("ground_truth/<defect>/") && error.contains("  pictures/\n  1 images"),
            "{error}"
        );
        touch(&root.join("set"), &["train/bad/1.png"]);
        let error = discover(&root.join("set"), &[]).unwrap_err().to_string();
        assert!(error.contains("train/good/, train/ok/, train/normal/"), "{error}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn names_need_not_be_utf_8() {
        use std::os::unix::ffi::OsStrExt;
        let root = tempfile::tempdir().unwrap();
        let defect = OsStr::from_bytes(b"kr\xE4tzer");
        touch(root.path(), &["train/good/1.png"]);
        touch(&root.path().join("test").join(defect), &["\u{e4}.png"]);
        touch(&root.path().join("ground_truth").join(defect), &["\u{e4}_mask.png"]);
        let found = discover(root.path(), &[]).unwrap();
        assert_eq!(kinds(&found[0]), [("kr\u{fffd}tzer", true, true)]);
    }
}
