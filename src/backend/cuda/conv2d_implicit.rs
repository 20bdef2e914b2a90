//! `conv2d` of half-precision tensors in one kernel, without a patch matrix in memory (an implicit GEMM).

use super::context::Context;
use super::conv2d::CudaConvolution;
use super::error::CudaError;
use super::launch::{Grid, In, Kernel, kernels};
use super::memory::{CudaTensor, Element, ElementType};
use crate::backend::{ConvolutionGeometry, DeviceTensor};
use half::f16;

/// Compute capability, major · 10 + minor, of the oldest code that has the tensor cores' instructions.
const OLDEST: u32 = 80;
/// `STEP`, `BLOCK_THREADS` and `SHARED_BYTES` of `kernels/conv2d_implicit.cu`.
const STEP: usize = 32;
const BLOCK_THREADS: u32 = 128;
const SHARED_BYTES: usize = 48 << 10;
/// A part has at least as many steps: fewer are over before the pipeline of copies is full.
const LEAST_STEPS: usize = 8;
/// Beyond these the kernel's 32-bit indices could wrap.
const MOST_ROWS: usize = 1 << 31;
const MOST_IN_A_PATCH: usize = 1 << 31;

/// The sizes of a convolution as the kernels take them; see `kernels/conv2d_implicit.cu`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Convolution {
    rows: u32,
    h: u32,
    w: u32,
    channels: u32,
    kernel_h: u32,
    kernel_w: u32,
    out_h: u32,
    out_w: u32,
    stride: u32,
    padding: u32,
    outputs: u32,
}

const _: () = assert!(size_of::<Convolution>() == 44, "Convolution of kernels/conv2d_implicit.cu");

/// The rows and outputs that a block computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tile {
    /// 128 × 128: the least traffic.
    M128N128,
    /// 128 × 64: for 64 outputs and fewer.
    M128N64,
    /// 64 × 64: for small grids.
    M64N64,
}

impl Tile {
    fn extent(self) -> (usize, usize) {
        match self {
            Tile::M128N128 => (128, 128),
            Tile::M128N64 => (128, 64),
            Tile::M64N64 => (64, 64),
        }
    }

    fn blocks(self, rows: usize, outputs: usize) -> usize {
        let (m, n) = self.extent();
        rows.div_ceil(m) * outputs.div_ceil(n)
    }
}

/// How the work is cut into blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// A tile each, its sums in one order: the same bits whatever the tile.
    Tiles(Tile),
    /// A tile of 64 × 64 and so many steps of K each.
    Parts { steps: usize, count: usize },
}

impl Cut {
    /// The largest tile of which every multiprocessor has one, and which is not half empty for want of outputs. Where
    /// there is none: the smallest, cut in as many parts as give every multiprocessor one.
    fn choose(rows: usize, outputs: usize, steps: usize, multiprocessors: usize) -> Self {
        let large = [Tile::M128N128, Tile::M128N64]
            .into_iter()
            .filter(|tile| tile.extent().1 <= outputs.next_multiple_of(64))
            .find(|tile| tile.blocks(rows, outputs) >= multiprocessors);
        if let Some(tile) = large {
            return Cut::Tiles(tile);
        }
        let blocks = Tile::M64N64.blocks(rows, outputs).max(1);
        let parts = (multiprocessors / blocks).min(steps / LEAST_STEPS);
        if parts < 2 || !outputs.is_multiple_of(f16::PACKET) {
            return Cut::Tiles(Tile::M64N64);
        }
        let part = steps.div_ceil(parts);
        Cut::Parts { steps: part, count: steps.div_ceil(part) }
    }
}

/// Whether the kernels serve a convolution on this device.
pub(super) fn serves(
    context: &Context,
    geometry: &ConvolutionGeometry,
    element: ElementType,
) -> Result<bool, CudaError> {
    if element != ElementType::F16 {
        return Ok(false);
    }
    Ok(supports(geometry, context.modules.architecture(kernels::Conv2dImplicit64x64::function())?))
}

/// Whether the kernels serve a convolution, where they were compiled for an architecture (80 is 8.0).
fn supports(geometry: &ConvolutionGeometry, architecture: u32) -> bool {
    let (kernel_h, kernel_w) = geometry.kernel;
    architecture >= OLDEST
        && geometry.inputs.is_multiple_of(f16::PACKET)
        && kernel_h * kernel_w * geometry.inputs < MOST_IN_A_PATCH
}

/// `[N, H, W, I] → [N, H', W', O]`, all in half precision, for a convolution that it [`serves`].
pub(super) fn conv2d_implicit(
    context: &Context,
    input: &CudaTensor,
    convolution: &CudaConvolution,
    residual: Option<&CudaTensor>,
    relu: bool,
) -> Result<CudaTensor, CudaError> {
    let CudaConvolution { geometry, weight, bias } = convolution;
    let [n, h, w, channels] = input.axes();
    assert_eq!(channels, geometry.inputs, "the convolution reads as many channels as the tensor has");
    let (out_h, out_w) = geometry.output_size(h, w);
    let (rows, outputs) = (n * out_h * out_w, geometry.outputs);
    let (kernel_h, kernel_w) = geometry.kernel;
    assert_eq!(
        weight.shape(),
        [outputs, kernel_h * kernel_w * channels],
        "weights without a filled-up column"
    );
    assert!(rows < MOST_ROWS && h < MOST_ROWS, "{rows} rows, of {h} lines, are more than the kernel counts");
    let reach = kernel_h * w * channels;
    assert!(reach < 1 << 32, "{kernel_h} lines of {w} × {channels} elements are more than the kernel counts");
    let mut out = context.tensor(&[n, out_h, out_w, outputs], ElementType::F16)?;
    if let Some(residual) = residual {
        assert_eq!(residual.shape(), out.shape(), "a residual has the shape of the output");
    }
    let sizes = Convolution {
        rows: rows as u32,
        h: h as u32,
        w: w as u32,
        channels: channels as u32,
        kernel_h: kernel_h as u32,
        kernel_w: kernel_w as u32,
        out_h: out_h as u32,
        out_w: out_w as u32,
        stride: geometry.stride as u32,
        padding: geometry.padding as u32,
        outputs: outputs as u32,
    };
    let relu = u32::from(relu);
    let steps = (kernel_h * kernel_w * channels).div_ceil(STEP);
    let grid = |tile: Tile, parts: usize| {
        Grid::plane(tile.blocks(rows, outputs) as u64, parts as u64, BLOCK_THREADS).shared(SHARED_BYTES)
    };
    macro_rules! launch {
        ($kernel:ident, $tile:expr) => {
            kernels::$kernel {
                input: input.read(),
                weight: weight.read(),
                bias: bias.read(),
                residual: residual.map_or_else(In::absent, CudaTensor::read),
                out: out.write(),
                sizes,
                relu,
            }
            .launch(context, grid($tile, 1))?
        };
    }
    match Cut::choose(rows, outputs, steps, context.multiprocessors) {
        Cut::Tiles(tile @ Tile::M128N128) => launch!(Conv2dImplicit128x128, tile),
        Cut::Tiles(tile @ Tile::M128N64) => launch!(Conv2dImplicit128x64, tile),
        Cut::Tiles(tile @ Tile::M64N64) => launch!(Conv2dImplicit64x64, tile),
        Cut::Parts { steps, count } => {
            let mut parts = context.scratch::<f32>(count * rows * outputs)?;
            kernels::Conv2dImplicitPart64x64 {
                input: input.read(),
                weight: weight.read(),
                parts: parts.write(),
                sizes,
                part_steps: steps as u32,
            }
            .launch(context, grid(Tile::M64N64, count))?;
            let elements = (rows * outputs) as u64;
            kernels::Conv2dImplicitJoin {
                parts: parts.read(),
                bias: bias.read(),
                residual: residual.map_or_else(In::absent, CudaTensor::read),
                out: out.write(),
                count: elements,
                columns: outputs as u32,
                part_count: count as u32,
                relu,
            }
            .launch(context, Grid::threads(elements.div_ceil(f16::PACKET as u64)))?;
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_in_whole_packets_on_tensor_cores_are_served() {
        let geometry = |inputs, kernel| ConvolutionGeometry {
            outputs: 64,
            kernel: (kernel, kernel),
            inputs,
            stride: 1,
            padding: kernel / 2,
        };
        assert!(supports(&geometry(8, 3), 80) && supports(&geometry(512, 7), 120));
        assert!(!supports(&geometry(3, 7), 90), "the stem");
        assert!(!supports(&geometry(64, 3), 75), "before cp.async");
    }

    #[test]
    fn blocks_fill_the_device_before_they_grow() {
        // wide_resnet50_2 on the 132 multiprocessors of an H100: 3 × 3 convolutions of one image, and of 64.
        assert_eq!(Cut::choose(196, 512, 144, 132), Cut::Parts { steps: 36, count: 4 });
        assert_eq!(Cut::choose(784, 256, 72, 132), Cut::Parts { steps: 36, count: 2 });
        assert_eq!(Cut::choose(3136, 128, 36, 132), Cut::Tiles(Tile::M64N64));
        assert_eq!(Cut::choose(64 * 196, 512, 144, 132), Cut::Tiles(Tile::M128N128));
        assert_eq!(Cut::choose(64 * 3136, 128, 36, 132), Cut::Tiles(Tile::M128N128));
        // resnet18's layer1, and outputs that fill no 128.
        assert_eq!(Cut::choose(64 * 3136, 64, 18, 132), Cut::Tiles(Tile::M128N64));
        assert_eq!(Cut::choose(64 * 3136, 20, 18, 132), Cut::Tiles(Tile::M128N64));
    }

    #[test]
    fn parts_cover_all_steps_and_none_is_empty() {
        for steps in 1..200 {
            for multiprocessors in [1, 8, 132] {
                let Cut::Parts { steps: part, count } = Cut::choose(5, 8, steps, multiprocessors) else {
                    continue;
                };
                assert!(count >= 2 && count <= multiprocessors && part >= LEAST_STEPS);
                assert!(part * count >= steps && part * (count - 1) < steps, "{steps}: {count} of {part}");
            }
        }
    }
}
