//! The frozen network that turns an image into features.

pub mod architecture;
mod extractor;
mod fold;
mod resnet;
pub mod stages;
pub mod weights;

pub use extractor::{FeatureExtractor, InvalidLevels, Levels, Stages};
pub use resnet::ResNet;
