//! `train` and `test` where all is well.

use crate::world::{FAST, World, column, scores, write_category};
use serde_json::Value;

#[test]
fn a_run_folder_holds_everything_that_is_promised() {
    let world = World::with_data();
    let ran = world.run(&format!("train --data data {FAST} --output run")).succeeds();

    let run: Vec<String> =
        world.files().into_iter().filter_map(|file| Some(file.strip_prefix("run/")?.to_owned())).collect();
    let pictures = |folder: &str, ending: &str| {
        ["blot", "good"].map(|kind| [0, 1, 2].map(|i| format!("{folder}/{kind}/00{i}.{ending}"))).concat()
    };
    let mut expected = [
        &pictures("maps/weave/test", "tiff")[..],
        &pictures("overlays/weave", "png.jpg"),
        &["report.html", "results.csv", "results.json", "run.json"].map(str::to_owned),
        &["model.safetensors", "result.json", "scores.jsonl", "training.jsonl"].map(|f| format!("weave/{f}")),
    ]
    .concat();
    expected.sort();
    assert_eq!(run, expected);

    // The table alone on stdout, each note once; the rest on stderr.
    let table: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(table.len(), 4, "{}", ran.stdout);
    assert!(table[0].contains("I-AUROC") && table[2].starts_with("weave"), "{}", ran.stdout);
    assert!(table[3].contains("was not inspected"), "{}", ran.stdout);
    for word in ["data ", "backbone ", "device ", "report ", "next ", "threshold "] {
        assert!(ran.stderr.contains(word), "{word} is not in {}", ran.stderr);
    }

    let record = world.json("run/run.json");
    assert_eq!(record["spec"]["settings"]["training"]["epochs"], 2);
    assert_eq!(record["spec"]["seeds"], serde_json::json!([0]));
    assert_eq!(record["backbone"]["architecture"], "resnet18_slim");
    assert_eq!(record["synthetic_data"], false);

    let results = &world.json("run/results.json")["results"];
    assert_eq!(results.as_array().unwrap().len(), 1);
    let row = &results[0];
    for metric in ["i_auroc", "p_auroc", "aupro", "i_ap", "i_f1max", "p_ap", "p_f1max"] {
        let value = row[metric].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&value), "{metric} {value}");
    }
    let counts = ["train_images", "test_good", "test_defective", "skipped", "without_mask", "epochs"];
    assert_eq!(counts.map(|name| row[name].as_u64().unwrap()), [8, 3, 3, 0, 0, 2]);
    let csv = world.text("run/results.csv");
    assert!(csv.starts_with("category,i_auroc,p_auroc,aupro,i_ap,i_f1max,"), "{csv}");
    assert_eq!(
        csv.lines().map(|line| line.split(',').next().unwrap()).collect::<Vec<_>>(),
        ["category", "weave", "mean"]
    );

    let epochs = world.lines("run/weave/training.jsonl");
    assert_eq!(column(&epochs, "head"), ["calibration-1", "calibration-1", "final", "final"]);
    assert_eq!(column(&epochs, "epoch"), [1, 2, 1, 2]);

    let lines = world.lines("run/weave/scores.jsonl");
    assert_eq!(lines.len(), 6);
    assert_eq!(lines[0]["path"], "test/good/000.png");
    assert_eq!(lines[5]["path"], "test/blot/002.png");
    for line in &lines {
        let (overlay, map) = (line["overlay"].as_str().unwrap(), line["map"].as_str().unwrap());
        assert!(expected.contains(&overlay.to_owned()) && expected.contains(&map.to_owned()), "{line}");
        assert_eq!(line["has_mask"], line["kind"] == "defective", "{line}");
    }

    let map = std::fs::File::open(world.path("run/maps/weave/test/blot/000.tiff")).unwrap();
    let mut map = tiff::decoder::Decoder::new(map).unwrap();
    assert_eq!(map.dimensions().unwrap(), (96, 96));
    let tiff::decoder::DecodingResult::F32(values) = map.read_image().unwrap() else { panic!("no floats") };
    assert!(values.iter().all(|value| value.is_finite()));
    let page = world.text("run/report.html");
    assert!(page.contains("data:image/") && page.contains("weave"));
    world.assert_clean();
}

#[test]
fn a_longer_training_finds_blots() {
    let world = World::with_data();
    let settings = FAST.replace("--epochs 2", "--epochs 30");
    world.run(&format!("train --data data {settings} --output run --no-maps --no-overlays")).succeeds();
    let row = &world.json("run/results.json")["results"][0];
    assert!(row["i_auroc"].as_f64().unwrap() > 0.99, "{row}");
    assert!(row["p_auroc"].as_f64().unwrap() > 0.8, "{row}");
    assert!(!world.path("run/maps").exists() && !world.path("run/overlays").exists());
}

#[test]
fn quiet_says_nothing_and_without_output_there_is_a_dated_folder() {
    let world = World::with_data();
    // Noise that is learned in so few steps: a head that learned nothing is warned of all the same.
    let settings = FAST.replace("--epochs 2", "--epochs 40 --noise-sigma 1");
    let ran = world.run(&format!("train -q --data data/weave {settings} --no-overlays --no-maps")).succeeds();
    assert_eq!(ran.stderr, "");
    let runs: Vec<_> = std::fs::read_dir(world.path("runs")).unwrap().collect();
    assert_eq!(runs.len(), 1);
    assert!(runs[0].as_ref().unwrap().path().join("weave/model.safetensors").is_file());
}

#[test]
fn a_test_reproduces_what_training_measured() {
    let world = World::trained();
    let out = tempfile::tempdir().unwrap();
    let out = out.path().display();
    let test = format!("test --model run/weave/model.safetensors --data data --output {out}/again");
    let ran = world.run(&test).succeeds();
    assert!(ran.stdout.contains("I-AUROC"), "{}", ran.stdout);

    let again = |name: &str| std::fs::read_to_string(format!("{out}/again/{name}")).unwrap();
    let again_results: Value = serde_json::from_str(&again("results.json")).unwrap();
    let (old, new) = (&world.json("run/results.json")["results"][0], &again_results["results"][0]);
    for name in old.as_object().unwrap().keys() {
        // What belongs to training alone.
        if !["final_loss", "extract_seconds", "train_seconds", "test_seconds"].contains(&name.as_str()) {
            assert_eq!(old[name], new[name], "{name}");
        }
    }
    assert_eq!(world.text("run/weave/scores.jsonl"), again("weave/scores.jsonl"));
    let json = world.run(&format!("{test}-2 --json")).succeeds();
    assert_eq!(serde_json::from_str::<Value>(&json.stdout).unwrap()[0]["i_auroc"], old["i_auroc"]);

    // The whole image counts for `original`, also what lies outside the crop.
    world.run(&format!("{test}-3 --metrics-geometry original --no-maps --no-overlays")).succeeds();
    let whole: Value =
        serde_json::from_str(&std::fs::read_to_string(format!("{out}/again-3/results.json")).unwrap())
            .unwrap();
    assert_eq!(whole["results"][0]["i_auroc"], old["i_auroc"]);
    assert_ne!(whole["results"][0]["p_auroc"], old["p_auroc"]);
}

#[test]
fn several_seeds_lie_side_by_side_and_are_tested_together() {
    let world = World::with_data();
    world.run(&format!("train --data data {FAST} --seeds 3,1 --output run")).succeeds();
    for seed in [3, 1] {
        assert!(world.path(format!("run/weave/seed-{seed}/model.safetensors")).is_file());
    }
    let rows = world.json("run/results.json")["results"].clone();
    assert_eq!(column(rows.as_array().unwrap(), "seed"), [3, 1]);

    let models = "run/weave/seed-3/model.safetensors run/weave/seed-1/model.safetensors";
    world.run(&format!("test --model {models} --data data --output again")).succeeds();
    for seed in [3, 1] {
        let lines =
            [format!("run/weave/seed-{seed}/scores.jsonl"), format!("again/weave/seed-{seed}/scores.jsonl")]
                .map(|path| world.lines(&path));
        assert_eq!(scores(&lines[0]), scores(&lines[1]));
    }
    let twice = "run/weave/seed-3/model.safetensors run/weave/seed-3/model.safetensors";
    world.run(&format!("test --model {twice} --data data --output x")).fails(2, &["same category and seed"]);
    assert!(!world.path("x").exists());
}

#[test]
fn a_category_without_a_test_set_is_trained_all_the_same() {
    let world = World::with_data();
    std::fs::remove_dir_all(world.path("data/weave/test")).unwrap();
    std::fs::remove_dir_all(world.path("data/weave/ground_truth")).unwrap();
    world.run(&format!("train --data data {FAST} --calibration-folds 3 --output run")).succeeds();
    let row = &world.json("run/results.json")["results"][0];
    assert_eq!((&row["i_auroc"], &row["held_out_images"]), (&Value::Null, &8.into()));
    world
        .run("test --model run/weave/model.safetensors --data data --output again")
        .fails(2, &["weave", "has no test images"]);
}

#[test]
fn every_variant_of_the_method_trains() {
    let world = World::with_data();
    for (index, variant) in [
        "--adaptor mlp --loss cross-entropy --fit stretch",
        "--adaptor none --aggregation patchcore --levels 1,2",
        "--preset official --patch 5 --feature-cache f16 --feature-cache-limit 1kB",
        "--calibration-folds none --map-sigma 0 --noise-sigma 0.1 --noise-mixtures 3 --batch 3",
    ]
    .into_iter()
    .enumerate()
    {
        world.run(&format!("train --data data {FAST} {variant} --output run-{index}")).succeeds();
        let model = format!("run-{index}/weave/model.safetensors");
        let lines = world.run(&format!("predict --model {model} data/weave/test")).succeeds().lines();
        assert_eq!(lines.len(), 6);
        assert_eq!(lines[0].get("verdict").is_none(), variant.contains("folds none"));
    }
}

#[test]
fn results_stand_beside_the_papers_where_both_have_the_category() {
    let world = World::new();
    write_category(&world.path("data/wood"), 0, "png");
    let train = format!("train --data data {FAST} --no-maps --no-overlays --compare paper");
    let ran = world.run(&format!("{train} --output run")).succeeds();
    // The results, then the paper's Table 1: 100 and 94.5 for wood.
    let row = ran.stdout.lines().filter(|line| line.starts_with("wood")).nth(1).unwrap();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!([cells[2], cells[5]], ["100.0", "94.5"], "{row}");
    let i_auroc = world.json("run/results.json")["results"][0]["i_auroc"].as_f64().unwrap();
    assert_eq!(cells[1], format!("{:.1}", 100.0 * i_auroc));
    assert!(
        ran.stdout.contains("no average of textures: carpet, grid, leather, tile missing"),
        "{}",
        ran.stdout
    );
    assert!(world.text("run/comparison.md").contains("| wood "));
    assert!(world.text("run/report.html").contains("Beside the paper"));

    let test = "test --data data --no-maps --no-overlays --model run/wood/model.safetensors --compare paper";
    let ran = world.run(&format!("{test} --output tested --json")).succeeds();
    let printed: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(printed[0]["category"], "wood");
    assert_eq!(world.text("tested/comparison.md"), world.text("run/comparison.md"));
}

#[test]
fn a_category_the_paper_does_not_know_is_not_compared() {
    let world = World::with_data();
    let train = format!("train --data data {FAST} --no-maps --no-overlays --compare paper");
    let ran = world.run(&format!("{train} --output run")).succeeds();
    assert!(
        ran.stderr.contains("nothing to compare with the paper") && ran.stderr.contains("weave"),
        "{}",
        ran.stderr
    );
    assert!(!world.path("run/comparison.md").exists() && !ran.stdout.contains("paper"), "{}", ran.stdout);
}
