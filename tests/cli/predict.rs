//! `predict`: what comes out, in which order, and what the verdict follows.

use crate::world::{Ran, World, assert_close, column, good, save, scores};

const PREDICT: &str = "predict --model run/weave/model.safetensors";

#[test]
fn one_line_an_image_in_the_order_of_the_input() {
    let world = World::trained();
    let test = "data/weave/test";
    let ran = world.run(&format!("{PREDICT} {test}/good/002.png {test}/blot {test}/good/000.png")).succeeds();
    let lines = ran.lines();
    let paths = ["good/002", "blot/000", "blot/001", "blot/002", "good/000"];
    assert_eq!(column(&lines, "path"), paths.map(|path| format!("{test}/{path}.png")));
    for line in &lines {
        let keys: Vec<&String> = line.as_object().unwrap().keys().collect();
        assert!(keys.iter().all(|key| {
            ["path", "score", "threshold", "verdict", "box", "inspected"].contains(&key.as_str())
        }));
        let rejected = line["score"].as_f64() > line["threshold"].as_f64();
        assert_eq!(line["verdict"], if rejected { "defect" } else { "ok" }, "{line}");
        if rejected {
            let corners: Vec<u64> =
                line["box"].as_array().unwrap().iter().map(|x| x.as_u64().unwrap()).collect();
            assert!(
                corners[0] < corners[2] && corners[1] < corners[3] && corners[2] <= 96 && corners[3] <= 96
            );
        }
    }
    assert!(ran.stderr.contains("5 images scored"), "{}", ran.stderr);
    assert!(!world.path("overlays").exists());

    // The scores are those of the training's evaluation.
    let evaluated = world.lines("run/weave/scores.jsonl");
    let all = world.run(&format!("{PREDICT} {test}/good {test}/blot")).succeeds().lines();
    assert_close(&scores(&evaluated), &scores(&all), 1e-5);
}

#[test]
fn paths_come_from_stdin_too() {
    let world = World::trained();
    let paths = ["data/weave/test/blot/001.png", "data/weave/test/good/000.png"];
    let expected = world.run(&format!("{PREDICT} {} {}", paths[0], paths[1])).succeeds().stdout;
    let from_stdin = |flag: &str, text: String| {
        let mut command = world.command(&format!("{PREDICT} {flag} -"));
        Ran::of(command.write_stdin(text)).succeeds().stdout
    };
    assert_eq!(from_stdin("", format!("{}\n\n{}", paths[0], paths[1])), expected);
    assert_eq!(from_stdin("", format!("{}\r\n{}\r\n", paths[0], paths[1])), expected);
    assert_eq!(from_stdin("-0", format!("{}\0{}\0", paths[0], paths[1])), expected);

    let mut nothing = world.command(&format!("{PREDICT} -"));
    Ran::of(nothing.write_stdin("")).fails(2, &["standard input named no image", "one path a line"]);
    world.run(&format!("{PREDICT} - {}", paths[0])).fails(2, &["cannot be mixed"]);
}

/// The end of what could be read is not the end of the list. A folder opens like a file, and cannot be read.
#[cfg(unix)]
#[test]
fn a_list_that_breaks_off_is_an_error() {
    let world = World::trained();
    let mut command = world.child(&format!("{PREDICT} -"));
    let folder = std::fs::File::open(world.path("data")).unwrap();
    let output = command.stdin(folder).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("standard input could not be read to its end"), "{message}");
}

/// A line is given when its image is scored, not when the list ends: a camera may feed the list.
#[test]
fn a_list_without_end_is_answered_as_it_comes() {
    use std::io::{BufRead, BufReader, Write};
    use std::process::Stdio;
    let world = World::trained();
    let mut command = world.child(&format!("{PREDICT} --batch 1 -"));
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    for number in 0..3 {
        let path = format!("data/weave/test/good/00{number}.png");
        writeln!(input, "{path}").unwrap();
        let line = output.next().unwrap().unwrap();
        assert!(line.contains(&path), "{line}");
    }
    drop(input);
    assert!(output.next().is_none());
    assert!(child.wait().unwrap().success());
}

#[test]
fn overlays_and_maps_are_written_on_request() {
    let world = World::trained();
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().display();
    let command =
        format!("{PREDICT} data/weave/test/blot --overlays {folder}/o/verlays --maps {folder}/maps");
    for (index, line) in world.run(&command).succeeds().lines().iter().enumerate() {
        assert_eq!(line["overlay"], format!("{folder}/o/verlays/{index:06}-00{index}.png.jpg"));
        assert_eq!(line["map"], format!("{folder}/maps/{index:06}-00{index}.png.tiff"));
        let overlay = image::open(line["overlay"].as_str().unwrap()).unwrap();
        assert!(overlay.width() > 96 && overlay.height() > 96);
        let map = std::fs::File::open(line["map"].as_str().unwrap()).unwrap();
        assert_eq!(tiff::decoder::Decoder::new(map).unwrap().dimensions().unwrap(), (96, 96));
    }
}

#[test]
fn the_exit_code_tells_of_defects_only_when_asked() {
    let world = World::trained();
    let command = format!("{PREDICT} data/weave/test/good");
    world.run(&format!("{command} --threshold -100")).succeeds();
    let ran = world.run(&format!("{command} --threshold -100 --fail-on-defect")).exits(1);
    assert_eq!(column(&ran.lines(), "verdict"), ["defect"; 3]);
    let ran = world.run(&format!("{command} --threshold 100 --fail-on-defect")).succeeds();
    assert_eq!(column(&ran.lines(), "verdict"), ["ok"; 3]);

    // An image that cannot be read has not passed.
    let broken = tempfile::tempdir().unwrap();
    save(&good(50), &broken.path().join("a.png"));
    std::fs::write(broken.path().join("b.png"), "no image").unwrap();
    let command = format!("{PREDICT} {} --threshold 100", broken.path().display());
    world.run(&command).succeeds();
    world.run(&format!("{command} --fail-on-defect")).exits(1);
}

#[test]
fn scores_do_not_depend_on_the_batch() {
    let world = World::trained();
    let with = |options: &str| {
        let ran = world.run(&format!("{PREDICT} data/weave/train data/weave/test {options}")).succeeds();
        let lines = ran.lines();
        assert_eq!(lines.len(), 14);
        scores(&lines)
    };
    let one = with("--batch 1");
    for options in ["--batch 2", "--batch 5 --threads 1", "--batch 64 --threads 3"] {
        assert_close(&one, &with(options), 1e-5);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn names_need_not_be_utf_8() {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let world = World::trained();
    let out = tempfile::tempdir().unwrap();
    let name = std::ffi::OsStr::from_bytes(b"gr\xFC\xDFe.png");
    save(&good(60), &out.path().join("a.png"));
    std::fs::rename(out.path().join("a.png"), out.path().join(name)).unwrap();
    let folder = out.path().display();
    let listed = world.run(&format!("{PREDICT} {folder} --overlays {folder}/out")).succeeds().lines();
    assert!(std::path::Path::new(listed[0]["overlay"].as_str().unwrap()).is_file(), "{}", listed[0]);

    let mut command = world.command(&format!("{PREDICT} -"));
    let piped = Ran::of(command.write_stdin(out.path().join(name).into_os_string().into_vec())).succeeds();
    assert_eq!(piped.lines()[0]["score"], listed[0]["score"]);
}

/// `-v` says where the time went; whatever bounds here, it is one of three.
#[test]
fn the_stages_are_told_on_request() {
    let world = World::trained();
    let images = "data/weave/test data/weave/train";
    assert!(!world.run(&format!("{PREDICT} {images}")).succeeds().stderr.contains("bound by"));
    let ran = world.run(&format!("{PREDICT} {images} -v")).succeeds();
    for word in [
        "decode and preprocess",
        "waiting for decoding",
        "model",
        "answers, pictures and output",
        "waiting for answers",
    ] {
        assert!(ran.stderr.contains(word), "{word} is not in {}", ran.stderr);
    }
    let bound = ran.stderr.lines().find_map(|line| line.strip_prefix("bound by ")).unwrap();
    assert!(["decoding", "the model", "answers, pictures and output"].contains(&bound), "{bound}");
}

/// Pictures are written beside the model and in parallel; lines keep their order, and `--strict` its place.
#[test]
fn order_is_kept_while_pictures_are_written() {
    let world = World::trained();
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..30).map(|number| format!("{number:02}.png")).collect();
    for (number, name) in (0..).zip(&names) {
        save(&good(number), &folder.path().join(name));
    }
    std::fs::write(folder.path().join("17.png"), "no image").unwrap();
    let path = folder.path().display();
    let command = format!("{PREDICT} {path} --flat --batch 4 --overlays {path}/o --maps {path}/m");
    let lines = world.run(&command).succeeds().lines();
    let expected: Vec<String> = names.iter().map(|name| format!("{path}/{name}")).collect();
    assert_eq!(column(&lines, "path"), expected);
    assert_eq!(lines.iter().filter(|line| line["overlay"].is_string()).count(), 29);
    let strict = world.run(&format!("{command} --strict")).exits(2);
    assert_eq!(column(&strict.lines(), "path"), expected[..17]);
    assert!(strict.stderr.contains("17.png"), "{}", strict.stderr);
}

/// On the CPU nothing is timed, whatever `--plans` says, and no table appears.
#[test]
fn plans_are_a_matter_of_the_gpu() {
    let world = World::trained();
    let predict = format!("{PREDICT} --device cpu data/weave/test/blot");
    let plain = world.run(&predict).succeeds();
    for plans in ["off", "absent.json"] {
        let ran = world.run(&format!("{predict} --plans {plans} -v")).succeeds();
        assert_eq!(ran.stdout, plain.stdout);
        assert!(ran.stderr.contains("--plans does nothing here"), "{}", ran.stderr);
    }
    assert!(!world.path("run/weave/model.plans.json").exists());
}

/// On a processor with the instructions scores move by rounding; on any other nothing is computed instead.
#[test]
fn bf16_is_computed_on_the_cpu_or_refused() {
    let world = World::trained();
    let predict = format!("{PREDICT} data/weave/test/good data/weave/test/blot --device cpu");
    let narrow = world.run(&format!("{predict} --precision bf16"));
    #[cfg(target_arch = "x86_64")]
    let available = is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    let available = false;
    if !available {
        narrow.fails(3, &["AVX512-BF16", "use --precision f32"]);
        return;
    }
    // Without a device by name, the one that has the arithmetic is taken, and said.
    let auto = world
        .run(&format!("{PREDICT} data/weave/test/good data/weave/test/blot --precision bf16"))
        .succeeds();
    assert!(auto.stderr.contains("bf16 is an arithmetic of the CPU's"), "{}", auto.stderr);
    let narrow = narrow.succeeds();
    assert_eq!(auto.stdout, narrow.stdout);
    let (narrow, full) = (scores(&narrow.lines()), scores(&world.run(&predict).succeeds().lines()));
    let difference: f64 = narrow.iter().zip(&full).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
    let norm = full.iter().map(|x| x.powi(2)).sum::<f64>().sqrt();
    assert!(difference > 0.0, "nothing was rounded");
    // A trained head takes differences of features, which magnify their rounding of 3e-3.
    assert!(difference < 5e-2 * norm, "{difference} of {norm}");
}
