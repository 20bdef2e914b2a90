//! `dump`, `doctor`, `demo` and `weights`.

use std::collections::BTreeMap;

use crate::world::{FAST, World, assert_close, scores, write_category};
use safetensors::SafeTensors;
use serde_json::Value;

/// Shapes and values of a dump, by name.
fn dumped(file: &[u8]) -> BTreeMap<String, (Vec<usize>, Vec<f64>)> {
    let file = SafeTensors::deserialize(file).unwrap();
    let values = |data: &[u8]| -> Vec<f64> {
        data.chunks_exact(4).map(|x| f64::from(f32::from_le_bytes(x.try_into().unwrap()))).collect()
    };
    let tensors = file.tensors().into_iter();
    tensors
        .map(|(name, view)| {
            assert_eq!(view.dtype(), safetensors::Dtype::F32);
            (name, (view.shape().to_vec(), values(view.data())))
        })
        .collect()
}

#[test]
fn dump_without_a_model_stops_after_the_features() {
    let world = World::trained();
    let out = tempfile::tempdir().unwrap();
    let out = out.path().join("new/dump.safetensors");
    let dump = |options: &str| {
        let command = format!("dump data/weave/test/good/000.png {options} --output {}", out.display());
        world.run(&command).succeeds();
        dumped(&std::fs::read(&out).unwrap())
    };
    let tensors = dump("data/weave/test/blot/000.png --backbone resnet18_slim --size 64");
    let shapes: Vec<(&str, &[usize])> =
        tensors.iter().map(|(name, (shape, _))| (&name[..], &shape[..])).collect();
    let expected: [(&str, &[usize]); 5] = [
        ("features", &[2, 8, 8, 192]),
        ("input", &[2, 64, 64, 3]),
        ("layer1", &[2, 16, 16, 32]),
        ("layer2", &[2, 8, 8, 64]),
        ("layer3", &[2, 4, 4, 128]),
    ];
    assert_eq!(shapes, expected);
    let shallow = dump("--backbone resnet18_slim --size 64 --levels 1,2");
    assert_eq!(shallow.keys().collect::<Vec<_>>(), ["features", "input", "layer1", "layer2"]);
    assert_eq!(shallow["features"].0, [1, 16, 16, 96]);
}

#[test]
fn dump_with_a_model_goes_on_to_the_score_and_the_deployed_path_agrees() {
    let world = World::trained();
    let out = tempfile::tempdir().unwrap();
    let out = out.path().join("dump.safetensors");
    let images = "data/weave/test/good/000.png data/weave/test/blot/000.png";
    let dump = |options: &str| {
        let model = "--model run/weave/model.safetensors";
        world.run(&format!("dump {images} {model} {options} --output {}", out.display())).succeeds();
        dumped(&std::fs::read(&out).unwrap())
    };
    let (plain, fast) = (dump(""), dump("--fast"));
    for (name, shape) in [
        ("adapted", &[2, 8, 8, 192][..]),
        ("scores", &[2, 8, 8]),
        ("map", &[2, 64, 64]),
        ("image_score", &[2]),
    ] {
        assert_eq!(plain[name].0, shape, "{name}");
        if name == "adapted" {
            assert!(!fast.contains_key(name));
        } else {
            assert_eq!(fast[name].0, shape, "{name}");
            assert_close(&plain[name].1, &fast[name].1, 1e-4);
        }
    }
    assert_eq!(plain["features"], fast["features"]);
    // Image score = largest of the raw grid; and it is what `predict` says.
    for (scores, image) in plain["scores"].1.chunks_exact(64).zip(&plain["image_score"].1) {
        assert_eq!(scores.iter().copied().fold(f64::NEG_INFINITY, f64::max), *image);
    }
    let predicted = world.run(&format!("predict --model run/weave/model.safetensors {images}")).succeeds();
    assert_close(&scores(&predicted.lines()), &fast["image_score"].1, 1e-5);

    // The model brings its settings and its backbone: others would be ignored, so they are refused.
    for option in ["--size 32", "--backbone resnet50", "--levels 1"] {
        let command = format!("dump {images} --model run/weave/model.safetensors {option} --output x");
        world.run(&command).fails(2, &["cannot be used with"]);
    }
    world.run(&format!("dump {images} --fast --output x")).fails(2, &["--model"]);
}

#[test]
fn doctor_names_every_part_of_the_machine() {
    let world = World::new();
    let text = world.run("doctor").succeeds().stdout;
    for word in
        ["program", "CPU", "kernels", "driver", "weights", "resnet18_slim (embedded)", "weights fetch"]
    {
        assert!(text.contains(word), "{word} is not in {text}");
    }
    let json: Value = serde_json::from_str(&world.run("doctor --json").succeeds().stdout).unwrap();
    assert!(json.as_array().unwrap().iter().all(|finding| finding["good"].is_boolean()));

    let world = World::new();
    world.write("weights", "a file where the folder should be");
    let text = world.run("doctor").succeeds().stdout;
    assert!(text.contains("-- folders") && text.contains("SIMPLENET_WEIGHTS_DIR"), "{text}");
}

#[test]
fn the_demo_set_goes_to_a_new_folder_and_never_over_anything() {
    let world = World::new();
    world.write("mine/notes.txt", "dear diary");
    world.run("demo mine").fails(2, &["mine", "notes.txt"]);
    world.run("demo mine/notes.txt").fails(2, &["notes.txt"]);
    world.run("demo mine/notes.txt/demo").fails(2, &["notes.txt"]);
    assert_eq!(world.files(), ["mine/notes.txt"]);

    let ran = world.run("demo some/new").succeeds();
    assert_eq!(ran.stdout, "");
    assert!(ran.stderr.contains("64 synthetic images in 2 categories"), "{}", ran.stderr);
    assert!(world.text("some/new/README.txt").contains("Synthetic"));
    world.assert_clean();

    let fast = FAST.replace("--epochs 2", "--epochs 1");
    let ran = world.run(&format!("train --data some/new --category flange {fast} --output run")).succeeds();
    assert!(ran.stdout.contains("synthetic"), "{}", ran.stdout);
    assert_eq!(world.json("run/run.json")["synthetic_data"], true);
    let ran = world.run("predict --model run/flange/model.safetensors some/new/flange/test/good").succeeds();
    assert!(ran.stderr.contains("synthetic demo set"), "{}", ran.stderr);
}

/// What a person does first: no data, no weights, no flags that choose any.
#[test]
fn training_without_data_learns_the_demo_set() {
    let world = World::new();
    let ran = world.run("train --size 64 --hidden 32 --epochs 1 --output run").succeeds();
    assert!(ran.stdout.contains("synthetic") && ran.stdout.contains("fabric"), "{}", ran.stdout);
    assert!(ran.stderr.contains("resnet18_slim with embedded weights"), "{}", ran.stderr);
    assert!(world.files().iter().any(|file| file.starts_with("cache/demo-v")));
}

#[test]
fn weights_are_imported_listed_verified_and_used() {
    let world = World::new();
    write_category(&world.path("data/weave"), 0, "png");
    crate::bundle::write_synthetic_resnet18(&world, "torch.safetensors");
    let missing = world.run("weights list").succeeds().stdout;
    assert!(
        missing.contains("resnet18           missing    get it: simplenet weights fetch resnet18"),
        "{missing}"
    );
    world.run("weights verify resnet18").fails(3, &["resnet18", "weights fetch resnet18"]);

    world.run("weights import torch.safetensors").succeeds();
    let list: Value = serde_json::from_str(&world.run("weights list --json").succeeds().stdout).unwrap();
    let statuses: Vec<(&str, &str)> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["architecture"].as_str().unwrap(), row["status"].as_str().unwrap()))
        .filter(|(_, status)| *status != "missing")
        .collect();
    assert!(
        statuses.contains(&("resnet18", "installed")) && statuses.contains(&("resnet18_slim", "embedded"))
    );
    assert_eq!(statuses.len(), 2, "{statuses:?}");
    for target in ["resnet18", "torch.safetensors", "weights/resnet18.safetensors", "resnet18_slim"] {
        let text = world.run(&format!("weights verify {target}")).succeeds().stdout;
        assert!(text.contains("SHA-256") && text.contains("fits        resnet18"), "{text}");
    }
    let fast = FAST.replace("resnet18_slim", "resnet18");
    let ran = world.run(&format!("train --data data {fast} --output run")).succeeds();
    assert!(ran.stderr.contains("installed weights (from torch.safetensors)"), "{}", ran.stderr);

    // One bit of the installed file is not what it was.
    let mut bytes = world.bytes("weights/resnet18.safetensors");
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    world.write("weights/resnet18.safetensors", bytes);
    world
        .run("weights verify resnet18")
        .fails(2, &["resnet18.safetensors", "was recorded", "install it again"]);
    world.assert_clean();
}
