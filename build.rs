//! Tells the program what built it, for `run.json` and `doctor`: a result should name its compiler.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc)
        .arg("--version")
        .output()
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .unwrap_or_else(|| "unknown compiler".to_owned());
    println!("cargo::rustc-env=SIMPLENET_COMPILER={}", version.trim());
    println!("cargo::rustc-env=SIMPLENET_TARGET={}", std::env::var("TARGET").unwrap_or_default());
    println!("cargo::rustc-env=SIMPLENET_PROFILE={}", std::env::var("PROFILE").unwrap_or_default());
}
