//! One-class novelty detection: classes learned one by one, tested in one pass of the backbone.

#[cfg(unix)]
use crate::resume::kill_when;
use crate::world::{FAST, Ran, World, assert_close, column, save, scores};
use image::{Rgb, RgbImage};
use serde_json::Value;

/// Training records of each class in each of the distribution's five files, and test records of each class.
const RECORDS: [u32; 2] = [2, 3];
const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
/// As long as heads need to tell these classes apart.
const SETTINGS: &str = "--backbone resnet18_slim --size 64 --hidden 32 --epochs 12";

/// Stripes whose direction, width and colour are those of the class; their place differs with `number`.
fn picture(class: u32, number: u32, side: u32) -> RgbImage {
    let angle = f64::from(class) * 0.31;
    let width = f64::from(2 + class % 4) * f64::from(side) / 32.0;
    RgbImage::from_fn(side, side, |x, y| {
        let across = f64::from(x) * angle.cos() + f64::from(y) * angle.sin();
        let level = 0.5 + 0.5 * (across / width + f64::from(number) * 0.9).sin();
        let grain = f64::from((x * 31 + y * 17 + number * 101) % 13);
        let channel = |share: u32| (25.0 + grain + level * f64::from(60 + 50 * (share % 4))) as u8;
        Rgb([channel(class), channel(class / 3 + 1), channel(7 * class + 2)])
    })
}

/// A record of the binary version: the label, then red, green and blue planes of 32×32.
fn record(class: u32, number: u32) -> Vec<u8> {
    let picture = picture(class, number, 32);
    let plane = |channel: usize| picture.pixels().map(move |pixel| pixel[channel]).collect::<Vec<u8>>();
    [vec![class as u8], plane(0), plane(1), plane(2)].concat()
}

/// The binary version in `folder`: records of all classes in turn.
fn write_cifar(world: &World, folder: &str) {
    let mut number = 0;
    let mut records = |count: u32| {
        let mut bytes = Vec::new();
        for _ in 0..count {
            number += 1;
            (0..10).for_each(|class| bytes.extend(record(class, number)));
        }
        bytes
    };
    for file in 1..=5 {
        world.write(format!("{folder}/data_batch_{file}.bin"), records(RECORDS[0]));
    }
    world.write(format!("{folder}/test_batch.bin"), records(RECORDS[1]));
    world.write(format!("{folder}/batches.meta.txt"), CLASSES.join("\n") + "\n\n");
}

/// `classes/train` and `classes/test` with three classes of PNGs.
fn write_classes(world: &World) {
    for (class, name) in [(1, "oak"), (4, "ash"), (6, "elm")] {
        for number in 0..7 {
            let (part, number) = if number < 5 { ("train", number) } else { ("test", number) };
            save(&picture(class, number, 70), &world.path(format!("classes/{part}/{name}/{number}.png")));
        }
    }
}

fn rows(world: &World, run: &str) -> Vec<Value> {
    world.json(&format!("{run}/results.json"))["results"].as_array().unwrap().clone()
}

/// The line that tells of the pass of the test images.
fn pass(ran: &Ran) -> Vec<&str> {
    ran.stderr.lines().filter(|line| line.contains("passed the backbone once")).collect()
}

#[test]
fn ten_models_are_learned_from_cifar_10_and_tested_in_one_pass() {
    let world = World::new();
    write_cifar(&world, "cifar/cifar-10-batches-bin");
    let ran = world.run(&format!("train --data cifar --one-class {SETTINGS} --output run")).succeeds();
    assert_eq!(pass(&ran), ["30 test images passed the backbone once and were scored by 10 models"]);

    let rows = rows(&world, "run");
    assert_eq!(column(&rows, "category"), CLASSES);
    for row in &rows {
        let counts = ["train_images", "test_good", "test_defective", "skipped", "without_mask"];
        assert_eq!(counts.map(|name| row[name].as_u64().unwrap()), [10, 3, 27, 0, 0]);
        for (name, is_there) in
            [("i_auroc", true), ("i_ap", true), ("i_f1max", true), ("p_auroc", false), ("aupro", false)]
        {
            assert_eq!(row[name].is_number(), is_there, "{name} in {row}");
        }
        assert_eq!(row["subset"], Value::Null);
        assert!(row["image_threshold"].is_number() && row["final_loss"].is_number(), "{row}");
    }
    // Models of the wrong classes, or images with the wrong labels, would put the mean at 0.5 or below.
    let mean = world.json("run/results.json")["mean"]["i_auroc"].clone();
    assert!(mean["mean"].as_f64().unwrap() > 0.8 && mean["count"] == 10, "{mean}");
    let table: Vec<&str> = ran.stdout.lines().collect();
    assert!(table.iter().any(|line| line.starts_with("mean ")), "{}", ran.stdout);
    assert!(table.iter().any(|line| line.starts_with("One-class models: ")), "{}", ran.stdout);
    assert!(!ran.stdout.contains("SUBSET"), "{}", ran.stdout);

    let lines = world.lines("run/bird/scores.jsonl");
    assert_eq!(lines.len(), 30);
    assert_eq!(lines[12]["path"], "cifar-10-batches-bin/test_batch.bin/0012");
    assert_eq!((&lines[12]["kind"], &lines[12]["defect"]), (&"good".into(), &Value::Null));
    assert_eq!((&lines[13]["kind"], &lines[13]["defect"]), (&"defective".into(), &"cat".into()));

    // Beside the paper's Table 5 it would be a comparison of CIFAR-10 itself.
    let ran = world
        .run(&format!("train --data cifar --one-class --compare paper {FAST} --output beside"))
        .succeeds();
    let row = ran.stdout.lines().find(|line| line.starts_with("mean of ten classes")).unwrap();
    assert!(ran.stdout.contains("Table 5") && row.contains(" 86.5 "), "{}", ran.stdout);
    let page = world.text("beside/report.html");
    assert!(page.contains("Table 5"));
    let maps = ["figures beside --figure 8", "one-class models"];
    world.run(maps[0]).fails(2, &[maps[1]]);

    // Whole, and without pictures.
    let page = world.text("run/report.html");
    assert!(page.contains("truck") && page.contains("One-class models"));
    assert!(!world.path("run/maps").exists() && !world.path("run/overlays").exists());
    assert!(!world.path("run/bird/trained.json").exists());
    assert!(!world.path("run/bird/checkpoint.safetensors").exists());
    world.assert_clean();

    // A record is scored by its path, as an image of any other kind: by the detector of one model alone, whose pass has
    // another number of images. The same sums in another order: 1e-5, as between batches of any model.
    let images = (0..30).map(|i| format!("cifar/cifar-10-batches-bin/test_batch.bin/{i:04}"));
    let images = images.collect::<Vec<_>>().join(" ");
    for class in ["bird", "truck"] {
        let predict = format!("predict --model run/{class}/model.safetensors {images}");
        let alone = world.run(&predict).succeeds().lines();
        let together = world.lines(&format!("run/{class}/scores.jsonl"));
        assert_close(&scores(&alone), &scores(&together), 1e-5);
        assert_eq!(column(&alone, "verdict"), column(&together, "verdict"));
    }

    // `test` gives the same, model by model and all together.
    let models = CLASSES.map(|class| format!("run/{class}/model.safetensors")).join(" ");
    let ran = world.run(&format!("test --model {models} --data cifar --one-class --output again")).succeeds();
    assert_eq!(pass(&ran), ["30 test images passed the backbone once and were scored by 10 models"]);
    for class in CLASSES {
        let file = format!("{class}/scores.jsonl");
        assert_eq!(world.text(&format!("again/{file}")), world.text(&format!("run/{file}")));
    }
    let one = "test --model run/cat/model.safetensors --data cifar --one-class --subset 2 --output one";
    let ran = world.run(one).succeeds();
    assert!(ran.stdout.contains("SUBSET OF 2 IMAGES A CLASS"), "{}", ran.stdout);
    assert_eq!(pass(&ran), ["20 test images passed the backbone once and were scored by 1 model"]);
}

#[test]
fn a_subset_is_called_one_wherever_its_figures_are() {
    let world = World::new();
    write_cifar(&world, "cifar");
    let train = format!("train --data cifar --one-class --subset 4 --category ship --category cat {FAST}");
    let ran = world.run(&format!("{train} --output run")).succeeds();
    // The test images are those of all classes whichever are learned.
    assert_eq!(pass(&ran), ["30 test images passed the backbone once and were scored by 2 models"]);
    let spec = &world.json("run/run.json")["spec"]["data"]["one-class"];
    assert_eq!((&spec["subset"], &spec["classes"]), (&4.into(), &serde_json::json!(["ship", "cat"])));
    let rows = rows(&world, "run");
    assert_eq!(column(&rows, "category"), ["cat", "ship"]);
    for row in &rows {
        let counts = ["train_images", "test_good", "test_defective", "subset"];
        assert_eq!(counts.map(|name| row[name].as_u64().unwrap()), [4, 3, 27, 4]);
    }
    assert!(ran.stdout.contains("SUBSET OF 4 IMAGES A CLASS"), "{}", ran.stdout);
    assert!(ran.stderr.contains("subset of 4 images a class"), "{}", ran.stderr);
    assert!(world.text("run/report.html").contains("SUBSET OF 4 IMAGES A CLASS"));
    let csv = world.text("run/results.csv");
    let mut lines = csv.lines();
    assert!(lines.next().unwrap().ends_with(",subset") && lines.next().unwrap().ends_with(",4"), "{csv}");
    let json = world.run(&format!("{train} --json --output json")).succeeds();
    assert_eq!(serde_json::from_str::<Value>(&json.stdout).unwrap()[0]["subset"], 4);
}

#[test]
fn any_folder_of_classes_with_several_seeds() {
    let world = World::new();
    write_classes(&world);
    let train = format!("train --data classes --one-class {FAST} --adaptor mlp --seeds 0,1");
    // Spilled as far as it goes: nothing fits 1 kB.
    let ran = world.run(&format!("{train} --feature-cache f16 --feature-cache-limit 1kB --output run"));
    let ran = ran.succeeds();
    // All heads of all seeds in that pass.
    assert_eq!(pass(&ran), ["6 test images passed the backbone once and were scored by 6 models"]);
    let all = rows(&world, "run");
    assert_eq!(column(&all, "category"), ["ash", "ash", "elm", "elm", "oak", "oak"]);
    assert_eq!(column(&all, "seed"), [0, 1, 0, 1, 0, 1]);
    let lines = world.lines("run/elm/seed-1/scores.jsonl");
    let expected = ["ash/5", "ash/6", "elm/5", "elm/6", "oak/5", "oak/6"];
    assert_eq!(column(&lines, "path"), expected.map(|name| format!("test/{name}.png")));
    let model = "run/elm/seed-1/model.safetensors";
    let alone = world.run(&format!("predict --model {model} classes/test")).succeeds().lines();
    assert_close(&scores(&alone), &scores(&lines), 1e-5);

    // An image that cannot be read is left out for all of them.
    world.write("classes/test/ash/broken.png", "no image");
    let ran = world.run(&format!("{train} --output broken")).succeeds();
    assert_eq!(ran.stderr.matches("skipped: cannot decode").count(), 1, "{}", ran.stderr);
    assert_eq!(column(&rows(&world, "broken"), "skipped"), [1; 6]);
    assert_eq!(pass(&ran), ["6 test images passed the backbone once and were scored by 6 models"]);
    let strict = world.run(&format!("{train} --strict --output strict"));
    strict.fails(2, &["cannot decode", "broken.png"]);

    // Models that need passes of their own are not tested in one.
    let two = "run/elm/seed-1/model.safetensors other/oak/model.safetensors";
    world.run(&format!("train --data classes --one-class {FAST} --levels 2 --output other")).succeeds();
    let test = format!("test --model {two} --data classes --one-class --output never");
    world.run(&test).fails(2, &["run/elm", "other/oak", "test them one by one"]);
    assert!(!world.path("never").exists());
}

#[test]
fn classes_without_a_test_set_are_trained_all_the_same() {
    let world = World::new();
    write_classes(&world);
    std::fs::rename(world.path("classes/train"), world.path("alone")).unwrap();
    let ran = world.run(&format!("train --data alone --one-class {FAST} --output run")).succeeds();
    assert!(ran.stderr.contains("warning: there are no test images"), "{}", ran.stderr);
    assert_eq!(pass(&ran).len(), 0);
    for row in rows(&world, "run") {
        assert_eq!((&row["i_auroc"], &row["test_good"]), (&Value::Null, &0.into()));
    }
    assert!(ran.stdout.contains("no test set"), "{}", ran.stdout);
    let test = "test --model run/oak/model.safetensors --data alone --one-class --output never";
    world.run(test).fails(2, &["has no test images"]);
}

#[test]
fn a_killed_run_trains_nothing_twice() {
    let world = World::new();
    write_classes(&world);
    world.run(&format!("train --data classes --one-class {FAST} --output run")).succeeds();
    let model = |class: &str| format!("run/{class}/model.safetensors");
    let classes = ["ash", "elm", "oak"];
    let state =
        || classes.map(|class| std::fs::metadata(world.path(model(class))).unwrap().modified().unwrap());
    let files = |class: &str| {
        ["model.safetensors", "scores.jsonl"].map(|file| world.bytes(&format!("run/{class}/{file}")))
    };
    let (before, written) = (classes.map(files), state());
    let trained = r#"{"skipped": 0, "final_loss": 0.25, "extract_seconds": 1.5, "train_seconds": 2.5}"#;

    // Killed in the middle of everything: one class finished, one trained, one not begun.
    for gone in ["elm/result.json", "elm/scores.jsonl", "results.json", "results.csv", "report.html"] {
        std::fs::remove_file(world.path("run").join(gone)).unwrap();
    }
    world.write("run/elm/trained.json", trained);
    std::fs::remove_dir_all(world.path("run/oak")).unwrap();
    let ran = world.run("train --resume run").succeeds();
    for said in ["ash, seed 0: finished before", "elm, seed 0: trained before"] {
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
    }
    // Only those that are not tested yet are tested, and in one pass.
    assert_eq!(pass(&ran), ["6 test images passed the backbone once and were scored by 2 models"]);
    assert!(classes.map(files) == before);
    let again = state();
    assert_eq!(again[..2], written[..2]);
    assert!(again[2] > written[2]);
    let elm = &rows(&world, "run")[1];
    assert_eq!((&elm["final_loss"], &elm["train_seconds"]), (&0.25.into(), &2.5.into()));

    // Killed between a result and the end of what it replaces: nothing is left to do.
    world.write("run/elm/trained.json", trained);
    let ran = world.run("train --resume run").succeeds();
    assert_eq!((pass(&ran).len(), ran.stderr.matches("finished before").count()), (0, 3), "{}", ran.stderr);
    assert!(!world.path("run/elm/trained.json").exists());
    assert_eq!(state(), again);
    world.assert_clean();
}

#[cfg(unix)]
#[test]
fn a_run_killed_between_two_classes_ends_as_one_that_was_not() {
    let world = World::new();
    write_classes(&world);
    let train = format!("train --data classes --one-class {}", FAST.replace("--epochs 2", "--epochs 60"));
    world.run(&format!("{train} --output whole")).succeeds();
    let has = |file: &str| world.path("run").join(file).exists();
    kill_when(&world, &format!("{train} --output run"), || has("elm/checkpoint.safetensors"));
    assert!(has("ash/trained.json") && !has("ash/result.json") && !has("oak"));
    let ran = world.run("train --resume run").succeeds();
    assert!(ran.stderr.contains("ash, seed 0: trained before"), "{}", ran.stderr);
    assert_eq!(pass(&ran), ["6 test images passed the backbone once and were scored by 3 models"]);
    let inside = |run: &str| -> Vec<String> {
        world.files().into_iter().filter_map(|file| Some(file.strip_prefix(run)?.to_owned())).collect()
    };
    assert_eq!(inside("run/"), inside("whole/"));
    for class in ["ash", "elm", "oak"] {
        for file in ["model.safetensors", "scores.jsonl"] {
            let file = format!("{class}/{file}");
            assert!(world.bytes(&format!("run/{file}")) == world.bytes(&format!("whole/{file}")), "{file}");
        }
    }
}

#[test]
fn what_cannot_be_meant_is_said_before_anything_is_written() {
    let world = World::new();
    write_cifar(&world, "cifar");
    write_classes(&world);
    std::fs::create_dir_all(world.path("empty")).unwrap();
    for file in ["cifar-10-batches-py/data_batch_1", "cifar-10-batches-py/test_batch"] {
        world.write(format!("python/{file}"), "pickled");
    }
    let before = world.files();
    for (arguments, words) in [
        ("--data cifar", &["cifar holds CIFAR-10", "add --one-class"][..]),
        ("--data empty", &["holds no category", "--one-class"]),
        ("--data empty --one-class", &["holds no classes", "train/<class>/*.png", "CIFAR-10 binary version"]),
        ("--data python --one-class", &["version for Python", "cifar-10-binary.tar.gz"]),
        ("--data missing --one-class", &["there is no file or folder"]),
        ("--data cifar --one-class --category shap", &["did you mean \"ship\"?", "airplane, automobile"]),
        ("--data cifar --one-class --subset 0", &["--subset", "1 or more"]),
        ("--data cifar --subset 5", &["--one-class"]),
        ("--one-class", &["--data"]),
        ("--data cifar --one-class --metrics-geometry original", &["--metrics-geometry"]),
    ] {
        world.run(&format!("train {arguments} {FAST} --output never")).fails(2, words);
    }
    assert_eq!(world.files(), before);

    // Damage, one file at a time.
    let train = format!("train --data cifar --one-class {FAST} --output never");
    let cure = "get the \"CIFAR-10 binary version\"";
    let whole = world.bytes("cifar/test_batch.bin");
    world.write("cifar/test_batch.bin", &whole[..whole.len() - 700]);
    world.run(&train).fails(2, &["cifar/test_batch.bin", "no whole number of records of 3073 bytes", cure]);
    let mut mislabelled = whole.clone();
    mislabelled[3073 * 7] = 200;
    world.write("cifar/test_batch.bin", &mislabelled);
    world.run(&train).fails(2, &["cifar/test_batch.bin", "record 7 has label 200", cure]);
    world.write("cifar/test_batch.bin", &whole);
    std::fs::remove_file(world.path("cifar/data_batch_3.bin")).unwrap();
    world.run(&train).fails(2, &["cifar cannot be used", "data_batch_3.bin is missing", cure]);
    let model = World::trained().path("run/weave/model.safetensors");
    let predict = format!("predict --model {} cifar/test_batch.bin/9999 --strict", model.display());
    world.run(&predict).fails(2, &["cifar/test_batch.bin", "ends before record 9999", "30 whole records"]);
    assert_eq!(world.files().len(), before.len() - 1);
}
