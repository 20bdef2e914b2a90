//! `threshold`: shown, set, reset, and followed by `predict`.

use crate::world::{Ran, World, column};
use serde_json::Value;

/// A world whose one model may be changed.
fn world() -> World {
    let world = World::new();
    let trained = World::trained();
    for file in
        ["run/weave/model.safetensors", "data/weave/test/good/000.png", "data/weave/test/blot/000.png"]
    {
        world.write(
            file.rsplit_once('/').map_or(file, |_| file).replace("run/weave/", ""),
            trained.bytes(file),
        );
    }
    world
}

fn shown(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap()
}

#[test]
fn a_threshold_is_shown_set_and_reset() {
    let world = world();
    let threshold = |options: &str| world.run(&format!("threshold --model model.safetensors {options}"));
    let original = world.bytes("model.safetensors");
    let words = threshold("").succeeds().stdout;
    assert!(words.contains("image score >") && words.contains("from held-out good images"), "{words}");
    let before = shown(&threshold("--json").succeeds());
    assert_eq!(before["thresholds"]["image"], before["calibration"]["image_threshold"]);
    assert_eq!(world.bytes("model.safetensors"), original, "showing changes nothing");

    let words = threshold("--set -100 --set-map 0.25").succeeds().stdout;
    assert!(words.contains("-100  (set by hand)") && words.contains("0.25  (set by hand)"), "{words}");
    let ran = world.run("predict --model model.safetensors data").succeeds();
    assert_eq!(column(&ran.lines(), "verdict"), ["defect"; 2]);
    assert_eq!(column(&ran.lines(), "threshold"), [-100.0; 2]);
    threshold("--set 100").succeeds();
    let ran = world.run("predict --model model.safetensors data").succeeds();
    assert_eq!(column(&ran.lines(), "verdict"), ["ok"; 2]);

    threshold("--quantile 0.5 --output other.safetensors").succeeds();
    let median = shown(&world.run("threshold --model other.safetensors --json").succeeds());
    assert!(median["thresholds"]["image"].as_f64() <= before["thresholds"]["image"].as_f64());
    assert_eq!(shown(&threshold("--json"))["thresholds"]["image"], 100.0, "--output leaves the model alone");

    threshold("--quantile 0.5").succeeds();
    threshold("--reset").succeeds();
    assert_eq!(world.bytes("model.safetensors"), original, "a reset model is the trained one, byte for byte");
    world.assert_clean();
}

#[test]
fn what_cannot_be_a_threshold_is_refused() {
    let world = world();
    let original = world.bytes("model.safetensors");
    for (options, words) in [
        ("--set nan", "finite"),
        ("--set inf", "finite"),
        ("--set abc", "--set"),
        ("--quantile 1.5", "between 0 and 1"),
        ("--quantile 0.5 --set 1", "cannot be used with"),
        ("--reset --set 1", "cannot be used with"),
        ("--set 1 --output model.safetensors/below", "cannot write"),
    ] {
        world.run(&format!("threshold --model model.safetensors {options}")).fails(2, &[words]);
    }
    assert_eq!(world.bytes("model.safetensors"), original);
    world.run("predict --model model.safetensors data --threshold nan").fails(2, &["must be a number"]);
    world.assert_clean();
}

#[test]
fn a_model_without_calibration_has_scores_and_no_verdicts_until_a_threshold_is_set() {
    let world = World::with_data();
    let fast = crate::world::FAST;
    world.run(&format!("train --data data {fast} --calibration-folds none --output run")).succeeds();
    let predict = "predict --model run/weave/model.safetensors data/weave/test/good";
    let ran = world.run(predict).succeeds();
    assert!(ran.stderr.contains("no threshold") && ran.stderr.contains("--set"), "{}", ran.stderr);
    assert!(ran.lines().iter().all(|line| line["score"].is_f64() && line.get("verdict").is_none()));
    world.run(&format!("{predict} --fail-on-defect")).fails(2, &["needs a threshold", "--threshold"]);
    let model = "threshold --model run/weave/model.safetensors";
    for option in ["--reset", "--quantile 0.9"] {
        world.run(&format!("{model} {option}")).fails(2, &["run/weave/model.safetensors", "--set"]);
    }
    world.run(&format!("{model} --set 50")).succeeds();
    let ran = world.run(&format!("{predict} --fail-on-defect")).succeeds();
    assert_eq!(column(&ran.lines(), "verdict"), ["ok"; 3]);
}
