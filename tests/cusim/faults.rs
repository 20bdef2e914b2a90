//! Mistakes in kernels and launches: each one shows.

use cudarc::driver::result;
use cudarc::driver::sys::{
    CUfunction_attribute as Attribute, CUgraphInstantiate_flags, CUresult, CUstreamCaptureMode,
};

use crate::cusim::{Build, child_with, sanitized_child};
use crate::scenarios::{self, Scenario, child, text};
use crate::world::{ORDERS, Shape, World, samples, shape, values};

/// What a child does before it ends badly.
pub(crate) const SCENARIOS: &[Scenario] = &[
    ("writes_one_too_many", || {
        let world = World::new(0).unwrap();
        let out = world.buffer::<f32>(100);
        world.launch("writes_one_too_many", shape(1, 128), &[&out, &100u32]).unwrap();
        world.synchronise();
    }),
    ("writes_one_before", || {
        let world = World::new(1).unwrap();
        let out = world.buffer::<f32>(32);
        world.launch("writes_one_before", shape(1, 32), &[&out]).unwrap();
        world.synchronise();
    }),
    ("reads_one_too_many", || {
        let world = World::new(0).unwrap();
        let (x, out) = (world.upload(&values(100, 1)), world.buffer::<f32>(100));
        world.launch("reads_one_too_many", shape(1, 128), &[&x, &out, &100u32]).unwrap();
        world.synchronise();
    }),
    ("reads_one_too_many_shared", || {
        let world = World::new(0).unwrap();
        let out = world.buffer::<f32>(64);
        world.launch("reads_one_too_many_shared", shape(1, 64), &[&out]).unwrap();
        world.synchronise();
    }),
    ("shifts_too_far", || {
        let world = World::new(0).unwrap();
        let (x, out) = (world.upload(&[31u32, 32]), world.buffer::<u32>(2));
        world.launch("shifts_too_far", shape(1, 2), &[&x, &out]).unwrap();
        world.synchronise();
    }),
    ("writes_past_dynamic_shared", || {
        let world = World::new(2).unwrap();
        let out = world.buffer::<f32>(32);
        let shape = Shape { shared_bytes: 128, ..shape(1, 32) };
        world.launch("writes_past_dynamic_shared", shape, &[&out]).unwrap();
        world.synchronise();
    }),
    ("diverges_at_a_barrier", || {
        let world = World::new(0).unwrap();
        let out = world.buffer::<f32>(32);
        world.launch("diverges_at_a_barrier", shape(1, 32), &[&out]).unwrap();
        world.synchronise();
    }),
    ("waits_at_two_barriers", || {
        let world = World::new(0).unwrap();
        let out = world.buffer::<f32>(64);
        world.launch("waits_at_two_barriers", shape(1, 64), &[&out]).unwrap();
        world.synchronise();
    }),
    ("replays_on_freed_memory", || {
        let world = World::new(0).unwrap();
        let out = world.buffer::<u32>(32);
        // SAFETY: the stream is alive; the graph is destroyed with the process.
        unsafe {
            let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
            result::stream::begin_capture(world.stream, mode).unwrap();
            world.launch("number_threads", shape(1, 32), &[&out]).unwrap();
            let graph = result::stream::end_capture(world.stream).unwrap();
            let graph = result::graph::instantiate(graph, CUgraphInstantiate_flags(0)).unwrap();
            drop(out);
            result::graph::launch(graph, world.stream).unwrap();
        }
        world.synchronise();
    }),
    ("forgets_a_copy", || {
        let world = World::new(0).unwrap();
        let x = world.upload(&[1.0f32; 4]);
        let shape = Shape { shared_bytes: 16, ..shape(1, 1) };
        world.launch("forgets_a_copy", shape, &[&x]).unwrap();
        world.synchronise();
    }),
    ("names_a_row_between_packets", || {
        let world = World::new(0).unwrap();
        let out = world.buffer::<u32>(32);
        let shape = Shape { shared_bytes: 32 * 24, ..shape(1, 32) };
        world.launch("names_a_row_between_packets", shape, &[&out]).unwrap();
        world.synchronise();
    }),
    ("multiplies_in_half_a_warp", || {
        let world = World::new(0).unwrap();
        let out = world.buffer::<f32>(32);
        world.launch("multiplies_in_half_a_warp", shape(1, 32), &[&out]).unwrap();
        world.synchronise();
    }),
    ("shuffles_in_half_a_warp", || {
        let world = World::new(0).unwrap();
        let out = world.buffer::<f32>(32);
        world.launch("shuffles_in_half_a_warp", shape(1, 32), &[&out]).unwrap();
        world.synchronise();
    }),
];

/// The scenario's child must die with these words.
fn dies(scenario: &str, words: &str) {
    let Some(mut child) = child(scenario) else { return };
    let output = child.output().unwrap();
    assert!(!output.status.success() && text(&output).contains(words), "{scenario}: {}", text(&output));
}

#[test]
fn a_write_beside_a_buffer_names_the_kernel_and_the_buffer() {
    dies(
        "writes_one_too_many",
        "cusim: kernel writes_one_too_many wrote past the end of a buffer of 400 bytes",
    );
    dies(
        "writes_one_before",
        "cusim: kernel writes_one_before wrote before the start of a buffer of 128 bytes",
    );
    dies("writes_past_dynamic_shared", "wrote past the end of its 128 bytes of dynamic shared memory");
}

#[test]
fn a_graph_outlived_by_its_memory_is_found() {
    dies("replays_on_freed_memory", "cusim: kernel number_threads ran after its memory had been freed");
}

#[test]
fn divergent_barriers_and_shuffles_name_the_line() {
    dies("diverges_at_a_barrier", "some lanes of a warp never reach its shuffle");
    dies("waits_at_two_barriers", "threads wait at different barriers");
    dies("shuffles_in_half_a_warp", "lanes of a warp meet at different shuffles");
    dies("shuffles_in_half_a_warp", "faults.cu:");
}

#[test]
fn tensor_core_instructions_have_their_rules() {
    dies("forgets_a_copy", "kernel forgets_a_copy, block (0,0,0)");
    dies("forgets_a_copy", "a thread returned before its copies had landed");
    dies("names_a_row_between_packets", "a row of a matrix is not aligned");
    dies("multiplies_in_half_a_warp", "some lanes of a warp never reach its shuffle");
}

#[test]
fn sanitizers_see_reads_out_of_bounds_and_undefined_behaviour() {
    // The sanitizers overlap; which of them comes first is the compiler's choice.
    let bounds: &[&str] =
        &["heap-buffer-overflow", "global-buffer-overflow", "insufficient space", "out of bounds"];
    let cases = [
        ("reads_one_too_many", bounds),
        ("writes_one_too_many", bounds),
        ("reads_one_too_many_shared", bounds),
        ("writes_past_dynamic_shared", bounds),
        ("shifts_too_far", &["shift exponent 32 is too large"]),
    ];
    for (scenario, words) in cases {
        let Some(child) = sanitized_child(&samples(), "scenarios::play") else { return };
        let output = scenarios::of(child, scenario).output().unwrap();
        let text = text(&output);
        assert!(
            !output.status.success() && words.iter().any(|words| text.contains(words)),
            "{scenario}: {text}"
        );
    }
}

#[test]
fn sanitizers_have_nothing_against_correct_programs() {
    for filter in ["kernels::", "streams::", "graphs::", "products::", "tensor_core::"] {
        let Some(mut child) = sanitized_child(&samples(), filter) else { return };
        let output = child.output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        assert!(text(&output).contains(&format!("test {filter}")), "nothing ran: {}", text(&output));
    }
}

/// Runs correct tests with one line of the kernels' text replaced.
fn mutated(file: &str, line: &str, instead: &str, flags: &[&str], filter: &str) -> Option<(bool, String)> {
    let copy = tempfile::tempdir().unwrap();
    for name in ["vectors.cu", "blocks.cu"] {
        let text = std::fs::read_to_string(samples().kernels.join(name)).unwrap();
        assert!(name != file || text.contains(line), "the line is gone");
        let text = if name == file { text.replace(line, instead) } else { text };
        std::fs::write(copy.path().join(name), text).unwrap();
    }
    let flags = flags.iter().map(|&flag| flag.to_owned()).collect();
    let build = Build { kernels: copy.path().to_owned(), flags, sanitized: false };
    let output = child_with(&build, filter)?.output().unwrap();
    Some((output.status.success(), text(&output)))
}

#[test]
fn mistakes_planted_in_a_copy_of_the_kernels_fail_their_tests() {
    let (line, instead) = ("if (i < count) out[i] = fmaf", "if (i <= BOUND) out[i] = fmaf");
    let filter = "kernels::elements_with";
    let Some((right, text)) = mutated("vectors.cu", line, instead, &["-DBOUND=count-1"], filter) else {
        return;
    };
    assert!(right && text.contains("1 passed"), "{text}");
    let (right, text) = mutated("vectors.cu", line, instead, &["-DBOUND=count"], filter).unwrap();
    assert!(!right && text.contains("kernel axpy_f32 wrote past the end"), "{text}");

    let instead = "sum = fmaf(tile_a[threadIdx.y][i], tile_b[i][threadIdx.x], sum);\n";
    let line = format!("{instead}        __syncthreads();\n");
    let (right, text) = mutated("blocks.cu", &line, instead, &[], "kernels::barriers_between").unwrap();
    assert!(!right && text.contains("barriers_between_tiles ... FAILED"), "{text}");
}

#[test]
fn a_missing_barrier_changes_the_answer() {
    let x = values(256, 1);
    let mut answers = Vec::new();
    for ordinal in ORDERS {
        let Some(world) = World::new(ordinal) else { return };
        let (x_gpu, out) = (world.upload(&x), world.buffer::<f32>(256));
        world.launch("lacks_a_barrier", shape(1, 256), &[&x_gpu, &out]).unwrap();
        answers.push(world.download(&out));
    }
    // Who comes first reads what nobody has written: NaN.
    for answer in &answers {
        assert!(answer.iter().any(|value| value.is_nan()));
    }
    let bits = |answer: &[f32]| answer.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert!(bits(&answers[0]) != bits(&answers[1]) && bits(&answers[1]) != bits(&answers[2]));
}

#[test]
fn an_argument_in_the_wrong_place_is_no_pointer() {
    let Some(world) = World::new(0) else { return };
    let (x, out) = (world.upload(&[1.0f32; 8]), world.upload(&[1.0f32; 8]));
    let count = [8u32, 0];
    let swapped = world.launch("axpy_f32", shape(1, 8), &[&x, &count, &1.0f32, &out]).unwrap_err();
    assert_eq!(swapped.0, CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    // One past the end is in no buffer, and a freed one is none.
    let past = world.launch("axpy_f32", shape(1, 8), &[&(x.address + 32), &out, &1.0f32, &8u32]).unwrap_err();
    assert_eq!(past.0, CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    let gone = world.buffer::<f32>(8).address;
    let freed = world.launch("axpy_f32", shape(1, 8), &[&gone, &out, &1.0f32, &8u32]).unwrap_err();
    assert_eq!(freed.0, CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
}

#[test]
fn launches_beyond_the_limits_are_refused_at_the_call() {
    let Some(world) = World::new(0) else { return };
    let out = world.buffer::<u32>(1);
    let fine = shape(1, 1);
    let shapes = [
        Shape { grid: (0, 1, 1), ..fine },
        Shape { grid: (1, 65536, 1), ..fine },
        Shape { grid: (1, 1, 65536), ..fine },
        Shape { block: (1025, 1, 1), ..fine },
        Shape { block: (32, 33, 1), ..fine },
        Shape { block: (1, 1, 65), ..fine },
        Shape { shared_bytes: (48 << 10) + 1, ..fine },
    ];
    for shape in shapes {
        let refused = world.launch("number_threads", shape, &[&out]).unwrap_err();
        assert_eq!(refused.0, CUresult::CUDA_ERROR_INVALID_VALUE);
    }
    // The kernel's own bounds.
    let x = world.upload(&[1.0f32]);
    let arguments: [&dyn crate::world::Argument; 4] = [&x, &out, &1.0f32, &1u32];
    assert!(world.launch("axpy_f32", shape(1, 257), &arguments).is_err());
    world.launch("axpy_f32", shape(1, 256), &arguments).unwrap();
}

#[test]
fn more_shared_memory_has_to_be_asked_for() {
    let Some(world) = World::new(0) else { return };
    let kernel = world.kernel("reverse_blocks").unwrap();
    let ask = |bytes| {
        let attribute = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: the function is alive.
        unsafe { result::function::set_function_attribute(kernel, attribute, bytes) }
    };
    assert!(ask((99 << 10) + 1).is_err());
    ask(99 << 10).unwrap();
    let (x, out) = (world.upload(&[1.0f32, 2.0]), world.buffer::<f32>(2));
    let mut arguments =
        [&raw const x.address, &raw const out.address].map(|address| address.cast_mut().cast());
    // SAFETY: the arguments are the kernel's.
    unsafe { result::launch_kernel(kernel, (1, 1, 1), (2, 1, 1), 99 << 10, world.stream, &mut arguments) }
        .unwrap();
    assert_eq!(world.download(&out), [2.0, 1.0]);
}
