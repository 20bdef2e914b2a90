//! Choices by timing: what is fastest on the device's clock is taken, kept, taken again without a clock; and what becomes
//! of tables that are damaged or of another machine.

use crate::cusim::Simulator;
use crate::device::{FORWARD, REVERSE, simulated, simulator};
use crate::draws::{normals, pixels};
use crate::failures::{is_child, play_test, succeeds};
use crate::networks::{SIDE, features, networks};
use simplenet::backend::cpu::Cpu;
use simplenet::backend::cuda::{
    Choice, Cuda, CudaConvolution, CudaRecording, CudaTensor, Plans, Precision, Tuned,
};
use simplenet::backend::{AggregationMode, Backend, ConvolutionWeights};
use simplenet::tensor::{Tensor, relative_error};

/// A product, and a convolution whose 9.4 MB of patches are twice what the second-level cache holds.
pub(crate) struct Work {
    input: Tensor<f32>,
    weight: Tensor<f32>,
    image: Tensor<f32>,
    convolution: ConvolutionWeights,
    residual: Tensor<f32>,
}

impl Work {
    pub(crate) fn new() -> Self {
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

    pub(crate) fn run<B: Backend<Scalar = f32>>(&self, backend: &B) -> [Tensor<f32>; 2] {
        let upload = |tensor| backend.upload(tensor).unwrap();
        let linear = backend.linear(&upload(&self.input), &upload(&self.weight), None).unwrap();
        let convolution = backend.convolution(&self.convolution).unwrap();
        let residual = upload(&self.residual);
        let convolved = backend.conv2d(&upload(&self.image), &convolution, Some(&residual), true).unwrap();
        [backend.download(&linear).unwrap(), backend.download(&convolved).unwrap()]
    }
}

/// Runs the work while choices are made from a table, and by timing where `measure` says so.
pub(crate) fn tune(
    cuda: &Cuda,
    work: &Work,
    known: Option<&Plans>,
    measure: bool,
) -> ([Tensor<f32>; 2], Tuned) {
    let tuner = cuda.tuner().unwrap();
    tuner.begin(known, measure);
    let out = work.run(cuda);
    (out, tuner.finish().unwrap())
}

/// The simulator's number of an algorithm: the fifth of its eight words.
pub(crate) fn number(algorithm: &str) -> u64 {
    u64::from_str_radix(&algorithm[64..80], 16).unwrap()
}

/// What the devices were asked for since the process began: the time between events, and cuBLASLt's opinion.
fn asked(simulator: &Simulator) -> (u64, u64) {
    let counters = simulator.counters(FORWARD);
    (counters.elapsed_times, counters.cublaslt_questions)
}

/// The implicit GEMM is a way of convolutions of halves, and a table that names it is obeyed.
#[test]
fn one_kernel_is_a_way_for_halves() {
    /// Nobody else's device: its counters are this test's.
    const OWN: usize = 5;
    let Some(simulator) = simulator() else { return };
    let cuda = simulated(OWN, Precision::F16).unwrap();
    let work = Work::new();
    let mut plans = tune(&cuda, &work, None, true).1.plans;
    let is_convolution = |(key, _): &(&String, &mut Choice)| key.starts_with("convolution");
    let (_, choice) = plans.choices.iter_mut().find(is_convolution).unwrap();
    assert!(choice.candidates >= 2, "{choice:?}");
    "implicit GEMM".clone_into(&mut choice.chosen);

    let before = simulator.counters(OWN).products_run;
    let (out, tuned) = tune(&cuda, &work, Some(&plans), false);
    assert!(tuned.refused.is_empty(), "{:?}", tuned.refused);
    assert_eq!(simulator.counters(OWN).products_run - before, 1, "the linear layer's alone");
    for (out, reference) in out.iter().zip(&work.run(&Cpu::<f32>::new())) {
        // Operands rounded to half precision.
        let error = relative_error(out.data(), reference.data());
        assert!(error <= 1e-3, "{error:.2e}");
    }
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
        let expected = Tuned {
            plans: plans.clone(),
            measured: 0,
            missing: 0,
            refused: Vec::new(),
            failed: Vec::new(),
            warm: false,
        };
        assert_eq!(tuned, expected);
        assert_eq!(asked(simulator).0, times, "questions for the time");
    }
    // In a steady state nobody is asked for anything.
    let before = asked(simulator);
    assert!(work.run(&cuda) == out);
    assert_eq!(asked(simulator), before);

    // What was chosen is what runs: algorithms 2 and 3 sum in another order than the first that is offered.
    assert_eq!(untuned[0] != out[0], fastest != 0);

    // What was measured in this process is not measured again for a second model's table.
    let (again, tuned) = tune(&cuda, &work, None, true);
    assert!(again == out && tuned.measured == 0 && tuned.plans == plans);
    assert_eq!(asked(simulator).0, times, "questions for the time");

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
        assert_eq!(tuned.refused.as_slice(), std::slice::from_ref(key));
        assert!(tuned.measured > 0);
        assert_eq!(tuned.plans, plans, "made again as it was");
        assert!(again == out);

        // Where nothing may be timed, the first way is taken in its place.
        let (times, _) = asked(simulator);
        let (first, tuned) = tune(&fresh, &work, Some(&damaged), false);
        assert_eq!((tuned.refused.as_slice(), tuned.measured), (std::slice::from_ref(key), 0));
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
