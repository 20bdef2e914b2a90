//! What happens when memory ends, when a product has no fused epilogue, when a kernel writes too far; and that nothing
//! is left behind. Each plays another machine, so each runs in a process of its own.

use simplenet::backend::cpu::Cpu;
use simplenet::backend::cuda::{Cuda, CudaError, CudaOptions, Precision};
use simplenet::backend::{Backend, BackendError, ConvolutionWeights};
use simplenet::tensor::relative_error;
use std::process::Output;

use crate::cusim::sanitized_child;
use crate::device::{FORWARD, SHUFFLED, poisoned, simulated, simulator};
use crate::draws::{normals, pixels};

/// Set in a child process: its scenarios are tests that pass at once elsewhere.
const CHILD: &str = "SIMPLENET_TEST_SCENARIO";

pub(crate) fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Runs one of the scenarios below on another machine; `None` where there is no simulator.
fn play(scenario: &str, machine: &[(&str, &str)]) -> Option<Output> {
    play_test(&format!("failures::{scenario}"), machine)
}

/// Runs one test of this program on another machine.
pub(crate) fn play_test(test: &str, machine: &[(&str, &str)]) -> Option<Output> {
    let mut command = simulator()?.child(test);
    let output = command.env(CHILD, "1").envs(machine.iter().copied()).output().unwrap();
    println!("{}", text(&output));
    Some(output)
}

pub(crate) fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Asserts that the child came to its end, and that it was there at all.
pub(crate) fn succeeds(output: &Output) {
    assert!(output.status.success(), "{}", text(output));
    assert!(text(output).contains("1 passed"), "nothing ran: {}", text(output));
}

#[test]
fn full_memory_names_its_sizes_and_loses_nothing() {
    if let Some(output) = play("full_memory", &[("CUSIM_MEMORY", "64000000")]) {
        succeeds(&output);
    }
}

#[test]
fn full_memory() {
    if !is_child() {
        return;
    }
    let cuda = simulated(FORWARD, Precision::F32).unwrap();
    let kept = cuda.upload(&normals(1, &[10, 10], 0.0, 1.0)).unwrap();
    // Given back to the list of free buffers, and from there to the driver when it has nothing left.
    drop(cuda.zeros(&[10, 1_000_000]).unwrap());
    drop(cuda.zeros(&[9, 1_000_000]).unwrap());
    let Err(BackendError::Cuda(error @ CudaError::OutOfMemory { asked, total, .. })) =
        cuda.zeros(&[20, 1_000_000])
    else {
        panic!("80 MB do not fit 64 MB")
    };
    assert_eq!((asked, total), (80_000_000, 64_000_000));
    let message = error.to_string();
    assert!(message.contains("80.0 MB were asked for") && message.contains("lower --batch"), "{message}");
    assert_eq!(cuda.download(&kept).unwrap(), normals(1, &[10, 10], 0.0, 1.0));
    cuda.zeros(&[11, 1_000_000]).unwrap();
}

/// The same products, their bias, residual and ReLU by a kernel of ours.
#[test]
fn a_library_without_fused_epilogues_gives_the_same_results() {
    if let Some(output) = play("epilogues", &[("CUSIM_NO_EPILOGUE", "1")]) {
        succeeds(&output);
    }
}

#[test]
fn epilogues() {
    // In the child the kernels of the epilogue run, in the parent none: one launch more a product.
    let Some(simulator) = simulator() else { return };
    for (own, precision, bound) in [(4, Precision::F32, 1e-6), (5, Precision::F16, 5e-3)] {
        let cuda = poisoned(CudaOptions::new(own, precision));
        for (channels, relu) in [(16, true), (13, false)] {
            let weights = ConvolutionWeights {
                weight: normals(1, &[channels, 1, 1, 24], 0.0, 0.2),
                bias: normals(2, &[channels], 0.5, 1.0).into_data(),
                stride: 1,
                padding: 0,
            };
            let (input, residual) =
                (normals(3, &[2, 5, 7, 24], 0.0, 1.0), normals(4, &[2, 5, 7, channels], 0.0, 1.0));
            let cpu = Cpu::<f32>::new();
            let reference = {
                let convolution = cpu.convolution(&weights).unwrap();
                let (input, residual) = (cpu.upload(&input).unwrap(), cpu.upload(&residual).unwrap());
                cpu.download(&cpu.conv2d(&input, &convolution, Some(&residual), relu).unwrap()).unwrap()
            };
            let convolution = cuda.convolution(&weights).unwrap();
            let (input, residual) = (cuda.upload(&input).unwrap(), cuda.upload(&residual).unwrap());
            // Once before counting: an f32 tensor becomes a half one by a kernel, too.
            let run = || cuda.conv2d(&input, &convolution, Some(&residual), relu).unwrap();
            let out = cuda.download(&run()).unwrap();
            let error = relative_error(out.data(), reference.data());
            assert!(error <= bound, "{precision:?}, {channels} channels, relu {relu}: {error:.2e}");
            let before = simulator.counters(own);
            run();
            let after = simulator.counters(own);
            let conversions = if precision == Precision::F16 { 2 } else { 0 };
            let epilogues = after.launches - before.launches - conversions;
            assert_eq!(after.products - before.products, 1);
            assert_eq!(epilogues, u64::from(is_child()), "{precision:?}: kernels behind the product");
        }
    }
}

#[test]
fn nothing_is_left_behind() {
    if let Some(output) = play("leaks", &[]) {
        succeeds(&output);
    }
}

#[test]
fn leaks() {
    if !is_child() {
        return;
    }
    let simulator = simulator().unwrap();
    let cuda = simulated(SHUFFLED, Precision::F32).unwrap();
    crate::networks::check(&cuda, Precision::F32);
    crate::training::check(&cuda, Precision::F32);
    // A clone and a tensor that outlive the device.
    let (clone, tensor) = (cuda.clone(), cuda.zeros(&[3, 5]).unwrap());
    drop(cuda);
    drop(clone);
    drop(tensor);
    let counters = simulator.counters(SHUFFLED);
    let left = [
        counters.device_allocations,
        counters.device_bytes,
        counters.pinned_allocations,
        counters.contexts,
        counters.streams,
        counters.events,
        counters.modules,
        counters.graphs,
        counters.cublaslt_objects,
    ];
    assert_eq!(left, [0; 9], "{counters:?}");
    assert!(counters.launches > 100 && counters.products > 100, "{counters:?}");
}

/// Every buffer is one element shorter than was asked for: whoever touches the last element first must be named.
#[test]
fn a_buffer_one_element_short_is_found() {
    let Some(output) = play("an_epoch", &[("CUSIM_SHORT_BUFFERS", "1")]) else { return };
    assert!(!output.status.success());
    let found = text(&output);
    let named = ["past the end", "leaves the device's buffers"].iter().any(|words| found.contains(words));
    assert!(found.contains("cusim: ") && named, "{found}");
    succeeds(&play("an_epoch", &[]).unwrap());
}

#[test]
fn an_epoch() {
    if is_child() {
        crate::training::check_repeatability(&simulated(FORWARD, Precision::F32).unwrap());
    }
}

/// Half-precision kernels, and those that only a whole pipeline launches, under AddressSanitizer and UBSan.
#[test]
fn the_pipeline_is_clean_under_the_sanitizers() {
    if simulator().is_none() {
        return;
    }
    let build = crate::cusim::Build::of_the_project();
    let Some(mut command) = sanitized_child(&build, "failures::pipeline") else { return };
    succeeds(&command.env(CHILD, "1").output().unwrap());
}

#[test]
fn pipeline() {
    if !is_child() {
        return;
    }
    let open = |precision| simulated(SHUFFLED, precision).unwrap();
    crate::half::check(&open(Precision::F16));
    crate::training::check_repeatability(&open(Precision::F32));
    crate::feature_cache::check_places(poisoned, SHUFFLED);
    slim_network_at_32(&open(Precision::F16));
    slim_network_at_32(&open(Precision::F32));
}

/// The smallest whole network: every kernel of the backbone once.
fn slim_network_at_32(cuda: &Cuda) {
    use simplenet::backbone::architecture::Architecture;
    use simplenet::backbone::weights::StateDict;
    let weights = StateDict::embedded().unwrap();
    let network =
        simplenet::backbone::ResNet::new(cuda, Architecture::Resnet18Slim, &weights.tensors, 3).unwrap();
    let input = cuda.normalize(&cuda.upload_images(&pixels(1, 3 * 32 * 29), [1, 32, 29]).unwrap()).unwrap();
    let layers = network.forward(cuda, &input).unwrap();
    assert!(cuda.download(&layers[2]).unwrap().data().iter().all(|value| value.is_finite()));
}
