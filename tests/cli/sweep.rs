//! `sweep`: grids over shared features.

use crate::resume::kill_when;
use crate::world::{FAST, World, write_category};

/// Times that features of training images were computed, as `-v` tells.
fn extractions(stderr: &str) -> usize {
    stderr.lines().filter(|line| line.contains(": features: ")).count()
}

#[test]
fn twelve_runs_share_one_extraction_and_train_what_train_trains() {
    let world = World::with_data();
    let over = "--over noise-sigma=0.01,0.02 --over hidden=16,32,48 --seeds 0,1";
    let ran = world.run(&format!("sweep -v --data data {FAST} {over} --output grid")).succeeds();
    assert_eq!(extractions(&ran.stderr), 1, "{}", ran.stderr);
    assert_eq!(ran.stderr.matches("features of the test images").count(), 1, "{}", ran.stderr);

    let csv = world.text("grid/sweep.csv");
    assert_eq!(csv.lines().count(), 1 + 12);
    assert!(csv.starts_with("point,noise-sigma,hidden,category,seed,i_auroc,"), "{csv}");
    assert!(csv.contains("\"noise-sigma=0.02, hidden=48\",0.02,48,weave,1,"), "{csv}");
    let table = world.text("grid/sweep.md");
    assert_eq!(ran.stdout, table);
    assert_eq!(table.matches("| noise-sigma=").count(), 6);
    assert!(table.contains(" ± ") && table.contains("over 2 seeds"), "{table}");
    let svg = world.text("grid/sweep.svg");
    assert!(svg.contains("I-AUROC in %") && svg.contains("hidden=48"), "{svg}");

    // A point is a run folder, and its model the one that `train` makes of the same settings.
    let settings = FAST.replace("--hidden 32", "--hidden 48");
    let train = "--calibration-folds none --noise-sigma 0.02 --seeds 0,1 --output alone";
    world.run(&format!("train --data data {settings} {train}")).succeeds();
    let point = "grid/points/06-noise-sigma=0.02_hidden=48";
    let model = "weave/seed-1/model.safetensors";
    assert!(world.bytes(&format!("{point}/{model}")) == world.bytes(&format!("alone/{model}")));
    // The head sees features that were resized first; deployed, it projects first: the same but for rounding, which can
    // exchange images of nearly one score.
    let auroc =
        |run: &str| world.json(&format!("{run}/results.json"))["results"][1]["i_auroc"].as_f64().unwrap();
    assert!((auroc(point) - auroc("alone")).abs() < 1e-9);
    world.assert_clean();
}

#[test]
fn points_of_other_features_are_extracted_once_each() {
    let world = World::new();
    write_category(&world.path("data/first"), 0, "png");
    write_category(&world.path("data/second"), 1, "png");
    let over = "--over patch=1,3 --over adaptor=linear,none,mlp";
    let ran = world.run(&format!("sweep -v --data data {FAST} {over} --output grid --json")).succeeds();
    // Two categories under two neighbourhoods.
    assert_eq!(extractions(&ran.stderr), 4, "{}", ran.stderr);
    let rows: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 6);
    assert_eq!(rows[5]["values"]["adaptor"], "mlp");
    assert_eq!(rows[5]["metrics"]["i_auroc"]["count"], 2);
    let table = world.text("grid/sweep.md");
    assert!(table.contains("P-AUROC by category") && table.contains("| first"), "{table}");
}

#[test]
fn a_killed_sweep_repeats_nothing_that_was_finished() {
    let world = World::with_data();
    let arguments = format!(
        "--data data {} --over hidden=16,32,48 --seeds 0,1",
        FAST.replace("--epochs 2", "--epochs 60")
    );
    world.run(&format!("sweep {arguments} --output whole")).succeeds();
    let result =
        |point: &str, seed: u8| world.path(format!("grid/points/{point}/weave/seed-{seed}/result.json"));
    kill_when(&world, &format!("sweep {arguments} --output grid"), || result("02-hidden=32", 0).exists());

    let finished: Vec<_> = [("01-hidden=16", 0), ("01-hidden=16", 1), ("02-hidden=32", 0)]
        .map(|(point, seed)| result(point, seed))
        .map(|path| (path.clone(), std::fs::metadata(&path).unwrap().modified().unwrap()))
        .into();
    let ran = world.run("sweep --resume grid").succeeds();
    assert!(ran.stderr.contains("hidden=16: weave, seed 1: finished before"), "{}", ran.stderr);
    for (path, modified) in finished {
        assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), modified, "{}", path.display());
    }
    for point in ["01-hidden=16", "02-hidden=32", "03-hidden=48"] {
        for seed in [0, 1] {
            let model = |sweep: &str| {
                world.bytes(&format!("{sweep}/points/{point}/weave/seed-{seed}/model.safetensors"))
            };
            assert!(model("grid") == model("whole"), "{point}, seed {seed}");
        }
    }
    // Once all is finished, nothing is computed but the tables.
    let again = world.run("sweep -v --resume grid").succeeds();
    assert_eq!(again.stderr.matches("finished before").count(), 6, "{}", again.stderr);
    assert_eq!(extractions(&again.stderr), 0, "{}", again.stderr);
    assert_eq!(again.stdout, ran.stdout);
    world.assert_clean();
}

#[test]
fn the_papers_tables_have_shortcuts_with_its_figures_beside() {
    let world = World::with_data();
    let ran = world.run(&format!("sweep --data data {FAST} --table 3 --output table")).succeeds();
    for (setting, paper) in [("the preset", "99.6"), ("adaptor=mlp", "98.3"), ("adaptor=none", "99.2")] {
        let row = ran.stdout.lines().find(|line| line.contains(setting)).unwrap();
        assert!(row.contains(paper), "{row}");
    }
    assert!(ran.stdout.contains("compare with nothing else"), "{}", ran.stdout);

    // No backbone of Table 4 is installed here: nothing to train, and the environment is to blame.
    let settings = FAST.replace("--backbone resnet18_slim ", "");
    let ran = world.run(&format!("sweep --data data {settings} --table 4 --output never"));
    assert_eq!(ran.code, Some(3), "{ran:?}");
    for words in
        ["backbone=resnet50 is left out", "weights fetch resnet50", "no point of the sweep can be trained"]
    {
        assert!(ran.stderr.contains(words), "{}", ran.stderr);
    }
    assert!(!world.path("never").exists());
    let figure = world.run(&format!("sweep --data data {FAST} --figure 6 --output figure")).succeeds();
    assert_eq!(figure.stdout.matches("| patch=").count(), 4);
}

#[test]
fn what_cannot_be_swept_is_said_before_anything_is_written() {
    let world = World::with_data();
    for (arguments, words) in [
        ("--over noise-sgima=1", &["noise-sgima", "did you mean `noise-sigma`"][..]),
        ("--over patch=2", &["patch=2 cannot be trained", "choose 1, 3, 5 or 7"]),
        ("--over patch", &["write KEY=V1,V2"]),
        ("--over patch=1 --seeds 1,1", &["names a seed twice"]),
        ("--over backbone=resnet18,resnet19", &["resnet1"]),
        ("", &["--over"]),
        ("--table 7", &["--table"]),
        ("--table 2 --figure 5", &["cannot be used with"]),
        ("--over hidden=8 --config none.toml", &["none.toml"]),
    ] {
        let ran = world.run(&format!("sweep --data data --size 64 {arguments} --output never"));
        assert!(ran.code == Some(2) || ran.code == Some(3), "{arguments}: {ran:?}");
        words.iter().for_each(|word| assert!(ran.stderr.contains(word), "{arguments}: {}", ran.stderr));
    }
    assert!(!world.path("never").exists());
    world.run("sweep --resume data").fails(2, &["holds no sweep to continue"]);
}

#[test]
fn settings_come_from_a_file_that_show_config_writes() {
    let world = World::with_data();
    let shown =
        world.run("train --size 64 --hidden 32 --epochs 3 --preset official --show-config").succeeds();
    assert!(shown.stdout.contains("epochs = 3  # preset: 160"), "{}", shown.stdout);
    world.write("part.toml", shown.stdout.replace("\"auto\"", "\"resnet18_slim\""));
    world.run("train --data data --config part.toml --epochs 2 --output run").succeeds();
    let spec = &world.json("run/run.json")["spec"];
    assert_eq!(spec["settings"]["preset"], "official");
    assert_eq!(spec["settings"]["training"]["epochs"], 2);
    assert_eq!(spec["settings"]["training"]["hidden"], 32);
    assert_eq!(spec["backbone"], "resnet18_slim");
    world.write("part.toml", "hiden = 3\n");
    let words = ["part.toml", "there is no setting `hiden`", "did you mean `hidden`"];
    world.run("train --data data --config part.toml --output never").fails(2, &words);
    assert!(!world.path("never").exists());
}
