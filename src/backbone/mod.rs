//! The frozen network that turns an image into features.

pub mod architecture;
