//! Every number equals PyTorch's.
//!
//! `generate.py` computes the references with PyTorch's and SciPy's own operators in `f64`; the tests need no Python.
//! Every check is generic over [`Backend`] and gives [`Findings`](findings::Findings): the measured errors with their
//! bounds. `suite!` turns the checks into tests of one backend. `docs/parity.md` holds the measured errors:
//!
//! ```text
//! SIMPLENET_PARITY_TABLE=1 cargo test --release --test parity
//! ```

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod adam;
mod aggregation;
mod backbones;
mod draws;
mod end_to_end;
mod faults;
mod faulty;
mod findings;
mod head;
mod maps;
mod reference;
mod training;

use simplenet::backend::Backend;
use simplenet::backend::cpu::Cpu;

/// The bound for a backend that computes in `f32`, or the one for `f64`.
fn by_type<B: Backend>(single: f64, double: f64) -> f64 {
    if size_of::<B::Scalar>() == 8 { double } else { single }
}

/// The whole suite for one backend: a module name, its name in the table, and how to open it.
macro_rules! suite {
    ($module:ident, $name:literal, $open:expr, [$($check:ident),*]) => {
        mod $module {
            $(
                #[test]
                fn $check() {
                    crate::$check::check(&$open, $name).hold();
                }
            )*
        }
    };
    ($module:ident, $name:literal, $open:expr) => {
        suite!($module, $name, $open, [backbones, aggregation, head, adam, training, maps]);
    };
}

suite!(cpu_f32, "CPU f32", crate::Cpu::<f32>::new());
suite!(cpu_f64, "CPU f64", crate::Cpu::<f64>::new());
