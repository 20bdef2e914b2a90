//! Every number equals PyTorch's.
//!
//! `generate.py` computes the references with PyTorch's and SciPy's own operators in `f64`; the tests need no Python.
//! Every check is generic over [`Backend`] and gives [`Findings`](findings::Findings): the measured errors with their
//! bounds. `suite!` turns the checks into tests of one backend; `simulated_*` run on the simulator of `tests/cusim`, `gpu_*`
//! on a real device (`SIMPLENET_TEST_GPU=1`). `docs/parity.md` holds the measured errors:
//!
//! ```text
//! SIMPLENET_PARITY_TABLE=1 cargo test --release --test parity
//! ```

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod adam;
mod aggregation;
mod backbones;
#[path = "../cusim/support.rs"]
mod cusim;
#[path = "../cusim/device.rs"]
mod device;
mod draws;
mod end_to_end;
mod faults;
mod faulty;
mod findings;
mod head;
mod maps;
mod noise;
mod official;
mod reference;
mod training;

use device::{FORWARD, real, simulated};
use simplenet::backend::Backend;
use simplenet::backend::cpu::Cpu;
use simplenet::backend::cuda::Precision::{F16, F32, Tf32};

/// Whether a backend computes in `f64`.
fn is_double<B: Backend>() -> bool {
    size_of::<B::Scalar>() == 8
}

/// The bound for a backend that computes in `f32`, or the one for `f64`.
fn by_type<B: Backend>(single: f64, double: f64) -> f64 {
    if is_double::<B>() { double } else { single }
}

/// The whole suite for one backend: a module name, its name in the table, and how to open it. The device is an `Option`: a
/// machine without it passes with a message.
macro_rules! suite {
    ($module:ident, $name:literal, $open:expr, [$($check:ident $(($bound:expr))?),*]) => {
        mod $module {
            use super::*;
            $(
                #[test]
                fn $check() {
                    if let Some(device) = $open {
                        suite!(@check $check, &device, $name $(, $bound)?).hold();
                    }
                }
            )*
        }
    };
    ($module:ident, $name:literal, $open:expr) => {
        suite!($module, $name, $open, [backbones, aggregation, noise, head, adam, training, official, maps]);
    };
    (@check $check:ident, $device:expr, $name:literal) => { crate::$check::check($device, $name) };
    (@check $check:ident, $device:expr, $name:literal, $bound:expr) => {
        crate::$check::check_within($device, $name, $bound)
    };
}

suite!(cpu_f32, "CPU f32", Some(Cpu::<f32>::new()));
suite!(cpu_f64, "CPU f64", Some(Cpu::<f64>::new()));

suite!(simulated_f32, "CUDA f32, simulated", simulated(FORWARD, F32));
suite!(gpu_f32, "CUDA f32", real(F32));

// The other arithmetics round the operands of products to eleven bits; under f16 the backbone's tensors are halves, too.
// What has no products is as exact as ever.
suite!(gpu_tf32, "CUDA tf32", real(Tf32), [backbones(2e-3), aggregation, noise, adam, maps]);
suite!(gpu_f16, "CUDA f16", real(F16), [backbones(5e-3), aggregation, noise, adam, maps]);
