//! Finds nvcc and compiles every `kernels/*.cu` to one fatbin, in parallel, and only what changed.

use crate::{architectures, resources};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, thread};

/// Where `scripts/get-nvcc.sh` puts it, seen from the checkout.
const INSIDE_THE_CHECKOUT: &str = ".cuda";

/// How every kernel is compiled. `-lineinfo` costs nothing at run time and lets profilers show the source; `-v` of
/// the assembler tells the resources that [`resources`] reads.
const OPTIONS: &[&str] = &["-fatbin", "-std=c++17", "-O3", "-lineinfo", "-Xptxas=-v"];

/// The kernel files as (stem, text), in alphabetical order, and the text of all headers.
///
/// # Errors
/// A sentence about the file that cannot be read.
pub(crate) fn sources(folder: &Path) -> Result<(Vec<(String, String)>, String), String> {
    let about = |path: &Path, error| format!("cannot read {}: {error}", path.display());
    let mut paths = fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, _>>())
        .map_err(|error| about(folder, error))?;
    paths.sort();
    let (mut kernels, mut headers) = (Vec::new(), String::new());
    for path in &paths {
        let read = || fs::read_to_string(path).map_err(|error| about(path, error));
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("cu") => {
                let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                kernels.push((stem, read()?));
            }
            Some("cuh") => headers += &read()?,
            _ => {}
        }
    }
    Ok((kernels, headers))
}

/// An nvcc that runs.
pub(crate) struct Nvcc {
    path: PathBuf,
    /// `13.0.88`
    pub(crate) version: String,
    /// What it can compile for.
    pub(crate) known: Vec<u32>,
}

impl Nvcc {
    /// `$NVCC` if it is set: a path without fallback, or `none`. Else the first of `$CUDA_HOME`, `$CUDA_PATH`,
    /// `$PATH`, the checkout and the usual places.
    ///
    /// # Errors
    /// A sentence with a cure, if the nvcc that was found or named does not run.
    pub(crate) fn find(checkout: &Path) -> Result<Search, String> {
        let set = |name: &str| {
            println!("cargo::rerun-if-env-changed={name}");
            env::var_os(name).filter(|value| !value.is_empty())
        };
        let (named, home, path) = (set("NVCC"), set("CUDA_HOME"), set("CUDA_PATH"));
        if let Some(named) = named {
            return if named == "none" {
                Ok(Search::Refused)
            } else {
                Nvcc::run(named.into()).map(Search::Found)
            };
        }
        let program = format!("nvcc{}", env::consts::EXE_SUFFIX);
        // PATH is not watched: the terminal's and the editor's differ, and each build would undo the other's.
        let on_path = env::var_os("PATH").unwrap_or_default();
        let homes = [home, path].into_iter().flatten().map(|home| PathBuf::from(home).join("bin"));
        let places = [checkout.join(INSIDE_THE_CHECKOUT), "/usr/local/cuda".into(), "/opt/cuda".into()];
        homes
            .chain(env::split_paths(&on_path))
            .chain(places.into_iter().map(|place| place.join("bin")))
            .map(|folder| folder.join(&program))
            .find(|path| path.is_file())
            .map_or(Ok(Search::Nothing), |path| Nvcc::run(path).map(Search::Found))
    }

    /// Asks the nvcc at `path` what it is.
    fn run(path: PathBuf) -> Result<Nvcc, String> {
        let cure = "name another with NVCC, or set NVCC=none to build without kernels";
        let ask = |option| {
            let output = Command::new(&path).arg(option).output();
            let output = output.map_err(|error| format!("cannot run {}: {error}; {cure}", path.display()))?;
            match output.status.success() {
                true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
                false => Err(format!("{} {option} failed; {cure}\n{}", path.display(), words(&output))),
            }
        };
        let version = ask("--version")?;
        let version = version
            .split_once(", V")
            .and_then(|(_, rest)| rest.split_whitespace().next())
            .ok_or_else(|| format!("{} does not speak like nvcc; {cure}\n{version}", path.display()))?
            .to_owned();
        let known = architectures::known(&ask("--list-gpu-arch")?);
        println!("cargo::rerun-if-changed={}", path.display());
        Ok(Nvcc { path, version, known })
    }

    /// Whether nvcc can be told to compress well: to a fifth of the bytes, for a tenth of the time. Drivers from 12.4
    /// on read that; the program asks for 13.0.
    fn is_compressing(&self) -> bool {
        let major = self.version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        major.is_some_and(|major| major >= 13)
    }

    /// Compiles all kernels to `out/NAME.fatbin`, as many at a time as cargo allows, and returns what nvcc printed for
    /// each. A kernel whose source, headers, options and compiler are those of the last time is left alone.
    ///
    /// # Errors
    /// nvcc's own words about every file it refused.
    pub(crate) fn compile(
        &self,
        kernels: &[(String, String)],
        headers: &str,
        architectures: &[u32],
        out: &Path,
    ) -> Result<Vec<String>, String> {
        let jobs = env::var("NUM_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(usize::MAX);
        let workers = thread::available_parallelism().map_or(1, usize::from).min(jobs).min(kernels.len());
        let next = AtomicUsize::new(0);
        let results = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some((stem, source)) = kernels.get(index) else { break };
                        let result = self.compile_one(stem, source, headers, architectures, out);
                        results.lock().expect("no worker panics").push((index, result));
                    }
                });
            }
        });
        let mut results = results.into_inner().expect("no worker panics");
        results.sort_by_key(|(index, _)| *index);
        let (mut logs, mut problems) = (Vec::new(), Vec::new());
        for (_, result) in results {
            match result {
                Ok(log) => logs.push(log),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() {
            return Ok(logs);
        }
        problems.push("to build without kernels, set NVCC=none".to_owned());
        Err(problems.join("\n"))
    }

    fn compile_one(
        &self,
        stem: &str,
        source: &str,
        headers: &str,
        architectures: &[u32],
        out: &Path,
    ) -> Result<String, String> {
        let file = |extension: &str| out.join(format!("{stem}.{extension}"));
        let (fatbin, log, stamp) = (file("fatbin"), file("log"), file("stamp"));
        let mut options: Vec<String> = OPTIONS.iter().map(|&option| option.to_owned()).collect();
        if self.is_compressing() {
            options.push("-compress-mode=size".to_owned());
        }
        options.extend(architectures::gencode(architectures, source));

        // The stamp is the very text that the fatbin was made from: longer than a hash of it, and never wrong.
        let ingredients = format!("nvcc {} {options:?}\n{headers}\n{source}", self.version);
        let unchanged =
            fs::read_to_string(&stamp).is_ok_and(|stamp| stamp == ingredients) && fatbin.is_file();
        if let (true, Ok(log)) = (unchanged, fs::read_to_string(&log)) {
            return Ok(log);
        }
        // Gone while nvcc writes: a build that is killed here leaves a half fatbin without a stamp.
        let _ = fs::remove_file(&stamp);

        // A path relative to the checkout, so that no fatbin holds the name of a folder on this machine.
        let path = format!("kernels/{stem}.cu");
        let output = Command::new(&self.path)
            .args(&options)
            .arg(&path)
            .arg("-o")
            .arg(&fatbin)
            .output()
            .map_err(|error| format!("cannot run {}: {error}", self.path.display()))?;
        let words = words(&output);
        if !output.status.success() {
            return Err(format!("nvcc cannot compile {path} ({}):\n{words}", output.status));
        }
        let write = |path: &Path, text: &str| {
            fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
        };
        write(&log, &words)?;
        write(&stamp, &ingredients)?;
        Ok(words)
    }
}

/// How the search for nvcc ended.
pub(crate) enum Search {
    Found(Nvcc),
    /// There is none.
    Nothing,
    /// `NVCC=none`
    Refused,
}

/// All that a program printed.
fn words(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&text).trim_end().to_owned()
}

/// Kernels that spill registers or have arrays in memory, and what else nvcc had to say about a file, as warnings of cargo.
pub(crate) fn warn(stem: &str, log: &str) {
    let (usages, others) = resources::parse(log);
    for usage in usages.iter().filter(|usage| usage.spills()) {
        println!(
            "cargo::warning=kernels/{stem}.cu: {} spills registers on {}: {} bytes of stack, {} stored, {} loaded a thread",
            usage.function, usage.architecture, usage.stack, usage.spill_stores, usage.spill_loads
        );
    }
    for line in others {
        println!("cargo::warning={line}");
    }
}
