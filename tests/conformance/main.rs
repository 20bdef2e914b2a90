//! What every operation computes, held against its definition, on every backend.
//!
//! Each file compares one operation of `simplenet::backend::Backend` with a naive one in `f64`, written from the
//! formula alone, and shares no arithmetic with the program. A backend joins with one line at the end of this file.
#![expect(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in tests, but not in the functions they share"
)]

mod adam;
mod add;
mod aggregate;
mod anomaly_map;
mod batch_norm;
mod batch_norm_score;
mod bf16;
mod conv2d;
mod conv2d_implicit;
mod conv2d_nan;
#[path = "../cusim/support.rs"]
mod cusim;
#[path = "../cusim/device.rs"]
mod device;
mod draws;
mod fast_convolutions;
mod faults;
mod faulty;
mod gather_rows;
mod leaky_relu;
mod linear;
mod loss;
mod max_pool2d;
mod mutants;
mod noise;
mod normalize;
mod project;
mod reference;
mod resize_add_score;
mod sanitizers;
mod schedule;
mod score;
mod subject;
mod wrong;

use device::{FORWARD, REVERSE, SHUFFLED, real, real_implicit, simulated, simulated_implicit};
use simplenet::backend::cpu::Convolutions::{Exact, Fast};
use simplenet::backend::cpu::Cpu;
use simplenet::backend::cuda::Precision::{F16, F32, Tf32};
use subject::{BFLOAT, DOUBLE, HALF, PAIR, SINGLE, Subject};

/// Instantiates the suite for one backend: a module of that name, with one test an operation. The device is an
/// `Option`: a machine without it passes with a message.
macro_rules! conformance {
    ($backend:ident, $device:expr, $unit:expr) => {
        conformance!($backend, $device, $unit,
            [normalize conv2d conv2d_nan max_pool2d aggregate gather_rows linear add noise batch_norm batch_norm_score leaky_relu
            score resize_add_score loss adam schedule anomaly_map]);
    };
    ($backend:ident, $device:expr, $unit:expr, [$($operation:ident)+]) => {
        mod $backend {
            use super::*;
            $(
                #[test]
                fn $operation() {
                    let name = concat!(stringify!($backend), " ", stringify!($operation));
                    match $device {
                        Some(device) => crate::$operation::check(&Subject::new(name, device, $unit)),
                        None => println!("{name}: no such device here"),
                    }
                }
            )+
        }
    };
}

conformance!(cpu_f32, Some(Cpu::<f32>::new()), SINGLE);
conformance!(cpu_f64, Some(Cpu::<f64>::new()), DOUBLE);

// Winograd's transforms round more than the sums of the definition do, and stay within what those are allowed.
conformance!(cpu_fast_f32, Some(Cpu::<f32>::with(Fast).without_tiles()), SINGLE, [conv2d project]);
conformance!(cpu_fast_f64, Some(Cpu::<f64>::with(Fast)), DOUBLE, [conv2d project]);

// What convolutions and a deployed head multiply is rounded to bfloat16.
conformance!(cpu_bf16, Cpu::<f32>::bf16(Exact).map(Cpu::without_tiles), BFLOAT, [conv2d project]);
conformance!(cpu_bf16_on_tiles, Cpu::<f32>::bf16(Exact), BFLOAT, [conv2d project]);
conformance!(cpu_fast_bf16, Cpu::<f32>::bf16(Fast).map(Cpu::without_tiles), BFLOAT, [conv2d project]);

// Where the processor has tiles, they multiply pairs of bfloat16 instead of `f32`; elsewhere this is `cpu_fast_f32`.
conformance!(cpu_fast_on_tiles, Some(Cpu::<f32>::with(Fast)), PAIR, [conv2d project]);

conformance!(simulated_forward, simulated(FORWARD, F32), SINGLE);
conformance!(simulated_reverse, simulated(REVERSE, F32), SINGLE);
conformance!(simulated_shuffled, simulated(SHUFFLED, F32), SINGLE);
conformance!(gpu_f32, real(F32), SINGLE);

// The other arithmetics change products and the backbone's tensors, nothing else.
conformance!(simulated_tf32, simulated(FORWARD, Tf32), HALF, [conv2d conv2d_nan linear]);
conformance!(gpu_tf32, real(Tf32), HALF, [conv2d conv2d_nan linear]);
conformance!(simulated_f16, simulated(REVERSE, F16), HALF, [normalize conv2d conv2d_nan linear]);
conformance!(gpu_f16, real(F16), HALF, [normalize conv2d conv2d_nan linear]);

// Half precision with convolutions in one kernel.
conformance!(simulated_implicit_forward, simulated_implicit(FORWARD), HALF, [conv2d_implicit]);
conformance!(simulated_implicit_reverse, simulated_implicit(REVERSE), HALF, [conv2d_implicit]);
conformance!(simulated_implicit_shuffled, simulated_implicit(SHUFFLED), HALF, [conv2d_implicit]);
conformance!(gpu_implicit, real_implicit(), HALF, [conv2d conv2d_implicit]);
