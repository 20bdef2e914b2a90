//! Random numbers that are a function of their position, the same on every device and in every order.

pub(crate) mod normals;
pub mod philox;

pub use philox::{Philox, Stream};
