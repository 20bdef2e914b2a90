//! A disk that is full: a limit on the size of files, under which the kernel refuses to write on.

use crate::world::{FAST, Ran, World};

/// The program where no file may grow beyond so many kibibytes.
fn limited(world: &World, kibibytes: u32, arguments: &str) -> Ran {
    world.under_bash(&format!(r#"ulimit -f {kibibytes}; trap "" XFSZ; exec "$@""#), arguments)
}

#[test]
fn a_training_that_runs_out_of_space_can_go_on_when_there_is_some() {
    let world = World::with_data();
    world.run(&format!("train --data data {FAST} --output whole")).succeeds();
    let ran = limited(&world, 8, &format!("train --data data {FAST} --output run"));
    ran.fails(2, &["cannot write run/weave/checkpoint.safetensors", "has space"]);
    assert_eq!(
        world.files().iter().filter(|file| file.starts_with("run/")).collect::<Vec<_>>(),
        ["run/run.json"]
    );
    // Pictures are too large now, but the model is not: 200 KiB.
    limited(&world, 1024, "train --resume run").succeeds();
    assert!(world.bytes("run/weave/model.safetensors") == world.bytes("whole/weave/model.safetensors"));

    let ran =
        limited(&world, 8, &format!("train --data data {FAST} --feature-cache-limit 1kB --output spill"));
    ran.fails(2, &["spill"]);
    world.assert_clean();
}

#[test]
fn nothing_is_left_half_written() {
    let world = World::new();
    let trained = World::trained();
    world.write("model.safetensors", trained.bytes("run/weave/model.safetensors"));
    world.write("weights.safetensors", simplenet::backbone::weights::embedded::FILE);
    world.write("image.png", trained.bytes("data/weave/test/good/000.png"));
    let before = world.files();
    let model = world.bytes("model.safetensors");
    for (command, words) in [
        (
            "predict --model model.safetensors image.png --maps out",
            &["cannot write out/000000-image.png.tiff"][..],
        ),
        (
            "predict --model model.safetensors image.png --overlays out",
            &["cannot write out/000000-image.png.jpg"],
        ),
        ("threshold --model model.safetensors --set 3", &["cannot write model.safetensors", "has space"]),
        ("dump --model model.safetensors image.png --output d", &["cannot write d", "has space"]),
        ("weights import weights.safetensors", &["cannot write", "resnet18_slim.safetensors", "has space"]),
        ("demo demo", &["cannot write", "fabric", "has space"]),
    ] {
        limited(&world, 4, command).fails(2, words);
        assert_eq!(world.files(), before, "{command}");
    }
    assert!(world.bytes("model.safetensors") == model, "the old model is still there");
    assert!(!world.path("demo").exists());
}

#[test]
fn output_to_a_full_device_is_an_error() {
    let world = World::trained();
    for command in [
        "doctor",
        "weights list",
        "weights verify resnet18_slim",
        "threshold --model run/weave/model.safetensors",
        "threshold --model run/weave/model.safetensors --json",
        "predict --model run/weave/model.safetensors data/weave/test",
    ] {
        let ran = world.under_bash(r#"exec "$@" > /dev/full"#, command);
        ran.fails(2, &["cannot write to standard output", "No space left"]);
    }
}
