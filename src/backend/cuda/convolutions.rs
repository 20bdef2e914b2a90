//! Which way a convolution is computed in, where there are several.
//!
//! How large a tile of patches is best depends on the shape and on the device, so it is chosen as the algorithms of
//! products are ([`Tuning`](super::tuning::Tuning)): once a shape, and kept. A further implementation joins as a variant
//! of [`Implementation`], with a name for tables of plans and a line in [`Shape::implementations`].

use super::context::Context;
use super::error::CudaError;
use super::memory::ElementType;
use super::tuning::Candidates;
use crate::backend::ConvolutionGeometry;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of gathered patches held at a time, the size first that is taken where nothing is measured: enough rows for a
/// product to fill the device, few enough for the product to find most of them in the second-level cache. Half of that
/// cache is one more size to choose from: the patches share it with the weights and the result.
const TILE_BYTES: [usize; 4] = [32 << 20, 16 << 20, 8 << 20, 4 << 20];
/// Products are cut into blocks of 128 rows: a tile of whole ones leaves none half empty.
const TILE_ROWS: usize = 128;

/// One way to compute a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Implementation {
    /// One product, where the patches are the pixels.
    Product,
    /// Patches gathered and multiplied in tiles of about so many bytes.
    Im2col { tile_bytes: usize },
}

impl Implementation {
    /// As tables of plans name it.
    fn name(self) -> String {
        match self {
            Implementation::Product => "one product".to_owned(),
            Implementation::Im2col { tile_bytes } => format!("im2col in tiles of {tile_bytes} bytes"),
        }
    }
}

/// Everything that the speed of a convolution depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    pub(super) geometry: ConvolutionGeometry,
    pub(super) element: ElementType,
    /// Images, height, width.
    pub(super) input: [usize; 3],
    pub(super) residual: bool,
    pub(super) relu: bool,
}

impl Shape {
    /// All of it, as tables of plans name it.
    fn key(&self) -> String {
        let Self { geometry, element, input: [n, h, w], residual, relu } = self;
        let ConvolutionGeometry { outputs, kernel: (kernel_h, kernel_w), inputs, stride, padding } = geometry;
        format!(
            "convolution {} {n}x{h}x{w}x{inputs} to {outputs}, kernel {kernel_h}x{kernel_w}, stride {stride}, padding \
             {padding}{}{}",
            element.name(),
            if *residual { ", residual" } else { "" },
            if *relu { ", relu" } else { "" }
        )
    }

    /// Output positions of all images: the rows of the patch matrix.
    pub(super) fn rows(&self) -> usize {
        let [n, h, w] = self.input;
        let (out_h, out_w) = self.geometry.output_size(h, w);
        n * out_h * out_w
    }

    /// The ways to compute it on a device with such a cache, the one first that is taken where nothing is measured.
    fn implementations(&self, row_bytes: usize, l2_cache: usize) -> Vec<Implementation> {
        if is_pointwise(&self.geometry) {
            return vec![Implementation::Product];
        }
        let tiles = im2col_tiles(row_bytes, self.rows(), l2_cache);
        tiles.into_iter().map(|tile_bytes| Implementation::Im2col { tile_bytes }).collect()
    }
}

/// Whether the patches of a convolution are the pixels of its input.
pub(super) fn is_pointwise(geometry: &ConvolutionGeometry) -> bool {
    geometry.kernel == (1, 1) && geometry.stride == 1 && geometry.padding == 0
}

/// The implementations that were chosen.
#[derive(Debug, Default)]
pub(super) struct Convolutions {
    chosen: Mutex<HashMap<Shape, Implementation>>,
}

impl Convolutions {
    fn chosen(&self) -> MutexGuard<'_, HashMap<Shape, Implementation>> {
        self.chosen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every shape's implementation is decided anew when it comes up again.
    pub(super) fn forget(&self) {
        self.chosen().clear();
    }

    /// How a shape is computed: decided when it comes up for the first time. A row of its patch matrix has `row_bytes`
    /// bytes; `run` enqueues one convolution of the shape, the same one every time.
    pub(super) fn implementation(
        &self,
        context: &Context,
        shape: &Shape,
        row_bytes: usize,
        run: &mut dyn FnMut(Implementation) -> Result<(), CudaError>,
    ) -> Result<Implementation, CudaError> {
        // Not held while candidates are measured: they take their time.
        if let Some(&known) = self.chosen().get(shape) {
            return Ok(known);
        }
        let ways = shape.implementations(row_bytes, context.device.l2_cache);
        let implementation = if let [only] = ways[..] {
            // Nothing to be chosen, and nothing for a table.
            only
        } else {
            let Some(chosen) = context.tuning.choose(context, &mut Subject { shape, ways, run })? else {
                unreachable!("im2col serves every convolution")
            };
            if context.tuning.is_measuring() {
                // What only the slower candidates multiplied is not part of the plan.
                context.products.forget();
            }
            chosen
        };
        self.chosen().insert(*shape, implementation);
        Ok(implementation)
    }
}

/// A convolution among whose implementations one is to be chosen.
struct Subject<'a> {
    shape: &'a Shape,
    ways: Vec<Implementation>,
    run: &'a mut dyn FnMut(Implementation) -> Result<(), CudaError>,
}

impl Candidates for Subject<'_> {
    type Way = Implementation;

    fn key(&self) -> String {
        self.shape.key()
    }

    fn ways(&mut self, most: usize) -> Result<Vec<Implementation>, CudaError> {
        Ok(self.ways.iter().copied().take(most).collect())
    }

    fn name(&self, way: &Implementation) -> String {
        way.name()
    }

    fn restore(&mut self, name: &str) -> Option<Implementation> {
        self.ways.iter().copied().find(|way| way.name() == name)
    }

    fn run(&mut self, way: &Implementation) -> Result<(), CudaError> {
        (self.run)(*way)
    }
}

/// The sizes of tiles, in bytes, that cut a patch matrix of `rows` rows differently.
fn im2col_tiles(row_bytes: usize, rows: usize, l2_cache: usize) -> Vec<usize> {
    let half = (l2_cache > 0).then_some(l2_cache / 2);
    let mut cuts = Vec::new();
    let mut tiles = Vec::new();
    for tile_bytes in TILE_BYTES.into_iter().chain(half) {
        let cut = tile_rows(tile_bytes, row_bytes).min(rows);
        if !cuts.contains(&cut) {
            cuts.push(cut);
            tiles.push(tile_bytes);
        }
    }
    tiles
}

/// The rows of a tile of `tile_bytes` bytes whose rows have `row_bytes` bytes.
pub(super) fn tile_rows(tile_bytes: usize, row_bytes: usize) -> usize {
    (tile_bytes / row_bytes / TILE_ROWS).max(1) * TILE_ROWS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_is_bounded_and_of_whole_blocks() {
        for tile_bytes in TILE_BYTES {
            for row_bytes in [16, 304, 2304, 9216, 18432, tile_bytes] {
                let rows = tile_rows(tile_bytes, row_bytes);
                assert!(rows.is_multiple_of(TILE_ROWS));
                assert!(rows * row_bytes <= tile_bytes || rows == TILE_ROWS, "{row_bytes}");
            }
        }
    }

    #[test]
    fn tiles_to_choose_from_cut_differently() {
        const L2: usize = 50 << 20;
        // Layer 1 of a wide network, batch 64: 200,704 rows of 2304 bytes, 462 MB.
        assert_eq!(im2col_tiles(2304, 200_704, L2), [32 << 20, 16 << 20, 8 << 20, 4 << 20, 25 << 20]);
        assert_eq!(im2col_tiles(2304, 200_704, 0), TILE_BYTES);
        // Layer 3, batch 1: 196 rows of 4608 bytes, less than the smallest tile.
        assert_eq!(im2col_tiles(4608, 196, L2), [32 << 20]);
        // 10 MB: whole in the larger tiles.
        assert_eq!(im2col_tiles(4608, 2176, L2), [32 << 20, 8 << 20, 4 << 20]);
    }

    #[test]
    fn shapes_that_differ_have_keys_that_differ() {
        let geometry = ConvolutionGeometry { outputs: 5, kernel: (3, 7), inputs: 4, stride: 2, padding: 1 };
        let shape =
            Shape { geometry, element: ElementType::F16, input: [8, 14, 15], residual: true, relu: true };
        assert_eq!(
            shape.key(),
            "convolution f16 8x14x15x4 to 5, kernel 3x7, stride 2, padding 1, residual, relu"
        );
        let others = [
            Shape { element: ElementType::F32, ..shape },
            Shape { input: [8, 15, 14], ..shape },
            Shape { residual: false, ..shape },
            Shape { relu: false, ..shape },
            Shape { geometry: ConvolutionGeometry { kernel: (7, 3), ..geometry }, ..shape },
            Shape { geometry: ConvolutionGeometry { stride: 1, padding: 2, ..geometry }, ..shape },
        ];
        let keys: std::collections::BTreeSet<String> =
            others.iter().chain([&shape]).map(Shape::key).collect();
        assert_eq!(keys.len(), others.len() + 1);
    }
}
