//! The simulated GPU runs kernels as a GPU would, and shows the mistakes that a GPU hides.

#[path = "support.rs"]
mod cusim;

mod blas;
mod faults;
mod graphs;
mod kernels;
mod machines;
mod products;
mod scenarios;
mod streams;
mod world;
