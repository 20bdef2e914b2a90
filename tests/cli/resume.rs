//! Runs that are killed, and what becomes of them.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use crate::world::{FAST, World, good, write_category};
use serde_json::Value;

/// Starts a command, kills it as soon as `moment` has come, and makes sure that it was still at work.
pub(crate) fn kill_when(world: &World, arguments: &str, mut moment: impl FnMut() -> bool) {
    let mut child = world.child(arguments).stderr(std::process::Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while !moment() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the moment to kill has not come");
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it could be killed");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
}

/// How many epochs of a head the log holds.
fn epochs(world: &World, head: &str) -> usize {
    let log = std::fs::read_to_string(world.path("run/weave/training.jsonl")).unwrap_or_default();
    log.matches(&format!(r#""head":"{head}""#)).count()
}

/// The lines of a training log without their times.
fn log(world: &World, run: &str) -> Vec<Value> {
    let mut lines = world.lines(&format!("{run}/weave/training.jsonl"));
    for line in &mut lines {
        line.as_object_mut().unwrap().remove("seconds");
    }
    lines
}

#[test]
fn a_run_killed_again_and_again_ends_as_one_that_was_not() {
    let world = World::with_data();
    let settings = FAST.replace("--epochs 2", "--epochs 1500");
    world.run(&format!("train --data data {settings} --output whole")).succeeds();

    let begin = format!("train --data data {settings} --output run");
    kill_when(&world, &begin, || world.path("run/weave/checkpoint.safetensors").exists());
    let resume = "train --resume run";
    kill_when(&world, resume, || epochs(&world, "calibration-1") >= 90);
    kill_when(&world, resume, || epochs(&world, "final") >= 1);
    kill_when(&world, resume, || epochs(&world, "final") >= 150);
    assert!(epochs(&world, "final") < 1500 && !world.path("run/weave/model.safetensors").exists());

    // What a kill at the worst moments leaves: a file half-written, and a checkpoint whose log is not yet there.
    world.write("run/weave/.writing-abcdef", "half a che");
    world.write("run/.writing-ghijkl", "half a tab");
    std::fs::remove_file(world.path("run/weave/training.jsonl")).unwrap();
    let ran = world.run(resume).succeeds();
    assert!(ran.stderr.contains("continuing run"), "{}", ran.stderr);

    assert!(world.bytes("run/weave/model.safetensors") == world.bytes("whole/weave/model.safetensors"));
    assert_eq!(world.text("run/weave/scores.jsonl"), world.text("whole/weave/scores.jsonl"));
    assert_eq!(log(&world, "run"), log(&world, "whole"));
    let inside = |run: &str| -> Vec<String> {
        world.files().into_iter().filter_map(|file| Some(file.strip_prefix(run)?.to_owned())).collect()
    };
    assert_eq!(inside("run/"), inside("whole/"));
    let (run, whole) = (world.json("run/results.json"), world.json("whole/results.json"));
    assert_eq!(run["results"][0]["i_auroc"], whole["results"][0]["i_auroc"]);
    assert_eq!(run["results"][0]["final_loss"], whole["results"][0]["final_loss"]);
    world.assert_clean();
}

#[test]
fn a_kill_after_the_last_step_costs_nothing_but_the_evaluation() {
    let world = World::with_data();
    let settings = FAST.replace("--epochs 2", "--epochs 40");
    world.run(&format!("train --data data {settings} --output whole")).succeeds();
    // A checkpoint of the very last step, as it lies there until the result is written: the latest one that is seen.
    let mut child = world.child(&format!("train --data data {settings} --output run")).spawn().unwrap();
    let mut last = Vec::new();
    while child.try_wait().unwrap().is_none() {
        last = std::fs::read(world.path("run/weave/checkpoint.safetensors")).unwrap_or(last);
    }
    assert!(!last.is_empty());
    let model = world.bytes("whole/weave/model.safetensors");

    // Killed before the model was written, and before the log was.
    for gone in ["result.json", "model.safetensors", "training.jsonl", "scores.jsonl"] {
        std::fs::remove_file(world.path("run/weave").join(gone)).unwrap();
    }
    world.write("run/weave/checkpoint.safetensors", &last);
    world.run("train --resume run").succeeds();
    assert!(world.bytes("run/weave/model.safetensors") == model);
    assert_eq!(log(&world, "run"), log(&world, "whole"));

    // Killed between the result and the end of its checkpoint.
    world.write("run/weave/checkpoint.safetensors", &last);
    let ran = world.run("train --resume run").succeeds();
    assert!(ran.stderr.contains("weave, seed 0: finished before"), "{}", ran.stderr);
    assert!(!world.path("run/weave/checkpoint.safetensors").exists());
}

#[test]
fn a_finished_run_resumes_to_the_same_results_without_training() {
    let world = World::with_data();
    let first = world.run(&format!("train --data data {FAST} --output run")).succeeds();
    let files =
        ["results.csv", "results.json", "run.json", "weave/model.safetensors", "weave/training.jsonl"];
    let content = || files.map(|file| world.bytes(&format!("run/{file}")));
    let before = content();
    let modified = |file: &str| std::fs::metadata(world.path(file)).unwrap().modified().unwrap();
    let written = modified("run/weave/model.safetensors");
    let second = world.run("train --resume run").succeeds();
    assert_eq!(first.stdout, second.stdout);
    for ((file, now), before) in files.iter().zip(content()).zip(&before) {
        assert!(now == *before, "{file} has changed");
    }
    assert_eq!(modified("run/weave/model.safetensors"), written);
    assert!(
        second.stderr.contains("finished before") && !second.stderr.contains("threshold"),
        "{}",
        second.stderr
    );

    // A model that is gone is made again.
    std::fs::remove_file(world.path("run/weave/model.safetensors")).unwrap();
    world.run("train --resume run").succeeds();
    assert!(content()[3] == before[3]);
}

#[test]
fn two_processes_do_not_work_in_one_run() {
    let world = World::with_data();
    world.run(&format!("train --data data {FAST} --output run")).succeeds();
    let lock = std::fs::File::open(world.path("run")).unwrap();
    lock.lock().unwrap();
    world.run("train --resume run").fails(2, &["another process is working in run"]);
    drop(lock);
    world.run("train --resume run").succeeds();
}

#[test]
fn only_what_is_not_finished_is_done_again() {
    let world = World::with_data();
    write_category(&world.path("data/zigzag"), 100, "png");
    let train = format!("train --data data {FAST} --seeds 0,1 --no-overlays --no-maps --output run");
    let first = world.run(&train).succeeds();
    let model = |category: &str, seed: u64| format!("run/{category}/seed-{seed}/model.safetensors");
    let all = [model("weave", 0), model("weave", 1), model("zigzag", 0), model("zigzag", 1)];
    let state =
        || all.each_ref().map(|path| std::fs::metadata(world.path(path)).unwrap().modified().unwrap());
    let (bytes, before) = (all.each_ref().map(|path| world.bytes(path)), state());
    std::fs::remove_dir_all(world.path("run/weave/seed-1")).unwrap();

    let ran = world.run("train --resume run").succeeds();
    assert_eq!(ran.stderr.matches("finished before").count(), 3, "{}", ran.stderr);
    assert_eq!(ran.stdout, first.stdout);
    let after = state();
    assert!(after[1] > before[1]);
    assert_eq!([after[0], after[2], after[3]], [before[0], before[2], before[3]]);
    assert!(all.each_ref().map(|path| world.bytes(path)) == bytes);
}

#[test]
fn other_data_under_an_unfinished_run_is_refused() {
    let world = World::new();
    // BMP: another image of the same name has the same number of bytes.
    write_category(&world.path("data/weave"), 0, "bmp");
    let settings = FAST.replace("--epochs 2", "--epochs 60");
    world.run(&format!("train --data data {settings} --output whole")).succeeds();
    kill_when(&world, &format!("train --data data {settings} --output run"), || {
        epochs(&world, "calibration-1") >= 5
    });
    let image = world.path("data/weave/train/good/003.bmp");
    good(77).save(&image).unwrap();
    let words =
        ["checkpoint.safetensors", "belongs to other data", "delete it to train this model from the start"];
    world.run("train --resume run").fails(2, &words);
    std::fs::remove_file(&image).unwrap();
    world.run("train --resume run").fails(2, &words);
    std::fs::rename(world.path("data"), world.path("moved")).unwrap();
    world.run("train --resume run").fails(2, &["there is no file or folder"]);
    std::fs::rename(world.path("moved"), world.path("data")).unwrap();
    good(3).save(&image).unwrap();
    let checkpoint = world.bytes("run/weave/checkpoint.safetensors");
    world.write("run/weave/checkpoint.safetensors", &checkpoint[..checkpoint.len() / 2]);
    world.run("train --resume run").fails(2, &["checkpoint.safetensors", "cannot be used", "delete it"]);
    world.write("run/weave/checkpoint.safetensors", checkpoint);
    world.run("train --resume run").succeeds();
    assert!(world.bytes("run/weave/model.safetensors") == world.bytes("whole/weave/model.safetensors"));
}

#[test]
fn what_cannot_be_resumed_is_said() {
    let world = World::trained();
    let out = tempfile::tempdir().unwrap();
    let out = out.path().display();
    world.run(&format!("train --resume {out}/nothing")).fails(2, &["holds no run to continue", "run.json"]);
    world.run(&format!("train --resume {out}")).fails(2, &["holds no run to continue"]);
    world.run("train --resume run --epochs 5").fails(2, &["--resume", "--epochs"]);
    world.run("train --resume run --data data").fails(2, &["--resume", "--data"]);
    world.run("train --resume run --seed 1").fails(2, &["--resume", "--seed"]);
    let ran = world.run(&format!("train --data data {FAST} --output run"));
    ran.fails(2, &["run already holds a run", "another --output", "train --resume run"]);
    world
        .run(&format!("test --model run/weave/model.safetensors --data data --output {out}/test"))
        .succeeds();
    world
        .run(&format!("train --resume {out}/test"))
        .fails(2, &["was written by `test`", "the folder of the training"]);
    world
        .run(&format!("test --model run/weave/model.safetensors --data data --output {out}/test"))
        .fails(2, &["already holds a run", "another --output"]);
}
