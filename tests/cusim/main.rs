//! The simulated GPU runs kernels as a GPU would, and shows the mistakes that a GPU hides.
#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in tests, but not in the functions they share"
)]

#[path = "support.rs"]
mod cusim;

mod blas;
mod faults;
mod graphs;
mod kernels;
mod machines;
mod products;
mod safe_interface;
mod scenarios;
mod streams;
mod tensor_core;
mod world;
