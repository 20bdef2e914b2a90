//! What a driver or cuBLASLt refuses although it offers it, and what is done instead. Each plays another machine, so each
//! runs in a process of its own.

use simplenet::backend::Backend;
use simplenet::backend::cpu::Cpu;
use simplenet::backend::cuda::{Choice, Cuda, Plans, Precision, Tuned};
use simplenet::tensor::relative_error;

use crate::device::{FORWARD, simulated};
use crate::failures::{is_child, play_test, succeeds};
use crate::plans::{Work, number, tune};
use crate::program;

fn open() -> Cuda {
    simulated(FORWARD, Precision::F32).unwrap()
}

/// Plays a test of this file on a machine.
fn play(test: &str, machine: &[(&str, &str)]) {
    if let Some(output) = play_test(&format!("refused::{test}"), machine) {
        succeeds(&output);
    }
}

/// Sums of 700 and 576 terms in f32, in whatever order.
fn assert_right(cuda: &Cuda, work: &Work) {
    for (out, reference) in work.run(cuda).iter().zip(&work.run(&Cpu::<f32>::new())) {
        let error = relative_error(out.data(), reference.data());
        assert!(error <= 1e-6, "{error:.2e}");
    }
}

#[test]
fn uploads_do_without_write_combined_memory() {
    play("uploads", &[("CUSIM_NO_WRITE_COMBINING", "1")]);
    let Some(libraries) = program::simulated() else { return };
    let world = tempfile::tempdir().unwrap();
    let bench = "bench --device cuda --backbone resnet18_slim --weights embedded --size 32 --scope model --batch 1 \
                 --warmups 1 --repeats 5 --plans off --quiet";
    for (refused, warnings) in [("0", 0), ("1", 1)] {
        let mut command = program::simplenet(world.path(), &libraries, bench);
        command.env("CUSIM_NO_WRITE_COMBINING", refused);
        let said = String::from_utf8(program::succeeds(command).stderr).unwrap();
        assert_eq!(said.matches("warning: write-combined memory was refused (").count(), warnings, "{said}");
    }
}

#[test]
fn uploads() {
    if !is_child() {
        return;
    }
    let cuda = open();
    assert!(cuda.upload_refusal().is_some());
    assert_right(&cuda, &Work::new());
    // More than both pieces at once, and images, which have memory of their own.
    let values = crate::draws::normals(1, &[5, 1_000_003], 0.0, 1.0);
    assert!(cuda.download(&cuda.upload(&values).unwrap()).unwrap() == values);
    crate::images::check(&cuda);
}

#[test]
fn a_machine_with_write_combined_memory_uses_it() {
    if let Some(cuda) = simulated(FORWARD, Precision::F32) {
        assert_eq!(cuda.upload_refusal(), None);
    }
}

/// The choices of products in a table.
fn products(plans: &Plans) -> impl Iterator<Item = &Choice> {
    plans.choices.iter().filter(|(key, _)| key.starts_with("product")).map(|(_, choice)| choice)
}

/// Algorithm 2 would be the fastest, and fails.
#[test]
fn an_algorithm_that_fails_is_not_chosen() {
    play("one_algorithm_fails", &[("CUSIM_FASTEST_ALGORITHM", "2"), ("CUSIM_FAILING_ALGORITHMS", "4")]);
}

#[test]
fn one_algorithm_fails() {
    if !is_child() {
        return;
    }
    let (cuda, work) = (open(), Work::new());
    let (out, Tuned { plans, failed, refused, missing, .. }) = tune(&cuda, &work, None, true);
    assert!(products(&plans).count() >= 2, "{plans:?}");
    for choice in products(&plans) {
        assert_eq!((number(&choice.chosen), choice.candidates), (3, 3), "the second fastest: {choice:?}");
    }
    assert!(failed.len() >= 2, "{failed:?}");
    for entry in &failed {
        assert!(
            entry.starts_with("product f32 ") && entry.contains("cuBLASLt fails at multiplying"),
            "{entry}"
        );
    }
    assert_eq!((refused.len(), missing), (0, 0));
    assert!(work.run(&cuda) == out);
    assert_right(&cuda, &work);
}

#[test]
fn the_only_algorithm_that_works_is_chosen() {
    play("three_algorithms_fail", &[("CUSIM_FAILING_ALGORITHMS", "7")]);
}

#[test]
fn three_algorithms_fail() {
    if !is_child() {
        return;
    }
    let (cuda, work) = (open(), Work::new());
    let plans = tune(&cuda, &work, None, true).1.plans;
    for choice in products(&plans) {
        assert_eq!((number(&choice.chosen), choice.candidates, choice.runner_up_microseconds), (3, 1, None));
    }
    assert_right(&cuda, &work);
}

/// The linear layer of a tuning that cannot succeed, and the ways that were tried.
fn fails(cuda: &Cuda) -> (String, usize) {
    let upload = |seed, shape: &[usize]| cuda.upload(&crate::draws::normals(seed, shape, 0.0, 1.0)).unwrap();
    let (input, weight) = (upload(1, &[5, 40]), upload(2, &[6, 40]));
    let tuner = cuda.tuner().unwrap();
    tuner.begin(None, true);
    let error = cuda.linear(&input, &weight, None).err().unwrap();
    (error.to_string(), tuner.finish().unwrap().failed.len())
}

#[test]
fn where_all_algorithms_fail_the_last_error_is_told() {
    play("all_algorithms_fail", &[("CUSIM_FAILING_ALGORITHMS", "15")]);
}

#[test]
fn all_algorithms_fail() {
    if is_child() {
        let (error, tried) = fails(&open());
        assert!(error.contains("cuBLASLt fails at multiplying"), "{error}");
        assert_eq!(tried, 4);
    }
}

/// Whoever went on would try algorithms on a device that answers nothing any more.
#[test]
fn a_device_that_is_broken_is_given_up_at_once() {
    play("the_device_is_broken", &[("CUSIM_FAILING_ALGORITHMS", "15"), ("CUSIM_FAILURES_STAY", "1")]);
}

#[test]
fn the_device_is_broken() {
    if is_child() {
        let (error, tried) = fails(&open());
        assert!(error.contains("cuBLASLt fails at multiplying"), "{error}");
        assert_eq!(tried, 0);
    }
}

/// What cuBLASLt offered to this process is not submitted to it again; what a file says is.
#[test]
fn algorithms_of_this_process_are_not_checked() {
    play("no_check", &[("CUSIM_FASTEST_ALGORITHM", "2"), ("CUSIM_NO_ALGORITHM_CHECK", "1")]);
}

#[test]
fn no_check() {
    if !is_child() {
        return;
    }
    let (cuda, work) = (open(), Work::new());
    // The winning tile's products are looked up again after the others were forgotten.
    let (out, Tuned { plans, refused, .. }) = tune(&cuda, &work, None, true);
    assert!(refused.is_empty(), "{refused:?}");
    assert!(products(&plans).all(|choice| number(&choice.chosen) == 2), "{plans:?}");
    let (again, tuned) = tune(&cuda, &work, None, true);
    assert!(again == out && tuned.measured == 0 && tuned.refused.is_empty() && tuned.plans == plans);

    let (_, tuned) = tune(&open(), &work, Some(&plans), false);
    assert_eq!(tuned.refused.len(), products(&plans).count());
}
