use std::path::Path;
use std::sync::OnceLock;

use sha2::{Digest, Sha256};

use super::camera::SIZE;
use super::plan::{Entry, Photograph, VISIBLE, entries, visible_change};
use super::*;

/// The set, rendered once for all tests.
fn set() -> &'static [(Entry, Photograph)] {
    static SET: OnceLock<Vec<(Entry, Photograph)>> = OnceLock::new();
    SET.get_or_init(|| entries().into_par_iter().map(|entry| (entry, entry.render())).collect())
}

/// Writes a set's files with nothing in them but their README's text: enough for whatever happens to folders.
fn hollow(folder: &Path) -> Result<(), DemoError> {
    for entry in entries() {
        write_whole(&folder.join(entry.image_path()), |_| Ok(()))?;
        if let Some(path) = entry.mask_path() {
            write_whole(&folder.join(path), |_| Ok(()))?;
        }
    }
    Ok(write_whole(&folder.join(folder::README), |out| out.write_all(folder::readme().as_bytes()))?)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Whoever changes a pixel changes this number, and with it must change [`VERSION`].
#[test]
fn every_machine_makes_these_pixels() {
    let mut hash = Sha256::new();
    for (entry, photograph) in set() {
        hash.update(entry.image_path());
        hash.update(&photograph.image);
        hash.update(photograph.mask.as_deref().unwrap_or_default());
    }
    let digest: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        (VERSION, digest.as_str()),
        (1, "0e93d3b35f47cc7f0e52f679e6901cadf92ab937cb074948478b4c29faa36863")
    );
}

#[test]
fn what_is_written_is_what_was_rendered() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("new");
    let summary = write(&folder).unwrap();
    assert_eq!(summary, DemoSummary { categories: vec!["fabric", "flange"], images: 64 });
    assert_eq!(names(&folder), ["README.txt", "fabric", "flange"]);
    for (category, defects) in [("fabric", ["cut", "stain"]), ("flange", ["chip", "scratch"])] {
        let category = folder.join(category);
        assert_eq!(names(&category), ["ground_truth", "test", "train"]);
        assert_eq!(names(&category.join("train")), ["good"]);
        assert_eq!(names(&category.join("train/good")).len(), 16);
        assert_eq!(names(&category.join("test/good")).len(), 6);
        assert_eq!(names(&category.join("ground_truth")), defects);
        for defect in defects {
            let numbered = |ending: &str| (0..5).map(|i| format!("{i:03}{ending}")).collect::<Vec<_>>();
            assert_eq!(names(&category.join("test").join(defect)), numbered(".png"));
            assert_eq!(names(&category.join("ground_truth").join(defect)), numbered("_mask.png"));
        }
    }
    for (entry, photograph) in set() {
        let image = image::open(folder.join(entry.image_path())).unwrap();
        assert_eq!((image.width(), image.height(), image.color()), (256, 256, image::ColorType::Rgb8));
        assert_eq!(image.as_bytes(), photograph.image);
        assert_eq!(entry.mask_path().is_some(), photograph.mask.is_some());
        if let (Some(path), Some(pixels)) = (entry.mask_path(), &photograph.mask) {
            let mask = image::open(folder.join(path)).unwrap();
            assert_eq!((mask.width(), mask.height(), mask.color()), (256, 256, image::ColorType::L8));
            assert_eq!(mask.as_bytes(), pixels);
        }
    }
}

/// Also: no defect is a trifle, none fills the image, and the usual centre crop of 224 of 256 pixels keeps it whole.
#[test]
fn a_mask_is_exactly_where_the_image_differs_visibly_from_its_sound_twin() {
    let mut defects = 0;
    for (entry, photograph) in set() {
        let (Some(twin), Some(mask)) = (entry.twin(), &photograph.mask) else { continue };
        defects += 1;
        assert_eq!(mask, &visible_change(&photograph.image, &twin));
        let area = mask.iter().filter(|&&value| value == 255).count();
        assert_eq!(area + mask.iter().filter(|&&value| value == 0).count(), SIZE * SIZE);
        assert!((60..2400).contains(&area), "{}: {area} pixels", entry.image_path());
        for (pixel, _) in mask.iter().enumerate().filter(|&(_, &value)| value == 255) {
            let inside = |v: usize| (16..240).contains(&v);
            assert!(inside(pixel % SIZE) && inside(pixel / SIZE), "{}: {pixel}", entry.image_path());
            let change = |c: usize| photograph.image[3 * pixel + c].abs_diff(twin[3 * pixel + c]);
            assert!((0..3).any(|c| change(c) > VISIBLE));
        }
    }
    assert_eq!(defects, 20);
}

#[test]
fn no_two_images_are_alike() {
    for (i, (entry, a)) in set().iter().enumerate() {
        for (other, b) in &set()[i + 1..] {
            let difference: u64 =
                std::iter::zip(&a.image, &b.image).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
            let mean = difference as f64 / a.image.len() as f64;
            assert!(mean > 2.5, "{} and {}: {mean}", entry.image_path(), other.image_path());
        }
    }
}

#[test]
fn a_folder_with_anything_else_in_it_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("thesis.tex"), "years of work").unwrap();
    let error = write(folder).unwrap_err();
    assert!(
        matches!(&error, DemoError::Foreign { entry, .. } if entry == Path::new("thesis.tex")),
        "{error}"
    );
    assert_eq!(names(folder), ["thesis.tex"]);

    std::fs::remove_file(folder.join("thesis.tex")).unwrap();
    folder::publish(folder, hollow).unwrap();
    std::fs::write(folder.join("fabric/test/good/mine.png"), "").unwrap();
    let error = folder::publish(folder, hollow).unwrap_err();
    assert!(error.to_string().contains("mine.png"), "{error}");
    assert!(folder.join("fabric/test/good/mine.png").exists());

    let file = folder.join("README.txt");
    assert!(matches!(write(&file).unwrap_err(), DemoError::NotAFolder(path) if path == file));
}

#[test]
fn a_demo_set_is_replaced_and_a_failure_leaves_it_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    folder::publish(folder, hollow).unwrap();
    let first = folder.join("fabric/train/good/000.png");
    std::fs::write(&first, "old").unwrap();

    let failing = |set: &Path| {
        hollow(set)?;
        Err(DemoError::NoCacheFolder)
    };
    folder::publish(folder, failing).unwrap_err();
    assert_eq!(std::fs::read(&first).unwrap(), b"old");
    assert_eq!(names(folder), ["README.txt", "fabric", "flange"], "nothing is left of the attempt");

    // What a killed run leaves behind does not turn the folder into a foreign one.
    std::fs::create_dir(folder.join(".writing-x")).unwrap();
    folder::publish(folder, hollow).unwrap();
    assert_eq!(std::fs::read(&first).unwrap(), b"");

    let absent = folder.join("fabric/absent");
    folder::publish(&absent, failing).unwrap_err();
    assert!(!absent.exists());
}

#[test]
fn the_cache_is_filled_once_by_whoever_comes_first_and_repaired() {
    let root = tempfile::tempdir().unwrap();
    let fills = std::sync::atomic::AtomicUsize::new(0);
    let meeting = std::sync::Barrier::new(4);
    let both_started = |set: &Path| {
        // All are past the question whether the cache is there before any of them can answer it.
        meeting.wait();
        fills.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        hollow(set)
    };
    let expected = root.path().join("demo-v1");
    std::thread::scope(|scope| {
        let runs: Vec<_> =
            (0..4).map(|_| scope.spawn(|| folder::cached_under(root.path(), both_started))).collect();
        for run in runs {
            assert_eq!(run.join().unwrap().unwrap(), expected);
        }
    });
    assert_eq!(fills.into_inner(), 4);
    assert_eq!(names(root.path()), ["demo-v1"]);

    let never = |_: &Path| -> Result<(), DemoError> { unreachable!("the cache is complete") };
    assert_eq!(folder::cached_under(root.path(), never).unwrap(), expected);

    let lost = expected.join("flange/test/chip/003.png");
    std::fs::remove_file(&lost).unwrap();
    folder::cached_under(root.path(), hollow).unwrap();
    assert!(lost.exists());
    assert_eq!(names(root.path()), ["demo-v1"]);
}

#[test]
fn a_set_its_categories_and_what_lies_in_them_are_known_as_demo() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("set");
    folder::publish(&folder, hollow).unwrap();
    std::fs::create_dir(folder.join("own")).unwrap();
    std::fs::write(parent.path().join("README.txt"), "simplenet, but not its demo set").unwrap();
    for (path, expected) in [
        ("set", true),
        ("set/fabric", true),
        ("set/flange/../flange/test/chip/000.png", true),
        ("set/own", false),
        ("set/absent", false),
        (".", false),
    ] {
        assert_eq!(is_demo(&parent.path().join(path)), expected, "{path}");
    }
}
