//! The simulated GPU runs kernels as a GPU would, and shows the mistakes that a GPU hides.

#[path = "support.rs"]
mod cusim;

mod kernels;
mod world;
