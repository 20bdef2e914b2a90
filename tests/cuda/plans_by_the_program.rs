//! `--plans` and the table beside a model, by the program itself: made once, taken again, pinned, refused.

use serde_json::Value;
use simplenet::backend::cpu::Cpu;
use simplenet::backend::cuda::Precision;
use simplenet::tensor::relative_error;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::device::real;
use crate::plans::{Work, tune};
use crate::program;

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
    let Some(cuda) = real(Precision::F32) else { return };
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
