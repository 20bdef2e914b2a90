//! `figures`: the paper's figures from a finished training.

use crate::world::{FAST, World, write_category};
use std::sync::LazyLock;

/// A world with a finished run over two categories and two seeds, made once.
fn trained() -> &'static World {
    static SHARED: LazyLock<World> = LazyLock::new(|| {
        let world = World::new();
        for (first, name) in [(0, "wood"), (50, "weave")] {
            write_category(&world.path(format!("data/{name}")), first, "png");
        }
        // A second kind of defect.
        for (from, to) in [("test", "png"), ("ground_truth", "png")] {
            let name = if from == "test" { "000" } else { "000_mask" };
            world.copy(
                &format!("data/wood/{from}/blot/{name}.{to}"),
                format!("data/wood/{from}/stain/{name}.{to}"),
            );
        }
        world.run(&format!("train --data data {FAST} --seeds 0,1 --no-overlays --output run")).succeeds();
        world
    });
    &SHARED
}

#[test]
fn a_run_gives_every_figure_that_it_has_the_makings_of() {
    let world = trained();
    let ran = world.run("figures run").succeeds();
    let files: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(
        files,
        ["figure-4.svg", "figure-4.csv", "figure-7.svg", "figure-8.png"].map(|f| format!("run/figures/{f}"))
    );
    // What is missing for figure 2 is said, and what to do.
    assert!(ran.stderr.contains("figure 2: not drawn"), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("simplenet bench --model run/weave/seed-0/model.safetensors --json > bench.json"),
        "{}",
        ran.stderr
    );

    // Figure 7: a line over two epochs and the range of four models.
    let loss = world.text("run/figures/figure-7.svg");
    assert!(loss.contains("mean of 2 categories × 2 seeds") && loss.contains(">range<"), "{loss}");
    assert_eq!((loss.matches("<polyline").count(), loss.matches("<polygon").count()), (1, 1));
    let line = loss.split("<polyline").nth(1).unwrap().split("points=\"").nth(1).unwrap();
    assert_eq!(line.split('"').next().unwrap().split(' ').count(), 2, "{line}");

    // Figure 4: a panel a category; a line a model and dimension.
    let spread = world.text("run/figures/figure-4.svg");
    assert!(spread.contains(">wood</text>") && spread.contains(">weave</text>"));
    assert_eq!(spread.matches(">before the adaptor</text>").count(), 2);
    let csv = world.text("run/figures/figure-4.csv");
    let rows: Vec<Vec<&str>> = csv.lines().skip(1).map(|line| line.split(',').collect()).collect();
    // Levels 2 and 3 of the half-width ResNet18 have 64 and 128 channels.
    assert_eq!(rows.len(), 2 * 2 * 192);
    let value = |row: &[&str], column: usize| row[column].parse::<f64>().unwrap();
    assert!(rows.iter().all(|row| value(row, 3) >= 0.0 && value(row, 4) > 0.0));
    // Before the adaptor both seeds see the same features; behind it they do not.
    let of = |seed: &str| rows.iter().filter(|row| row[0] == "wood" && row[1] == seed).collect::<Vec<_>>();
    let (first, second) = (of("0"), of("1"));
    assert!(first.iter().zip(&second).all(|(a, b)| a[2..4] == b[2..4]));
    assert!(first.iter().zip(&second).all(|(a, b)| a[4] != b[4]));

    // Figure 8: two rows, four examples at most.
    let picture = image::open(world.path("run/figures/figure-8.png")).unwrap().to_rgb8();
    let fewer = world.run("figures run --figure 8 --examples 1 --output one").succeeds();
    assert_eq!(fewer.stdout, "one/figure-8.png\n");
    let one = image::open(world.path("one/figure-8.png")).unwrap().to_rgb8();
    assert_eq!(picture.height(), one.height());
    assert!(picture.width() > 3 * one.width(), "{} {}", picture.width(), one.width());
    // The outline of the truth is green: around a blot of 36 × 18 pixels of the panel.
    let green =
        one.pixels().filter(|pixel| pixel.0[1] > 120 && pixel.0[1] > pixel.0[0].saturating_add(60)).count();
    assert!(green > 50, "{green}");
    world.assert_clean();
}

#[test]
fn figure_4_spreads_as_the_features_that_dump_writes() {
    // Features and adapted features of all training images, by another verb.
    let world = trained();
    let images: Vec<String> = (0..8).map(|number| format!("data/weave/train/good/{number:03}.png")).collect();
    let model = "run/weave/seed-1/model.safetensors";
    world.run(&format!("dump --model {model} --output all.safetensors {}", images.join(" "))).succeeds();
    let bytes = world.bytes("all.safetensors");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let columns = ["features", "adapted"].map(|name| {
        let tensor = tensors.tensor(name).unwrap();
        let channels = *tensor.shape().last().unwrap();
        let mut columns = vec![Vec::new(); channels];
        for (index, value) in tensor.data().chunks_exact(4).enumerate() {
            columns[index % channels].push(f64::from(f32::from_le_bytes(value.try_into().unwrap())));
        }
        columns
    });
    world.run("figures run --figure 4 --output spread").succeeds();
    let csv = world.text("spread/figure-4.csv");
    let rows: Vec<Vec<&str>> = csv
        .lines()
        .filter(|line| line.starts_with("weave,1,"))
        .map(|line| line.split(',').collect())
        .collect();
    assert_eq!(rows.len(), columns[0].len());
    for (dimension, row) in rows.iter().enumerate() {
        for (values, cell) in columns.iter().map(|columns| &columns[dimension]).zip(&row[3..]) {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let squares = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
            let expected = (squares / (values.len() as f64 - 1.0)).sqrt();
            let found: f64 = cell.parse().unwrap();
            // The two verbs cut the images into other batches, whose sums differ in the last bits of f32.
            assert!((found - expected).abs() <= 1e-4 * expected + 1e-7, "{row:?}: {expected}");
        }
    }
}

#[test]
fn figure_2_puts_measured_speed_against_the_runs_quality() {
    let world = trained();
    let protocol = "--batch 1,2 --warmups 1 --repeats 5 --json";
    let model = "run/wood/seed-0/model.safetensors";
    let measured = world.run(&format!("bench --model {model} {protocol}")).succeeds().stdout;
    world.write("bench.json", &measured);
    let ran = world.run("figures run --figure 2 --bench bench.json").succeeds();
    assert_eq!(ran.stdout, "run/figures/figure-2.svg\n");
    let plot = world.text("run/figures/figure-2.svg");
    assert!(plot.contains("resnet18_slim, batch 1") && plot.contains("resnet18_slim, batch 2"), "{plot}");
    assert_eq!(plot.matches("<circle").count(), 2, "one series has no legend: {plot}");
    assert!(plot.contains("images/s on CPU, f32"), "{plot}");
    // Two seeds have a spread, each measurement an interval.
    assert_eq!(plot.matches("class=\"spread").count(), 4);
    assert!(!plot.contains("paper,"), "the paper's point belongs to all of MVTec AD");

    // Another input size is another network: its speed is not this run's.
    world.write("other.json", measured.replace("\"size\": 64", "\"size\": 96"));
    let ran = world.run("figures run --figure 2 --bench other.json");
    let ran = ran.fails(2, &["figure 2", "resnet18_slim at 64 pixels", "simplenet bench --model"]);
    assert!(ran.stderr.contains("other.json"), "{}", ran.stderr);
    // So is one with a wider hidden layer, as an untrained head has it.
    let untrained = "bench --backbone resnet18_slim --weights embedded --size 64";
    world.write("wider.json", world.run(&format!("{untrained} {protocol}")).succeeds().stdout);
    let ran = world.run("figures run --figure 2 --bench wider.json").fails(2, &["figure 2", "hidden=32"]);
    assert!(ran.stderr.contains("wider.json"), "{}", ran.stderr);
    world.write("broken.json", "[]");
    world.run("figures run --figure 2 --bench broken.json").fails(2, &["broken.json", "bench --json"]);
    world.run("figures run --figure 2 --bench none.json").fails(2, &["none.json"]);
}

#[test]
fn figure_2_shows_runs_of_several_backbones_over_the_same_data() {
    let world = World::with_data();
    let train = format!("train --no-maps --no-overlays {}", FAST.replace("--backbone resnet18_slim", ""));
    let larger = "--backbone resnet18 --weights synthetic:0";
    world.run(&format!("{train} --data data --backbone resnet18_slim --output small")).succeeds();
    world.run(&format!("{train} --data data {larger} --output large")).succeeds();
    for run in ["small", "large"] {
        let bench =
            format!("bench --model {run}/weave/model.safetensors --batch 1 --warmups 1 --repeats 5 --json");
        world.write(format!("{run}.json"), world.run(&bench).succeeds().stdout);
    }
    let figures = "figures small --figure 2 --bench small.json large.json";
    // Alone, a run has no place for the other network's speed.
    let alone = world.run(figures).succeeds();
    assert!(alone.stderr.contains("large.json"), "{}", alone.stderr);
    assert_eq!(world.text("small/figures/figure-2.svg").matches("<circle").count(), 1);
    world.run(&format!("{figures} --beside large")).succeeds();
    let plot = world.text("small/figures/figure-2.svg");
    assert!(plot.contains(">resnet18_slim, batch 1<") && plot.contains(">resnet18, batch 1<"), "{plot}");

    write_category(&world.path("other/knit"), 90, "png");
    world.run(&format!("{train} --data other {larger} --output elsewhere")).succeeds();
    world.run(&format!("{figures} --beside elsewhere")).fails(2, &["elsewhere", "other categories"]);
}

#[test]
fn what_cannot_be_drawn_is_an_error_only_if_it_was_asked_for() {
    let world = World::with_data();
    let train = format!("train --data data {FAST} --adaptor none --no-maps --no-overlays --output run");
    world.run(&train).succeeds();
    let ran = world.run("figures run").succeeds();
    assert_eq!(ran.stdout, "run/figures/figure-7.svg\n");
    for words in ["figure 4: not drawn", "--adaptor none", "figure 8: not drawn", "--no-maps"] {
        assert!(ran.stderr.contains(words), "{words} is not in {}", ran.stderr);
    }
    // One model has no range.
    let loss = world.text("run/figures/figure-7.svg");
    assert_eq!((loss.matches("<polyline").count(), loss.matches("<polygon").count()), (1, 0));

    // The one that can be drawn is, whichever fails.
    std::fs::remove_dir_all(world.path("run/figures")).unwrap();
    let ran = world.run("figures run --figure 4,7,8").exits(2);
    assert_eq!(ran.stdout, "run/figures/figure-7.svg\n");
    assert!(
        ran.stderr.contains("error: figure 4: ") && ran.stderr.contains("warning: figure 8: "),
        "{}",
        ran.stderr
    );
    world.run("figures run --figure 3").exits(2);
    world.run("figures data").fails(2, &["holds no run", "run.json"]);
    world.run("test --model run/weave/model.safetensors --data data --output tested").succeeds();
    world.run("figures tested").fails(2, &["tested was written by `test`", "the folder of the training"]);
    std::fs::remove_file(world.path("run/results.json")).unwrap();
    world.run("figures run").fails(2, &["has not finished", "--resume run"]);
}

#[test]
fn figures_of_a_part_of_a_run_say_so() {
    let world = World::new();
    for (first, name) in [(0, "wood"), (50, "weave")] {
        write_category(&world.path(format!("data/{name}")), first, "png");
    }
    world.run(&format!("train --data data {FAST} --no-maps --no-overlays --output run")).succeeds();
    let whole = world.run("figures run --figure 7").succeeds();
    assert!(!whole.stderr.contains("warning"), "{}", whole.stderr);
    // As a training leaves it between two categories.
    let mut results = world.json("run/results.json");
    results["results"].as_array_mut().unwrap().pop();
    world.write("run/results.json", results.to_string());
    let part = world.run("figures run --figure 7").succeeds();
    assert!(part.stderr.contains("results of 1 of its 2 models"), "{}", part.stderr);
    assert!(part.stderr.contains("train --resume run"), "{}", part.stderr);
}

#[test]
fn a_mask_that_could_not_be_read_is_left_out_of_figure_8_as_of_the_results() {
    let world = World::with_data();
    world.write("data/weave/ground_truth/blot/000_mask.png", "no image");
    world.run(&format!("train --data data {FAST} --no-overlays --output run")).succeeds();
    world.run("figures run --figure 8").succeeds();
}

#[test]
fn without_masks_there_is_no_figure_8() {
    let world = World::with_data();
    std::fs::remove_dir_all(world.path("data/weave/ground_truth")).unwrap();
    world.run(&format!("train --data data {FAST} --no-overlays --output run")).succeeds();
    world.run("figures run --figure 8").fails(2, &["figure 8", "mask"]);
}
