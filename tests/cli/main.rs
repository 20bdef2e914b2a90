//! The command line from end to end: the built program is run on small data sets made for each test.
#![expect(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in tests, but not in the functions they share"
)]

mod bad_images;
mod bad_usage;
mod bad_weights;
mod bench;
mod bundle;
mod config;
mod determinism;
mod epoch_choice;
mod feature_scale;
mod figures;
#[cfg(target_os = "linux")]
mod full_disk;
#[cfg(target_os = "linux")]
mod memory;
mod one_class;
#[cfg(unix)]
mod pipes;
mod plain_folders;
mod predict;
#[cfg(unix)]
mod resume;
mod sweep;
mod threshold;
mod train;
mod verbs;
mod world;
