//! The program on a device: it trains, is killed and goes on, and another device reads its model.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use simplenet::data::demo;

use crate::device::{real, simulator};
use simplenet::backend::cuda::Precision;

/// Where the driver and cuBLASLt are, if not where the system has them.
pub(crate) type Libraries = Option<PathBuf>;

/// Settings under which an epoch takes milliseconds, also where a GPU is simulated.
pub(crate) const SETTINGS: &str = "--data data --backbone resnet18_slim --size 64 --hidden 32 --epochs 40";

/// What the tests train on and look at: a piece of the demo set.
const IMAGES: [(&str, usize); 3] = [("train/good", 8), ("test/good", 3), ("test/cut", 3)];

pub(crate) fn simulated() -> Option<Libraries> {
    Some(Some(simulator()?.folder().to_owned()))
}

fn gpu() -> Option<Libraries> {
    real(Precision::F32).map(|_| None)
}

#[test]
fn simulated_training_by_the_program() {
    simulated().iter().for_each(check_training);
}

#[test]
fn gpu_training_by_the_program() {
    gpu().iter().for_each(check_training);
}

#[test]
fn simulated_training_that_is_killed() {
    simulated().iter().for_each(|libraries| check_resumption(libraries, 40));
}

#[test]
fn gpu_training_that_is_killed() {
    gpu().iter().for_each(|libraries| check_resumption(libraries, 2000));
}

#[test]
fn simulated_one_class_training_by_the_program() {
    simulated().iter().for_each(check_one_class);
}

#[test]
fn gpu_one_class_training_by_the_program() {
    gpu().iter().for_each(check_one_class);
}

#[test]
fn simulated_sweep_by_the_program() {
    simulated().iter().for_each(check_sweep);
}

#[test]
fn gpu_sweep_by_the_program() {
    gpu().iter().for_each(check_sweep);
}

#[test]
fn simulated_benchmark_by_the_program() {
    simulated().iter().for_each(check_benchmark);
}

#[test]
fn gpu_benchmark_by_the_program() {
    gpu().iter().for_each(check_benchmark);
}

/// A folder with the images, in which the program runs.
pub(crate) fn world() -> tempfile::TempDir {
    let world = tempfile::tempdir().unwrap();
    let demo_set = tempfile::tempdir().unwrap();
    demo::write(demo_set.path()).unwrap();
    for (folder, count) in IMAGES {
        let target = world.path().join("data/fabric").join(folder);
        std::fs::create_dir_all(&target).unwrap();
        for number in 0..count {
            let name = format!("{number:03}.png");
            let source = demo_set.path().join("fabric").join(folder).join(&name);
            std::fs::copy(source, target.join(name)).unwrap();
        }
    }
    world
}

/// The program that was built with this test; where the test was copied to another machine, `CARGO_BIN_EXE_simplenet`
/// says where the program is.
fn program() -> PathBuf {
    std::env::var_os("CARGO_BIN_EXE_simplenet")
        .map_or_else(|| env!("CARGO_BIN_EXE_simplenet").into(), PathBuf::from)
}

pub(crate) fn simplenet(world: &Path, libraries: &Libraries, arguments: &str) -> Command {
    let mut command = Command::new(program());
    command.args(arguments.split_whitespace()).current_dir(world);
    command
        .env("SIMPLENET_CACHE_DIR", world.join("cache"))
        .env("SIMPLENET_WEIGHTS_DIR", world.join("weights"));
    if let Some(folder) = libraries {
        command.env("LD_LIBRARY_PATH", folder);
    }
    command
}

pub(crate) fn succeeds(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// `path` and `score` of every line, by the last two folders and the name.
fn scores(lines: &str) -> Vec<(String, f64)> {
    let mut scores: Vec<(String, f64)> = lines
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            let path = line["path"].as_str().unwrap();
            let inside = path.split("test/").last().unwrap().to_owned();
            (inside, line["score"].as_f64().unwrap())
        })
        .collect();
    scores.sort_by(|a, b| a.0.cmp(&b.0));
    scores
}

/// Trains on the device and judges the same images on the CPU, by the same model.
fn check_training(libraries: &Libraries) {
    let world = world();
    let world = world.path();
    succeeds(simplenet(world, libraries, &format!("train --device cuda {SETTINGS} --output run")));
    let run: Value = serde_json::from_slice(&std::fs::read(world.join("run/run.json")).unwrap()).unwrap();
    let device = run["device"].as_str().unwrap();
    assert!(device.starts_with("cuda:0 ") && device.ends_with(", f32"), "{device}");

    let of_device = scores(&std::fs::read_to_string(world.join("run/fabric/scores.jsonl")).unwrap());
    let predict = "predict --device cpu --model run/fabric/model.safetensors data/fabric/test";
    let of_cpu = scores(&String::from_utf8(succeeds(simplenet(world, libraries, predict)).stdout).unwrap());
    assert_eq!(of_device.len(), 6);
    assert_eq!(of_cpu.len(), 6);
    for ((image, device), (same_image, cpu)) in of_device.iter().zip(&of_cpu) {
        assert_eq!(image, same_image);
        // Scores of order one; rounding leaves a few 1e-6 of it.
        assert!((device - cpu).abs() <= 1e-4, "{image}: {device} on the device, {cpu} on the CPU");
    }
}

/// Two classes, whose heads score each image in one pass on the device, and a model alone on the CPU.
fn check_one_class(libraries: &Libraries) {
    let world = tempfile::tempdir().unwrap();
    let world = world.path();
    demo::write(&world.join("demo")).unwrap();
    for class in ["fabric", "flange"] {
        for (part, numbers) in [("train", 0..6), ("test", 6..9)] {
            let folder = world.join("data").join(part).join(class);
            std::fs::create_dir_all(&folder).unwrap();
            for number in numbers {
                let name = format!("{number:03}.png");
                std::fs::copy(
                    world.join("demo").join(class).join("train/good").join(&name),
                    folder.join(&name),
                )
                .unwrap();
            }
        }
    }
    succeeds(simplenet(
        world,
        libraries,
        &format!("train --one-class --device cuda {SETTINGS} --output run"),
    ));
    for class in ["fabric", "flange"] {
        let together = std::fs::read_to_string(world.join("run").join(class).join("scores.jsonl")).unwrap();
        let predict = format!("predict --device cpu --model run/{class}/model.safetensors data/test");
        let alone = succeeds(simplenet(world, libraries, &predict)).stdout;
        let (together, alone) = (scores(&together), scores(&String::from_utf8(alone).unwrap()));
        assert_eq!((together.len(), alone.len()), (6, 6));
        for ((image, device), (same_image, cpu)) in together.iter().zip(&alone) {
            assert_eq!(image, same_image);
            // As above: scores of order one, and rounding.
            assert!(
                (device - cpu).abs() <= 1e-4,
                "{class}, {image}: {device} on the device, {cpu} on the CPU"
            );
        }
    }
}

/// Heads that are looked at after every epoch, between recorded steps, learn what those do that are left alone; and
/// features that are multiplied score alike where a device gathers them from its cache and where a CPU computes them.
fn check_sweep(libraries: &Libraries) {
    let world = world();
    let world = world.path();
    let over = "--over select=last,holdout,test --feature-scale auto --calibration-folds 1";
    succeeds(simplenet(world, libraries, &format!("sweep --device cuda {SETTINGS} {over} --output grid")));
    let folder = |point: &str| world.join("grid/points").join(point).join("fabric");
    let losses = |point: &str| -> Vec<(String, u64)> {
        let lines = std::fs::read_to_string(folder(point).join("training.jsonl")).unwrap();
        let of = |line: &str| {
            let epoch: Value = serde_json::from_str(line).unwrap();
            (format!("{} {}", epoch["head"], epoch["epoch"]), epoch["loss"].as_f64().unwrap().to_bits())
        };
        lines.lines().map(of).collect()
    };
    let (last, holdout, test) =
        (losses("01-select=last"), losses("02-select=holdout"), losses("03-select=test"));
    // Forty epochs of two heads.
    assert_eq!(last.len(), 80);
    assert_eq!(test, last, "looking at the test set changes the training");
    assert!(holdout.len() > 40 && holdout[..] == last[..holdout.len()]);

    let cached = scores(&std::fs::read_to_string(folder("01-select=last").join("scores.jsonl")).unwrap());
    let model = folder("01-select=last").join("model.safetensors");
    let predict = format!("predict --device cpu --model {} data/fabric/test", model.display());
    let of_cpu = scores(&String::from_utf8(succeeds(simplenet(world, libraries, &predict)).stdout).unwrap());
    assert_eq!((cached.len(), of_cpu.len()), (6, 6));
    for ((image, device), (same_image, cpu)) in cached.iter().zip(&of_cpu) {
        assert_eq!(image, same_image);
        // As above: scores of order one, and rounding.
        assert!((device - cpu).abs() <= 1e-4, "{image}: {device} on the device, {cpu} on the CPU");
    }
}

/// Every scope is measured on the device, in half precision too, and the device's memory is told.
fn check_benchmark(libraries: &Libraries) {
    let world = tempfile::tempdir().unwrap();
    let command = "bench --device cuda --precision f16 --backbone resnet18_slim --weights embedded --size 32 --images 3 \
                   --scope model,files,train --batch 2 --warmups 1 --repeats 5 --stages --json";
    let output = succeeds(simplenet(world.path(), libraries, command));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let device = report["device"].as_str().unwrap();
    assert!(device.starts_with("cuda:0 ") && device.ends_with(", f16"), "{device}");
    let results = report["results"].as_array().unwrap();
    let scopes: Vec<&str> = results.iter().map(|result| result["scope"].as_str().unwrap()).collect();
    assert_eq!(scopes, ["model", "files", "train"]);
    for result in results {
        assert_eq!((&result["precision"], &result["repeats"]), (&Value::from("f16"), &Value::from(5)));
        // The weights alone take more than a megabyte of the device.
        assert!(result["device_memory_bytes"].as_u64().unwrap() > 1 << 20, "{result}");
        assert!(result["images_per_second"].as_f64().unwrap() > 0.0);
    }
    let stages = results[0]["stages"].as_array().unwrap();
    assert_eq!(stages.len(), 7);
}

/// A run that was killed twice ends with the bytes of one that was not. Of the last head's epochs all but five have to take
/// longer than the interval of the log and the kill.
fn check_resumption(libraries: &Libraries, total: usize) {
    let world = world();
    let world = world.path();
    let settings = SETTINGS.replace("--epochs 40", &format!("--epochs {total}"));
    succeeds(simplenet(world, libraries, &format!("train --device cuda {settings} --output whole")));
    let log = world.join("run/fabric/training.jsonl");
    let epochs = |head: &str| {
        std::fs::read_to_string(&log).unwrap_or_default().matches(&format!(r#""head":"{head}""#)).count()
    };
    let begin = format!("train --device cuda {settings} --output run");
    kill_when(simplenet(world, libraries, &begin), || epochs("calibration-1") >= 5);
    let resume = "train --resume run --device cuda";
    kill_when(simplenet(world, libraries, resume), || epochs("final") >= 5);
    assert!(epochs("final") < total && !world.join("run/fabric/model.safetensors").exists());
    succeeds(simplenet(world, libraries, resume));
    for file in ["model.safetensors", "scores.jsonl"] {
        let bytes = |run: &str| std::fs::read(world.join(run).join("fabric").join(file)).unwrap();
        assert!(bytes("run") == bytes("whole"), "{file} of the killed run differs");
    }
}

/// Starts a command, and kills it as soon as `moment` has come.
fn kill_when(mut command: Command, moment: impl Fn() -> bool) {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while !moment() {
        assert!(begun.elapsed() < Duration::from_secs(120), "{command:?}: the moment to kill has not come");
        assert!(child.try_wait().unwrap().is_none(), "{command:?} ended before it could be killed");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
