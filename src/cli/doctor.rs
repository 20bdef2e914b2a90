//! `doctor`: what this machine offers.

use super::Outcome;
use super::console::{print, print_json};
use crate::backbone::weights::store::{self, Status};
use crate::backend::cpu::{Bf16Unit, Cpu};
use crate::backend::cuda::{CudaError, probe};
use clap::Args;
use serde::Serialize;
use std::fmt::Write;

/// `doctor`.
#[derive(Args, Clone, Debug)]
pub(super) struct DoctorArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// One finding: what was looked at, what was found, and what to do if it is in the way.
#[derive(Debug, Serialize)]
struct Finding {
    subject: &'static str,
    good: bool,
    state: String,
    cure: Option<String>,
}

/// Runs the verb.
pub(super) fn run(args: &DoctorArgs) -> anyhow::Result<Outcome> {
    let mut findings = vec![program(), cpu()];
    findings.extend(cuda());
    findings.extend([weights()?, cache()]);
    if args.json {
        print_json(&findings)?;
        return Ok(Outcome::Success);
    }
    let mut text = String::new();
    for Finding { subject, good, state, cure } in findings {
        writeln!(text, "{} {subject:9} {state}", if good { "ok" } else { "--" })?;
        if let Some(cure) = cure {
            writeln!(text, "             {cure}")?;
        }
    }
    print(&text)?;
    Ok(Outcome::Success)
}

fn program() -> Finding {
    let state = format!("simplenet {} ({})", env!("CARGO_PKG_VERSION"), super::COMPILER);
    Finding { subject: "program", good: true, state, cure: None }
}

fn cpu() -> Finding {
    #[cfg(target_arch = "x86_64")]
    let vectors = if is_x86_feature_detected!("avx512f") {
        "AVX-512"
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        "AVX2 with FMA"
    } else {
        "SSE2 only: matrix products will be slow"
    };
    #[cfg(not(target_arch = "x86_64"))]
    let vectors = std::env::consts::ARCH;
    let bf16 = match Cpu::<f32>::bf16_unit() {
        Some(Bf16Unit::AmxTiles) => {
            "; convolutions by AMX tiles, in f32 (--conv fast) and with --precision bf16"
        }
        Some(Bf16Unit::Avx512) => "; --precision bf16 by AVX512-BF16",
        Some(Bf16Unit::SlowAvx512) => "; --precision bf16 by AVX512-BF16, which is slower than f32 here",
        None => "",
    };
    let state = format!("{} threads, {vectors}{bf16}", rayon::current_num_threads());
    Finding { subject: "CPU", good: true, state, cure: None }
}

/// Everything a GPU needs, from the bottom up. What lies above a missing floor is not looked at.
fn cuda() -> Vec<Finding> {
    let mut findings = vec![kernels()];
    match probe::driver() {
        Ok(version) => {
            let state = format!("offers CUDA {}.{}", version / 1000, version % 1000 / 10);
            findings.push(Finding { subject: "driver", good: true, state, cure: None });
        }
        // The driver may be well where it finds no device.
        Err(error @ CudaError::NoDevice) => {
            findings.push(missing("GPU", &error));
            return findings;
        }
        Err(error) => {
            findings.push(missing("driver", &error));
            return findings;
        }
    }
    match probe::devices() {
        Ok(devices) => findings.extend(devices.iter().map(gpu)),
        Err(error) => findings.push(missing("GPU", &error)),
    }
    findings.push(match probe::cublaslt() {
        Ok(version) => Finding { subject: "cuBLASLt", good: true, state: version, cure: None },
        Err(error) => missing("cuBLASLt", &error),
    });
    findings
}

fn kernels() -> Finding {
    match (probe::kernels(), probe::compiler()) {
        (Ok(()), Some(compiler)) => {
            let state = format!("{} ({compiler})", probe::kernels_built());
            Finding { subject: "kernels", good: true, state, cure: None }
        }
        (Err(error), _) => missing("kernels", &error),
        (Ok(()), None) => missing("kernels", &CudaError::NoKernels),
    }
}

fn gpu(device: &probe::Device) -> Finding {
    // A build without kernels was told of already.
    if let (Ok(()), Err(error)) = (probe::kernels(), device.check_kernels()) {
        return missing("GPU", &error);
    }
    let (major, minor) = device.capability;
    let state = format!(
        "cuda:{} {}, compute capability {major}.{minor}, {:.1} GB",
        device.ordinal,
        device.name,
        device.memory as f64 / 1e9
    );
    Finding { subject: "GPU", good: true, state, cure: None }
}

/// An error's sentence: what is the matter, and after the semicolon what to do.
fn missing(subject: &'static str, error: &CudaError) -> Finding {
    let text = error.to_string();
    let (state, cure) = match text.split_once("; ") {
        Some((state, cure)) => (state.to_owned(), Some(cure.to_owned())),
        None => (text, None),
    };
    Finding { subject, good: false, state, cure }
}

fn weights() -> anyhow::Result<Finding> {
    let folder = store::folder();
    let mut installed = Vec::new();
    let mut broken = Vec::new();
    for listing in store::list(folder.as_deref())? {
        match listing.status {
            Status::Embedded { .. } => installed.push(format!("{} (embedded)", listing.architecture)),
            Status::Installed(_) => installed.push(listing.architecture.to_string()),
            Status::Unusable { problem, .. } => broken.push(problem),
            Status::Missing { .. } => {}
        }
    }
    let full = installed.iter().any(|name| name == "wide_resnet50_2");
    let cure = match broken.first() {
        Some(problem) => Some(problem.clone()),
        None if full => None,
        None => Some("for the paper's backbone: simplenet weights fetch wide_resnet50_2".to_owned()),
    };
    Ok(Finding { subject: "weights", good: broken.is_empty(), state: installed.join(", "), cure })
}

fn cache() -> Finding {
    let folder = store::folder();
    let writable = folder.as_ref().is_some_and(|folder| {
        std::fs::create_dir_all(folder).and_then(|()| tempfile::tempfile_in(folder)).is_ok()
    });
    let state = match &folder {
        Some(folder) => format!("weights folder {}", folder.display()),
        None => "this system names no cache folder".to_owned(),
    };
    let cure = (!writable).then(|| "set SIMPLENET_WEIGHTS_DIR to a writable folder".to_owned());
    Finding { subject: "folders", good: writable, state, cure }
}
