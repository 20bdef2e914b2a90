//! Models that carry their backbone, and models whose backbone is another one.

use std::collections::HashMap;

use crate::world::{FAST, World, edit_metadata};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use simplenet::backbone::architecture::Architecture;
use simplenet::backbone::weights::{StateDict, embedded};

/// A state dict of resnet18 under `path`, as somebody else's program would write it.
pub(crate) fn write_synthetic_resnet18(world: &World, path: &str) {
    let state = StateDict::synthetic(Architecture::Resnet18, 0);
    let tensors: Vec<(&String, Vec<usize>, Vec<u8>)> = state
        .tensors
        .iter()
        .map(|(name, tensor)| {
            (name, tensor.shape().to_vec(), tensor.data().iter().flat_map(|x| x.to_le_bytes()).collect())
        })
        .collect();
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    world.write(path, safetensors::serialize(views, None).unwrap());
}

/// The embedded weights with another first layer: a backbone that is found nowhere but in this file.
fn write_own_backbone(world: &World, path: &str) {
    let file = SafeTensors::deserialize(embedded::FILE).unwrap();
    let first = file.tensor("conv1.weight").unwrap();
    let begin = first.data().as_ptr() as usize - embedded::FILE.as_ptr() as usize;
    let mut bytes = embedded::FILE.to_vec();
    bytes[begin..begin + first.data().len()].reverse();
    // Reversed pairs of bytes are other halves; those that became infinite or huge are made small.
    for half in bytes[begin..begin + first.data().len()].chunks_exact_mut(2) {
        half[1] &= 0b1011_1111;
    }
    let mut metadata = HashMap::new();
    metadata.insert("made by", "a test".to_owned());
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let metadata = metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    world.write(path, safetensors::serialize(file.tensors(), Some(metadata)).unwrap());
}

#[test]
fn a_bundled_model_needs_nothing_else() {
    let world = World::with_data();
    write_synthetic_resnet18(&world, "torch.safetensors");
    world.run("weights import torch.safetensors").succeeds();
    let train = format!("train --data data {FAST}").replace("resnet18_slim", "resnet18");
    world.run(&format!("{train} --output plain")).succeeds();
    world.run(&format!("{train} --bundle --output bundled")).succeeds();
    let predict =
        |run: &str| world.run(&format!("predict --model {run}/weave/model.safetensors data/weave/test"));
    let expected = predict("plain").succeeds().stdout;
    assert_eq!(predict("bundled").succeeds().stdout, expected);

    std::fs::rename(world.path("weights"), world.path("elsewhere")).unwrap();
    predict("plain").fails(3, &["resnet18", "not installed", "--weights FILE"]);
    assert_eq!(predict("bundled").succeeds().stdout, expected);
    let with = |run: &str, weights: &str| {
        let model = format!("{run}/weave/model.safetensors");
        world.run(&format!("predict --model {model} data/weave/test --weights {weights}"))
    };
    assert_eq!(with("plain", "torch.safetensors").succeeds().stdout, expected);
    assert_eq!(with("plain", "synthetic:0").succeeds().stdout, expected);
    with("plain", "synthetic:1").fails(2, &["SHA-256", "--weights"]);
    with("bundled", "torch.safetensors").fails(2, &["carries its own backbone", "leave --weights out"]);

    // A threshold set in a bundled model keeps the bundle.
    world.run("threshold --model bundled/weave/model.safetensors --set 7").succeeds();
    assert!(predict("bundled").succeeds().stdout.contains(r#""threshold":7.0"#));
    let test = "test --model bundled/weave/model.safetensors --data data --output again";
    world.run(test).succeeds();

    // A missing backbone ends a test before it leaves a trace.
    world.run("test --model plain/weave/model.safetensors --data data --output none").fails(3, &["resnet18"]);
    assert!(!world.path("none").exists());
}

#[test]
fn another_backbone_of_the_same_shape_is_refused() {
    let world = World::with_data();
    write_own_backbone(&world, "own.safetensors");
    world.run(&format!("train --data data {FAST} --weights own.safetensors --output run")).succeeds();
    let predict = "predict --model run/weave/model.safetensors data/weave/test/good";
    // The embedded weights fit, but they are not those of the training.
    world.run(predict).fails(2, &["SHA-256", "--weights", "--bundle"]);
    world.run("test --model run/weave/model.safetensors --data data --output x").fails(2, &["SHA-256"]);
    world
        .run("dump --model run/weave/model.safetensors data/weave/test/good/000.png --output x")
        .fails(2, &["SHA-256"]);
    world.run(&format!("{predict} --weights own.safetensors")).succeeds();
    assert!(!world.path("x").exists());
    // What works on the whole run finds them where the training did.
    world.run("figures run --figure 4").succeeds();

    // The record knows the file from any current folder.
    let recorded = world.json("run/run.json")["spec"]["weights"].clone();
    assert_eq!(recorded, world.path("own.safetensors").to_str().unwrap());

    // A bundle whose tensors are not those of its hash.
    world
        .run(&format!("train --data data {FAST} --weights own.safetensors --bundle --output full"))
        .succeeds();
    world.run("figures full --figure 4").succeeds();
    let forged = edit_metadata(&world.bytes("full/weave/model.safetensors"), |metadata| {
        metadata["backbone"]["sha256"] = "0".repeat(64).into();
    });
    world.write("forged.safetensors", forged);
    world.run("predict --model forged.safetensors data/weave/test/good").fails(2, &["0000", "SHA-256"]);
}
