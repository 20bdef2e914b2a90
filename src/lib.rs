//! SimpleNet (CVPR 2023): visual anomaly detection that learns from good images only.

pub mod backbone;
pub mod backend;
pub mod benchmark;
pub mod cli;
pub mod data;
pub mod detector;
pub mod files;
pub mod head;
pub mod metrics;
pub mod random;
pub mod rect;
pub mod report;
pub mod settings;
mod spelling;
pub mod tensor;
pub mod tensor_file;
pub mod training;
