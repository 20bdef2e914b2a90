//! The `simplenet` program.
fn main() {}
