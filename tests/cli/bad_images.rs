//! Images and masks that cannot be used, or hardly: reported, counted, survived.

use crate::world::{FAST, Ran, World, column, edit_metadata, good, mask, save, texture, write_category};

/// Puts a text and half a PNG, both called images, into `folder`.
fn add_broken(world: &World, folder: &str) {
    world.write(format!("{folder}/900.png"), "no image");
    let whole = world.bytes(&format!("{folder}/000.png"));
    world.write(format!("{folder}/901.png"), &whole[..whole.len() / 2]);
}

fn warnings<'a>(ran: &'a Ran, word: &str) -> Vec<&'a str> {
    ran.stderr.lines().filter(|line| line.starts_with("warning: ") && line.contains(word)).collect()
}

#[test]
fn broken_images_are_skipped_and_counted() {
    let world = World::with_data();
    add_broken(&world, "data/weave/train/good");
    add_broken(&world, "data/weave/test/blot");
    let ran = world.run(&format!("train --data data {FAST} --output run")).succeeds();
    assert_eq!(warnings(&ran, "skipped: cannot decode").len(), 4, "{}", ran.stderr);
    let row = |run: &str| world.json(&format!("{run}/results.json"))["results"][0].clone();
    let trained = row("run");
    assert_eq!((&trained["skipped"], &trained["train_images"]), (&4.into(), &8.into()));
    assert_eq!(world.lines("run/weave/scores.jsonl").len(), 6);

    let model = "run/weave/model.safetensors";
    let ran = world.run(&format!("test --model {model} --data data --output again")).succeeds();
    assert_eq!(warnings(&ran, "skipped").len(), 2);
    assert_eq!(row("again")["skipped"], 2);
    assert_eq!(row("again")["i_auroc"], trained["i_auroc"]);

    let ran = world.run(&format!("predict --model {model} data/weave/test/blot")).succeeds();
    let lines = ran.lines();
    assert_eq!(column(&lines, "path").len(), 5);
    for (line, name) in lines[3..].iter().zip(["900.png", "901.png"]) {
        assert!(line.get("score").is_none() && line.get("verdict").is_none(), "{line}");
        assert!(line["error"].as_str().unwrap().contains(name), "{line}");
    }
    assert!(ran.stderr.contains("2 unreadable and skipped"), "{}", ran.stderr);

    // None of it is good enough for --strict, and the error is the sentence about the image.
    let words = ["cannot decode", "900.png", "replace the file"];
    world.run(&format!("train --data data {FAST} --strict --output strict")).fails(2, &words);
    assert!(!world.path("strict/weave").exists());
    world.run(&format!("test --model {model} --data data --strict --output strict-2")).fails(2, &words);
    assert!(!world.path("strict-2/results.json").exists());
    let ran = world.run(&format!("predict --model {model} data/weave/test/blot --strict")).fails(2, &words);
    assert_eq!(ran.lines().len(), 3, "what came before is told");
    world.assert_clean();
}

#[test]
fn nothing_but_broken_images_is_an_error() {
    let world = World::new();
    world.write("data/weave/train/good/0.png", "no image");
    let ran = world.run(&format!("train --data data {FAST} --output run"));
    let ran = ran.fails(2, &["none of the 1 training images of weave could be read"]);
    assert!(ran.stderr.contains("0.png"), "{}", ran.stderr);
    assert!(!world.path("run/weave").exists());
    let model = World::trained().path("run/weave/model.safetensors");
    let ran = world.run(&format!("predict --model {} data", model.display()));
    ran.fails(2, &["none of the 1 images could be read"]);
    world.assert_clean();
}

#[test]
fn masks_that_do_not_fit_are_left_out_and_counted() {
    let world = World::with_data();
    mask(90, 96).save(world.path("data/weave/ground_truth/blot/000_mask.png")).unwrap();
    world.write("data/weave/ground_truth/blot/001_mask.png", "no image");
    world.copy("data/weave/ground_truth/blot/002_mask.png", "data/weave/ground_truth/blot/077_mask.png");
    let ran = world.run(&format!("train --data data {FAST} --output run")).succeeds();
    let size = warnings(&ran, "000_mask.png is 90x96 but its image is 96x96");
    assert_eq!(size.len(), 1, "{}", ran.stderr);
    assert_eq!(warnings(&ran, "mask left out").len(), 2, "{}", ran.stderr);
    assert_eq!(warnings(&ran, "1 masks match no defect image").len(), 1, "{}", ran.stderr);
    let row = &world.json("run/results.json")["results"][0];
    assert_eq!((&row["without_mask"], &row["test_defective"]), (&2.into(), &3.into()));
    assert!(row["p_auroc"].is_f64() && row["i_auroc"].is_f64());
    let test = "test --model run/weave/model.safetensors --data data --strict --output strict";
    world.run(test).fails(2, &["000_mask.png is 90x96", "must have the size of its image"]);
}

/// Labels mark what pictures mark; a mask that marks nothing says nothing about where its defect is.
#[test]
fn masks_of_labels_count_and_black_ones_are_left_out() {
    let world = World::with_data();
    world.run(&format!("train --data data {FAST} --output run")).succeeds();
    let test = "test --model run/weave/model.safetensors --data data";
    let row = |run: &str| world.json(&format!("{run}/results.json"))["results"][0].clone();
    let masks =
        ["000", "001", "002"].map(|name| world.path(format!("data/weave/ground_truth/blot/{name}_mask.png")));
    for (path, label) in masks.iter().zip([1, 2, 127]) {
        let picture = image::open(path).unwrap().into_luma8();
        let labels = picture.as_raw().iter().map(|&value| if value > 127 { label } else { 0 }).collect();
        image::GrayImage::from_raw(96, 96, labels).unwrap().save(path).unwrap();
    }
    world.run(&format!("{test} --output labels")).succeeds();
    let (pictures, labels) = (row("run"), row("labels"));
    assert!(labels["p_auroc"].is_f64() && labels["p_auroc"] == pictures["p_auroc"], "{labels}");
    assert_eq!(labels["without_mask"], 0);

    image::GrayImage::new(96, 96).save(&masks[0]).unwrap();
    let ran = world.run(&format!("{test} --output black")).succeeds();
    assert_eq!(warnings(&ran, "000_mask.png marks no pixel").len(), 1, "{}", ran.stderr);
    assert_eq!(row("black")["without_mask"], 1);
    world.run(&format!("{test} --output strict --strict")).fails(2, &["000_mask.png marks no pixel"]);
}

#[test]
fn a_dot_and_a_ribbon_are_images_too() {
    let world = World::new();
    for (name, width, height) in [("dot", 1, 1), ("ribbon", 20_000, 50), ("tower", 30, 3000)] {
        save(&texture(1, width, height, false), &world.path(format!("data/odd/train/good/{name}.png")));
        save(&texture(2, width, height, false), &world.path(format!("data/odd/test/good/{name}.png")));
        save(&texture(3, width, height, true), &world.path(format!("data/odd/test/blot/{name}.png")));
        std::fs::create_dir_all(world.path("data/odd/ground_truth/blot")).unwrap();
        mask(width, height).save(world.path(format!("data/odd/ground_truth/blot/{name}.png"))).unwrap();
    }
    for fit in ["crop", "stretch"] {
        let run = format!("run-{fit}");
        world.run(&format!("train --data data {FAST} --fit {fit} --output {run}")).succeeds();
        let row = world.json(&format!("{run}/results.json"))["results"][0].clone();
        assert_eq!((&row["skipped"], &row["test_good"]), (&0.into(), &3.into()));
        let model = format!("{run}/odd/model.safetensors");
        let predict = format!("predict --model {model} data/odd/test --overlays {run}/o --maps {run}/m");
        let ran = world.run(&predict).succeeds();
        for line in ran.lines() {
            let inspected = line["inspected"].as_f64().unwrap();
            assert!(inspected > 0.0 && (inspected == 1.0) == (fit == "stretch"), "{line}");
            let map = std::fs::File::open(world.path(line["map"].as_str().unwrap())).unwrap();
            let (width, height) = tiff::decoder::Decoder::new(map).unwrap().dimensions().unwrap();
            let path = world.path(line["path"].as_str().unwrap());
            assert_eq!(image::image_dimensions(path).unwrap(), (width, height));
            assert!(world.path(line["overlay"].as_str().unwrap()).is_file());
        }
        assert_eq!(ran.stderr.contains("lies outside the crop"), fit == "crop", "{}", ran.stderr);
        world
            .run(&format!("test --model {model} --data data --metrics-geometry original --output {run}-2"))
            .succeeds();
    }
    let lines =
        world.run("predict --model run-crop/odd/model.safetensors data/odd/test/good").succeeds().lines();
    for line in lines {
        if let Some(corners) = line["box"].as_array() {
            let path = world.path(line["path"].as_str().unwrap());
            let (width, height) = image::image_dimensions(path).unwrap();
            let corner = |index: usize| corners[index].as_u64().unwrap();
            assert!(corner(0) < corner(2) && corner(2) <= width.into(), "{line}");
            assert!(corner(1) < corner(3) && corner(3) <= height.into(), "{line}");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn images_whose_names_are_not_utf_8_are_trained_tested_and_shown() {
    use std::os::unix::ffi::OsStrExt;
    let world = World::with_data();
    let name = std::ffi::OsStr::from_bytes(b"gr\xFC\xDFe.png");
    for folder in ["train/good", "test/good", "test/blot"] {
        let folder = world.path("data/weave").join(folder);
        std::fs::rename(folder.join("000.png"), folder.join(name)).unwrap();
    }
    world.run(&format!("train --data data {FAST} --output run")).succeeds();
    let lines = world.lines("run/weave/scores.jsonl");
    assert_eq!(lines.len(), 6);
    for line in &lines {
        for picture in ["overlay", "map"] {
            assert!(world.path("run").join(line[picture].as_str().unwrap()).is_file(), "{line}");
        }
    }
}

/// What is gone by the time it is to be read costs the others nothing, and neither does a long name.
#[test]
fn one_path_of_many_may_be_missing_and_a_name_may_be_long() {
    let world = World::with_data();
    world.write("model.safetensors", World::trained().bytes("run/weave/model.safetensors"));
    let long = format!("{}.png", "n".repeat(240));
    world.copy("data/weave/test/good/000.png", format!("data/long/{long}"));
    std::fs::create_dir(world.path("empty")).unwrap();
    let paths = "data/long gone.png empty data/weave/test/blot/000.png";
    let ran = world
        .run(&format!("predict --model model.safetensors {paths} --maps maps --overlays overlays"))
        .succeeds();
    assert_eq!(
        warnings(&ran, "skipped: no PNG, JPEG, BMP or TIFF image in empty").len(),
        1,
        "{}",
        ran.stderr
    );
    let lines = ran.lines();
    assert_eq!(lines.len(), 3);
    assert!(lines[1]["error"].as_str().unwrap().contains("cannot open gone.png"), "{}", lines[1]);
    for line in [&lines[0], &lines[2]] {
        for picture in ["map", "overlay"] {
            assert!(world.path(line[picture].as_str().unwrap()).is_file(), "{line}");
        }
    }
    world
        .run(&format!("predict --model model.safetensors --strict {paths}"))
        .fails(2, &["no file or folder gone.png"]);
    // On its own it is a slip of whoever typed it.
    world
        .run("predict --model model.safetensors gone.png")
        .fails(2, &["there is no file or folder gone.png"]);
}

#[test]
fn one_good_image_trains_and_gets_no_threshold() {
    let world = World::new();
    save(&good(0), &world.path("data/weave/good/only.png"));
    let ran = world.run(&format!("train --data data {FAST} --output run")).succeeds();
    assert!(ran.stderr.contains("one good image leaves none to hold out"), "{}", ran.stderr);
    let ran = world.run("predict --model run/weave/model.safetensors data").succeeds();
    assert!(ran.lines()[0].get("verdict").is_none());
}

/// A score that is no number has not passed; a weight that is none is not even loaded.
#[test]
fn a_model_whose_scores_overflow_rejects() {
    let world = World::new();
    write_category(&world.path("data/weave"), 0, "png");
    let model = World::trained().bytes("run/weave/model.safetensors");
    let file = safetensors::SafeTensors::deserialize(&model).unwrap();
    let last = file.tensor("discriminator.score.weight").unwrap_or_else(|_| panic!("{:?}", file.names()));
    let at = last.data().as_ptr() as usize - model.as_ptr() as usize;
    let mut broken = model.clone();
    broken[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    world.write("nan.safetensors", edit_metadata(&broken, |_| {}));
    let words = ["nan.safetensors", "discriminator.score.weight", "train it again"];
    world.run("predict --model nan.safetensors data/weave/test").fails(2, &words);

    for weight in broken[at..at + last.data().len()].chunks_exact_mut(4) {
        weight.copy_from_slice(&f32::MAX.to_le_bytes());
    }
    world.write("model.safetensors", edit_metadata(&broken, |_| {}));
    let ran = world.run("predict --model model.safetensors data/weave/test --fail-on-defect").exits(1);
    assert_eq!(column(&ran.lines(), "verdict"), ["defect"; 6]);
}
