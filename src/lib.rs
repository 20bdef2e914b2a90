//! SimpleNet (CVPR 2023): visual anomaly detection that learns from good images only.

pub mod backend;
pub mod files;
pub mod report;
pub mod tensor;
