//! `--select` and `--early-stop`: which epoch becomes the model, and what is said of it.

#[cfg(unix)]
use crate::resume::kill_when;
use crate::world::{FAST, World, bad, good, save, write_category};
use serde_json::Value;

/// A training of many epochs that learns fast enough for there to be a choice.
fn fast(epochs: u32) -> String {
    let learning = "--noise-sigma 0.5 --adaptor-learning-rate 0.001 --discriminator-learning-rate 0.005";
    FAST.replace("--epochs 2", &format!("--epochs {epochs} {learning}"))
}

/// Lines of a run's training log that belong to a head.
fn log(world: &World, run: &str, head: &str) -> Vec<Value> {
    let lines = world.lines(&format!("{run}/weave/training.jsonl"));
    lines.into_iter().filter(|line| line["head"].as_str().unwrap().starts_with(head)).collect()
}

/// The metadata of a run's model.
fn metadata(world: &World, run: &str) -> Value {
    let mut found = Value::Null;
    let file = world.bytes(&format!("{run}/weave/model.safetensors"));
    crate::world::edit_metadata(&file, |metadata| found = metadata.clone());
    found
}

/// The tensors of a run's model, as bytes.
fn tensors(world: &World, run: &str) -> Vec<u8> {
    let file = world.bytes(&format!("{run}/weave/model.safetensors"));
    let (length, rest) = file.split_first_chunk().unwrap();
    rest[u64::from_le_bytes(*length) as usize..].to_vec()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

#[test]
fn the_default_is_the_last_epoch_and_files_say_nothing_of_a_choice() {
    let world = World::with_data();
    world.run(&format!("train --data data {FAST} --output plain")).succeeds();
    world
        .run(&format!("train --data data {FAST} --select last --early-stop off --output explicit"))
        .succeeds();
    let model = |run: &str| world.bytes(&format!("{run}/weave/model.safetensors"));
    assert!(model("plain") == model("explicit"));
    for file in ["run.json", "weave/training.jsonl", "weave/scores.jsonl"] {
        let text = world.text(&format!("plain/{file}"));
        for word in ["selected_on_test", "held_out_spread", "early_stop", "\"select\"", "chosen_epoch"] {
            assert!(!text.contains(word), "{file} has {word}");
        }
    }
    assert_eq!(metadata(&world, "plain").get("chosen_epoch"), None);
    assert_eq!(world.json("plain/results.json")["results"][0]["epochs"], 2);
}

#[test]
fn the_epoch_that_is_best_on_the_test_set_is_taken_and_everything_says_so() {
    let world = World::with_data();
    let ran = world.run(&format!("train --data data {} --select test --output run", fast(12))).succeeds();
    assert!(ran.stderr.contains("warning: --select test"), "{}", ran.stderr);

    // The best by image AUROC, then by pixel AUROC, then the earliest.
    let epochs = log(&world, "run", "final");
    assert_eq!(epochs.len(), 12);
    let key = |line: &Value| (number(&line["i_auroc"]), number(&line["p_auroc"]));
    let mut best = &epochs[0];
    for line in &epochs[1..] {
        if key(line) > key(best) {
            best = line;
        }
    }
    let epoch = best["epoch"].as_u64().unwrap();
    let result = &world.json("run/results.json")["results"][0];
    assert_eq!(result["epochs"], epoch);
    assert_eq!(result["final_loss"], best["loss"]);
    // The features come by another way than in the final test, and differ by rounding.
    assert!((number(&result["i_auroc"]) - key(best).0).abs() < 1e-9);
    assert!((number(&result["p_auroc"]) - key(best).1).abs() < 1e-3);
    let chosen = serde_json::json!({"epoch": epoch, "of": 12, "selected_on_test": true});
    assert_eq!(metadata(&world, "run")["chosen_epoch"], chosen);

    // The head is the one that a training of so many epochs ends with, and its thresholds those of that epoch too.
    world.run(&format!("train --data data {} --output shorter", fast(epoch as u32))).succeeds();
    assert!(tensors(&world, "run") == tensors(&world, "shorter"));
    assert_eq!(metadata(&world, "run")["calibration"], metadata(&world, "shorter")["calibration"]);

    // Every output is marked.
    assert!(ran.stdout.contains("SELECTED ON THE TEST SET"), "{}", ran.stdout);
    assert!(ran.stderr.contains(&format!("the model is of epoch {epoch} of 12, SELECTED ON THE TEST SET")));
    assert_eq!(world.json("run/run.json")["selected_on_test"], true);
    assert_eq!(world.json("run/results.json")["selected_on_test"], true);
    assert_eq!(result["selected_on_test"], true);
    for file in ["training.jsonl", "scores.jsonl"] {
        let lines = world.lines(&format!("run/weave/{file}"));
        assert!(!lines.is_empty() && lines.iter().all(|line| line["selected_on_test"] == true), "{file}");
    }
    let csv = world.text("run/results.csv");
    let column = csv.lines().next().unwrap().split(',').position(|name| name == "selected_on_test").unwrap();
    assert!(csv.lines().skip(1).all(|line| line.split(',').nth(column) == Some("true")), "{csv}");
    assert!(world.text("run/report.html").contains("Selected on the test set"));

    world.run("figures run --figure 7").succeeds();
    assert!(world.text("run/figures/figure-7.svg").contains("SELECTED ON THE TEST SET"));

    let model = "--model run/weave/model.safetensors";
    let warning = format!("epoch {epoch} of 12, SELECTED ON THE TEST SET");
    let ran = world.run(&format!("test {model} --data data --output tested")).succeeds();
    assert!(
        ran.stdout.contains("SELECTED ON THE TEST SET") && ran.stderr.contains(&warning),
        "{}",
        ran.stderr
    );
    assert_eq!(world.json("tested/run.json")["selected_on_test"], true);
    assert_eq!(world.json("tested/results.json")["selected_on_test"], true);
    let ran = world.run(&format!("predict {model} data/weave/test/good")).succeeds();
    assert!(ran.stderr.contains(&warning), "{}", ran.stderr);
    assert!(ran.lines().iter().all(|line| line["selected_on_test"] == true));
    let ran = world.run(&format!("threshold {model}")).succeeds();
    assert!(ran.stdout.contains(&warning), "{}", ran.stdout);
    let ran = world.run(&format!("threshold {model} --json")).succeeds();
    let shown: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(shown["chosen_epoch"], chosen);
}

#[test]
fn the_test_set_is_needed_to_select_on_it() {
    let world = World::with_data();
    std::fs::rename(world.path("data/weave/test/blot"), world.path("blot")).unwrap();
    let train = format!("train --data data {FAST} --select test --output run");
    world.run(&train).fails(2, &["weave has not both", "--test-bad", "--select last or holdout"]);
    std::fs::create_dir_all(world.path("data/weave/test/blot")).unwrap();
    world.write("data/weave/test/blot/000.png", "no picture");
    world.run(&train).fails(2, &["only one kind could be read"]);
    std::fs::remove_dir_all(world.path("run")).unwrap();
    // Defects without masks: images choose alone.
    std::fs::remove_dir_all(world.path("data/weave/test/blot")).unwrap();
    std::fs::rename(world.path("blot"), world.path("data/weave/test/blot")).unwrap();
    std::fs::remove_dir_all(world.path("data/weave/ground_truth")).unwrap();
    world.run(&train).succeeds();
    let epochs = log(&world, "run", "final");
    assert!(epochs.iter().all(|line| line["i_auroc"].is_f64() && line.get("p_auroc").is_none()));
}

#[test]
fn held_out_images_choose_without_test_images() {
    let world = World::with_data();
    let holdout = format!("{} --select holdout --calibration-folds 2", fast(30));
    world.run(&format!("train --data data {holdout} --output run")).succeeds();

    // By the rule: the least mean spread over five epochs, of those where both folds have learned something.
    let spreads = |fold: u32| -> Vec<Option<f64>> {
        let lines = log(&world, "run", &format!("calibration-{fold}"));
        lines.iter().map(|line| line["held_out_spread"].as_f64()).collect()
    };
    // Folds of four images each weigh the same.
    let pooled: Vec<Option<f64>> =
        spreads(1).into_iter().zip(spreads(2)).map(|(a, b)| Some((a? + b?) / 2.0)).collect();
    assert_eq!(pooled.len(), 30);
    let mean = |at: usize| {
        let around: Vec<f64> =
            pooled[at.saturating_sub(2)..(at + 3).min(30)].iter().flatten().copied().collect();
        around.iter().sum::<f64>() / around.len() as f64
    };
    let standing = (0..30).filter(|&at| pooled[at].is_some());
    let expected =
        standing.min_by(|&a, &b| mean(a).total_cmp(&mean(b))).expect("something was learned") as u64 + 1;
    let chosen = metadata(&world, "run")["chosen_epoch"].clone();
    assert_eq!(chosen, serde_json::json!({"epoch": expected, "of": 30, "selected_on_test": false}));
    assert_eq!(log(&world, "run", "final").len() as u64, expected);
    assert_eq!(world.json("run/results.json")["results"][0]["epochs"], expected);
    assert_eq!(world.json("run/results.json")["selected_on_test"], false);

    // Head and thresholds are those of a training of so many epochs.
    let shorter = format!("{} --calibration-folds 2", fast(expected as u32));
    world.run(&format!("train --data data {shorter} --output shorter")).succeeds();
    assert!(tensors(&world, "run") == tensors(&world, "shorter"));
    assert_eq!(metadata(&world, "run")["calibration"], metadata(&world, "shorter")["calibration"]);

    // Other test images, or none, change nothing.
    save(&bad(99), &world.path("data/weave/test/good/000.png"));
    save(&good(98), &world.path("data/weave/test/blot/000.png"));
    world.run(&format!("train --data data {holdout} --output permuted")).succeeds();
    std::fs::remove_dir_all(world.path("data/weave/test")).unwrap();
    std::fs::remove_dir_all(world.path("data/weave/ground_truth")).unwrap();
    world.run(&format!("train --data data {holdout} --output alone")).succeeds();
    let model = |run: &str| world.bytes(&format!("{run}/weave/model.safetensors"));
    assert!(model("run") == model("permuted") && model("run") == model("alone"));
    let ran = world.run("threshold --model run/weave/model.safetensors").succeeds();
    assert!(ran.stdout.contains(&format!("epoch {expected} of 30, chosen without test images")));
    assert!(!world.text("run/report.html").contains("Selected on the test set"));
}

#[test]
fn a_choice_by_held_out_images_needs_some() {
    let world = World::with_data();
    for option in ["--select holdout", "--early-stop plateau"] {
        let train = format!("train --data data {FAST} {option} --output run");
        world
            .run(&format!("{train} --calibration-folds none"))
            .fails(2, &[option, "--calibration-folds none", "--calibration-folds 1"]);
        assert!(!world.path("run").exists());
        world
            .run(&format!("sweep --data data {FAST} {option} --over hidden=8,16 --output grid"))
            .fails(2, &["hidden=8", option, "--calibration-folds 1"]);
        assert!(!world.path("grid").exists());
    }
    for number in 1..8 {
        std::fs::remove_file(world.path(format!("data/weave/train/good/{number:03}.png"))).unwrap();
    }
    for option in ["--select holdout", "--early-stop plateau"] {
        let train = format!("train --data data {FAST} {option} --output run");
        world.run(&train).fails(2, &[option, "more good images"]);
        std::fs::remove_dir_all(world.path("run")).unwrap();
    }
}

/// Settings under which a head settles long before its last epoch.
fn settling(choice: &str) -> String {
    format!("{} --early-stop plateau --calibration-folds 2 {choice}", fast(150))
}

#[test]
fn a_training_that_has_settled_ends_and_tells_its_epoch() {
    let world = World::with_data();
    let ran = world.run(&format!("train --data data {} --output run", settling(""))).succeeds();
    let lengths: Vec<usize> =
        ["calibration-1", "calibration-2", "final"].map(|head| log(&world, "run", head).len()).into();
    let epochs = lengths[2];
    assert!((20..150).contains(&epochs), "{lengths:?}");
    // The fold that settles first decides, and none after it goes further.
    assert!(lengths[0] >= lengths[1] && epochs == lengths[0].min(lengths[1]), "{lengths:?}");
    assert!(ran.stderr.contains(&format!("the model is of epoch {epochs} of {epochs}, chosen without")));
    assert_eq!(world.json("run/results.json")["results"][0]["epochs"], epochs);
    assert_eq!(
        metadata(&world, "run")["chosen_epoch"],
        serde_json::json!({"epoch": epochs, "of": epochs, "selected_on_test": false})
    );
    let shorter = format!("{} --calibration-folds 2", fast(epochs as u32));
    world.run(&format!("train --data data {shorter} --output shorter")).succeeds();
    assert!(tensors(&world, "run") == tensors(&world, "shorter"));
    assert_eq!(metadata(&world, "run")["calibration"], metadata(&world, "shorter")["calibration"]);

    // Together with a choice it says from how many epochs is chosen.
    for select in ["holdout", "test"] {
        let settings = settling(&format!("--select {select}"));
        world.run(&format!("train --data data {settings} --output {select}")).succeeds();
        let chosen = metadata(&world, select)["chosen_epoch"].clone();
        assert_eq!(chosen["of"], epochs, "{select}");
        assert!(chosen["epoch"].as_u64().unwrap() as usize <= epochs, "{select}");
        assert_eq!(chosen["selected_on_test"], select == "test");
    }
    // Too few epochs to settle in.
    let train = format!("train --data data {} --early-stop plateau --output short", fast(19));
    world.run(&train).succeeds();
    assert_eq!(metadata(&world, "short")["chosen_epoch"]["of"], 19);
}

#[cfg(unix)]
#[test]
fn kills_change_nothing_whatever_chooses() {
    let world = World::with_data();
    let without_times = |run: &str| -> Vec<Value> {
        let mut lines = world.lines(&format!("{run}/weave/training.jsonl"));
        lines.iter_mut().for_each(|line| drop(line.as_object_mut().unwrap().remove("seconds")));
        lines
    };
    for (name, settings) in [
        ("test", format!("{} --select test", fast(60))),
        ("holdout", format!("{} --select holdout --calibration-folds 2", fast(100))),
        ("plateau", settling("--select holdout")),
    ] {
        let (whole, run) = (format!("{name}-whole"), format!("{name}-run"));
        world.run(&format!("train --data data {settings} --output {whole}")).succeeds();
        let epochs = |head: &str| {
            let path = world.path(format!("{run}/weave/training.jsonl"));
            let log = std::fs::read_to_string(path).unwrap_or_default();
            log.matches(&format!(r#""head":"{head}"#)).count()
        };
        let length = |head: &str| log(&world, &whole, head).len();
        kill_when(&world, &format!("train --data data {settings} --output {run}"), || {
            epochs("calibration-1") >= 5
        });
        let resume = format!("train --resume {run}");
        kill_when(&world, &resume, || epochs("calibration-1") >= length("calibration-1") / 2);
        kill_when(&world, &resume, || epochs("calibration-1") == length("calibration-1"));
        kill_when(&world, &resume, || epochs("final") >= 1);
        // A checkpoint is written every second at most, so what is lost may be more than half.
        kill_when(&world, &resume, || epochs("final") >= length("final") / 2);
        world.run(&resume).succeeds();
        let model = |run: &str| world.bytes(&format!("{run}/weave/model.safetensors"));
        assert!(model(&run) == model(&whole), "{name}");
        assert_eq!(without_times(&run), without_times(&whole), "{name}");
        assert_eq!(
            world.text(&format!("{run}/weave/scores.jsonl")),
            world.text(&format!("{whole}/weave/scores.jsonl"))
        );
        world.assert_clean();
    }
}

/// A checkpoint of the last step of the shipped head holds everything: what was best before, and what folds said.
#[cfg(unix)]
#[test]
fn the_best_head_so_far_survives_a_kill_after_the_last_step() {
    let world = World::with_data();
    let settings = format!("{} --select test", fast(40));
    world.run(&format!("train --data data {settings} --output whole")).succeeds();
    let mut child = world.child(&format!("train --data data {settings} --output run"));
    let mut child =
        child.stderr(std::process::Stdio::null()).stdout(std::process::Stdio::null()).spawn().unwrap();
    let mut last = Vec::new();
    while child.try_wait().unwrap().is_none() {
        last = std::fs::read(world.path("run/weave/checkpoint.safetensors")).unwrap_or(last);
    }
    assert!(!last.is_empty());
    for gone in ["result.json", "model.safetensors", "training.jsonl", "scores.jsonl"] {
        std::fs::remove_file(world.path("run/weave").join(gone)).unwrap();
    }
    world.write("run/weave/checkpoint.safetensors", &last);
    world.run("train --resume run").succeeds();
    let model = |run: &str| world.bytes(&format!("{run}/weave/model.safetensors"));
    assert!(model("run") == model("whole"));

    // Another test set under it is another training.
    for gone in ["result.json", "model.safetensors"] {
        std::fs::remove_file(world.path("run/weave").join(gone)).unwrap();
    }
    world.write("run/weave/checkpoint.safetensors", &last);
    save(&bad(77), &world.path("data/weave/test/blot/001.png"));
    world.run("train --resume run").fails(2, &["belongs to other data"]);
}

#[test]
fn a_sweep_compares_choices_over_shared_features_and_marks_its_points() {
    let world = World::with_data();
    let over = "--over select=last,holdout,test --calibration-folds 2";
    let ran = world.run(&format!("sweep -v --data data {} {over} --output grid", fast(25))).succeeds();
    assert_eq!(ran.stderr.matches(": features: ").count(), 1, "{}", ran.stderr);
    assert_eq!(ran.stderr.matches("features of the test images").count(), 1, "{}", ran.stderr);
    assert!(ran.stdout.contains("| select=test (SELECTED ON THE TEST SET) |"), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("| select=holdout ") && ran.stdout.contains("| select=last "),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("SELECTED ON THE TEST SET: the epoch was picked"), "{}", ran.stdout);
    let csv = world.text("grid/sweep.csv");
    let marked = |line: &&str| line.ends_with(",true");
    assert_eq!(csv.lines().filter(marked).count(), 1);
    assert!(csv.lines().find(marked).unwrap().starts_with("select=test,"), "{csv}");
    assert!(world.text("grid/sweep.svg").contains("I-AUROC, IN PART SELECTED ON THE TEST SET"));
    let json = world.run("sweep --resume grid --json").succeeds();
    let rows: Value = serde_json::from_str(&json.stdout).unwrap();
    let marks: Vec<&Value> = rows.as_array().unwrap().iter().map(|row| &row["selected_on_test"]).collect();
    assert_eq!(marks, [false, false, true]);
    let point = "grid/points/03-select=test";
    assert_eq!(world.json(&format!("{point}/run.json"))["selected_on_test"], true);
    world
        .run(&format!("train --data data {} --select test --calibration-folds 2 --output alone", fast(25)))
        .succeeds();
    let model = |run: &str| world.bytes(&format!("{run}/weave/model.safetensors"));
    assert!(model(point) == model("alone"));

    let over = "--over early-stop=off,plateau --calibration-folds 1";
    world.run(&format!("sweep --data data {} {over} --output stops", fast(150))).succeeds();
    let epochs = |point: &str| {
        world.json(&format!("stops/points/{point}/weave/result.json"))["epochs"].as_u64().unwrap()
    };
    assert!(epochs("01-early-stop=off") == 150 && epochs("02-early-stop=plateau") < 150);
}

#[test]
fn settings_files_and_one_class_runs_know_the_choices() {
    let world = World::new();
    let shown = world.run("train --select holdout --early-stop plateau --show-config").succeeds().stdout;
    assert!(shown.contains("select = \"holdout\"") && shown.contains("early-stop = \"plateau\""), "{shown}");
    world.write("settings.toml", &shown);
    let again = world.run("train --config settings.toml --show-config").succeeds().stdout;
    assert_eq!(again, shown);
    world.run("train --select best").fails(2, &["best", "last", "holdout", "test"]);

    for (class, first) in [("oak", 0), ("ash", 50)] {
        write_category(&world.path(class), first, "png");
        for part in ["train", "test"] {
            let folder = world.path(format!("classes/{part}"));
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::rename(world.path(format!("{class}/{part}/good")), folder.join(class)).unwrap();
        }
    }
    // Nothing is begun where it cannot be.
    world
        .run(&format!("train --data classes --one-class {FAST} --select test --output run"))
        .fails(2, &["--select test is not for --one-class", "--select last or holdout"]);
    assert!(!world.path("run").exists());
    let train = "train --data classes --one-class --select holdout --output run";
    world.run(&format!("{train} {}", fast(12))).succeeds();
    for row in world.json("run/results.json")["results"].as_array().unwrap() {
        let epochs = row["epochs"].as_u64().unwrap();
        assert!((1..=12).contains(&epochs) && row["selected_on_test"] == false, "{row}");
    }
}
