//! Other machines, played through the environment; and what a program leaves behind.

use cudarc::cublaslt::sys::{cublasLtEpilogue_t as Epilogue, cublasLtGetVersion, cublasStatus_t as Status};
use cudarc::driver::sys::{CUdevice_attribute as Attribute, CUresult};
use cudarc::driver::{CudaContext, result};

use crate::blas::{PLAIN, Plan, Problem};
use crate::products::durations;
use crate::scenarios::{Scenario, child, text};
use crate::world::{World, shape, simulator};

pub(crate) const SCENARIOS: &[Scenario] = &[
    ("no_device", || {
        simulator().unwrap();
        let error = CudaContext::device_count().unwrap_err();
        assert_eq!(error.0, CUresult::CUDA_ERROR_NO_DEVICE);
        assert_eq!(error.error_name().unwrap(), c"CUDA_ERROR_NO_DEVICE");
        assert_eq!(error.error_string().unwrap(), c"no CUDA-capable device is detected");
    }),
    ("another_machine", || {
        simulator().unwrap();
        assert_eq!(CudaContext::device_count().unwrap(), 2);
        assert_eq!(CudaContext::new(2).unwrap_err().0, CUresult::CUDA_ERROR_INVALID_DEVICE);
        let context = CudaContext::new(1).unwrap();
        assert_eq!(context.compute_capability().unwrap(), (6, 1));
        assert_eq!(context.total_mem().unwrap(), 1_000_000);
        let mut version = 0;
        // SAFETY: the call writes one number. The version of the library is asked for without arguments.
        let (answer, library) =
            unsafe { (cudarc::driver::sys::cuDriverGetVersion(&mut version), cublasLtGetVersion()) };
        assert_eq!((answer, version, library), (CUresult::CUDA_SUCCESS, 12080, 120_805));
        // SAFETY: the simulator does not look at the image; the buffers are freed with the process.
        unsafe {
            let refused = result::module::load_data([0u8; 8].as_ptr().cast()).unwrap_err();
            assert_eq!(refused.0, CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU);
            result::malloc_sync(600_000).unwrap();
            assert_eq!(result::malloc_sync(600_000).unwrap_err().0, CUresult::CUDA_ERROR_OUT_OF_MEMORY);
        }
        assert_eq!(result::mem_get_info().unwrap(), (400_000, 1_000_000));
    }),
    ("no_epilogue", || {
        let _world = World::new(0).unwrap();
        Plan::new(PLAIN).unwrap();
        let epilogue = Epilogue::CUBLASLT_EPILOGUE_BIAS;
        let refused = Plan::new(Problem { epilogue, ..PLAIN }).err().unwrap();
        assert_eq!(refused.0, Status::CUBLAS_STATUS_NOT_SUPPORTED);
    }),
    ("another_fastest_algorithm", || {
        let world = World::new(0).unwrap();
        let found = durations(&world, Problem { workspace_bytes: 1 << 20, ..PLAIN });
        assert_eq!(
            found.iter().map(|duration| duration.round()).collect::<Vec<_>>(),
            [30.0, 40.0, 10.0, 20.0]
        );
    }),
    ("one_order", || {
        let answers = [0, 1, 2].map(|ordinal| {
            let world = World::new(ordinal).unwrap();
            let (x, out) = (world.upload(&[1.0f32; 256]), world.buffer::<f32>(256));
            world.launch("lacks_a_barrier", shape(1, 256), &[&x, &out]).unwrap();
            world.download(&out).map_to_bits()
        });
        assert!(answers[0] == answers[1] && answers[1] == answers[2]);
    }),
    ("short_buffers", || {
        let world = World::new(0).unwrap();
        let out = world.buffer::<u32>(64);
        world.launch("number_threads", shape(1, 64), &[&out]).unwrap();
        world.synchronise();
    }),
    ("leaks", || {
        let world = World::new(3).unwrap();
        std::mem::forget(world.buffer::<f32>(25));
        std::mem::forget(world.another_stream());
        std::mem::forget(Plan::new(PLAIN).unwrap());
    }),
    ("leaks_nothing", || {
        let world = World::new(3).unwrap();
        let _buffer = world.buffer::<f32>(25);
    }),
    ("which_libraries", || {
        // SAFETY: opening a library that is there runs its constructors, which only fill tables.
        let present =
            unsafe { (cudarc::driver::sys::is_culib_present(), cudarc::cublaslt::sys::is_culib_present()) };
        println!("libraries: {present:?}");
    }),
];

trait MapToBits {
    fn map_to_bits(&self) -> Vec<u32>;
}

impl MapToBits for Vec<f32> {
    fn map_to_bits(&self) -> Vec<u32> {
        self.iter().map(|value| value.to_bits()).collect()
    }
}

/// What the child wrote, once it came to its end.
fn succeeds(scenario: &str, environment: &[(&str, &str)]) -> Option<String> {
    let output = child(scenario)?.envs(environment.iter().copied()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("came to its end"), "nothing ran: {}", text(&output));
    Some(text(&output))
}

#[test]
fn a_machine_without_devices() {
    succeeds("no_device", &[("CUSIM_DEVICES", "0")]);
}

#[test]
fn an_old_and_small_machine() {
    let environment = [
        ("CUSIM_DEVICES", "2"),
        ("CUSIM_DRIVER_VERSION", "12080"),
        ("CUSIM_COMPUTE_CAPABILITY", "6.1"),
        ("CUSIM_MEMORY", "1000000"),
        ("CUSIM_CUBLASLT_VERSION", "120805"),
    ];
    succeeds("another_machine", &environment);
}

#[test]
fn a_library_without_epilogues() {
    succeeds("no_epilogue", &[("CUSIM_NO_EPILOGUE", "1")]);
}

#[test]
fn a_device_that_likes_another_algorithm() {
    succeeds("another_fastest_algorithm", &[("CUSIM_FASTEST_ALGORITHM", "2")]);
}

#[test]
fn one_order_on_every_device() {
    succeeds("one_order", &[("CUSIM_ORDER", "reverse")]);
}

#[test]
fn a_buffer_that_is_one_element_short_shows() {
    succeeds("short_buffers", &[]);
    let Some(mut child) = child("short_buffers") else { return };
    let output = child.env("CUSIM_SHORT_BUFFERS", "1").output().unwrap();
    let words = "cusim: kernel number_threads wrote past the end of a buffer of 252 bytes";
    assert!(!output.status.success() && text(&output).contains(words), "{}", text(&output));
}

#[test]
fn the_usual_machine() {
    let Some(world) = World::new(5) else { return };
    let context = &world.context;
    assert_eq!(context.name().unwrap(), "cusim (CPU)");
    assert_eq!(context.compute_capability().unwrap(), (9, 0));
    assert_eq!(context.total_mem().unwrap(), 8 << 30);
    assert_eq!(CudaContext::device_count().unwrap(), 9);
    let attributes = [
        (Attribute::CU_DEVICE_ATTRIBUTE_WARP_SIZE, 32),
        (Attribute::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 1024),
        (Attribute::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y, 65535),
        (Attribute::CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, 1),
        (Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 8),
    ];
    for (attribute, value) in attributes {
        assert_eq!(context.attribute(attribute).unwrap(), value);
    }
}

#[test]
fn leaks_are_counted() {
    let Some(world) = World::new(7) else { return };
    let before = world.simulator.counters(7);
    let buffer = world.buffer::<f32>(25);
    let held = world.simulator.counters(7);
    assert_eq!(held.device_allocations, before.device_allocations + 1);
    assert_eq!(held.device_bytes, before.device_bytes + 100);
    assert!(held.peak_device_bytes >= held.device_bytes);
    drop(buffer);
    let after = world.simulator.counters(7);
    assert_eq!(
        (after.device_allocations, after.device_bytes),
        (before.device_allocations, before.device_bytes)
    );
}

#[test]
fn leaks_are_reported_at_exit() {
    let Some(report) = succeeds("leaks", &[("CUSIM_LEAKS", "1")]) else { return };
    assert!(report.contains("cusim: device 3 still holds 1 buffers (100 bytes)"), "{report}");
    assert!(report.contains("1 streams"), "{report}");
    assert!(report.contains("cusim: cuBLASLt still holds 6 objects"), "{report}");
    let report = succeeds("leaks_nothing", &[("CUSIM_LEAKS", "1")]).unwrap();
    assert!(!report.contains("still holds"), "{report}");
}

#[test]
fn a_folder_for_the_search_path_with_and_without_cublaslt() {
    let Some(simulator) = simulator() else { return };
    let libraries = |folder: &std::path::Path| {
        let report = succeeds("which_libraries", &[("LD_LIBRARY_PATH", folder.to_str().unwrap())]).unwrap();
        report.lines().find_map(|line| line.split_once("libraries: ")).unwrap().1.to_owned()
    };
    assert_eq!(libraries(simulator.folder()), "(true, true)");
    // A machine that has cuBLASLt of its own keeps it.
    let own = libraries(std::path::Path::new("/nonexistent")).contains(", true");
    assert_eq!(libraries(&simulator.folder_without_cublaslt()), format!("(true, {own})"));
}
