//! The same command gives the same model, bit by bit, whatever the number of threads.

use crate::world::{FAST, World};

#[test]
fn threads_do_not_change_a_single_bit() {
    let world = World::with_data();
    let train = |options: &str, output: &str| {
        let command = format!("train --data data {FAST} --calibration-folds 2 {options} --output {output}");
        world.run(&command).succeeds();
        (
            world.bytes(&format!("{output}/weave/model.safetensors")),
            world.text(&format!("{output}/weave/scores.jsonl")),
        )
    };
    let first = train("--seed 7 --threads 1", "one");
    assert!(first == train("--seed 7 --threads 1", "again"), "the same command twice");
    assert!(first == train("--seed 7 --threads 2", "two"), "two threads");
    assert!(first == train("--seed 7 --threads 3", "three"), "three threads");
    assert!(first == train("--seed 7 --feature-cache-limit 1kB", "spilled"), "features on disk");
    assert!(first.0 != train("--seed 8 --threads 1", "other").0, "another seed gives another model");

    let folder = std::fs::read_dir(world.path("spilled")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = folder.collect();
    names.sort();
    assert_eq!(
        names,
        ["maps", "overlays", "report.html", "results.csv", "results.json", "run.json", "weave"]
    );
}
