//! `doctor` and `--device` on every kind of machine: each is told what it lacks and what to do.

use std::path::Path;
use std::process::{Command, Output};

use crate::device::simulator;

/// The program, with the libraries of `folder` where the dynamic linker looks first.
fn simplenet(folder: Option<&Path>, machine: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_simplenet"));
    command.args(arguments).envs(machine.iter().copied());
    match folder {
        Some(folder) => command.env("LD_LIBRARY_PATH", folder),
        None => command.env_remove("LD_LIBRARY_PATH"),
    };
    command.output().unwrap()
}

struct Finding {
    subject: String,
    good: bool,
    text: String,
}

/// What `doctor --json` says of the GPU's floors.
fn findings(folder: Option<&Path>, machine: &[(&str, &str)]) -> Vec<Finding> {
    let output = simplenet(folder, machine, &["doctor", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let list: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    list.iter()
        .map(|finding| Finding {
            subject: finding["subject"].as_str().unwrap().to_owned(),
            good: finding["good"].as_bool().unwrap(),
            text: format!("{} {}", finding["state"], finding["cure"]),
        })
        .filter(|finding| ["kernels", "driver", "GPU", "cuBLASLt"].contains(&finding.subject.as_str()))
        .collect()
}

fn subjects(findings: &[Finding]) -> Vec<(&str, bool)> {
    findings.iter().map(|finding| (finding.subject.as_str(), finding.good)).collect()
}

#[test]
fn a_machine_that_has_everything() {
    let Some(simulator) = simulator() else { return };
    let found = findings(Some(simulator.folder()), &[("CUSIM_DEVICES", "2")]);
    let expected = [("kernels", true), ("driver", true), ("GPU", true), ("GPU", true), ("cuBLASLt", true)];
    assert_eq!(subjects(&found), expected);
    assert!(found[3].text.contains("cuda:1 cusim") && found[3].text.contains("compute capability 9.0"));
}

#[test]
fn every_missing_floor_is_named_with_its_cure() {
    let Some(simulator) = simulator() else { return };
    let (all, no_cublaslt) = (simulator.folder(), simulator.folder_without_cublaslt());
    let none: &[(&str, &str)] = &[];
    for (folder, machine, subject, words) in [
        (None, none, "driver", &["libcuda was not found", "580 or newer"][..]),
        (Some(all), &[("CUSIM_DRIVER_VERSION", "12080")], "driver", &["CUDA 12.8", "needs 13.0", "update"]),
        (Some(all), &[("CUSIM_DEVICES", "0")], "GPU", &["finds no device", "nvidia-smi"]),
        (Some(all), &[("CUSIM_COMPUTE_CAPABILITY", "6.1")], "GPU", &["6.1", "sm_90", "KERNEL_ARCHS=61"]),
        (Some(&no_cublaslt), none, "cuBLASLt", &["libcublasLt.so.13", "library path"]),
        (Some(all), &[("CUSIM_CUBLASLT_VERSION", "120805")], "cuBLASLt", &["12.8.5", "13 or newer"]),
    ] {
        let found = findings(folder, machine);
        let finding = found.iter().find(|finding| !finding.good);
        let finding = finding.unwrap_or_else(|| panic!("{machine:?}: nothing is missing"));
        assert_eq!(finding.subject, subject, "{machine:?}");
        for word in words {
            assert!(finding.text.contains(word), "{machine:?}: {word} is not in {}", finding.text);
        }

        // The same sentence where a command wants the GPU; and the CPU, with the reason, where it need not be one.
        let missing = ["predict", "--model", "absent.safetensors", "absent", "--device"];
        let wanted = simplenet(folder, machine, &[&missing[..], &["cuda"]].concat());
        assert_eq!(wanted.status.code(), Some(3), "{machine:?}");
        let message = String::from_utf8_lossy(&wanted.stderr).into_owned();
        assert!(words.iter().any(|word| message.contains(word)), "{machine:?}: {message}");
        let auto = simplenet(folder, machine, &[&missing[..], &["auto"]].concat());
        let message = String::from_utf8_lossy(&auto.stderr).into_owned();
        assert!(
            message.contains("no GPU is used (") && message.contains("computing on the CPU"),
            "{message}"
        );
        assert_eq!(auto.status.code(), Some(2), "the CPU goes on to the model that is not there: {message}");
    }
}

#[test]
fn what_a_device_lacks_is_an_error_never_another_device() {
    let Some(simulator) = simulator() else { return };
    let folder = Some(simulator.folder());
    let missing = ["predict", "--model", "absent.safetensors", "absent"];
    for (machine, arguments, words) in [
        (&[("CUSIM_DEVICES", "2")][..], &["--device", "cuda:2"][..], "there is no CUDA device 2"),
        (&[("CUSIM_COMPUTE_CAPABILITY", "7.5")], &["--device", "cuda", "--precision", "tf32"], "tf32"),
        (&[("CUSIM_DEVICES", "0")], &["--precision", "f16"], "finds no device"),
        (&[], &["--device", "cuda", "--precision", "bf16"], "a GPU computes in f32, tf32 or f16"),
        (&[], &["--device", "cpu", "--precision", "f16"], "the CPU computes in f32 or bf16"),
    ] {
        let output = simplenet(folder, machine, &[&missing[..], arguments].concat());
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {message}");
        assert!(message.contains(words), "{arguments:?}: {message}");
    }
}
