//! The CUDA device as a whole: networks and trainings against the CPU, its memory, and what it says when it fails.
//!
//! `simulated_*` tests run on the simulator of `tests/cusim`, `gpu_*` tests on a real device (`SIMPLENET_TEST_GPU=1`).
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod concurrency;
#[path = "../cusim/support.rs"]
mod cusim;
#[path = "../cusim/device.rs"]
mod device;
mod doctor;
mod draws;
mod failures;
mod feature_cache;
mod half;
mod images;
mod networks;
mod plans;
mod plans_by_the_program;
mod program;
mod ranking;
mod recording;
mod refused;
mod training;

use device::{
    FORWARD, REVERSE, SHUFFLED, poisoned, real, real_implicit, simulated, simulated_implicit, simulator,
};
use simplenet::backend::cuda::Precision::{self, F16, F32, Tf32};
use simplenet::backend::cuda::{Cuda, CudaOptions};

/// A test for the simulator and one for a real GPU, of the same check.
macro_rules! on_both {
    ($simulated:ident, $real:ident, $ordinal:expr, $precision:expr, $check:expr) => {
        #[test]
        fn $simulated() {
            if let Some(cuda) = simulated($ordinal, $precision) {
                ($check)(&cuda);
            }
        }

        #[test]
        fn $real() {
            if let Some(cuda) = real($precision) {
                ($check)(&cuda);
            }
        }
    };
}

on_both!(simulated_networks_f32, gpu_networks_f32, FORWARD, F32, |cuda| networks::check(cuda, F32));
on_both!(simulated_networks_tf32, gpu_networks_tf32, REVERSE, Tf32, |cuda| networks::check(cuda, Tf32));
on_both!(simulated_networks_f16, gpu_networks_f16, SHUFFLED, F16, |cuda| networks::check(cuda, F16));
on_both!(simulated_batches, gpu_batches, REVERSE, F32, networks::check_batches);
on_both!(simulated_networks_repeat, gpu_networks_repeat, SHUFFLED, F16, networks::check_repeatability);
on_both!(simulated_training_f32, gpu_training_f32, FORWARD, F32, |cuda| training::check(cuda, F32));
on_both!(simulated_training_tf32, gpu_training_tf32, REVERSE, Tf32, |cuda| training::check(cuda, Tf32));
on_both!(simulated_training_f16, gpu_training_f16, SHUFFLED, F16, |cuda| training::check(cuda, F16));
on_both!(simulated_trainings_repeat, gpu_trainings_repeat, SHUFFLED, F32, training::check_repeatability);
on_both!(simulated_training_resumes, gpu_training_resumes, REVERSE, F32, training::check_resumption);
on_both!(simulated_many_images, gpu_many_images, REVERSE, F32, feature_cache::check_many_images);
on_both!(simulated_feature_overflow, gpu_feature_overflow, SHUFFLED, F32, feature_cache::check_overflow);
on_both!(simulated_half_kernels, gpu_half_kernels, FORWARD, F16, half::check);
on_both!(simulated_ranking_f32, gpu_ranking_f32, FORWARD, F32, |cuda| ranking::check(cuda, F32));
on_both!(simulated_ranking_f16, gpu_ranking_f16, REVERSE, F16, |cuda| ranking::check(cuda, F16));

on_both!(simulated_overlap, gpu_overlap, SHUFFLED, F32, recording::check_overlap);
on_both!(simulated_recording_threads, gpu_recording_threads, REVERSE, F32, recording::check_threads);
on_both!(simulated_many_sizes, gpu_many_sizes, FORWARD, F32, recording::check_many_sizes);

on_both!(simulated_images, gpu_images, REVERSE, F32, images::check);

/// With convolutions in one kernel.
#[test]
fn simulated_networks_implicit() {
    if let Some(cuda) = simulated_implicit(REVERSE) {
        networks::check(&cuda, F16);
    }
}

#[test]
fn gpu_networks_implicit() {
    if let Some(cuda) = real_implicit() {
        networks::check(&cuda, F16);
    }
}

/// Device 8 is nobody else's: what other tests do to theirs makes it wait.
#[test]
fn simulated_images_alone() {
    if let Some(cuda) = simulated(8, F32) {
        images::check(&cuda);
    }
}

#[test]
fn simulated_concurrency() {
    if let (Some(first), Some(second)) = (simulated(SHUFFLED, F32), simulated(SHUFFLED, F32)) {
        concurrency::check(&first, &second);
    }
}

#[test]
fn gpu_concurrency() {
    if let (Some(first), Some(second)) = (real(F32), real(F32)) {
        concurrency::check(&first, &second);
    }
}

#[test]
fn simulated_feature_places() {
    if simulator().is_some() {
        feature_cache::check_places(poisoned, SHUFFLED);
    }
}

#[test]
fn gpu_feature_places() {
    if real(F32).is_some() {
        feature_cache::check_places(poisoned, 0);
    }
}

/// Device 3 is this test's own: others would count on it.
#[test]
fn simulated_training_does_not_wait_for_the_device() {
    const OWN: usize = 3;
    let Some(simulator) = simulator() else { return };
    let options = CudaOptions::new(OWN, Precision::F32);
    let ordinary = poisoned(CudaOptions { records: false, ..options });
    training::check_waiting(&ordinary, || simulator.counters(OWN));
    // One device after the other, or they would count each other's work.
    drop(ordinary);
    training::check_counts(&poisoned(options), || simulator.counters(OWN));
}

/// Device 4 is this test's own, as above; device 0 runs threads in another order and must give the same bits.
#[test]
fn simulated_recording_is_one_launch() {
    const OWN: usize = 4;
    let Some(simulator) = simulator() else { return };
    let cuda = simulated(OWN, Precision::F32).unwrap();
    let ordinary = poisoned(CudaOptions { records: false, ..CudaOptions::new(FORWARD, Precision::F32) });
    recording::check_counts(&cuda, &ordinary, || simulator.counters(OWN));
}

/// One device recording, one not.
fn with_and_without(ordinal: usize, precision: Precision) -> (Cuda, Cuda) {
    let options = CudaOptions::new(ordinal, precision);
    (poisoned(options), poisoned(CudaOptions { records: false, ..options }))
}

#[test]
fn simulated_training_places() {
    if simulator().is_some() {
        training::check_places(poisoned, FORWARD);
    }
}

#[test]
fn gpu_training_places() {
    if real(F32).is_some() {
        training::check_places(poisoned, 0);
    }
}

#[test]
fn simulated_recorded_training() {
    for (ordinal, precision) in [(FORWARD, F32), (REVERSE, Tf32), (SHUFFLED, F16)] {
        if simulator().is_some() {
            let (cuda, ordinary) = with_and_without(ordinal, precision);
            training::check_recording(&cuda, &ordinary);
            training::check_replays(&cuda, &ordinary);
        }
    }
}

#[test]
fn gpu_recorded_training() {
    for precision in [F32, Tf32, F16] {
        if real(precision).is_some() {
            let (cuda, ordinary) = with_and_without(0, precision);
            training::check_recording(&cuda, &ordinary);
            training::check_replays(&cuda, &ordinary);
        }
    }
}

#[test]
fn simulated_recording() {
    for (ordinal, precision) in [(REVERSE, Tf32), (SHUFFLED, F16)] {
        if simulator().is_some() {
            let (cuda, ordinary) = with_and_without(ordinal, precision);
            recording::check(&cuda, &ordinary, |_| ());
        }
    }
}

#[test]
fn gpu_recording() {
    for precision in [F32, Tf32, F16] {
        if real(precision).is_some() {
            let (cuda, ordinary) = with_and_without(0, precision);
            recording::check(&cuda, &ordinary, |_| ());
        }
    }
}
