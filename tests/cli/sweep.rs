//! `sweep`: grids over shared features.

#[cfg(unix)]
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

#[cfg(unix)]
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
    // What a flag says of a setting that the table compares changes no row of it.
    let table = "--adaptor mlp --table 3 --output table";
    let ran = world.run(&format!("sweep --data data {FAST} {table}")).succeeds();
    let adaptor = |point: &str| {
        let run = world.json(&format!("table/points/{point}/run.json"));
        run["spec"]["settings"]["training"]["adaptor"].clone()
    };
    assert_eq!((adaptor("01-adaptor=linear"), adaptor("02-adaptor=mlp")), ("linear".into(), "mlp".into()));
    for (setting, paper) in [("adaptor=linear", "99.6"), ("adaptor=mlp", "98.3"), ("adaptor=none", "99.2")] {
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
        ("--over hidden=8,08", &["the value 08 is there twice"]),
        ("--over patch=2", &["patch=2 cannot be trained", "choose 1, 3, 5 or 7"]),
        ("--over patch", &["write KEY=V1,V2"]),
        ("--over patch=1 --seeds 1,1", &["names a seed twice"]),
        ("--over backbone=resnet18,resnet19", &["backbone=resnet19", "resnet19"]),
        ("--over backbone=resnet18 --backbone resnet50", &["--backbone names one backbone"]),
        ("--over backbone=resnet18 --weights a.pth", &["--weights are those of one backbone"]),
        ("", &["--over"]),
        ("--table 7", &["--table"]),
        ("--table 2 --figure 5", &["cannot be used with"]),
        ("--over hidden=8 --config none.toml", &["none.toml"]),
    ] {
        let ran = world.run(&format!("sweep --data data --size 64 {arguments} --output never"));
        ran.fails(2, words);
    }
    assert!(!world.path("never").exists());
    world.run("sweep --resume data").fails(2, &["holds no sweep to continue"]);
}

#[test]
fn without_test_images_there_is_nothing_to_compare() {
    let world = World::with_data();
    std::fs::remove_dir_all(world.path("data/weave/test")).unwrap();
    std::fs::remove_dir_all(world.path("data/weave/ground_truth")).unwrap();
    let sweep = format!("sweep --data data {FAST} --over patch=1,3");
    world.run(&format!("{sweep} --output never")).fails(2, &["no test images", "use `train`"]);
    assert!(!world.path("never").exists());

    // Beside a category that has some, one without is trained, and so is one whose test images cannot be read.
    write_category(&world.path("data/knit"), 30, "png");
    write_category(&world.path("data/torn"), 60, "png");
    for kind in ["good", "blot"] {
        for entry in std::fs::read_dir(world.path(format!("data/torn/test/{kind}"))).unwrap() {
            std::fs::write(entry.unwrap().path(), "no image").unwrap();
        }
    }
    let ran = world.run(&format!("{sweep} --output grid")).succeeds();
    let csv = world.text("grid/sweep.csv");
    let i_auroc = |category: &str| {
        let row = csv.lines().find(|line| line.split(',').nth(2) == Some(category)).unwrap();
        row.split(',').nth(4).unwrap().to_owned()
    };
    assert!(
        !i_auroc("knit").is_empty() && i_auroc("weave").is_empty() && i_auroc("torn").is_empty(),
        "{csv}"
    );
    assert!(ran.stdout.contains("no test set"), "{}", ran.stdout);
}

#[test]
fn backbones_may_be_compared_with_random_weights() {
    let world = World::with_data();
    let settings = FAST.replace("--backbone resnet18_slim ", "");
    let over = "--weights synthetic:1 --over backbone=resnet18_slim,resnet18 --output grid";
    world.run(&format!("sweep --data data {settings} {over}")).succeeds();
    for point in ["01-backbone=resnet18_slim", "02-backbone=resnet18"] {
        let run = world.json(&format!("grid/points/{point}/run.json"));
        assert_eq!(run["backbone"]["origin"], "synthetic:1");
    }
}

#[test]
fn the_points_of_another_sweep_are_not_taken_for_this_ones() {
    let world = World::with_data();
    let sweep = format!("sweep --data data {FAST} --over patch=1 --output grid");
    world.run(&sweep).succeeds();
    std::fs::remove_file(world.path("grid/sweep.json")).unwrap();
    world
        .run(&format!("{sweep} --epochs 3").replace("--epochs 2 ", ""))
        .fails(2, &["points/01-patch=1", "belongs to another sweep"]);
}

#[test]
fn points_stand_beside_the_papers_categories_where_asked() {
    let world = World::new();
    write_category(&world.path("data/wood"), 0, "png");
    let sweep = format!("sweep --data data {FAST} --over hidden=16,32 --compare paper");
    let ran = world.run(&format!("{sweep} --output grid")).succeeds();
    let comparison = world.text("grid/comparison.md");
    assert_eq!(comparison.matches("## hidden=").count(), 2, "{comparison}");
    // Wood in the paper's Table 1: 100 and 94.5.
    let line = comparison.lines().rfind(|line| line.starts_with("| wood")).unwrap();
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    assert_eq!((cells[3], cells[6]), ("100.0", "94.5"), "{line}");
    assert_eq!(ran.stdout.matches("Beside the paper's Table 1").count(), 2, "{}", ran.stdout);
    assert!(ran.stderr.contains("[2/2] ("), "{}", ran.stderr);

    // Nothing the paper has: a warning, and the sweep's own results.
    let world = World::with_data();
    let ran = world.run(&format!("{sweep} --output grid")).succeeds();
    assert!(ran.stderr.contains("warning") && !world.path("grid/comparison.md").exists(), "{}", ran.stderr);
    assert!(world.path("grid/sweep.md").exists());
}

#[test]
fn help_offers_no_flags_that_a_sweep_refuses() {
    let world = World::new();
    for flag in ["-h", "--help"] {
        let help = world.run(&format!("sweep {flag}")).succeeds().stdout;
        assert!(help.contains("--over") && help.contains("--category"), "{help}");
        assert!(!help.contains("one-class") && !help.contains("--subset"), "{help}");
    }
}
