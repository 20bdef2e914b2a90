//! What every operation computes, held against its definition, on every backend.
//!
//! Each file compares one operation of `simplenet::backend::Backend` with a naive one in `f64`, written from the
//! formula alone, and shares no arithmetic with the program. A backend joins with one line at the end of this file.
#![expect(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in tests, but not in the functions they share"
)]

mod adam;
mod add_noise;
mod aggregate;
mod anomaly_map;
mod batch_norm;
mod conv2d;
mod draws;
mod faults;
mod faulty;
mod gather_rows;
mod leaky_relu;
mod linear;
mod loss;
mod max_pool2d;
mod normalize;
mod reference;
mod score;
mod subject;
mod wrong;

use simplenet::backend::cpu::Cpu;
use subject::{DOUBLE, SINGLE, Subject};

/// Instantiates the suite for one backend: a module of that name, with one test an operation. The device is an
/// `Option`: a machine without it passes with a message.
macro_rules! conformance {
    ($backend:ident, $device:expr, $unit:expr) => {
        conformance!(@each $backend, $device, $unit,
            normalize conv2d max_pool2d aggregate gather_rows linear add_noise batch_norm leaky_relu score loss
            adam anomaly_map);
    };
    (@each $backend:ident, $device:expr, $unit:expr, $($operation:ident)+) => {
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
