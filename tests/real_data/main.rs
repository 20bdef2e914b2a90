//! Accuracy on real photographs with real ImageNet weights, against what an independent PyTorch implementation of
//! the same preset reaches. Neither images nor weights are part of the project: the tests look for them in
//! `SIMPLENET_TEST_DATA` (default `../shared`) and say so where they are missing.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder with `data/` and `weights/`, if it is there.
fn test_data() -> Option<PathBuf> {
    let root =
        std::env::var_os("SIMPLENET_TEST_DATA").map_or_else(|| PathBuf::from("../shared"), PathBuf::from);
    if root.join("data").is_dir() && root.join("weights").is_dir() {
        return Some(root);
    }
    println!("skipped: {} holds no test data; set SIMPLENET_TEST_DATA", root.display());
    None
}

/// Trains on a category and returns its row of `results.json`.
fn train(root: &Path, category: &str, output: &Path) -> serde_json::Value {
    let status = Command::new(env!("CARGO_BIN_EXE_simplenet"))
        .args([
            "train",
            "-q",
            "--backbone",
            "resnet18",
            "--calibration-folds",
            "none",
            "--no-maps",
            "--weights",
        ])
        .arg(root.join("weights/resnet18.safetensors"))
        .arg("--data")
        .arg(root.join("data").join(category))
        .arg("--output")
        .arg(output)
        .status()
        .unwrap();
    assert!(status.success());
    let text = std::fs::read_to_string(output.join("results.json")).unwrap();
    serde_json::from_str::<serde_json::Value>(&text).unwrap()["results"][0].clone()
}

/// The last epoch of PyTorch's runs on a category, averaged over seeds.
fn pytorch(root: &Path, category: &str, metric: &str) -> f64 {
    let text = std::fs::read_to_string(root.join("reference/results.jsonl")).unwrap();
    let values: Vec<f64> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|line| line["category"] == category && line["epoch"] == 160)
        .map(|line| line[metric].as_f64().unwrap())
        .collect();
    assert!(!values.is_empty());
    values.iter().sum::<f64>() / values.len() as f64
}

/// PyTorch's seeds spread from 0.979 to 0.983 in pixel AUROC; 0.01 around their mean is five times that half-width.
#[test]
fn hazelnuts_are_told_apart_as_well_as_by_pytorch() {
    let Some(root) = test_data() else { return };
    let folder = tempfile::tempdir().unwrap();
    let result = train(&root, "hazelnut_toy", &folder.path().join("run"));
    let image = result["i_auroc"].as_f64().unwrap();
    let pixel = result["p_auroc"].as_f64().unwrap();
    let reference = pytorch(&root, "hazelnut_toy", "p_auroc");
    assert!(image >= 0.99, "image AUROC {image}");
    assert!((pixel - reference).abs() <= 0.01, "pixel AUROC {pixel}, PyTorch {reference}");
}
