//! The stages of a forward pass by name, and how a clock hears of them.

use crate::backend::Result;

/// Upload of the images and normalisation.
pub const NORMALIZE: &str = "normalize";
/// First convolution and pooling.
pub const STEM: &str = "stem";
/// The residual layers.
pub const LAYERS: [&str; 3] = ["layer1", "layer2", "layer3"];

/// Neighbourhood means of the levels, and the head on them.
pub const HEAD: &str = "head";
/// The map, and the copies of the answers to the host.
pub const MAP: &str = "map";

/// Is told the name of each stage once its work was enqueued, and may wait for it.
pub type Watch<'a> = dyn FnMut(&'static str) -> Result<()> + 'a;

/// Watches nothing.
pub fn unwatched(_: &'static str) -> Result<()> {
    Ok(())
}
