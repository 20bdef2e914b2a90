//! The frozen network that turns an image into features.

pub mod architecture;
pub mod weights;
