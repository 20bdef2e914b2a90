//! Data sets that follow no layout: folders named one by one.

use crate::world::{FAST, World, bad, column, good, mask, save};

/// Good images, defects in two kinds and directly, and a mask for some.
fn world() -> World {
    let world = World::new();
    for number in 0..6 {
        save(&good(number), &world.path(format!("photos/washer/good/{number}.png")));
    }
    for number in 0..2 {
        save(&good(20 + number), &world.path(format!("checked/{number}.png")));
        save(&bad(30 + number), &world.path(format!("faulty/dent/{number}.png")));
        save(&bad(40 + number), &world.path(format!("faulty/stain/{number}.png")));
    }
    world
}

const TRAIN: &str = "train --train-good photos/washer/good --test-good checked --test-bad faulty";

#[test]
fn defects_without_masks_have_image_metrics_and_no_pixel_metrics() {
    let world = world();
    let ran = world.run(&format!("{TRAIN} {FAST} --output run")).succeeds();
    let row = &world.json("run/results.json")["results"][0];
    assert_eq!(row["category"], "washer");
    assert_eq!(
        (&row["test_good"], &row["test_defective"], &row["without_mask"]),
        (&2.into(), &4.into(), &4.into())
    );
    assert!(row["i_auroc"].is_f64() && row["i_ap"].is_f64());
    for metric in ["p_auroc", "aupro", "p_ap", "p_f1max"] {
        assert!(row[metric].is_null(), "{metric}");
    }
    let note = "no defective image has a mask (washer)";
    assert_eq!(ran.stdout.matches(note).count(), 1, "{}", ran.stdout);
    assert!(ran.stderr.contains("4 of 4 defect images have no mask"), "{}", ran.stderr);
    let lines = world.lines("run/washer/scores.jsonl");
    assert_eq!(column(&lines[2..], "defect"), ["dent", "dent", "stain", "stain"]);
}

#[test]
fn pixel_metrics_are_taken_over_the_masked_images_alone() {
    let world = world();
    for path in ["masks/dent/0.png", "masks/dent/1_mask.png"] {
        std::fs::create_dir_all(world.path("masks/dent")).unwrap();
        mask(96, 96).save(world.path(path)).unwrap();
    }
    let ran = world.run(&format!("{TRAIN} --masks masks {FAST} --output run")).succeeds();
    assert!(ran.stderr.contains("2 of 4 defect images have no mask"), "{}", ran.stderr);
    let row = world.json("run/results.json")["results"][0].clone();
    assert_eq!(row["without_mask"], 2);

    // The same figures as without the images that have no mask, but for those of whole images.
    std::fs::remove_dir_all(world.path("faulty/stain")).unwrap();
    let test = TRAIN.replace("train --", "test --");
    let model = "--model run/washer/model.safetensors";
    world.run(&format!("{test} --masks masks {model} --output fewer")).succeeds();
    let fewer = world.json("fewer/results.json")["results"][0].clone();
    assert_eq!((&fewer["without_mask"], &fewer["test_defective"]), (&0.into(), &2.into()));
    for metric in ["p_auroc", "aupro", "p_ap", "p_f1max"] {
        assert!(row[metric].is_f64());
        assert_eq!(row[metric], fewer[metric], "{metric}");
    }
}

#[test]
fn folders_that_are_missing_or_empty_are_named() {
    let world = world();
    std::fs::create_dir_all(world.path("empty")).unwrap();
    for (command, words) in [
        (TRAIN.replace("checked", "chekced"), ["chekced; check the path", "there is no file or folder"]),
        (TRAIN.replace("checked", "empty"), ["empty", "no PNG"]),
        (TRAIN.replace("faulty", "empty"), ["empty", "no PNG"]),
        (TRAIN.replace("photos/washer/good", "empty"), ["no good images", "empty"]),
        (format!("{TRAIN} --masks nowhere"), ["nowhere; check", "there is no file or folder"]),
        ("train --train-good photos/washer/good --masks checked".to_owned(), ["--masks", "--test-bad"]),
        ("train --test-good checked".to_owned(), ["--test-good", "--train-good"]),
        (format!("{TRAIN} --data photos"), ["--data", "cannot be used with"]),
    ] {
        let ran = world.run(&format!("{command} {FAST} --output never")).exits(2);
        for word in words {
            assert!(ran.stderr.contains(word), "{word} is not in {}", ran.stderr);
        }
    }
    assert!(!world.path("never").exists());
}
