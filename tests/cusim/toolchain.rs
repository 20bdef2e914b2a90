//! Builds the simulated GPU's libraries with g++: every kernel file, the driver, cuBLASLt.
//!
//! Objects are kept under a hash of all that went into them, so that a changed kernel compiles that kernel alone, and
//! finished folders under a hash of their objects, so that test processes share them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use sha2::{Digest, Sha256};

/// What to build. Two builds with the same contents are one.
#[derive(Clone, Debug)]
pub(crate) struct Build {
    /// The folder whose `.cu` files become the device's kernels.
    pub(crate) kernels: PathBuf,
    /// More flags for the kernel files, as `-DNAME`.
    pub(crate) flags: Vec<String>,
    /// With AddressSanitizer and UBSan.
    pub(crate) sanitized: bool,
}

/// A folder of this crate.
pub(crate) fn crate_folder(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

const COMMON_FLAGS: [&str; 7] = [
    "-std=c++20",
    "-U_FORTIFY_SOURCE",
    "-pthread",
    "-fPIC",
    "-fno-gnu-unique",
    "-Wno-psabi",
    "-Wno-unknown-pragmas",
];

/// Kernels say `fmaf` where they mean it; halves are rounded after every operation.
#[cfg(target_arch = "x86_64")]
const KERNEL_FLAGS: [&str; 2] = ["-ffp-contract=off", "-fexcess-precision=16"];
#[cfg(not(target_arch = "x86_64"))]
const KERNEL_FLAGS: [&str; 1] = ["-ffp-contract=off"];

const SANITIZER_FLAGS: [&str; 5] =
    ["-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"];

/// One object file to be.
struct Unit {
    /// What g++ compiles.
    source: PathBuf,
    /// The source's text, where it is written first.
    generated: Option<String>,
    flags: Vec<String>,
    includes: Vec<String>,
    object: PathBuf,
}

impl Unit {
    /// The object's name holds all that it depends on but no place: an unchanged file in a copied folder is not compiled
    /// again.
    fn new(root: &Path, headers: &Sha256, file: &Path, text: &str, flags: Vec<String>) -> Self {
        let mut hash = headers.clone();
        hash.update(text);
        for flag in &flags {
            hash.update(flag);
            hash.update([0]);
        }
        let object = root.join("objects").join(format!("{}-{}.o", stem(file), hexadecimal(&hash.finalize())));
        Self { source: file.to_owned(), generated: None, flags, includes: Vec::new(), object }
    }

    fn compile(&self) {
        if let Some(text) = &self.generated {
            fs::write(&self.source, text).expect("a writable target folder");
        }
        // An interrupted compiler leaves no object under the final name.
        let unfinished = self.object.with_extension("unfinished");
        let mut command = Command::new("g++");
        command.args(&self.flags).args(&self.includes).arg("-c").arg(&self.source).arg("-o").arg(&unfinished);
        run(&mut command);
        fs::rename(&unfinished, &self.object).expect("the object in its place");
    }
}

impl Build {
    /// The project's kernels.
    pub(crate) fn of_the_project() -> Self {
        Self { kernels: crate_folder("kernels"), flags: Vec::new(), sanitized: false }
    }

    /// The folder that holds `libcuda.so.1`, `libcublasLt.so.13` and their kernels; `None`, with a message, if there is
    /// no g++.
    ///
    /// # Panics
    /// If something does not compile, or g++ is missing although `SIMPLENET_REQUIRE_CUSIM=1` asks for it.
    pub(crate) fn make(&self) -> Option<PathBuf> {
        let compiler = compiler_version()?;
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cusim");
        fs::create_dir_all(root.join("objects")).expect("a writable target folder");
        let lock = File::create(root.join("lock")).expect("a writable target folder");
        // Several test processes start at once; the first one builds.
        lock.lock().expect("a lock on the build folder");

        let headers = self.headers_hash(&compiler);
        let (driver, cublaslt) = (
            self.library_units(&root, &headers, &["execution", "driver"]),
            self.library_units(&root, &headers, &["cublaslt"]),
        );
        let kernels = self.kernel_units(&root, &headers);
        let mut hash = Sha256::new();
        for unit in driver.iter().chain(&cublaslt).chain(&kernels) {
            hash.update(unit.object.to_string_lossy().as_bytes());
        }
        let finished = root.join(format!("build-{}", hexadecimal(&hash.finalize())));
        if !finished.exists() {
            compile_all(
                driver.iter().chain(&cublaslt).chain(&kernels).filter(|unit| !unit.object.exists()).collect(),
            );
            let unfinished = tempfile::tempdir_in(&root).expect("a writable target folder");
            self.link_all(unfinished.path(), &driver, &cublaslt, &kernels);
            fs::rename(unfinished.keep(), &finished).expect("the finished folder in its place");
        }
        Some(finished)
    }

    fn base_flags(&self) -> Vec<String> {
        let optimisation: &[&str] = if self.sanitized { &SANITIZER_FLAGS } else { &["-O2"] };
        COMMON_FLAGS.iter().chain(optimisation).map(|&flag| flag.to_owned()).collect()
    }

    /// Everything that every object depends on. Headers are few: a change of one compiles all anew.
    fn headers_hash(&self, compiler: &str) -> Sha256 {
        let mut hash = Sha256::new();
        hash.update(compiler);
        for folder in
            ["tests/cusim", "tests/cusim/execution", "tests/cusim/driver", "tests/cusim/cublaslt", "kernels"]
        {
            hash_files(&mut hash, &crate_folder(folder), &["h", "cuh"]);
        }
        hash_files(&mut hash, &self.kernels, &["cuh"]);
        hash
    }

    fn library_units(&self, root: &Path, headers: &Sha256, folders: &[&str]) -> Vec<Unit> {
        let files = folders
            .iter()
            .flat_map(|folder| files_of(&crate_folder(&format!("tests/cusim/{folder}")), &["cpp"]));
        files.map(|file| Unit::new(root, headers, &file, &read(&file), self.base_flags())).collect()
    }

    /// For each kernel file a unit that includes it and registers its kernels.
    fn kernel_units(&self, root: &Path, headers: &Sha256) -> Vec<Unit> {
        let unit = |file: &PathBuf| {
            let text = read(file);
            let mut flags = self.base_flags();
            flags.extend(KERNEL_FLAGS.iter().map(|&flag| flag.to_owned()));
            flags.extend(self.flags.iter().cloned());
            let mut unit = Unit::new(root, headers, file, &text, flags);
            unit.source = unit.object.with_extension("cpp");
            unit.generated = Some(registration(file, &text));
            let folders = [crate_folder("tests/cusim"), self.kernels.clone(), crate_folder("kernels")];
            unit.includes = folders.map(|folder| format!("-I{}", folder.display())).into();
            unit
        };
        files_of(&self.kernels, &["cu"]).iter().map(unit).collect()
    }

    fn link_all(&self, folder: &Path, driver: &[Unit], cublaslt: &[Unit], kernels: &[Unit]) {
        let link = |name: &str, soname: &str, objects: &[&Unit], needed: &[&str]| {
            let mut command = Command::new("g++");
            command.current_dir(folder).args([
                "-shared",
                "-pthread",
                "-Wl,-rpath,$ORIGIN",
                "-Wl,--no-as-needed",
            ]);
            command.arg(format!("-Wl,-soname,{soname}"));
            if self.sanitized {
                command.arg("-fsanitize=address,undefined");
            }
            command.args(objects.iter().map(|unit| &unit.object)).args(needed).args(["-ldl", "-o", name]);
            run(&mut command);
        };
        link("libcuda.so.1", "libcuda.so.1", &driver.iter().collect::<Vec<_>>(), &[]);
        link(
            "libcublasLt.so.13",
            "libcublasLt.so.13",
            &cublaslt.iter().collect::<Vec<_>>(),
            &["libcuda.so.1"],
        );
        // cudarc asks for the unversioned names first; on a machine with a real driver they must not reach it.
        link("libcuda.so", "libcuda.so", &[], &["libcuda.so.1"]);
        link("libcublasLt.so", "libcublasLt.so", &[], &["libcublasLt.so.13"]);
        fs::create_dir(folder.join("kernels")).expect("a writable target folder");
        for unit in kernels {
            // A kernel's library depends on its object alone: builds with a planted fault share all but one. They copy them:
            // the loader takes two links to one file for the same library.
            let name = unit.object.file_stem().expect("a file name").to_string_lossy().into_owned();
            let (shared, own) = (unit.object.with_extension("so"), format!("kernels/{name}.so"));
            if shared.exists() {
                fs::copy(&shared, folder.join(&own)).expect("a writable target folder");
            } else {
                link(&own, &name, &[unit], &["libcuda.so.1"]);
                fs::copy(folder.join(&own), shared.with_extension("unfinished"))
                    .expect("a writable target folder");
                fs::rename(shared.with_extension("unfinished"), &shared).expect("the library under its name");
            }
        }
        let driver_only = folder.join("driver_only");
        fs::create_dir(&driver_only).expect("a writable target folder");
        for name in ["libcuda.so", "libcuda.so.1"] {
            std::os::unix::fs::symlink(Path::new("..").join(name), driver_only.join(name)).expect("a link");
        }
    }
}

/// The text of a unit that registers every `extern "C" __global__` kernel of a file, with its launch bounds.
fn registration(file: &Path, text: &str) -> String {
    let mut unit = format!("#include \"{}\"\n\n", file.display());
    unit += "static thread_local char anchor;\n";
    unit += &format!(
        "static const cusim::Library library{{\"{}\", []() -> void* {{ return &anchor; }}}};\n",
        file.file_name().expect("a file name").to_string_lossy()
    );
    unit += "__attribute__((constructor)) static void add_kernels() {\n";
    for kernel in kernels_of(text) {
        unit += &format!("    cusim::add_kernel(library, \"{0}\", {1}, &{0});\n", kernel.name, kernel.bounds);
    }
    unit + "}\n"
}

struct Kernel {
    name: String,
    /// The first argument of `__launch_bounds__`, as written.
    bounds: String,
}

/// The kernels that the text of a file defines.
fn kernels_of(text: &str) -> Vec<Kernel> {
    let code = without_comments(text);
    let mut kernels = Vec::new();
    for head in code.split("extern \"C\" __global__").skip(1) {
        // `void __launch_bounds__(N) name(`: the last word before the parenthesis of the parameters.
        let mut rest = head;
        let mut bounds = "1024".to_owned();
        let name = loop {
            let open = rest.find('(').expect("a kernel has parameters");
            let word = rest[..open].split_whitespace().last().expect("a kernel has a name");
            if word != "__launch_bounds__" {
                break word.to_owned();
            }
            let (inside, after) = parenthesised(&rest[open..]);
            bounds = first_argument(inside).trim().to_owned();
            rest = after;
        };
        kernels.push(Kernel { name, bounds });
    }
    kernels
}

/// Splits `(inside) after` at the parenthesis that closes the first one.
fn parenthesised(text: &str) -> (&str, &str) {
    let mut depth = 0;
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return (&text[1..at], &text[at + 1..]);
        }
    }
    panic!("a parenthesis is never closed: {text}")
}

fn first_argument(arguments: &str) -> &str {
    let mut depth = 0;
    for (at, character) in arguments.char_indices() {
        match character {
            '(' | '<' => depth += 1,
            ')' | '>' => depth -= 1,
            ',' if depth == 0 => return &arguments[..at],
            _ => {}
        }
    }
    arguments
}

fn without_comments(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("//").into_iter().chain(rest.find("/*")).min() {
        code += &rest[..start];
        let (end, keep) = if rest[start..].starts_with("//") { ("\n", 1) } else { ("*/", 0) };
        let after = rest[start..].find(end).map_or(rest.len(), |at| start + at + end.len() - keep);
        rest = &rest[after..];
    }
    code + rest
}

// --- Compiling ----------------------------------------------------------------------------------------------------------

fn compiler_version() -> Option<String> {
    let answer = Command::new("g++").arg("--version").output();
    match answer {
        Ok(output) if output.status.success() => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        _ if std::env::var_os("SIMPLENET_REQUIRE_CUSIM").is_some_and(|value| value == "1") => {
            panic!("SIMPLENET_REQUIRE_CUSIM=1, but there is no g++ to build the simulated GPU with")
        }
        _ => {
            eprintln!("no g++: tests on the simulated GPU are left out");
            None
        }
    }
}

/// Compiles on all cores, one unit at a time on each.
fn compile_all(units: Vec<&Unit>) {
    let waiting = Mutex::new(units);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().expect("no worker panicked").pop();
                    let Some(unit) = next else { break };
                    unit.compile();
                }
            });
        }
    });
}

fn run(command: &mut Command) {
    let output = command.output().expect("g++ runs");
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
}

// --- Files ----------------------------------------------------------------------------------------------------------------

/// The files of a folder with one of the extensions, by name.
fn files_of(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|own| extensions.iter().any(|&known| own == known)))
        .collect();
    files.sort();
    files
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn hash_files(hash: &mut Sha256, folder: &Path, extensions: &[&str]) {
    for file in files_of(folder, extensions) {
        hash.update(file.file_name().expect("a file name").to_string_lossy().as_bytes());
        hash.update(read(&file));
    }
}

fn stem(file: &Path) -> String {
    file.file_stem().expect("a file name").to_string_lossy().into_owned()
}

/// Enough digits to tell builds apart.
fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().take(10).map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn kernels_are_found_in_the_text_of_a_file() {
    let text = r#"
        // extern "C" __global__ void commented_out(int n) {}
        /* extern "C" __global__ void commented_out_too(int n) {} */
        extern "C" __global__ void plain(const float* x, unsigned n) {}
        extern "C" __global__ void __launch_bounds__(THREADS) bounded(float* x) {}
        extern "C" __global__ void
        __launch_bounds__(WARP * (2 + 2), 4) broken_line(float* x) {}
        template <class T> __device__ void no_kernel(T* x) {}
    "#;
    let found: Vec<_> = kernels_of(text).into_iter().map(|kernel| (kernel.name, kernel.bounds)).collect();
    let expected = [("plain", "1024"), ("bounded", "THREADS"), ("broken_line", "WARP * (2 + 2)")];
    assert_eq!(found, expected.map(|(name, bounds)| (name.to_owned(), bounds.to_owned())));
}
