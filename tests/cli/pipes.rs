//! A reader that has seen enough is success, as for every good filter.

use crate::world::{FAST, World};

#[test]
fn a_closed_pipe_is_success() {
    let world = World::trained();
    let out = tempfile::tempdir().unwrap();
    let out = out.path().display();
    let model = "--model run/weave/model.safetensors";
    for command in [
        "doctor",
        "doctor --json",
        "weights list",
        "weights list --json",
        "weights verify resnet18_slim",
        &format!("threshold {model}"),
        &format!("predict {model} data"),
        &format!("test {model} --data data --output {out}/test"),
        &format!("train --data data {FAST} --output {out}/run"),
    ] {
        // The reader is gone before the first line comes.
        let ran = world.under_bash(r#"(sleep 0.2; exec "$@") | true"#, command).succeeds();
        assert!(!ran.stderr.contains("error"), "{command}: {}", ran.stderr);
    }
    // What was to be written is there, though nobody saw the table.
    for file in ["test/results.json", "run/results.json", "run/report.html", "run/weave/model.safetensors"] {
        assert!(std::path::Path::new(&format!("{out}/{file}")).is_file(), "{file}");
    }
}

#[test]
fn the_first_lines_come_through() {
    let world = World::trained();
    let command = "predict --model run/weave/model.safetensors data --batch 1";
    let ran = world.under_bash(r#""$@" | head -n 1"#, command).succeeds();
    assert_eq!(ran.lines().len(), 1);
    // A list that ends in the middle of a name, from a writer that died.
    let ran = world
        .under_bash(
            r#"printf 'data/weave/test/good/000.png\ndata/wea' | "$@""#,
            &command.replace("data --batch", "- --batch"),
        )
        .succeeds();
    assert_eq!(ran.lines().len(), 2);
    assert!(ran.lines()[1]["error"].as_str().unwrap().contains("data/wea"));
}
