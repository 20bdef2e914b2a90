//! Accuracy on real photographs with real ImageNet weights: against what an independent PyTorch implementation of
//! the same preset reaches, and of faster arithmetic against exact `f32`. Neither images nor weights are part of the
//! project: the tests look for them in `SIMPLENET_TEST_DATA` (default `../shared`) and say so where they are missing.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use safetensors::SafeTensors;
use simplenet::tensor::relative_error;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

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

/// Some images of every category, good ones and defects.
fn photographs(root: &Path) -> Vec<PathBuf> {
    let files = |folder: PathBuf| {
        let mut entries: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        entries
    };
    let categories = files(root.join("data")).into_iter().flat_map(|category| {
        let defects = files(category.join("test")).into_iter().find(|kind| !kind.ends_with("good")).unwrap();
        [category.join("train/good"), defects]
    });
    categories.flat_map(|folder| files(folder).into_iter().take(2)).collect()
}

/// Features of images by ImageNet's ResNet18, `[N, 28, 28, 384]`, or the program's refusal.
fn features(root: &Path, images: &[PathBuf], arithmetic: &[&str]) -> Result<Vec<f32>, Output> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dump.safetensors");
    let output = Command::new(env!("CARGO_BIN_EXE_simplenet"))
        .args(["dump", "--device", "cpu", "--backbone", "resnet18", "--weights"])
        .arg(root.join("weights/resnet18.safetensors"))
        .args(arithmetic)
        .arg("--output")
        .arg(&file)
        .args(images)
        .output()
        .unwrap();
    if !output.status.success() {
        return Err(output);
    }
    let bytes = std::fs::read(&file).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let data = tensors.tensor("features").unwrap().data();
    Ok(data.chunks_exact(4).map(|value| f32::from_le_bytes(value.try_into().unwrap())).collect())
}

/// What `--conv fast` and `--precision bf16` promise, image by image: random weights flatter both.
#[test]
fn faster_arithmetic_keeps_its_promises_on_photographs() {
    let Some(root) = test_data() else { return };
    let images = photographs(&root);
    assert!(images.len() >= 10, "{images:?}");
    let exact = features(&root, &images, &["--conv", "exact"]).unwrap();
    let len = exact.len() / images.len();
    for (arithmetic, bound) in [(["--conv", "fast"], 1e-4), (["--precision", "bf16"], 3e-2)] {
        let out = match features(&root, &images, &arithmetic) {
            Ok(out) => out,
            // An arithmetic that this machine lacks.
            Err(output) => {
                let message = String::from_utf8_lossy(&output.stderr);
                assert!(message.contains("this processor has no AVX512-BF16"), "{message}");
                println!("{arithmetic:?}: no such arithmetic here");
                continue;
            }
        };
        assert_eq!(out.len(), exact.len());
        for ((out, exact), image) in out.chunks_exact(len).zip(exact.chunks_exact(len)).zip(&images) {
            let error = relative_error(out, exact);
            println!("{arithmetic:?}, {}: {error:.1e}", image.display());
            assert!(error <= bound, "{arithmetic:?}, {}: {error:.1e}", image.display());
        }
    }
}
