//! Flags and folders that cannot be meant, and what a machine does not have.

use crate::world::{FAST, World, good, save, write_category};

#[test]
fn bad_flags_exit_2_and_name_themselves() {
    let world = World::trained();
    let before = world.files();
    for (flags, word) in [
        ("--seeds 1,1", "seed twice"),
        ("--seeds 1,x", "--seeds"),
        ("--seed 1 --seeds 2", "--seed"),
        ("--batch 0", "batch is 0"),
        ("--batch 99999999", "--batch"),
        ("--patch 2", "choose 1, 3, 5 or 7"),
        ("--noise-sigma 0", "noise sigma is 0"),
        ("--noise-sigma nan", "noise sigma is NaN"),
        ("--noise-mixtures 0", "noise-mixtures is 0"),
        ("--noise-mixtures 65", "at most 64"),
        ("--feature-scale 0", "by-weights, auto, none, or a positive number"),
        ("--map-sigma inf", "map's sigma"),
        ("--levels 9", "--levels"),
        ("--resize 32", "cannot crop 64 pixels"),
        ("--resize 4000000000", "--resize"),
        ("--threads 0", "--threads 0"),
        ("--calibration-folds 11", "choose 1 to 10"),
        ("--calibration-folds 0", "choose 1 to 10"),
        ("--feature-cache-limit 4parsec", "is no unit of size"),
        ("--device tpu", "--device tpu"),
        ("--precision f8", "--precision f8"),
        ("--weights synthetic:x", "names no seed"),
        ("--weights embedded --preset nonsense", "--preset"),
        ("--train-good data", "--train-good"),
        ("--frobnicate", "--frobnicate"),
        ("--learning-rat 3", "--learning-rat"),
    ] {
        world.run(&format!("train --data data {FAST} {flags} --output never")).fails(2, &[word]);
    }
    for (flags, word) in [
        ("--epochs 0", "epochs is 0"),
        ("--epochs -3", "-3"),
        ("--epochs 4000000000", "--epochs"),
        ("--hidden 0", "hidden is 0"),
        ("--hidden 99999999999", "--hidden"),
        ("--size 0", "choose a --size"),
        ("--size 600000000", "--size"),
        ("--backbone resnet19", "resnet19"),
    ] {
        world.run(&format!("train --data data {flags} --output never")).fails(2, &[word]);
    }
    for (command, word) in [
        ("", "Usage"),
        ("frobnicate", "frobnicate"),
        ("predict data", "--model"),
        ("predict --model run/weave/model.safetensors", "<PATH>"),
        ("predict --model run/weave/model.safetensors data --batch 0", "--batch"),
        (
            "test --model run/weave/model.safetensors --data data --fail-below auroc=1 --output never",
            "i_auroc",
        ),
        (
            "test --model run/weave/model.safetensors --data data --fail-below i_auroc --output never",
            "METRIC=X",
        ),
        (
            "test --model run/weave/model.safetensors --data data --ignore-exif --output never",
            "--ignore-exif",
        ),
        ("threshold --model run/weave/model.safetensors --quantil 1", "--quantil"),
    ] {
        let ran = world.run(command).exits(2);
        assert!(ran.stderr.contains(word), "{word} is not in {}", ran.stderr);
        assert_eq!(ran.stdout, "");
    }
    assert_eq!(world.files(), before);
}

#[test]
fn what_this_machine_lacks_exits_3() {
    let world = World::trained();
    let before = world.files();
    let train = format!("train --data data {FAST} --output never");
    for (command, word) in [
        (format!("{train} --device cuda"), "--device cuda"),
        (format!("{train} --device cuda:1"), "--device cuda:1"),
        (format!("{train} --precision f16"), "--precision f16 needs a GPU"),
        (format!("{train} --precision tf32 --device cpu"), "use --precision f32"),
        (format!("{train} --precision bf16 --device cuda"), "use one of them, or --device cpu"),
        (train.replace("resnet18_slim", "resnet50"), "simplenet weights fetch resnet50"),
        ("predict --model run/weave/model.safetensors data --device cuda".to_owned(), "--device cuda"),
        ("dump data/weave/test/good/000.png --backbone resnet34 --output never".to_owned(), "fetch resnet34"),
    ] {
        world.run(&command).fails(3, &[word]);
    }
    assert_eq!(world.files(), before);
}

#[test]
fn a_bound_that_is_missed_exits_1_and_results_are_written_all_the_same() {
    let world = World::trained();
    let out = tempfile::tempdir().unwrap();
    let test = |name: &str, bounds: &str| {
        let command = "test --model run/weave/model.safetensors --data data --no-maps --no-overlays";
        world.run(&format!("{command} {bounds} --output {}", out.path().join(name).display()))
    };
    test("pass", "--fail-below i_auroc=0 --fail-below p_auroc=0.0").succeeds();
    let ran = test("miss", "--fail-below i_auroc=0 --fail-below p_auroc=1.01").exits(1);
    assert!(ran.stderr.contains("p_auroc is 0.") && ran.stderr.contains("below 1.01"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("i_auroc is"), "{}", ran.stderr);
    assert!(out.path().join("miss/results.json").is_file());
}

#[test]
fn folders_without_what_is_needed_are_refused_before_anything_is_written() {
    let world = World::with_data();
    std::fs::create_dir_all(world.path("empty")).unwrap();
    world.write("text/notes.txt", "no image");
    std::fs::create_dir_all(world.path("hollow/train/good")).unwrap();
    let before = world.files();
    for (data, words) in [
        ("missing", &["there is no file or folder", "missing; check the path"][..]),
        ("empty", &["empty holds no category", "train/good", "nothing"]),
        ("text", &["text holds no category", "1 other files"]),
        ("hollow", &["no good images in", "hollow", "put images of good parts there"]),
        ("text/notes.txt", &["notes.txt is a file", "give the folder"]),
        ("data --category weav", &["has no category \"weav\"", "did you mean \"weave\"?", "it has: weave"]),
        ("data --category elephant", &["has no category \"elephant\"", "it has: weave"]),
    ] {
        world.run(&format!("train --data {data} {FAST} --output never")).fails(2, words);
    }
    let model = World::trained().path("run/weave/model.safetensors");
    let predict = |path: &str| world.run(&format!("predict --model {} {path}", model.display()));
    predict("missing").fails(2, &["missing", "check the path"]);
    predict("empty").fails(2, &["no PNG, JPEG, BMP or TIFF image in empty"]);
    predict("text --overlays pictures").fails(2, &["image in text"]);
    predict("data/weave --flat").fails(2, &["images in its subfolders are not read"]);
    assert_eq!(world.files(), before);
    assert!(!world.path("pictures").exists());

    world
        .run("predict --model missing.safetensors data")
        .fails(2, &["missing.safetensors", "check the path"]);
    world.run("predict --model empty data").fails(2, &["empty", "check the path"]);
    world.run("threshold --model empty --set 1").fails(2, &["empty", "check the path"]);
    let test = format!("test --model {} --data", model.display());
    world.run(&format!("{test} missing --output never")).fails(2, &["there is no file or folder"]);
    std::fs::rename(world.path("data/weave"), world.path("data/one")).unwrap();
    write_category(&world.path("data/two"), 0, "png");
    world
        .run(&format!("{test} data --output never"))
        .fails(2, &["trained for `weave`", "one, two", "--data"]);
    assert!(!world.path("never").exists());
}

#[test]
fn output_that_cannot_be_written_is_refused_with_a_cure() {
    let world = World::trained();
    let image = "data/weave/test/good/000.png";
    let model = "run/weave/model.safetensors";
    // Permissions do not bind every user, but no one makes a folder below a file.
    let mut places = vec![format!("{image}/below")];
    if cfg!(target_os = "linux") {
        places.push("/proc/nothing-here".to_owned());
    }
    let before = world.files();
    for place in places {
        let cure = "choose a writable place";
        world.run(&format!("train --data data {FAST} --output {place}")).fails(2, &[&place, cure]);
        world.run(&format!("test --model {model} --data data --output {place}")).fails(2, &[&place, cure]);
        world.run(&format!("predict --model {model} {image} --overlays {place}")).fails(2, &[&place, cure]);
        world.run(&format!("predict --model {model} {image} --maps {place}")).fails(2, &[&place, cure]);
        let dump = format!("dump --model {model} {image} --output {place}");
        world.run(&dump).fails(2, &[&place, "is writable"]);
        world.run(&format!("threshold --model {model} --output {place}")).fails(2, &[&place, "is writable"]);
        let above = place.rsplit_once('/').unwrap().0;
        world.run(&format!("demo {place}")).fails(2, &[above, "may be written to"]);
    }
    // A folder where the file should go.
    world.run(&format!("threshold --model {model} --output data")).fails(2, &["cannot write data"]);
    assert_eq!(world.files(), before);
}

#[cfg(target_os = "linux")]
#[test]
fn a_data_folder_that_run_json_cannot_name_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let world = World::new();
    let name = std::ffi::OsStr::from_bytes(b"gr\xFC\xDFe");
    save(&good(0), &world.path(name).join("part/good/0.png"));
    let mut command = world.command(&format!("train {FAST} --output never"));
    let ran = crate::world::Ran::of(command.arg("--data").arg(name));
    ran.fails(2, &["is not valid UTF-8", "rename it"]);
    assert!(!world.path("never").exists());
}
