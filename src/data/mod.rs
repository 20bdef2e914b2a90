//! Image folders, decoding and the built-in demo set.

pub mod demo;
