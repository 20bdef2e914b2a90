//! The operations every device offers, behind one trait.

pub mod philox;
