//! The simulated GPU for tests: loads it into this process, counts what it does, starts children that use it.
//!
//! Other test suites take it in with `#[path = "../cusim/support.rs"] mod cusim;` and call [`load`] before anything that
//! asks cudarc for the driver. See the README beside this file.
#![allow(dead_code, unused_imports, reason = "each test suite uses a part")]

mod toolchain;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use libloading::{Library, Symbol};

pub(crate) use toolchain::{Build, crate_folder};

/// Names the folder of libraries that a child process uses instead of building.
const LIBRARIES: &str = "SIMPLENET_CUSIM_LIBRARIES";

/// Set in a child that has the sanitized libraries.
const SANITIZED: &str = "SIMPLENET_CUSIM_SANITIZED";

/// The simulator, loaded into this process.
pub(crate) struct Simulator {
    folder: PathBuf,
    counters: unsafe extern "C" fn(i32, *mut Counters) -> i32,
}

/// What a device holds and what it has done.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    // Alive now.
    pub(crate) device_allocations: u64,
    pub(crate) device_bytes: u64,
    /// Those that were made while this device was current.
    pub(crate) pinned_allocations: u64,
    pub(crate) contexts: u64,
    pub(crate) streams: u64,
    pub(crate) events: u64,
    pub(crate) modules: u64,
    /// Captured graphs and their executable forms.
    pub(crate) graphs: u64,
    /// Handles, descriptors, layouts and preferences of the whole process.
    pub(crate) cublaslt_objects: u64,
    // Since the process began.
    pub(crate) peak_device_bytes: u64,
    pub(crate) allocations: u64,
    /// Calls that start one kernel; a replay of a graph makes none.
    pub(crate) launches: u64,
    /// Calls that start one product; likewise.
    pub(crate) products: u64,
    pub(crate) graph_launches: u64,
    /// By launches and by replays.
    pub(crate) kernels_run: u64,
    pub(crate) products_run: u64,
    /// Copies from host to device, as calls.
    pub(crate) uploads: u64,
    pub(crate) uploaded_bytes: u64,
    pub(crate) downloads: u64,
    pub(crate) downloaded_bytes: u64,
    /// Calls in which the host waited for the device.
    pub(crate) synchronisations: u64,
    /// Questions for the time between two events.
    pub(crate) elapsed_times: u64,
    /// Questions for algorithms, and whether one is good, of the whole process.
    pub(crate) cublaslt_questions: u64,
}

/// Loads the simulator with the project's kernels; `None`, with a message, if it cannot be built here.
///
/// # Panics
/// If it does not compile, or cannot be built although `SIMPLENET_REQUIRE_CUSIM=1` asks for it.
pub(crate) fn load() -> Option<&'static Simulator> {
    load_build(&Build::of_the_project())
}

/// Loads the simulator with other kernels or flags. A process has one simulator: the first call decides.
pub(crate) fn load_build(build: &Build) -> Option<&'static Simulator> {
    static SIMULATOR: OnceLock<Option<Simulator>> = OnceLock::new();
    let simulator = SIMULATOR.get_or_init(|| {
        let folder = std::env::var_os(LIBRARIES).map(PathBuf::from).or_else(|| build.make())?;
        Some(Simulator::open(folder))
    });
    simulator.as_ref()
}

impl Simulator {
    fn open(folder: PathBuf) -> Self {
        let open = |name: &str| -> &'static Library {
            // SAFETY: the libraries are the simulator's own; their constructors only fill tables.
            let library = unsafe { Library::new(folder.join(name)) };
            // Never closed: cudarc's own dlopen finds what is open by its soname.
            Box::leak(Box::new(library.unwrap_or_else(|error| panic!("{name}: {error}"))))
        };
        let driver = open("libcuda.so.1");
        for name in ["libcuda.so", "libcublasLt.so.13", "libcublasLt.so"] {
            open(name);
        }
        // SAFETY: the simulator defines the function with this type, see driver/counters.h.
        let counters: Symbol<'static, unsafe extern "C" fn(i32, *mut Counters) -> i32> =
            unsafe { driver.get(b"cusim_counters\0") }.expect("the simulator counts");
        Self { folder, counters: *counters }
    }

    /// The counters of a device; the devices of a process are shared by all its tests.
    pub(crate) fn counters(&self, ordinal: usize) -> Counters {
        let mut counters = Counters::default();
        // SAFETY: `Counters` has the fields of `cusim_counters_t`, all of them plain numbers.
        let result = unsafe { (self.counters)(ordinal as i32, &raw mut counters) };
        assert_eq!(result, 0, "there is no device {ordinal}");
        counters
    }

    /// A folder with the driver and cuBLASLt, for a child's `LD_LIBRARY_PATH`.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A folder with the driver alone.
    pub(crate) fn folder_without_cublaslt(&self) -> PathBuf {
        self.folder.join("driver_only")
    }

    /// This test program again, to run one of its tests with the same libraries: for tests that see a process die, or play
    /// another machine by environment variables.
    pub(crate) fn child(&self, test: &str) -> Command {
        let mut command = child(&self.folder, test);
        command.arg("--exact");
        command
    }
}

/// This test program again, to run the tests whose names contain `filter` with another build: with a mistake planted in a copy
/// of the kernels, say. `None` without g++.
pub(crate) fn child_with(build: &Build, filter: &str) -> Option<Command> {
    Some(child(&build.make()?, filter))
}

/// This test program again, to run the tests whose names contain `filter` under AddressSanitizer and UBSan: there reads out
/// of bounds and undefined behaviour of kernels end the process too. `None` without g++.
pub(crate) fn sanitized_child(build: &Build, filter: &str) -> Option<Command> {
    let build = Build { sanitized: true, ..build.clone() };
    let mut command = child(&build.make()?, filter);
    // The sanitizers' own libraries come first, because this program was not built with them.
    let runtime: Vec<OsString> = ["libasan.so", "libubsan.so"].map(runtime_library).into();
    command.env("LD_PRELOAD", runtime.join(&OsString::from(":")));
    command.env(SANITIZED, "1");
    command.env("ASAN_OPTIONS", "detect_leaks=0:halt_on_error=1:detect_odr_violation=0");
    command.env("UBSAN_OPTIONS", "halt_on_error=1:print_stacktrace=1");
    Some(command)
}

/// This process is a [`sanitized_child`].
pub(crate) fn sanitized() -> bool {
    std::env::var_os(SANITIZED).is_some()
}

fn child(folder: &Path, filter: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a path of this program"));
    command.args([filter, "--nocapture", "--test-threads=1"]).env(LIBRARIES, folder);
    command
}

/// Where g++ has a runtime library of its own.
fn runtime_library(name: &str) -> OsString {
    let answer = Command::new("g++").arg(format!("-print-file-name={name}")).output().expect("g++ runs");
    let path = PathBuf::from(String::from_utf8_lossy(&answer.stdout).trim());
    path.canonicalize().unwrap_or(path).into_os_string()
}
