//! Tells the program what built it, for `run.json` and `doctor`: a result should name its compiler.

#[path = "build/launchers.rs"]
mod launchers;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

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
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo names a folder"));
    let mut files: Vec<(String, String)> = fs::read_dir("kernels")
        .expect("the folder of kernels")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "cu"))
        .map(|path| (stem(&path), fs::read_to_string(&path).expect("a readable kernel")))
        .collect();
    files.sort();
    println!("cargo::rerun-if-changed=kernels");
    println!("cargo::rerun-if-changed=build");
    match launchers::generate(&files) {
        Ok(source) => fs::write(out.join("launchers.rs"), source).expect("a writable folder"),
        Err(problem) => panic!("{problem}"),
    }
    let images: String = files.iter().map(|(stem, _)| format!("    ({stem:?}, &[]),\n")).collect();
    let table = format!(
        "pub(super) static IMAGES: &[(&str, &[u8])] = &[\n{images}];\n\
         pub(super) const ARCHITECTURES: &[u32] = &[];\n\
         pub(super) const PTX_ARCHITECTURES: &[u32] = &[];\n\
         pub(super) const NVCC_VERSION: Option<&str> = None;\n"
    );
    fs::write(out.join("kernels.rs"), table).expect("a writable folder");
}

fn stem(path: &Path) -> String {
    path.file_stem().expect("a name").to_string_lossy().into_owned()
}
