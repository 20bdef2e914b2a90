//! Products by the stand-in for cuBLASLt, against sums in f64; and what it refuses.

use cudarc::cublaslt::sys::{
    cublasComputeType_t as Compute, cublasLtEpilogue_t as Epilogue, cublasLtMatmulHeuristicResult_t as Offer,
    cublasStatus_t as Status, cudaDataType_t as Type,
};
use cudarc::driver::sys::CUresult;
use half::f16;

use crate::blas::{Operands, PLAIN, Plan, Problem, Stored};
use crate::world::{Buffer, Event, ORDERS, World, values};

/// A matrix on the device, in the type that the problem wants, with the values as f64.
struct Matrix {
    bytes: Buffer<u8>,
    values: Vec<f64>,
}

fn matrix(world: &World, kind: Type, values: &[f32]) -> Matrix {
    if kind == Type::CUDA_R_16F {
        let halves: Vec<_> = values.iter().map(|&value| f16::from_f32(value)).collect();
        let bytes: Vec<u8> = halves.iter().flat_map(|half| half.to_ne_bytes()).collect();
        Matrix { bytes: world.upload(&bytes), values: halves.iter().map(|half| half.to_f64()).collect() }
    } else {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_ne_bytes()).collect();
        Matrix { bytes: world.upload(&bytes), values: values.iter().map(|&value| f64::from(value)).collect() }
    }
}

fn numbers(world: &World, kind: Type, bytes: &Buffer<u8>) -> Vec<f64> {
    let bytes = world.download(bytes);
    if kind == Type::CUDA_R_16F {
        bytes.chunks(2).map(|half| f16::from_ne_bytes([half[0], half[1]]).to_f64()).collect()
    } else {
        bytes.chunks(4).map(|word| f64::from(f32::from_ne_bytes(word.try_into().unwrap()))).collect()
    }
}

struct Case {
    plan: Plan,
    a: Matrix,
    b: Matrix,
    c: Matrix,
    bias: Matrix,
    workspace: Option<Buffer<u8>>,
    d: Matrix,
}

impl Case {
    fn new(world: &World, problem: Problem) -> Self {
        let draw =
            |stored: Stored, kind, seed| matrix(world, kind, &values(problem.batches * stored.stride, seed));
        let plan = Plan::new(problem).unwrap();
        let workspace = (plan.workspace_bytes > 0).then(|| world.buffer(plan.workspace_bytes));
        Self {
            plan,
            a: draw(problem.a(), problem.factors, 1),
            b: draw(problem.b(), problem.factors, 2),
            c: draw(problem.d(), problem.out, 3),
            bias: matrix(world, problem.bias, &values(problem.batches * problem.m, 4)),
            workspace,
            d: draw(problem.d(), problem.out, 5),
        }
    }

    fn operands(&self) -> Operands {
        Operands {
            a: self.a.bytes.address,
            b: self.b.bytes.address,
            c: self.c.bytes.address,
            d: self.d.bytes.address,
            bias: self.bias.bytes.address,
            workspace: self.workspace.as_ref().map_or(0, |workspace| workspace.address),
            workspace_bytes: self.plan.workspace_bytes,
        }
    }
}

fn has_bias(epilogue: Epilogue) -> bool {
    matches!(epilogue, Epilogue::CUBLASLT_EPILOGUE_BIAS | Epilogue::CUBLASLT_EPILOGUE_RELU_BIAS)
}

fn has_relu(epilogue: Epilogue) -> bool {
    matches!(epilogue, Epilogue::CUBLASLT_EPILOGUE_RELU | Epilogue::CUBLASLT_EPILOGUE_RELU_BIAS)
}

/// Runs the product; every element must be right to `tolerance` times the sum of its terms' magnitudes, and what lies
/// between the columns must be left alone.
fn check(problem: Problem, tolerance: f64) {
    for ordinal in ORDERS {
        let Some(world) = World::new(ordinal) else { return };
        let case = Case::new(&world, problem);
        case.plan.run(case.operands(), world.stream).unwrap();
        let out = numbers(&world, problem.out, &case.d.bytes);
        let (a, b, d) = (problem.a(), problem.b(), problem.d());
        let mut untouched = case.d.values.clone();
        for batch in 0..problem.batches {
            for (row, column) in
                (0..problem.m).flat_map(|row| (0..problem.n).map(move |column| (row, column)))
            {
                let at = d.at(batch, row, column);
                let (mut sum, mut size) = (0.0, 0.0);
                for p in 0..problem.k {
                    let left = if problem.transpose_a { a.at(batch, p, row) } else { a.at(batch, row, p) };
                    let right =
                        if problem.transpose_b { b.at(batch, column, p) } else { b.at(batch, p, column) };
                    let term = case.a.values[left] * case.b.values[right];
                    sum += term;
                    size += term.abs();
                }
                let mut expected = f64::from(problem.alpha) * sum;
                if problem.beta != 0.0 {
                    expected += f64::from(problem.beta) * case.c.values[at];
                }
                if has_bias(problem.epilogue) {
                    expected += case.bias.values[batch * problem.m + row];
                }
                if has_relu(problem.epilogue) {
                    expected = expected.max(0.0);
                }
                let error = (out[at] - expected).abs();
                assert!(
                    error <= tolerance * (size + 1.0),
                    "({row}, {column}): {} instead of {expected}",
                    out[at]
                );
                untouched[at] = out[at];
            }
        }
        assert_eq!(out, untouched, "the product wrote between its columns");
    }
}

const F32: f64 = 1e-6;
/// D is rounded to eleven bits.
const F16_OUT: f64 = 6e-4;
/// Factors are rounded to eleven bits, and the errors of a sum partly cancel.
const TF32: f64 = 6e-4;

#[test]
fn all_transposes() {
    for (transpose_a, transpose_b) in [(false, false), (false, true), (true, false), (true, true)] {
        for row_major in [false, true] {
            check(Problem { transpose_a, transpose_b, row_major, padding: 3, ..PLAIN }, F32);
        }
    }
}

#[test]
fn all_sizes_from_one_element_to_many_tiles() {
    for (m, n, k) in [(1, 1, 1), (1, 7, 2), (16, 6, 256), (17, 7, 257), (129, 97, 513), (5, 300, 64)] {
        check(Problem { m, n, k, ..PLAIN }, F32);
    }
}

#[test]
fn epilogues_with_alpha_and_beta() {
    for epilogue in [
        Epilogue::CUBLASLT_EPILOGUE_DEFAULT,
        Epilogue::CUBLASLT_EPILOGUE_RELU,
        Epilogue::CUBLASLT_EPILOGUE_BIAS,
        Epilogue::CUBLASLT_EPILOGUE_RELU_BIAS,
    ] {
        check(Problem { epilogue, alpha: -0.5, beta: 2.0, ..PLAIN }, F32);
        check(Problem { epilogue, workspace_bytes: 1 << 20, ..PLAIN }, F32);
    }
}

#[test]
fn batches() {
    let epilogue = Epilogue::CUBLASLT_EPILOGUE_BIAS;
    check(Problem { batches: 3, epilogue, beta: 1.0, padding: 1, transpose_b: true, ..PLAIN }, F32);
}

#[test]
fn halves_in_and_out() {
    let halves =
        Problem { factors: Type::CUDA_R_16F, out: Type::CUDA_R_16F, bias: Type::CUDA_R_16F, ..PLAIN };
    let epilogue = Epilogue::CUBLASLT_EPILOGUE_RELU_BIAS;
    check(Problem { epilogue, beta: 1.0, ..halves }, F16_OUT);
    check(Problem { epilogue, transpose_a: true, ..halves }, F16_OUT);
    check(Problem { factors: Type::CUDA_R_16F, transpose_b: true, ..PLAIN }, F32);
}

#[test]
fn tf32_rounds_the_factors_and_nothing_else() {
    let tf32 = Problem { compute: Compute::CUBLAS_COMPUTE_32F_FAST_TF32, ..PLAIN };
    check(tf32, TF32);

    let Some(world) = World::new(0) else { return };
    let one = |value: f32| {
        let mut case = Case::new(&world, Problem { m: 1, n: 1, k: 1, ..tf32 });
        case.a = matrix(&world, Type::CUDA_R_32F, &[value]);
        case.b = matrix(&world, Type::CUDA_R_32F, &[1.0]);
        case.plan.run(case.operands(), world.stream).unwrap();
        numbers(&world, Type::CUDA_R_32F, &case.d.bytes)[0]
    };
    let step = 2f64.powi(-10);
    assert_eq!(one(1.0 + 0.49 / 1024.0), 1.0);
    assert_eq!(one(1.0 + 0.5 / 1024.0), 1.0);
    assert_eq!(one(1.0 + 1.5 / 1024.0), 1.0 + 2.0 * step);
    assert_eq!(one(-1.0 - 0.75 / 1024.0), -1.0 - step);
    assert_eq!(one(f32::INFINITY), f64::INFINITY);
    assert!(one(f32::NAN).is_nan());
}

#[test]
fn two_runs_give_the_same_bits() {
    let Some(world) = World::new(0) else { return };
    let case = Case::new(&world, Problem { m: 300, n: 200, k: 700, ..PLAIN });
    let run = || {
        case.plan.run(case.operands(), world.stream).unwrap();
        world.download(&case.d.bytes)
    };
    assert_eq!(run(), run());
}

#[test]
fn what_is_not_a_number_stays_so() {
    let Some(world) = World::new(0) else { return };
    let epilogue = Epilogue::CUBLASLT_EPILOGUE_RELU;
    let mut case = Case::new(&world, Problem { m: 2, n: 1, k: 1, epilogue, ..PLAIN });
    case.a = matrix(&world, Type::CUDA_R_32F, &[f32::NAN, f32::NEG_INFINITY]);
    case.b = matrix(&world, Type::CUDA_R_32F, &[1.0]);
    // C is not read where beta is zero.
    case.c = matrix(&world, Type::CUDA_R_32F, &[f32::NAN; 2]);
    case.plan.run(case.operands(), world.stream).unwrap();
    let out = numbers(&world, Type::CUDA_R_32F, &case.d.bytes);
    assert!(out[0].is_nan() && out[1] == 0.0, "{out:?}");
}

#[test]
fn c_may_be_d() {
    let Some(world) = World::new(0) else { return };
    let case = Case::new(&world, Problem { m: 1, n: 1, k: 1, beta: 1.0, ..PLAIN });
    case.plan.run(Operands { c: case.d.bytes.address, ..case.operands() }, world.stream).unwrap();
    let expected = case.a.values[0] * case.b.values[0] + case.d.values[0];
    assert!((numbers(&world, Type::CUDA_R_32F, &case.d.bytes)[0] - expected).abs() < F32);
}

#[test]
fn what_the_real_library_does_not_offer() {
    if World::new(0).is_none() {
        return;
    }
    let refused = [
        Problem { compute: Compute::CUBLAS_COMPUTE_16F, ..PLAIN },
        Problem { compute: Compute::CUBLAS_COMPUTE_32F_FAST_TF32, factors: Type::CUDA_R_16F, ..PLAIN },
        Problem { out: Type::CUDA_R_16F, ..PLAIN },
        Problem { bias: Type::CUDA_R_16F, epilogue: Epilogue::CUBLASLT_EPILOGUE_BIAS, ..PLAIN },
        Problem { epilogue: Epilogue::CUBLASLT_EPILOGUE_GELU, ..PLAIN },
        Problem { factors: Type::CUDA_R_8I, ..PLAIN },
    ];
    for problem in refused {
        assert_eq!(Plan::new(problem).err().unwrap().0, Status::CUBLAS_STATUS_NOT_SUPPORTED);
    }
    assert_eq!(Plan::new(Problem { k: 0, ..PLAIN }).err().unwrap().0, Status::CUBLAS_STATUS_INVALID_VALUE);
}

#[test]
fn operands_that_break_a_promise() {
    let Some(world) = World::new(0) else { return };
    let epilogue = Epilogue::CUBLASLT_EPILOGUE_BIAS;
    let case = Case::new(&world, Problem { epilogue, beta: 1.0, workspace_bytes: 1 << 20, ..PLAIN });
    let good = case.operands();
    case.plan.run(good, world.stream).unwrap();
    let bad = [
        Operands { a: 0, ..good },
        Operands { d: 0, ..good },
        Operands { bias: 0, ..good },
        Operands { bias: good.bias + 4, ..good },
        // Not aligned as the algorithm was promised.
        Operands { a: good.a + 4, ..good },
        // Beyond the end of the buffer.
        Operands { b: good.b + 256, ..good },
        // Over another matrix.
        Operands { d: good.a, ..good },
        Operands { c: good.d + 256, ..good },
        Operands { workspace: good.d, ..good },
        // Too little workspace.
        Operands { workspace_bytes: good.workspace_bytes - 1, ..good },
        Operands { workspace: 0, ..good },
    ];
    for operands in bad {
        let refused = case.plan.run(operands, world.stream).unwrap_err();
        assert_eq!(refused.0, Status::CUBLAS_STATUS_INVALID_VALUE);
    }
    let mut other = Case::new(&world, Problem { m: 36, ..PLAIN });
    other.plan.algorithm = Plan::new(PLAIN).unwrap().algorithm;
    let refused = other.plan.run(other.operands(), world.stream).unwrap_err();
    assert_eq!(refused.0, Status::CUBLAS_STATUS_INVALID_VALUE, "an algorithm of another problem");
}

/// All algorithms of a product, each with the workspace it needs.
fn algorithms(world: &World, problem: Problem) -> Vec<Case> {
    let offers = Plan::new(problem).unwrap().offers(16).unwrap();
    let case = |offer: &Offer| {
        let mut case = Case::new(world, problem);
        (case.plan.algorithm, case.plan.workspace_bytes) = (offer.algo, offer.workspaceSize);
        case.workspace = (offer.workspaceSize > 0).then(|| world.buffer(offer.workspaceSize));
        case
    };
    offers.iter().map(case).collect()
}

#[test]
fn several_algorithms_multiply_alike_up_to_rounding() {
    let Some(world) = World::new(0) else { return };
    let problem = Problem { k: 1500, workspace_bytes: 1 << 20, ..PLAIN };
    let plan = Plan::new(problem).unwrap();
    assert_eq!(plan.offers(16).unwrap().len(), 4);
    assert_eq!(plan.offers(3).unwrap().len(), 3);
    assert_eq!(
        plan.offers(1).unwrap()[0].algo,
        plan.algorithm,
        "the first is the one that a program gets alone"
    );
    let little = Plan::new(Problem { workspace_bytes: 100 << 10, ..problem }).unwrap().offers(16).unwrap();
    assert!(little.len() == 3 && little.iter().all(|offer| offer.workspaceSize <= 100 << 10));

    let results: Vec<Vec<f64>> = algorithms(&world, problem)
        .iter()
        .map(|case| {
            case.plan.run(case.operands(), world.stream).unwrap();
            numbers(&world, Type::CUDA_R_32F, &case.d.bytes)
        })
        .collect();
    let norm = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>().sqrt();
    for other in &results[1..] {
        let difference: Vec<f64> = results[0].iter().zip(other).map(|(a, b)| a - b).collect();
        // Each sum of 1500 terms is rounded a few dozen times, in another order.
        assert!(norm(&difference) <= 1e-6 * norm(&results[0]));
    }
    let differing = results.iter().filter(|result| **result != results[0]).count();
    assert_eq!(differing, 2, "two of the three others sum in another order");
}

#[test]
fn a_stored_algorithm_is_checked() {
    let Some(world) = World::new(0) else { return };
    let problem = Problem { workspace_bytes: 1 << 20, ..PLAIN };
    let plan = Plan::new(problem).unwrap();
    let questions = world.simulator.counters(0).cublaslt_questions;
    for offer in plan.offers(16).unwrap() {
        assert_eq!(plan.check(&offer.algo).unwrap(), offer.workspaceSize);
    }
    assert!(world.simulator.counters(0).cublaslt_questions >= questions + 5);
    let refused = |algorithm| plan.check(&algorithm).unwrap_err().0;
    for word in 0..8 {
        let mut algorithm = plan.algorithm;
        algorithm.data[word] ^= 1 << 17;
        assert_eq!(refused(algorithm), Status::CUBLAS_STATUS_NOT_SUPPORTED, "word {word}");
        let mut case = Case::new(&world, problem);
        case.plan.algorithm = algorithm;
        let run = case.plan.run(case.operands(), world.stream).unwrap_err();
        assert_eq!(run.0, Status::CUBLAS_STATUS_INVALID_VALUE, "word {word}");
    }
    let other = Plan::new(Problem { m: 36, ..problem }).unwrap().algorithm;
    assert_eq!(refused(other), Status::CUBLAS_STATUS_NOT_SUPPORTED, "an algorithm of another problem");
}

/// Microseconds between two events around a product with each of its algorithms.
pub(crate) fn durations(world: &World, problem: Problem) -> Vec<f32> {
    let measure = |case: &Case| {
        let (start, end) = (Event::timing(), Event::timing());
        start.record(world.stream);
        case.plan.run(case.operands(), world.stream).unwrap();
        end.record(world.stream);
        world.synchronise();
        start.elapsed(&end).unwrap() * 1e3
    };
    algorithms(world, problem).iter().map(measure).collect()
}

/// Of the device's own clock: the same every time, whatever the machine does meanwhile.
#[test]
fn events_measure_what_the_algorithm_says() {
    let Some(world) = World::alone(4) else { return };
    let problem = Problem { workspace_bytes: 1 << 20, ..PLAIN };
    let asked = world.simulator.counters(4).elapsed_times;
    let close = |found: &[f32], expected: [f32; 4]| {
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-2), "{found:?}");
        assert_eq!(found.len(), 4);
    };
    close(&durations(&world, problem), [10.0, 20.0, 30.0, 40.0]);
    assert_eq!(world.simulator.counters(4).elapsed_times, asked + 4);
    // A factor of 6 MB, beyond the cache.
    close(&durations(&world, Problem { m: 10, n: 5, k: 150_000, ..problem }), [160.0, 320.0, 480.0, 640.0]);

    let untimed = Event::new();
    untimed.record(world.stream);
    world.synchronise();
    let refused = untimed.elapsed(&untimed).unwrap_err();
    assert_eq!(refused.0, CUresult::CUDA_ERROR_INVALID_HANDLE, "an event that was made without timing");
}
