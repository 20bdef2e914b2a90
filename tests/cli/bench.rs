//! `bench`: every scope runs, its JSON holds together, and a figure from too few repeats is refused.

use crate::world::World;
use serde_json::Value;

/// A measurement of fractions of a second.
const TINY: &str =
    "bench --device cpu --backbone resnet18_slim --weights embedded --size 32 --warmups 1 --repeats 5";

/// What every measurement says, whatever its scope.
const KEYS: [&str; 22] = [
    "engine",
    "scope",
    "backbone",
    "weights",
    "size",
    "network",
    "precision",
    "conv",
    "threads",
    "device",
    "batch",
    "warmups",
    "repeats",
    "seconds",
    "images_per_second",
    "images_per_second_low",
    "images_per_second_high",
    "latency_ms",
    "tflops",
    "share_of_gemm_peak",
    "host_memory_bytes",
    "device_memory_bytes",
];

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(number).collect()
}

fn assert_equal(a: f64, b: f64) {
    assert!((a / b - 1.0).abs() < 1e-9, "{a} is not {b}");
}

fn report(world: &World, arguments: &str) -> Value {
    let ran = world.run(&format!("{arguments} --json")).succeeds();
    serde_json::from_str(&ran.stdout).unwrap()
}

/// The parts of a measurement agree with one another; `images` are those of one timed run.
fn check(result: &Value, images: f64, product: f64) {
    let seconds = numbers(&result["seconds"]);
    assert_eq!(result["repeats"].as_u64(), Some(seconds.len() as u64));
    assert!(seconds.iter().all(|&time| time > 0.0));
    let rate = number(&result["images_per_second"]);
    assert_equal(rate, images * seconds.len() as f64 / seconds.iter().sum::<f64>());
    assert!(
        number(&result["images_per_second_low"]) <= rate && rate <= number(&result["images_per_second_high"])
    );
    let quantiles = ["p50", "p95", "p99"].map(|name| number(&result["latency_ms"][name]) / 1e3);
    let (shortest, longest) =
        seconds.iter().fold((f64::MAX, 0.0_f64), |(low, high), &time| (low.min(time), high.max(time)));
    assert!(shortest <= quantiles[0] && quantiles.is_sorted() && quantiles[2] <= longest, "{result}");
    assert_equal(number(&result["share_of_gemm_peak"]), number(&result["tflops"]) / product);
    assert_eq!(result["device_memory_bytes"], Value::Null);
    if cfg!(target_os = "linux") {
        assert!(number(&result["host_memory_bytes"]) > 1e6, "{result}");
    }
}

#[test]
fn every_scope_is_measured_and_the_figures_agree() {
    let world = World::new();
    let report = report(&world, &format!("{TINY} --scope model,files,train --batch 1,2 --images 6 --stages"));
    assert_eq!(report["format"], 1);
    assert_eq!(report["program"], format!("simplenet {}", env!("CARGO_PKG_VERSION")));
    assert!(report["device"].as_str().unwrap().starts_with("CPU, "));
    let protocol = report["protocol"].as_str().unwrap();
    for word in ["warm-ups 1", "repeats 5", "the clock covers", "host memory", "95 %", "Student's t"] {
        assert!(protocol.contains(word), "{word} is not in {protocol}");
    }
    let product = number(&report["product_tflops"]);
    assert!(product > 0.0);

    let results = report["results"].as_array().unwrap();
    let order: Vec<(&str, u64)> =
        results.iter().map(|r| (r["scope"].as_str().unwrap(), r["batch"].as_u64().unwrap())).collect();
    let expected = [("model", 1), ("model", 2), ("files", 1), ("files", 2), ("train", 1), ("train", 2)];
    assert_eq!(order, expected);
    for result in results {
        let scope = result["scope"].as_str().unwrap();
        let own: &[&str] = match scope {
            "model" => &["stages"],
            "files" => &["images", "files", "decode_seconds", "model_seconds"],
            _ => &["images", "extraction_seconds"],
        };
        let keys: Vec<&str> = result.as_object().unwrap().keys().map(String::as_str).collect();
        assert!(KEYS.iter().chain(own).all(|key| keys.contains(key)), "{scope}: {keys:?}");
        assert_eq!(keys.len(), KEYS.len() + own.len(), "{scope}: {keys:?}");
        assert_eq!(result["device"], report["device"]);
        for (key, value) in [
            ("engine", "simplenet"),
            ("backbone", "resnet18_slim"),
            ("weights", "embedded"),
            ("precision", "f32"),
            ("conv", "fast"),
        ] {
            assert_eq!(result[key], value);
        }
        assert_eq!(
            (&result["network"]["hidden"], &result["network"]["adaptor"]),
            (&1024.into(), &"linear".into())
        );
        assert_eq!((result["size"].as_u64(), result["repeats"].as_u64()), (Some(32), Some(5)));
        // A training's first epoch, which tells how many fit, warms up too.
        assert_eq!(result["warmups"], if scope == "train" { 2 } else { 1 });
        let images = if scope == "model" { number(&result["batch"]) } else { number(&result["images"]) };
        check(result, images, product);
    }
    // 2 FLOP for each multiply–accumulate of the network's 32 px geometry, map and head included.
    let convolutions: [u64; 4] = [
        16 * 16 * 32 * 3 * 49,
        4 * 8 * 8 * 32 * 32 * 9,
        4 * 4 * (64 * 32 * 9 + 3 * 64 * 64 * 9 + 64 * 32),
        2 * 2 * (128 * 64 * 9 + 3 * 128 * 128 * 9 + 128 * 64),
    ];
    let head = 4 * 4 * 64 * 1024 + 2 * 2 * 128 * 1024 + 4 * 4 * 1024;
    let map = 32 * 4 * 4 + 32 * 32 * 4;
    let macs = (convolutions.iter().sum::<u64>() + head + map) as f64;
    for result in &results[..4] {
        assert_equal(number(&result["tflops"]), 2.0 * macs * number(&result["images_per_second"]) / 1e12);
    }
    let stages = results[1]["stages"].as_array().unwrap();
    let names: Vec<&str> = stages.iter().map(|stage| stage["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["normalize", "stem", "layer1", "layer2", "layer3", "head", "map"]);
    assert!(stages.iter().all(|stage| number(&stage["seconds"]) > 0.0));
    for result in &results[2..4] {
        assert_eq!(result["images"], 6);
        assert!(result["files"].as_str().unwrap().starts_with("6 PNG files of 256×256 pixels"), "{result}");
        assert!(number(&result["decode_seconds"]) > 0.0 && number(&result["model_seconds"]) > 0.0);
    }
    assert!(results[4..].iter().all(|result| number(&result["extraction_seconds"]) > 0.0));
    // The demo images were in a temporary folder, and nothing is left anywhere.
    assert!(world.files().is_empty(), "{:?}", world.files());
}

#[test]
fn a_person_reads_the_protocol_beside_the_figures() {
    let world = World::new();
    let ran = world.run(&format!("{TINY} --batch 1 --weights synthetic:0 --stages")).exits(2);
    assert!(ran.stderr.contains("--weights"), "{}", ran.stderr);
    let text = world
        .run(&format!("{} --batch 1 --stages", TINY.replace("embedded", "synthetic:0")))
        .succeeds()
        .stdout;
    for word in [
        "resnet18_slim at 32 px",
        "synthetic:0 (random numbers",
        "the scores mean nothing",
        "95 % interval",
        "p99",
        "of product",
        "1 + 5",
        "warm-ups 1, repeats 5",
        "layer3",
        "the sum may exceed the whole",
    ] {
        assert!(text.contains(word), "{word} is not in {text}");
    }
}

/// What the paper states is of its network.
#[test]
fn the_papers_network_is_set_beside_the_paper() {
    let world = World::new();
    let bench = "bench --device cpu --batch 1 --warmups 0 --repeats 5 --seconds 0";
    let result = &report(&world, bench)["results"][0];
    assert_eq!((result["backbone"].as_str(), result["size"].as_u64()), (Some("wide_resnet50_2"), Some(224)));
    assert_equal(number(&result["ratio_to_paper"]), number(&result["images_per_second"]) / 77.0);
    world.run("bench --seconds -1").fails(2, &["--seconds -1: give 0 to 86400"]);
}

#[test]
fn a_trained_model_and_given_files_are_measured() {
    let world = World::trained();
    let report = report(
        world,
        "bench --device cpu --model run/weave/model.safetensors --scope files --scope train --data data/weave/test/good \
         --data data/weave/test/blot/000.png --warmups 0 --repeats 5 --seconds 0",
    );
    let results = report["results"].as_array().unwrap();
    let batches: Vec<u64> = results.iter().map(|result| result["batch"].as_u64().unwrap()).collect();
    assert_eq!(batches, [1, 8, 4], "the default of the CPU, and that of the model's training");
    for result in results {
        assert_eq!((&result["size"], &result["images"]), (&Value::from(64), &Value::from(4)));
        assert_eq!(result["weights"], "embedded");
        check(result, 4.0, number(&report["product_tflops"]));
    }
}

#[test]
fn figures_that_nobody_could_trust_are_refused() {
    let world = World::new();
    world.write("model.safetensors", World::trained().bytes("run/weave/model.safetensors"));
    let few = TINY.replace("--repeats 5", "--repeats 4");
    world.run(&few).fails(2, &["4 repeats", "--repeats 5 or more"]);
    world.write("broken/a.png", "no image");
    let before = world.files();
    let model = "bench --device cpu --model model.safetensors";
    for (command, words) in [
        (format!("{TINY} --scope files --data broken"), &["a.png", "must be readable"][..]),
        (format!("{TINY} --scope train --data broken"), &["a.png", "must be readable"]),
        (format!("{TINY} --scope files --data nowhere"), &["nowhere"]),
        (format!("{TINY} --scope files --stages"), &["--stages", "--scope model"]),
        (format!("{TINY} --seconds=-1"), &["--seconds -1"]),
        (format!("{TINY} --seconds nan"), &["--seconds"]),
        (format!("{TINY} --batch 0"), &["--batch"]),
        (format!("{TINY} --scope speed"), &["--scope"]),
        (TINY.replace("--size 32", "--size 8"), &["--size between"]),
        (TINY.replace("resnet18_slim", "resnet19"), &["resnet19"]),
        (format!("{model} --size 64"), &["--size"]),
        (format!("{model} --backbone resnet18"), &["--backbone"]),
    ] {
        world.run(&command).fails(2, words);
    }
    world.run(&format!("{TINY} --precision f16")).fails(3, &["--precision f16"]);
    assert_eq!(world.files(), before);
}
