//! From files to network input: folder layouts, decoding, resizing, the prefetching loader.

mod cifar10;
mod convert;
mod decode;
pub mod demo;
mod error;
#[cfg(test)]
mod fixtures;
mod geometry;
mod jpeg;
mod layout;
mod list;
mod loader;
mod mask;
mod masks;
mod one_class;
mod prefetch;
mod preprocess;
pub mod resize;
mod tiff;

pub use cifar10::CLASSES as CIFAR10_CLASSES;
pub use decode::{Exif, MAX_PIXELS, decode};
pub use error::DataError;
pub use geometry::Geometry;
pub use layout::{Category, GOOD_NAMES, PlainFolders, TestImage, discover, from_folders};
pub use list::list_images;
pub use loader::{LoadedImage, Loader, LoaderOptions, Sample};
pub use mask::Mask;
pub use one_class::{Class, ClassImage, OneClassSet};
pub use preprocess::{Fit, Preprocess};
