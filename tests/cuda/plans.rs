//! Choices by timing: what is fastest on the device's clock is taken, kept, taken again without a clock; and what becomes
//! of tables that are damaged or of another machine.

use serde_json::Value;
use simplenet::backend::cpu::Cpu;
use simplenet::backend::cuda::{Cuda, CudaConvolution, CudaRecording, CudaTensor, Plans, Precision, Tuned};
use simplenet::backend::{AggregationMode, Backend, ConvolutionWeights};
use simplenet::tensor::{Tensor, relative_error};
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::cusim::Simulator;
use crate::device::{FORWARD, REVERSE, simulated, simulator};
use crate::draws::{normals, pixels};
use crate::failures::{is_child, play_test, succeeds};
use crate::networks::{SIDE, features, networks};
use crate::program;

/// A product, and a convolution whose 9.4 MB of patches are twice what the second-level cache holds.
struct Work {
    input: Tensor<f32>,
    weight: Tensor<f32>,
    image: Tensor<f32>,
    convolution: ConvolutionWeights,
    residual: Tensor<f32>,
}

impl Work {
    fn new() -> Self {
        let convolution = ConvolutionWeights {
            weight: normals(3, &[12, 3, 3, 64], 0.0, 0.05),
            bias: normals(4, &[12], 0.5, 1.0).into_data(),
            stride: 1,
            padding: 1,
        };
        Self {
            input: normals(1, &[37, 700], 0.0, 1.0),
            weight: normals(2, &[29, 700], 0.0, 0.1),
            image: normals(5, &[2, 32, 64, 64], 0.0, 1.0),
            convolution,
            residual: normals(6, &[2, 32, 64, 12], 0.0, 1.0),
        }
    }

    fn run<B: Backend<Scalar = f32>>(&self, backend: &B) -> [Tensor<f32>; 2] {
        let upload = |tensor| backend.upload(tensor).unwrap();
        let linear = backend.linear(&upload(&self.input), &upload(&self.weight), None).unwrap();
        let convolution = backend.convolution(&self.convolution).unwrap();
        let residual = upload(&self.residual);
        let convolved = backend.conv2d(&upload(&self.image), &convolution, Some(&residual), true).unwrap();
        [backend.download(&linear).unwrap(), backend.download(&convolved).unwrap()]
    }
}

/// Runs the work while choices are made from a table, and by timing where `measure` says so.
fn tune(cuda: &Cuda, work: &Work, known: Option<&Plans>, measure: bool) -> ([Tensor<f32>; 2], Tuned) {
    let tuner = cuda.tuner().unwrap();
    tuner.begin(known, measure);
    let out = work.run(cuda);
    (out, tuner.finish().unwrap())
}

/// The simulator's number of an algorithm: the fifth of its eight words.
fn number(algorithm: &str) -> u64 {
    u64::from_str_radix(&algorithm[64..80], 16).unwrap()
}

/// What the devices were asked for since the process began: the time between events, and cuBLASLt's opinion.
fn asked(simulator: &Simulator) -> (u64, u64) {
    let counters = simulator.counters(FORWARD);
    (counters.elapsed_times, counters.cublaslt_questions)
}

#[test]
fn the_fastest_is_taken_kept_and_taken_again() {
    for fastest in ["0", "2", "3"] {
        if let Some(output) = play_test("plans::choices", &[("CUSIM_FASTEST_ALGORITHM", fastest)]) {
            succeeds(&output);
        }
    }
}

#[test]
fn choices() {
    if !is_child() {
        return;
    }
    let fastest: u64 = std::env::var("CUSIM_FASTEST_ALGORITHM").unwrap().parse().unwrap();
    let simulator = simulator().unwrap();
    let cuda = simulated(FORWARD, Precision::F32).unwrap();
    let work = Work::new();
    let reference = work.run(&Cpu::<f32>::new());
    let is_right = |out: &[Tensor<f32>; 2]| {
        for (out, reference) in out.iter().zip(&reference) {
            // Sums of 700 and 576 terms in f32, in whatever order.
            let error = relative_error(out.data(), reference.data());
            assert!(error <= 1e-6, "{error:.2e}");
        }
    };

    // Left alone, nothing is timed.
    let untuned = work.run(&cuda);
    is_right(&untuned);
    assert_eq!(asked(simulator).0, 0, "questions for the time");

    let (out, tuned) = tune(&cuda, &work, None, true);
    is_right(&out);
    let plans = tuned.plans;
    assert_eq!((tuned.missing, tuned.refused.len(), tuned.warm), (0, 0, false));
    let products: Vec<_> = plans.choices.iter().filter(|(key, _)| key.starts_with("product")).collect();
    let convolutions: Vec<_> =
        plans.choices.iter().filter(|(key, _)| key.starts_with("convolution")).collect();
    // The linear layer's, and those of the tile that won; the other tiles' are not kept.
    assert_eq!(products.len() + convolutions.len(), plans.choices.len());
    assert_eq!(convolutions.len(), 1, "{plans:?}");
    for (key, choice) in &products {
        assert_eq!((number(&choice.chosen), choice.candidates), (fastest, 4), "{key}");
        assert!((choice.microseconds.unwrap() - 10.0).abs() < 0.01, "{key}: {choice:?}");
        assert!((choice.runner_up_microseconds.unwrap() - 20.0).abs() < 0.01, "{key}: {choice:?}");
    }
    // 9.4 MB of patches: alone in 32 and 16 MiB, two tiles of 8 MiB, three of 4 MiB, five of half the cache. The whole
    // does not fit the cache, which makes its product sixteen times slower.
    let (key, choice) = convolutions[0];
    assert!(key.contains("2x32x64x64 to 12, kernel 3x3, stride 1, padding 1, residual, relu"), "{key}");
    assert_eq!((choice.chosen.as_str(), choice.candidates), ("im2col in tiles of 4194304 bytes", 4));
    assert!(choice.microseconds < choice.runner_up_microseconds, "{choice:?}");
    assert_eq!(products.len(), 1 + 2, "two sizes of tiles: {products:?}");
    // Measured, too, though not kept: the products of the other tiles.
    assert!(tuned.measured > plans.choices.len(), "{}", tuned.measured);
    assert_eq!(asked(simulator).0 % 5, 0, "five samples for everything that was timed");

    // The table alone, and the same bits.
    let (times, _) = asked(simulator);
    for measure in [true, false] {
        let (again, tuned) = tune(&cuda, &work, Some(&plans), measure);
        assert!(again == out, "the same plans, other bits");
        let expected =
            Tuned { plans: plans.clone(), measured: 0, missing: 0, refused: Vec::new(), warm: false };
        assert_eq!(tuned, expected);
        assert_eq!(asked(simulator).0, times, "questions for the time");
    }
    // In a steady state nobody is asked for anything.
    let before = asked(simulator);
    assert!(work.run(&cuda) == out);
    assert_eq!(asked(simulator), before);

    // What was chosen is what runs: algorithms 2 and 3 sum in another order than the first that is offered.
    assert_eq!(untuned[0] != out[0], fastest != 0);

    // Another device knows nothing of it, and the table serves it as well.
    let other = simulated(FORWARD, Precision::F32).unwrap();
    assert!(work.run(&other) == untuned);
    let (again, tuned) = tune(&other, &work, Some(&plans), false);
    assert!(again == out && tuned.missing == 0);
    assert_eq!(asked(simulator).0, times, "questions for the time");
}

#[test]
fn plans_that_are_refused_are_made_again() {
    if let Some(output) = play_test("plans::refusals", &[("CUSIM_FASTEST_ALGORITHM", "2")]) {
        succeeds(&output);
    }
}

#[test]
fn refusals() {
    if !is_child() {
        return;
    }
    let simulator = simulator().unwrap();
    let cuda = simulated(FORWARD, Precision::F32).unwrap();
    let work = Work::new();
    let untuned = work.run(&cuda);
    let (out, Tuned { plans, .. }) = tune(&cuda, &work, None, true);
    let key = |beginning: &str| plans.choices.keys().find(|key| key.starts_with(beginning)).unwrap().clone();
    let (linear, convolution) = (key("product f32 37x29x700"), key("convolution"));
    let another = plans.choices[&key("product f32 ")].chosen.clone();
    assert_ne!(another, plans.choices[&linear].chosen);
    let flipped = plans.choices[&linear].chosen.replace('0', "1");
    for (key, chosen) in [
        (&linear, flipped.as_str()),
        (&linear, another.as_str()),
        (&linear, "no algorithm"),
        (&convolution, "im2col in tiles of 5 bytes"),
    ] {
        let mut damaged = plans.clone();
        damaged.choices.get_mut(key).unwrap().chosen = chosen.to_owned();
        // From a fresh device: this one remembers what it measured.
        let fresh = simulated(FORWARD, Precision::F32).unwrap();
        let (again, tuned) = tune(&fresh, &work, Some(&damaged), true);
        assert_eq!(tuned.refused, std::slice::from_ref(key));
        assert!(tuned.measured > 0);
        assert_eq!(tuned.plans, plans, "made again as it was");
        assert!(again == out);

        // Where nothing may be timed, the first way is taken in its place.
        let (times, _) = asked(simulator);
        let (first, tuned) = tune(&fresh, &work, Some(&damaged), false);
        assert_eq!((tuned.refused.as_slice(), tuned.measured), ([key.clone()].as_slice(), 0));
        assert!(tuned.missing >= 1, "{tuned:?}");
        if *key == linear {
            assert!(first[0] == untuned[0] && first[0] != out[0] && first[1] == out[1]);
        } else {
            assert!(first[0] == out[0]);
        }
        assert_eq!(asked(simulator).0, times, "questions for the time");
    }
}

/// A recorded work that meets a choice for the first time while it is captured: nothing can be timed then, and the first
/// way is taken.
#[test]
fn nothing_is_timed_in_a_capture() {
    if let Some(output) = play_test("plans::capture", &[("CUSIM_FASTEST_ALGORITHM", "2")]) {
        succeeds(&output);
    }
}

#[test]
fn capture() {
    if !is_child() {
        return;
    }
    let simulator = simulator().unwrap();
    let work = Work::new();
    let open = || simulated(FORWARD, Precision::F32).unwrap();

    // Chosen in the first, ordinary run, and the same from the capture on.
    let cuda = open();
    let recorded = Recorded::new(&cuda, &work);
    let untuned = recorded.run(&mut CudaRecording::default());
    let mut recording = CudaRecording::default();
    let tuner = cuda.tuner().unwrap();
    tuner.begin(None, true);
    let first = recorded.run(&mut recording);
    assert!(tuner.finish().unwrap().measured > 0 && first != untuned);
    let before = asked(simulator);
    for _ in 0..4 {
        assert!(recorded.run(&mut recording) == first);
    }
    assert!(recording.is_captured());
    assert_eq!(asked(simulator), before);

    // Forgotten just before the capture.
    let cuda = open();
    let recorded = Recorded::new(&cuda, &work);
    let mut recording = CudaRecording::default();
    recorded.run(&mut recording);
    recorded.run(&mut recording);
    let tuner = cuda.tuner().unwrap();
    tuner.begin(None, true);
    assert!(recorded.run(&mut recording) == untuned && recording.is_captured());
    let tuned = tuner.finish().unwrap();
    assert!(tuned.measured == 0 && tuned.missing > 0 && tuned.plans.choices.is_empty());
    assert_eq!(asked(simulator).0, before.0, "questions for the time");
}

/// [`Work`] with its operands in place, as recordings want it.
struct Recorded<'a> {
    cuda: &'a Cuda,
    tensors: [CudaTensor; 4],
    convolution: CudaConvolution,
}

impl<'a> Recorded<'a> {
    fn new(cuda: &'a Cuda, work: &Work) -> Self {
        let tensors = [&work.input, &work.weight, &work.image, &work.residual];
        let tensors = tensors.map(|tensor| cuda.upload(tensor).unwrap());
        Self { cuda, tensors, convolution: cuda.convolution(&work.convolution).unwrap() }
    }

    fn run(&self, recording: &mut CudaRecording) -> Vec<Tensor<f32>> {
        let [input, weight, image, residual] = &self.tensors;
        let mut work = || {
            let convolved = self.cuda.conv2d(image, &self.convolution, Some(residual), true)?;
            Ok(vec![self.cuda.linear(input, weight, None)?, convolved])
        };
        let outputs = self.cuda.run_recorded(recording, &mut work).unwrap();
        outputs.iter().map(|tensor| self.cuda.download(tensor).unwrap()).collect()
    }
}

/// A library that fuses no epilogue offers nothing to choose from for a fused product, and all of it for the plain one.
#[test]
fn products_without_fused_epilogues_are_chosen_too() {
    let machine = [("CUSIM_FASTEST_ALGORITHM", "2"), ("CUSIM_NO_EPILOGUE", "1")];
    if let Some(output) = play_test("plans::plain_products", &machine) {
        succeeds(&output);
    }
}

#[test]
fn plain_products() {
    if !is_child() {
        return;
    }
    let cuda = simulated(FORWARD, Precision::F32).unwrap();
    let work = Work::new();
    let (out, tuned) = tune(&cuda, &work, None, true);
    assert!(tuned.plans.choices.keys().all(|key| !key.starts_with("product") || !key.contains("bias")));
    let reference = work.run(&Cpu::<f32>::new());
    assert!(relative_error(out[1].data(), reference[1].data()) <= 1e-6);
    let (again, tuned) = tune(&cuda, &work, Some(&tuned.plans), false);
    assert!(again == out && tuned.missing == 0 && tuned.refused.is_empty());
}

/// Where there is no memory to sweep the cache with, choices are made all the same, and it is said.
#[test]
fn without_memory_for_a_sweep_measurements_are_warm() {
    if let Some(output) = play_test("plans::full_memory", &[("CUSIM_MEMORY", "64000000")]) {
        succeeds(&output);
    }
}

#[test]
fn full_memory() {
    if !is_child() {
        return;
    }
    let cuda = simulated(FORWARD, Precision::F32).unwrap();
    let upload = |seed, shape: &[usize]| cuda.upload(&normals(seed, shape, 0.0, 1.0)).unwrap();
    let (x, weight) = (upload(1, &[5, 40]), upload(2, &[6, 40]));
    let tuner = cuda.tuner().unwrap();
    // With the workspace of 33.6 MB, 3.4 MB are left; a sweep takes 8.4 MB.
    cuda.linear(&x, &weight, None).unwrap();
    let _hog = cuda.zeros(&[27, 250_000]).unwrap();
    tuner.begin(None, true);
    cuda.linear(&x, &weight, None).unwrap();
    let tuned = tuner.finish().unwrap();
    assert!(tuned.warm && tuned.measured == 1, "{tuned:?}");
}

/// Images of a batch whose plans were chosen have the features that they have alone, computed as it comes.
#[test]
fn chosen_plans_and_first_ones_agree() {
    if let Some(output) = play_test("plans::batches", &[("CUSIM_FASTEST_ALGORITHM", "3")]) {
        succeeds(&output);
    }
}

#[test]
fn batches() {
    if !is_child() {
        return;
    }
    const BATCH: usize = 16;
    let cuda = simulated(REVERSE, Precision::F32).unwrap();
    let network = &networks()[0];
    let images = pixels(2, BATCH * SIDE * SIDE * 3);
    let of = |images: &[u8]| features(&cuda, network, AggregationMode::Mean, images);
    let untuned = of(&images);
    let tuner = cuda.tuner().unwrap();
    tuner.begin(None, true);
    let together = of(&images);
    assert!(tuner.finish().unwrap().measured > 5);
    assert!(together != untuned, "other algorithms have other bits");
    assert!(of(&images) == together);
    let alone = of(&images[..SIDE * SIDE * 3]);
    let error = relative_error(alone.data(), &together.data()[..alone.len()]);
    assert!(error <= 1e-5, "alone and among {BATCH}: {error:.2e}");
}

// --- The program ----------------------------------------------------------------------------------------------------------

/// A folder in which a model was trained, and what happened to it there.
struct Trained {
    world: tempfile::TempDir,
    libraries: program::Libraries,
}

const PREDICT: &str = "predict --device cuda --model run/fabric/model.safetensors data/fabric/test/cut";

impl Trained {
    fn new() -> Option<Self> {
        let (world, libraries) = (program::world(), program::simulated()?);
        let settings = program::SETTINGS.replace("--epochs 40", "--epochs 1");
        let train = format!("train --device cuda {settings} --output run");
        program::succeeds(program::simplenet(world.path(), &libraries, &train));
        Some(Self { world, libraries })
    }

    fn run(&self, arguments: &str, machine: &[(&str, &str)]) -> Output {
        let mut command = program::simplenet(self.world.path(), &self.libraries, arguments);
        command.envs(machine.iter().copied()).output().unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.world.path().join(name)
    }

    /// The table beside the model.
    fn kept(&self) -> PathBuf {
        self.path("run/fabric/model.plans.json")
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The lines of a run that succeeded, and what it said.
fn lines(output: &Output) -> (Vec<u8>, String) {
    assert!(output.status.success(), "{}", stderr(output));
    (output.stdout.clone(), stderr(output))
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The batch sizes for whose first convolution's product a table has a plan.
fn batches_in(table: &Value) -> Vec<usize> {
    let choices = table["choices"].as_object().unwrap();
    // 32 × 32 positions of 7 × 7 × 3 values, filled up to whole packets.
    let first = |batch: usize| format!("product f32 {}x32x152,", batch * 32 * 32);
    let has = |batch: &usize| choices.keys().any(|key| key.starts_with(&first(*batch)));
    (1..=16).filter(has).collect()
}

const OTHER_LIBRARY: [(&str, &str); 1] = [("CUSIM_CUBLASLT_VERSION", "130100")];
const OTHER_FASTEST: [(&str, &str); 1] = [("CUSIM_FASTEST_ALGORITHM", "2")];

#[test]
fn simulated_plans_beside_a_model() {
    let Some(trained) = Trained::new() else { return };
    // Nothing is timed in a training.
    assert!(!trained.kept().exists());
    let (first, said) = lines(&trained.run(PREDICT, &[]));
    assert!(
        said.contains("choosing the fastest of several ways") && said.contains("model.plans.json"),
        "{said}"
    );
    assert!(said.contains("on cusim (CPU): once, kept in") && said.contains("timed "), "{said}");
    let table = json(&trained.kept());
    let origin = &table["origin"];
    assert_eq!(
        [&origin["device"], &origin["compute_capability"], &origin["driver"], &origin["cublaslt"]],
        ["cusim (CPU)", "9.0", "13.0", "13.0.0"]
    );
    assert_eq!([&origin["precision"], &origin["program"]], ["f32", env!("CARGO_PKG_VERSION")]);
    let choices = table["choices"].as_object().unwrap();
    // Of the one batch there is.
    assert_eq!(batches_in(&table), [3]);

    // Once is once, whatever would be the fastest now.
    let bytes = std::fs::read(trained.kept()).unwrap();
    let (second, said) = lines(&trained.run(PREDICT, &OTHER_FASTEST));
    assert!(second == first && !said.contains("choosing") && !said.contains("timed"), "{said}");
    assert!(std::fs::read(trained.kept()).unwrap() == bytes);

    // Other batch sizes join the table.
    let (_, said) = lines(&trained.run(&format!("{PREDICT} --batch 2"), &[]));
    assert!(!said.contains("choosing") && said.contains("timed "), "{said}");
    let grown = json(&trained.kept());
    assert_eq!(batches_in(&grown), [1, 2, 3]);
    assert!(choices.iter().all(|(key, choice)| grown["choices"][key] == *choice));

    // Another library's table, or another precision's, is made anew.
    for (arguments, machine, key, now) in [
        (PREDICT.to_owned(), OTHER_LIBRARY.as_slice(), "cublaslt", "13.1.0"),
        (format!("{PREDICT} --precision f16"), [].as_slice(), "precision", "f16"),
    ] {
        let (_, said) = lines(&trained.run(&arguments, machine));
        assert!(said.contains("it is made anew") && said.contains("choosing the fastest"), "{said}");
        assert_eq!(json(&trained.kept())["origin"][key], now);
    }

    // A damaged one, too.
    std::fs::write(trained.kept(), &bytes[..bytes.len() / 2]).unwrap();
    let (third, said) = lines(&trained.run(PREDICT, &[]));
    assert!(said.contains("warning: ") && said.contains("holds no plans of this program"), "{said}");
    assert!(third == first && json(&trained.kept())["origin"]["precision"] == "f32");

    // One with a plan that the library refuses.
    let mut table = json(&trained.kept());
    for (key, choice) in table["choices"].as_object_mut().unwrap() {
        if key.starts_with("product") {
            choice["chosen"] = "0".repeat(128).into();
        }
    }
    std::fs::write(trained.kept(), table.to_string()).unwrap();
    let (fourth, said) = lines(&trained.run(PREDICT, &[]));
    assert!(said.contains("kept plans were not accepted and were made again"), "{said}");
    assert!(fourth == first && said.contains("timed "), "{said}");

    // Where no table can be kept.
    std::fs::remove_file(trained.kept()).unwrap();
    std::fs::create_dir(trained.kept()).unwrap();
    let (fifth, said) = lines(&trained.run(PREDICT, &[]));
    assert!(said.contains("cannot write") && said.contains("serve this run only"), "{said}");
    assert!(fifth == first);
    std::fs::remove_dir(trained.kept()).unwrap();

    // `test` has them, too: of the six images at once.
    let test = "test --device cuda --model run/fabric/model.safetensors --data data --output tested";
    lines(&trained.run(test, &[]));
    let table = json(&trained.kept());
    assert_eq!(batches_in(&table), [6]);
}

#[test]
fn simulated_plans_that_are_pinned() {
    let Some(trained) = Trained::new() else { return };
    let off = format!("{PREDICT} --plans off");
    let (untimed, said) = lines(&trained.run(&off, &OTHER_FASTEST));
    assert!(!said.contains("choosing") && !said.contains("timed") && !trained.kept().exists(), "{said}");

    let (first, _) = lines(&trained.run(PREDICT, &OTHER_FASTEST));
    assert!(first != untimed, "another algorithm, other last bits");
    std::fs::rename(trained.kept(), trained.path("pinned.json")).unwrap();
    let bytes = std::fs::read(trained.path("pinned.json")).unwrap();
    let pinned = format!("{PREDICT} --plans pinned.json");
    let (second, said) = lines(&trained.run(&pinned, &[]));
    assert!(second == first && !said.contains("choosing") && !said.contains("warning"), "{said}");

    // What it lacks is not timed, and it is not written to.
    let (_, said) = lines(&trained.run(&format!("{pinned} --batch 2"), &[]));
    assert!(
        said.contains("warning: pinned.json has no plan that serves for") && !said.contains("timed"),
        "{said}"
    );
    let mut table = json(&trained.path("pinned.json"));
    for choice in table["choices"].as_object_mut().unwrap().values_mut() {
        choice["chosen"] = "nothing".into();
    }
    std::fs::write(trained.path("refused.json"), table.to_string()).unwrap();
    let (third, said) = lines(&trained.run(&format!("{PREDICT} --plans refused.json"), &[]));
    assert!(said.contains("of its plans are refused)") && third == untimed, "{said}");
    assert!(std::fs::read(trained.path("pinned.json")).unwrap() == bytes && !trained.kept().exists());

    // Another machine's.
    let refused = trained.run(&pinned, &OTHER_LIBRARY);
    let said = stderr(&refused);
    assert!(refused.status.code() == Some(3) && refused.stdout.is_empty(), "{said}");
    assert!(said.contains("cuBLASLt 13.0.0") && said.contains("cuBLASLt 13.1.0"), "{said}");
    assert!(said.contains("leave --plans out"), "{said}");
    std::fs::write(trained.path("damaged.json"), &bytes[..100]).unwrap();
    for (file, reason) in [("damaged.json", "holds no plans"), ("absent.json", "there is no such file")] {
        let refused = trained.run(&format!("{PREDICT} --plans {file}"), &[]);
        let said = stderr(&refused);
        assert!(refused.status.code() == Some(2) && said.contains(reason) && said.contains(file), "{said}");
    }
}

/// `bench` measures what was chosen: kept beside a model, for its own batch sizes, and for the run where there is none.
#[test]
fn simulated_plans_of_a_benchmark() {
    let Some(trained) = Trained::new() else { return };
    let bench = "bench --device cuda --batch 2,1 --repeats 5 --warmups 1 --json";
    let (_, said) = lines(&trained.run(&format!("{bench} --model run/fabric/model.safetensors"), &[]));
    assert!(said.contains("kept in") && said.contains("timed "), "{said}");
    assert_eq!(batches_in(&json(&trained.kept())), [1, 2]);
    let small = "--backbone resnet18_slim --weights embedded --size 64";
    let (_, said) = lines(&trained.run(&format!("{bench} {small}"), &[]));
    assert!(said.contains("for this run") && said.contains("timed "), "{said}");
    let (_, said) = lines(&trained.run(&format!("{bench} {small} --plans off"), &[]));
    assert!(!said.contains("choosing") && !said.contains("timed "), "{said}");
}

/// On a real device: what was chosen serves again, and gives the same bits.
#[test]
fn gpu_plans() {
    let Some(cuda) = crate::device::real(Precision::F32) else { return };
    let work = Work::new();
    let reference = work.run(&Cpu::<f32>::new());
    let (out, tuned) = tune(&cuda, &work, None, true);
    for (out, reference) in out.iter().zip(&reference) {
        let error = relative_error(out.data(), reference.data());
        assert!(error <= 1e-5, "{error:.2e}");
    }
    assert!(tuned.measured > 0 && !tuned.plans.choices.is_empty());
    let (again, second) = tune(&cuda, &work, Some(&tuned.plans), false);
    assert!(again == out);
    assert_eq!((second.missing, second.refused.len()), (0, 0));
}
