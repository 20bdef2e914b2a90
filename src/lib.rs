//! SimpleNet (CVPR 2023): visual anomaly detection that learns from good images only.

pub mod backbone;
pub mod backend;
pub mod files;
pub mod head;
pub mod rect;
pub mod tensor;
