//! Tells the program what built it, compiles the CUDA kernels into it, and writes the Rust side of their signatures.
//!
//! With nvcc, every `kernels/*.cu` becomes a fatbin: machine code for each architecture of [`architectures`]. Without
//! nvcc the build succeeds as well, and the program computes on the CPU alone. The environment decides:
//!
//! | variable | meaning |
//! | --- | --- |
//! | `NVCC` | the nvcc to use, without fallback; `none` builds without kernels |
//! | `CUDA_HOME`, `CUDA_PATH` | a CUDA toolkit, looked into before `PATH` |
//! | `KERNEL_ARCHS` | what to compile for instead of the default, such as `80,90` |

#[path = "build/architectures.rs"]
mod architectures;
#[path = "build/launchers.rs"]
mod launchers;
#[path = "build/nvcc.rs"]
mod nvcc;
#[path = "build/resources.rs"]
#[allow(dead_code, reason = "tests/kernels.rs prints the rest")]
mod resources;

use nvcc::{Nvcc, Search};
use std::path::Path;
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    name_the_compiler();
    if let Err(problem) = kernels() {
        for line in problem.lines().filter(|line| !line.is_empty()) {
            println!("cargo::error={line}");
        }
    }
}

/// For `run.json` and `doctor`: a result should name its compiler.
fn name_the_compiler() {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc)
        .arg("--version")
        .output()
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .unwrap_or_else(|| "unknown compiler".to_owned());
    println!("cargo::rustc-env=SIMPLENET_COMPILER={}", version.trim());
    println!("cargo::rustc-env=SIMPLENET_TARGET={}", env::var("TARGET").unwrap_or_default());
    println!("cargo::rustc-env=SIMPLENET_PROFILE={}", env::var("PROFILE").unwrap_or_default());
}

/// Writes `launchers.rs` (the kernels' signatures) and `kernels.rs` (their images) for `src/backend/cuda`.
fn kernels() -> Result<(), String> {
    println!("cargo::rerun-if-changed=kernels");
    println!("cargo::rerun-if-env-changed=KERNEL_ARCHS");
    let folder = |name| env::var_os(name).ok_or_else(|| format!("cargo did not set {name}"));
    let (checkout, out) = (folder("CARGO_MANIFEST_DIR")?, folder("OUT_DIR")?);
    let (checkout, out) = (Path::new(&checkout), Path::new(&out));
    let (sources, headers) = nvcc::sources(&checkout.join("kernels"))?;

    // The signatures come first: they are checked whether or not there is an nvcc.
    let launchers = launchers::generate(&sources)?;
    let images = match Nvcc::find(checkout)? {
        Search::Found(nvcc) => {
            let chosen = choose_architectures(&nvcc)?;
            let logs = nvcc.compile(&sources, &headers, &chosen, out)?;
            for ((stem, _), log) in sources.iter().zip(&logs) {
                nvcc::warn(stem, log);
            }
            images(&sources, &chosen, Some(&nvcc.version))
        }
        Search::Nothing => {
            println!(
                "cargo::warning=no nvcc: the program is built without CUDA kernels and computes on the CPU. To get \
                 one, run scripts/get-nvcc.sh, or name yours with NVCC or CUDA_HOME. To silence this, set NVCC=none"
            );
            images(&sources, &[], None)
        }
        Search::Refused => images(&sources, &[], None),
    };
    for (name, text) in [("launchers.rs", launchers), ("kernels.rs", images)] {
        fs::write(out.join(name), text).map_err(|error| format!("cannot write {name}: {error}"))?;
    }
    Ok(())
}

/// `KERNEL_ARCHS`, or all that nvcc knows of the default list.
fn choose_architectures(nvcc: &Nvcc) -> Result<Vec<u32>, String> {
    let choice = architectures::choose(env::var("KERNEL_ARCHS").ok().as_deref(), &nvcc.known)?;
    if !choice.dropped.is_empty() {
        println!(
            "cargo::warning=nvcc {} cannot compile for compute capability {}: left out",
            nvcc.version,
            architectures::join(&choice.dropped)
        );
    }
    Ok(choice.chosen)
}

/// The Rust source that puts the fatbins into the program, each aligned as nvcc aligns them in programs of its own.
fn images(sources: &[(String, String)], chosen: &[u32], nvcc_version: Option<&str>) -> String {
    let images: String = sources
        .iter()
        .map(|(stem, _)| match nvcc_version {
            Some(_) => format!("    ({stem:?}, &Aligned(*include_bytes!(\"{stem}.fatbin\")).0),\n"),
            None => format!("    ({stem:?}, &[]),\n"),
        })
        .collect();
    let aligned = match images.contains("Aligned") {
        true => "#[repr(align(8))]\nstruct Aligned<const BYTES: usize>([u8; BYTES]);\n\n",
        false => "",
    };
    format!(
        "{aligned}pub(super) static IMAGES: &[(&str, &[u8])] = &[\n{images}];\n\
         pub(super) const ARCHITECTURES: &[u32] = &{chosen:?};\n\
         pub(super) const PTX_ARCHITECTURES: &[u32] = &{:?};\n\
         pub(super) const NVCC_VERSION: Option<&str> = {nvcc_version:?};\n",
        architectures::ptx(chosen)
    )
}
