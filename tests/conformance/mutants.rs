//! The suite finds mistakes in kernels: each is planted in a copy of `kernels/`, and the simulated tests of an operation
//! have to fail on it.
//!
//! Every test runs this program again, on a simulator built from the copy; of that only the changed file is compiled.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::cusim::{Build, child_with, crate_folder, sanitized_child};
use crate::device::simulator;

/// One mistake.
struct Mutant {
    /// The file of `kernels/` that shows it.
    file: &'static str,
    /// A text that occurs once in the file or, if not there, in `common.cuh`.
    original: &'static str,
    mistake: &'static str,
    found_by: FoundBy,
}

/// The simulated tests that have to fail, by their operation.
#[derive(Clone, Copy)]
enum FoundBy {
    /// In one of the three orders of threads.
    Test(&'static str),
    /// With half-precision tensors.
    HalfPrecision(&'static str),
    /// With convolutions in one kernel, in one of the three orders.
    TensorCores(&'static str),
    /// With a cuBLASLt that leaves bias, residual and ReLU to a kernel.
    PlainProducts(&'static str),
    /// Under AddressSanitizer and UBSan, where nothing else shows it: the results are right.
    Sanitizers(&'static str),
    /// The same with convolutions in one kernel.
    SanitizedTensorCores(&'static str),
    /// By a test of that name, which counts what no result shows.
    Counted(&'static str),
}
use FoundBy::{Counted, HalfPrecision, PlainProducts, SanitizedTensorCores, Sanitizers, TensorCores, Test};

/// What a child says when it has found a mistake. One that fails for another reason has found nothing.
const DISCOVERIES: [&str; 6] =
    [" exceeds ", "differs in bits", "hides a NaN", "cusim: ", "ERROR: AddressSanitizer", "runtime error: "];

/// Has the simulated cuBLASLt fuse nothing.
const PLAIN_PRODUCTS: &str = "CUSIM_NO_EPILOGUE";

/// A test a mistake, and a list of them all: a name, the file, what stands there, what is planted, who finds it.
macro_rules! mutants {
    ($($name:ident: $file:literal, $original:literal => $mistake:literal, $found_by:expr;)+) => {
        const MUTANTS: &[Mutant] = &[
            $(Mutant { file: $file, original: $original, mistake: $mistake, found_by: $found_by },)+
        ];
        $(
            #[test]
            fn $name() {
                Mutant { file: $file, original: $original, mistake: $mistake, found_by: $found_by }.is_found();
            }
        )+
    };
}

mutants! {
    // Wrong elements, axes and tails.
    adam_updates_the_wrong_parameter: "adam.cu",
        "first_block <= blockIdx.x" => "first_block < blockIdx.x", Test("adam");
    add_writes_one_too_many: "add.cu",
        "store_part<4>(sum + first, total, count - first)" => "store_part<4>(sum + first, total, count - first + 1)",
        Test("add");
    aggregate_reads_below_the_image: "aggregate.cu",
        "y < h && place + row" => "y <= h && place + row", Test("aggregate");
    aggregate_exchanges_the_axes_of_a_patch: "aggregate.cu",
        "row.low + ky - patch / 2" => "row.low + kx - patch / 2", Test("aggregate");
    anomaly_map_writes_below_the_map: "anomaly_map.cu",
        "min(strip, out_h - first_y)" => "strip", Test("anomaly_map");
    batch_norm_writes_one_row_too_many: "batch_norm.cu",
        "rows) break;\n        const u64 at = (first_row + r) * columns + column;\n        Packet<float, 4> x"
        => "rows + 1) break;\n        const u64 at = (first_row + r) * columns + column;\n        Packet<float, 4> x",
        Test("batch_norm");
    batch_norm_score_writes_one_row_too_many: "batch_norm_score.cu",
        "first_row + r < rows) out" => "first_row + r <= rows) out", Test("batch_norm_score");
    batch_norm_score_takes_one_half_for_both: "batch_norm_score.cu",
        "const unsigned group = half_group / 2;" => "const unsigned group = half_group % groups;",
        Test("batch_norm_score");
    column_sums_write_one_too_many: "column_sums.cu",
        "column < columns) out[column]" => "column <= columns) out[column]", Test("linear");
    conv2d_reads_the_next_line_for_padding: "conv2d.cu",
        " && x < sizes.w;" => " && x <= sizes.w;", Test("conv2d");
    conv2d_epilogue_never_begins_another_row: "conv2d.cu",
        "if (++column == columns) column = 0;" => "++column;", PlainProducts("conv2d");
    conv2d_implicit_reads_the_next_line_for_padding: "conv2d_implicit.cu",
        "x < sizes_.w;" => "x <= sizes_.w;", TensorCores("conv2d_implicit");
    conv2d_implicit_begins_a_pixel_late: "conv2d_implicit.cu",
        "out_x * sizes.stride - sizes.padding" => "out_x * sizes.stride", TensorCores("conv2d_implicit");
    conv2d_implicit_takes_the_taps_by_columns: "conv2d_implicit.cu",
        "(ky_ * sizes_.kernel_w + kx_) * sizes_.channels" => "(kx_ * sizes_.kernel_w + ky_) * sizes_.channels",
        TensorCores("conv2d_implicit");
    conv2d_implicit_multiplies_what_lies_behind_the_last_channel: "conv2d_implicit.cu",
        "channel_ < sizes_.channels && ky_ < sizes_.kernel_h" => "true", SanitizedTensorCores("conv2d_implicit");
    conv2d_implicit_reads_rows_behind_the_last: "conv2d_implicit.cu",
        "m < sizes.rows ? out_y * sizes.stride - sizes.padding : 1u << 31" => "out_y * sizes.stride - sizes.padding",
        SanitizedTensorCores("conv2d_implicit");
    conv2d_implicit_takes_other_columns_of_patches: "conv2d_implicit.cu",
        "2 * half + lane / 16)" => "2 * half + lane / 8 % 2)", TensorCores("conv2d_implicit");
    conv2d_implicit_exchanges_the_halves_of_weights: "conv2d_implicit.cu",
        "b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]" => "b[j / 2][j % 2 * 2 + 1], b[j / 2][j % 2 * 2]",
        TensorCores("conv2d_implicit");
    conv2d_implicit_exchanges_sums: "conv2d_implicit.cu",
        "{sums[i][j][2], sums[i][j][3]}" => "{sums[i][j][3], sums[i][j][2]}", TensorCores("conv2d_implicit");
    conv2d_implicit_copies_without_the_swizzle: "conv2d_implicit.cu",
        "place_ = place(row, chunk)" => "place_ = row * STEP + chunk * CHUNK", TensorCores("conv2d_implicit");
    conv2d_implicit_has_another_swizzle: "conv2d_implicit.cu",
        "(chunk ^ (row / 2 % CHUNKS))" => "(chunk ^ (row % CHUNKS))",
        Counted("conv2d_implicit::shared_memory_is_read_without_bank_conflicts");
    conv2d_implicit_begins_a_part_at_another_tap: "conv2d_implicit.cu",
        "first_step % taps / sizes.kernel_w" => "first_step / sizes.kernel_w % taps", TensorCores("conv2d_implicit");
    conv2d_implicit_joins_all_parts_but_the_last: "conv2d_implicit.cu",
        "part < part_count" => "part + 1 < part_count", TensorCores("conv2d_implicit");
    conv2d_implicit_hides_what_is_no_number: "conv2d_implicit.cu",
        "relu && value < 0.0f ? 0.0f : value" => "relu && !(value > 0.0f) ? 0.0f : value", TensorCores("conv2d_implicit");
    gather_rows_exchanges_the_axes_of_the_grid: "feature_cache.cu",
        "* batch + blockIdx.y]" => "* batch + blockIdx.x]", Test("gather_rows");
    gather_rows_forgets_the_factor: "feature_cache.cu",
        "scale * to_float(stored.value[i])" => "to_float(stored.value[i])", Test("gather_rows");
    max_pool2d_begins_one_pixel_late: "max_pool2d.cu",
        "max(2 * out_x + i % 3, 1u) - 1" => "2 * out_x + i % 3", Test("max_pool2d");
    normalize_begins_every_packet_with_red: "normalize.cu",
        "(first_channel + i) % 3" => "i % 3", HalfPrecision("normalize");
    resize_add_score_exchanges_height_and_width: "resize_add_score.cu",
        "interpolation(x, level.w, width)" => "interpolation(x, level.h, width)", Test("resize_add_score");
    score_writes_one_row_too_many: "score.cu",
        "row >= rows" => "row > rows", Test("score");

    // Wrong arithmetic.
    adam_forgets_a_bias_correction: "adam.cu",
        "sqrtf(v.value[i]) * inverse_correction_2" => "sqrtf(v.value[i])", Test("adam");
    adam_corrects_as_in_the_first_step: "adam.cu",
        "/ corrections_1[cursor[0]]" => "/ corrections_1[0]", Test("adam");
    batch_norm_score_subtracts_the_input_from_the_mean: "batch_norm_score.cu",
        "fmaf(-deviation, product, part)" => "fmaf(deviation, product, part)", Test("batch_norm_score");
    batch_norm_score_trusts_the_rounded_mean: "batch_norm_score.cu",
        "(means[in] - origin) + deviations[in]" => "(means[in] - origin)", Test("batch_norm_score");
    batch_norm_score_has_no_slope_at_zero: "batch_norm_score.cu",
        "normalised(deviation) > 0.0f" => "normalised(deviation) >= 0.0f", Test("batch_norm_score");
    leaky_relu_has_no_slope_at_zero: "leaky_relu.cu",
        "x > 0.0f ? 1.0f : slope" => "x >= 0.0f ? 1.0f : slope", Test("leaky_relu");
    loss_counts_what_lies_on_the_margin: "loss.cu",
        "directed > margin" => "directed >= margin", Test("loss");
    noise_counts_the_steps_of_the_epoch: "noise.cu",
        "step = cursor[1]" => "step = cursor[0]", Test("noise");
    noise_runs_nine_rounds: "noise.cu",
        "round < 10" => "round < 9", Test("noise");
    noise_draws_from_another_stream: "noise.cu",
        "NOISE_STREAM = 0" => "NOISE_STREAM = 1", Test("noise");
    noise_draws_mixtures_from_another_stream: "noise.cu",
        "NOISE_MIXTURE_STREAM = 6" => "NOISE_MIXTURE_STREAM = 0", Test("noise");
    noise_draws_mixtures_for_every_other_row: "noise.cu",
        "const unsigned low = row & 1 ? draws.word[1] : draws.word[0];" => "const unsigned low = draws.word[0];",
        Test("noise");
    noise_widens_the_next_row_as_the_last: "noise.cu",
        "sigma, ++row, mixtures" => "sigma, row, mixtures", Test("noise");
    max_pool2d_drops_what_is_no_number: "max_pool2d.cu",
        "a >= b || a != a ? a : b" => "a >= b ? a : b", Test("max_pool2d");

    schedule_forgets_the_steps_of_the_training: "schedule.cu",
        "++cursor[1];" => "", Test("schedule");

    // Missing barriers and steps of a reduction.
    anomaly_map_reads_lines_too_early: "anomaly_map.cu",
        "__syncthreads();\n\n    for" => "\n\n    for", Test("anomaly_map");
    anomaly_map_takes_the_maximum_too_early: "anomaly_map.cu",
        "__syncthreads();\n    if (threadIdx.x == 0)" => "if (threadIdx.x == 0)", Test("anomaly_map");
    batch_norm_score_sums_too_early: "batch_norm_score.cu",
        "parts[i][threadIdx.x] = values[i];\n    __syncthreads();" => "parts[i][threadIdx.x] = values[i];",
        Test("batch_norm_score");
    batch_norm_score_overwrites_an_earlier_sum: "batch_norm_score.cu",
        "__syncthreads();  // What an earlier call left there has been read." => "", Test("batch_norm_score");
    column_sums_add_too_early: "column_sums.cu",
        "parts[i][threadIdx.x] = values[i];\n    __syncthreads();" => "parts[i][threadIdx.x] = values[i];",
        Test("linear");
    conv2d_implicit_does_not_wait_for_copies: "conv2d_implicit.cu",
        "wait_for_copies<T::STAGES - 2>();" => "", TensorCores("conv2d_implicit");
    conv2d_implicit_waits_for_one_stage_too_few: "conv2d_implicit.cu",
        "wait_for_copies<T::STAGES - 2>();" => "wait_for_copies<T::STAGES - 1>();", TensorCores("conv2d_implicit");
    conv2d_implicit_makes_no_group_of_the_last_copies: "conv2d_implicit.cu",
        "commit_copies();\n        multiply" => "if (step + T::STAGES - 1 < steps) commit_copies();\n        multiply",
        TensorCores("conv2d_implicit");
    conv2d_implicit_overwrites_a_stage_too_early: "conv2d_implicit.cu",
        "__syncthreads();  // The stage is there for all, and what is overwritten below has been read by all." => "",
        TensorCores("conv2d_implicit");
    conv2d_implicit_overwrites_the_last_stage: "conv2d_implicit.cu",
        "__syncthreads();  // The last stages have been read: their memory is free." => "",
        TensorCores("conv2d_implicit");
    conv2d_implicit_reads_lines_too_early: "conv2d_implicit.cu",
        "__syncwarp();\n#pragma" => "\n#pragma", TensorCores("conv2d_implicit");
    conv2d_implicit_overwrites_lines_too_early: "conv2d_implicit.cu",
        "__syncwarp();  // The next sixteen rows may be written." => "", TensorCores("conv2d_implicit");
    loss_adds_the_warps_too_early: "loss.cu",
        "= value;\n    __syncthreads();" => "= value;", Test("loss");
    loss_overwrites_the_other_half: "loss.cu",
        "__syncthreads();  // The next call may write." => "", Test("loss");
    resize_add_score_forgets_every_other_lane: "resize_add_score.cu",
        "offset > 0; offset /= 2) value +=" => "offset > 1; offset /= 2) value +=", Test("resize_add_score");

    // Reads beside a buffer and packets where none begins: the results are right, by luck.
    batch_norm_takes_every_address_for_aligned: "batch_norm.cu",
        "if (count >= WIDTH && is_aligned<WIDTH>(to))" => "if (count >= WIDTH)", Sanitizers("batch_norm");
    gather_rows_takes_every_address_for_aligned: "feature_cache.cu",
        "if (count >= WIDTH && is_aligned<WIDTH>(from))" => "if (count >= WIDTH)", Sanitizers("gather_rows");
    leaky_relu_reads_whole_packets: "leaky_relu.cu",
        "i < count ? from[i] : T()" => "from[i]", Sanitizers("leaky_relu");
}

/// A copy of the kernels, its header too.
fn copy_of_the_kernels() -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(crate_folder("kernels")).unwrap() {
        let file = entry.unwrap().path();
        if is_kernel_file(&file) || file.extension().is_some_and(|extension| extension == "cuh") {
            fs::copy(&file, copy.path().join(file.file_name().unwrap())).unwrap();
        }
    }
    copy
}

fn is_kernel_file(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "cu")
}

/// Whether a child succeeds, and all it says.
fn run(child: &mut Command) -> (bool, String) {
    let output = child.output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (output.status.success(), said.concat())
}

/// A child with the tests of an operation on devices of that kind.
fn in_all_orders(build: &Build, devices: &str, operation: &str) -> Option<Command> {
    let [first, rest @ ..] =
        ["forward", "reverse", "shuffled"].map(|order| format!("{devices}_{order}::{operation}"));
    let mut child = child_with(build, &first)?;
    child.args(rest);
    Some(child)
}

impl Mutant {
    /// The copy of the kernels with the mistake in it. A mistake in the header goes into the file in place of its
    /// `#include`, since with another header every file would be compiled anew.
    fn plant(&self) -> TempDir {
        let copy = copy_of_the_kernels();
        let path = copy.path().join(self.file);
        let mut text = fs::read_to_string(&path).unwrap();
        if !text.contains(self.original) {
            let header = fs::read_to_string(copy.path().join("common.cuh")).unwrap();
            text = text.replacen("#include \"common.cuh\"", &header, 1);
        }
        let found = text.matches(self.original).count();
        assert_eq!(found, 1, "{} and its header hold this {found} times: {}", self.file, self.original);
        fs::write(path, text.replace(self.original, self.mistake)).unwrap();
        copy
    }

    fn is_found(&self) {
        if simulator().is_none() {
            return;
        }
        let copy = self.plant();
        let build = Build { kernels: copy.path().to_owned(), ..Build::of_the_project() };
        let child = match self.found_by {
            Test(operation) => in_all_orders(&build, "simulated", operation),
            TensorCores(operation) => in_all_orders(&build, "simulated_implicit", operation),
            Counted(test) => child_with(&build, test),
            HalfPrecision(operation) => child_with(&build, &format!("simulated_f16::{operation}")),
            PlainProducts(operation) => {
                child_with(&build, &format!("simulated_forward::{operation}")).map(|mut child| {
                    child.env(PLAIN_PRODUCTS, "1");
                    child
                })
            }
            Sanitizers(operation) => sanitized_child(&build, &format!("simulated_forward::{operation}")),
            SanitizedTensorCores(operation) => {
                sanitized_child(&build, &format!("simulated_implicit_forward::{operation}"))
            }
        };
        let (passed, said) = run(child.expect("the simulator is there").arg("--exact"));
        assert!(!passed, "nobody noticed that in {} stands {}", self.file, self.mistake);
        assert!(DISCOVERIES.iter().any(|words| said.contains(words)), "failed, but found nothing:\n{said}");
    }
}

/// Without a mistake the same tests pass: those of one order here, those of the others in this program itself, those under
/// the sanitizers in `sanitizers.rs`.
#[test]
fn a_copy_without_a_mistake_passes() {
    if simulator().is_none() {
        return;
    }
    let copy = copy_of_the_kernels();
    let build = Build { kernels: copy.path().to_owned(), ..Build::of_the_project() };
    let everything = child_with(&build, "simulated_reverse::").expect("the simulator is there");
    let mut plain_products = child_with(&build, "simulated_forward::conv2d").expect("the simulator is there");
    plain_products.env(PLAIN_PRODUCTS, "1");
    let tensor_cores = child_with(&build, "simulated_implicit_reverse::").expect("the simulator is there");
    for mut child in [everything, plain_products, tensor_cores] {
        let (passed, said) = run(&mut child);
        assert!(passed && !said.contains(" 0 passed"), "{said}");
    }
}

#[test]
fn every_kernel_file_has_a_mutant() {
    for entry in fs::read_dir(crate_folder("kernels")).unwrap() {
        let file = entry.unwrap().path();
        let name = file.file_name().unwrap();
        let known = MUTANTS.iter().any(|mutant| name == mutant.file);
        assert!(known || !is_kernel_file(&file), "no mistake is planted in {}", file.display());
    }
}
