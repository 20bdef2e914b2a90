//! The memory of `predict` does not depend on how many images it is given.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use crate::world::{World, good, save};

/// Images of the short list and of the long one.
const SHORT: usize = 200;
const LONG: usize = 10_000;

/// What the peaks may differ by: threads share the work differently in every run. An image's input has 3 KB here, its map
/// 4 KB and its line 200 bytes: if any of them were kept, it would be 2 to 40 MB over the long list.
const TOLERANCE: u64 = 1 << 20;
/// One arena for all threads. glibc gives each its own, and what one thread allocates and another frees leaves holes in
/// them: a few megabytes over tens of thousands of images, in which a leak of ours would not be seen.
const ALLOCATOR: (&str, &str) = ("MALLOC_ARENA_MAX", "1");

/// The largest resident set of a `predict` that was given `count` images on its stdin and has answered them all.
fn peak(world: &World, count: usize) -> u64 {
    let mut child = world
        .child("predict --model run/weave/model.safetensors --threads 2 -q -")
        .env(ALLOCATOR.0, ALLOCATOR.1)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        input.write_all("image.png\n".repeat(count).as_bytes()).unwrap();
        input
    });
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().take(count);
    let scored = lines.filter(|line| line.as_ref().unwrap().contains("\"score\"")).count();
    assert_eq!(scored, count);
    // It still waits for its list to end.
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    drop(writer.join().unwrap());
    assert!(child.wait().unwrap().success());
    let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    kibibytes.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() << 10
}

#[test]
fn ten_thousand_images_take_no_more_than_two_hundred() {
    let world = World::with_data();
    world
        .run("train --data data --backbone resnet18_slim --size 32 --hidden 8 --epochs 1 --output run")
        .succeeds();
    save(&good(1), &world.path("image.png"));
    let (short, long) = (peak(&world, SHORT), peak(&world, LONG));
    println!("peak: {short} bytes over {SHORT} images, {long} over {LONG}");
    assert!(long <= short + TOLERANCE, "{short} bytes over {SHORT} images, {long} over {LONG}");
}
