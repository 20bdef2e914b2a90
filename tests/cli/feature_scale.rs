//! Features of another scale than the noise presumes.

use simplenet::backbone::architecture::Architecture;
use simplenet::backbone::weights::StateDict;
use simplenet::tensor::Tensor;
use simplenet::tensor_file::save_tensors;

use crate::world::{FAST, World, edit_metadata};

/// What every BatchNorm of a network of which all activations shall be `factor` times as large has to have: its input is
/// larger too, except the first one's.
fn scaled(name: &str, tensor: &Tensor, factor: f32) -> Tensor {
    let first = name.starts_with("bn1.");
    let change = |value: &f32| match name.rsplit_once('.') {
        Some((_, "running_mean")) if !first => value * factor,
        // So that var + ε, with its 1e-5, becomes factor² times as large.
        Some((_, "running_var")) if !first => (value + 1e-5) * factor * factor - 1e-5,
        // γ and β: convolutions have four axes.
        Some((_, "weight" | "bias")) if tensor.shape().len() == 1 => value * factor,
        _ => *value,
    };
    Tensor::new(tensor.shape(), tensor.data().iter().map(change).collect())
}

/// The embedded network as a file of weights that nobody knows, its features `factor` times as large.
fn write_scaled_weights(world: &World, file: &str, factor: f32) {
    let embedded = StateDict::embedded().unwrap();
    let tensors = embedded.tensors.iter();
    let tensors = tensors.map(|(name, tensor)| (name.clone(), scaled(name, tensor, factor))).collect();
    save_tensors(&world.path(file), &tensors, "{}".to_owned()).unwrap();
    let written = StateDict::load(&world.path(file)).unwrap();
    assert!(written.fits(Architecture::Resnet18Slim, 3));
}

/// The factor in a model's metadata.
fn factor_of(world: &World, run: &str) -> f64 {
    let mut factor = None;
    edit_metadata(&world.bytes(&format!("{run}/weave/model.safetensors")), |metadata| {
        factor = metadata["head"]["feature_scale"].as_f64();
    });
    factor.unwrap()
}

/// The scores of the test images, in the order of their names.
fn scores(world: &World, run: &str) -> Vec<f64> {
    world
        .lines(&format!("{run}/weave/scores.jsonl"))
        .iter()
        .map(|line| line["score"].as_f64().unwrap())
        .collect()
}

fn largest_difference(a: &[f64], b: &[f64]) -> f64 {
    assert!(!a.is_empty() && a.len() == b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn dividing_large_features_gives_the_model_of_small_ones() {
    let world = World::with_data();
    write_scaled_weights(&world, "large.safetensors", 4.0);
    let settings = FAST.replace("--epochs 2", "--epochs 12");
    let train = format!("train --data data {settings} --calibration-folds none");
    world.run(&format!("{train} --output known")).succeeds();
    let large = format!("{train} --weights large.safetensors");
    world.run(&format!("{large} --feature-scale 0.25 --output divided")).succeeds();
    world.run(&format!("{large} --feature-scale none --output large")).succeeds();
    let ran = world.run(&format!("{large} --output measured")).succeeds();

    // The embedded weights have the scale; that of an unknown file's features is measured.
    assert_eq!(factor_of(&world, "known"), 1.0);
    assert_eq!(factor_of(&world, "divided"), 0.25);
    assert_eq!(factor_of(&world, "large"), 1.0);
    world.run(&format!("{train} --feature-scale auto --output small")).succeeds();
    let ratio = factor_of(&world, "small") / factor_of(&world, "measured");
    assert!((ratio - 4.0).abs() < 1e-2, "{ratio}");
    // Here the factors, too, differ by rounding, and Adam's first steps make much of gradients that are next to nothing.
    let difference = largest_difference(&scores(&world, "measured"), &scores(&world, "small"));
    assert!(difference < 5e-3, "{difference}");
    assert!(ran.stderr.contains("weave: features are multiplied by 0."), "{}", ran.stderr);

    // Multiplying by powers of two is exact; BatchNorm's ε and its larger sums are not.
    let known = scores(&world, "known");
    let difference = largest_difference(&scores(&world, "divided"), &known);
    assert!(difference < 1e-3, "{difference}");
    let difference = largest_difference(&scores(&world, "large"), &known);
    assert!(difference > 1e-2, "a factor changes nothing: {difference}");
}

#[test]
fn every_path_to_a_score_multiplies() {
    let world = World::with_data();
    for (run, flags) in
        [("linear", "--adaptor-bias true"), ("mlp", "--adaptor mlp"), ("none", "--adaptor none")]
    {
        let train = format!("train --data data {FAST} {flags} --feature-scale 0.3 --calibration-folds none");
        world.run(&format!("{train} --output {run}")).succeeds();
        let model = format!("--model {run}/weave/model.safetensors");
        let image = "data/weave/test/blot/000.png";
        world.run(&format!("dump {model} {image} --output plain.safetensors")).succeeds();
        world.run(&format!("dump {model} {image} --fast --output fast.safetensors")).succeeds();
        let image_score = |file: &str| {
            let (_, tensors) = simplenet::tensor_file::load_tensors(&world.bytes(file)).unwrap();
            f64::from(tensors["image_score"].data()[0])
        };
        let (plain, fast) = (image_score("plain.safetensors"), image_score("fast.safetensors"));
        let predicted = world.run(&format!("predict {model} {image}")).succeeds().lines();
        // A sweep scores features that are cached.
        let over = format!("sweep --data data {FAST} {flags} --over feature-scale=0.3 --output {run}-sweep");
        world.run(&over).succeeds();
        let points = world.path(format!("{run}-sweep/points/01-feature-scale=0.3/weave/scores.jsonl"));
        let lines = std::fs::read_to_string(points).unwrap();
        let line = lines.lines().find(|line| line.contains("blot/000.png")).unwrap();
        let cached = serde_json::from_str::<serde_json::Value>(line).unwrap()["score"].as_f64().unwrap();
        let trained = world.lines(&format!("{run}/weave/scores.jsonl"));
        let tested =
            trained.iter().find(|line| line["path"].as_str().unwrap().ends_with("blot/000.png")).unwrap();
        for score in
            [fast, predicted[0]["score"].as_f64().unwrap(), cached, tested["score"].as_f64().unwrap()]
        {
            assert!((score - plain).abs() < 1e-4 * (1.0 + plain.abs()), "{run}: {score} is not {plain}");
        }
    }
}

#[test]
fn a_head_that_learned_nothing_is_warned_of() {
    let world = World::with_data();
    // A σ of nothing: noise that no head can tell from good features.
    let train = format!("train --data data {FAST} --noise-sigma 1e-9 --calibration-folds none");
    let ran = world.run(&format!("{train} --output blind")).succeeds();
    for word in ["warning", "the last epoch's loss is 1.", "hardly learned", "--feature-scale auto"] {
        assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
    }
    let ran =
        world.run(&format!("{train} --feature-scale 2 --loss cross-entropy --output scaled")).succeeds();
    for word in ["alike has 0.693", "a larger --noise-sigma"] {
        assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
    }
    let seeing = train.replace("1e-9", "1").replace("--epochs 2", "--epochs 40");
    let ran = world.run(&format!("{seeing} --output seeing")).succeeds();
    assert!(!ran.stderr.contains("hardly learned"), "{}", ran.stderr);
}
