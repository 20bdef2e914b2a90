//! `conv2d`: convolution, bias, residual and ReLU.
//!
//! [`Convolutions::Exact`] sums every product of the definition ([`exact`]). [`Convolutions::Fast`] computes the 3×3
//! convolutions of strides 1 and 2 by Winograd's algorithm ([`winograd`]) and all others on weights laid out once
//! ([`direct`]; without gathering patches where these are few weights, [`lines`]). A processor with tiles multiplies bfloat16 so much faster that every product of the definition costs less
//! there ([`tiled`]): in bfloat16 whichever were asked for, in `f32` the fast ones, of numbers written as sums of two. Those
//! that see pixels are computed one step finer ([`Arithmetic::tiled`]).

#[cfg(test)]
mod definition;
mod direct;
mod disjoint;
mod epilogue;
mod exact;
mod im2col;
mod lines;
mod tiled;
mod winograd;

use super::amx::{self, Written};
use super::instructions::Instructions;
use super::memory::{CpuTensor, Pool};
use super::operand::{Bf16Pair, Operand};
use super::panels::{Panels, Residual};
use crate::backend::{ConvolutionGeometry, ConvolutionWeights};
use crate::tensor::Scalar;
use im2col::Geometry;
use std::any::TypeId;
use std::sync::Arc;

/// Which convolutions a device computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Convolutions {
    /// Every product of the definition, summed.
    #[default]
    Exact,
    /// Fewer products where an algorithm has them, or faster ones. A network's features differ from the exact ones by 1e-4
    /// at most, relative to their norm.
    Fast,
}

/// How a device computes its convolutions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arithmetic {
    pub(super) convolutions: Convolutions,
    /// What is multiplied is rounded to bfloat16, but where pixels are.
    pub(super) bf16: bool,
    /// The machine's tile unit, if it is to be used.
    pub(super) tiles: Option<amx::Unit>,
}

/// Channels of a pixel. The kernels that see pixels are differences of neighbours: where an image is even, almost all of their
/// products cancel, and what rounding leaves is magnified. Their numbers are kept one step finer than the others', which
/// halves a network's error and costs next to nothing.
const PIXEL_CHANNELS: usize = 3;

impl Arithmetic {
    /// The unit and what it multiplies, where tiles compute a convolution of so many channels.
    pub(super) fn tiled(self, inputs: usize) -> Option<(amx::Unit, Written)> {
        let written = match (self.bf16, self.convolutions) {
            (false, Convolutions::Exact) => return None,
            (false, Convolutions::Fast) if inputs <= PIXEL_CHANNELS => return None,
            (false, Convolutions::Fast) => Written::Split,
            (true, _) if inputs <= PIXEL_CHANNELS => Written::Split,
            (true, _) => Written::Rounded,
        };
        self.tiles.map(|unit| (unit, written))
    }
}

/// A convolution's weights, laid out for the way it is computed, and its bias.
#[derive(Debug)]
pub struct CpuConvolution<T> {
    /// Shape, stride and padding; the values live below in `T`.
    geometry: ConvolutionGeometry,
    bias: Vec<T>,
    weights: Weights<T>,
    instructions: Instructions,
}

#[derive(Debug)]
enum Weights<T> {
    /// `[O, kh·kw·I]`.
    Exact(Vec<T>),
    /// `[kh·kw·I, O]` in panels.
    Direct(Panels<T>),
    /// Transformed for Winograd's algorithm.
    Winograd(winograd::TransformedWeights<T>),
    /// As `Direct`, rounded to bfloat16.
    Bf16Direct(Panels<Bf16Pair<T>>),
    /// As `Winograd`, rounded to bfloat16.
    Bf16Winograd(winograd::TransformedWeights<Bf16Pair<T>>),
    /// In bfloat16, rounded or as sums of two, for the tile unit.
    Tiled(tiled::TiledWeights<T>),
}

impl<T: Scalar> CpuConvolution<T> {
    pub(super) fn new(weights: &ConvolutionWeights, arithmetic: Arithmetic) -> Self {
        let Arithmetic { convolutions, bf16, .. } = arithmetic;
        let instructions = Instructions::detect();
        let geometry = weights.geometry();
        let winograd = convolutions == Convolutions::Fast && winograd::serves(&geometry);
        let laid_out = match (bf16, convolutions) {
            (_, _) if let Some(tiles) = arithmetic.tiled(geometry.inputs) => {
                let patch = patch(&geometry);
                let values = weights.weight.data();
                let element = |k: usize, output: usize| T::from_f32(values[output * patch + k]);
                Weights::Tiled(tiled::TiledWeights::new(&geometry, tiles, element))
            }
            (false, Convolutions::Exact) => {
                Weights::Exact(weights.weight.data().iter().map(|&value| T::from_f32(value)).collect())
            }
            (false, Convolutions::Fast) if winograd => {
                Weights::Winograd(winograd::TransformedWeights::new(instructions, weights))
            }
            (false, Convolutions::Fast) => Weights::Direct(panels(instructions, weights)),
            (true, _) if geometry.inputs <= PIXEL_CHANNELS => Weights::Direct(panels(instructions, weights)),
            (true, _) if winograd => {
                Weights::Bf16Winograd(winograd::TransformedWeights::new(instructions, weights))
            }
            (true, _) => Weights::Bf16Direct(panels(instructions, weights)),
        };
        Self {
            geometry,
            bias: weights.bias.iter().map(|&value| T::from_f32(value)).collect(),
            weights: laid_out,
            instructions,
        }
    }

    /// A linear map `[O, I]` as a 1×1 convolution without a bias of its own. Its inputs are features, however few.
    pub(super) fn pointwise(weight: &[T], outputs: usize, arithmetic: Arithmetic) -> Self {
        let instructions = Instructions::detect();
        let inputs = weight.len() / outputs;
        let element = |k: usize, output: usize| weight[output * inputs + k];
        let geometry = ConvolutionGeometry { outputs, kernel: (1, 1), inputs, stride: 1, padding: 0 };
        let weights = match (arithmetic.tiled(usize::MAX), arithmetic.bf16) {
            (Some(tiles), _) => Weights::Tiled(tiled::TiledWeights::new(&geometry, tiles, element)),
            (None, true) => Weights::Bf16Direct(Panels::new(instructions, 1, inputs, outputs, element)),
            (None, false) => Weights::Direct(Panels::new(instructions, 1, inputs, outputs, element)),
        };
        Self { geometry, bias: Vec::new(), weights, instructions }
    }
}

/// The machine's tile unit, which adds up in `f32` alone.
pub(super) fn tile_unit<T: Scalar>() -> Option<amx::Unit> {
    if TypeId::of::<T>() == TypeId::of::<f32>() { amx::detect() } else { None }
}

/// Weights of one output.
fn patch(geometry: &ConvolutionGeometry) -> usize {
    geometry.kernel.0 * geometry.kernel.1 * geometry.inputs
}

/// The weights as the matrix `[kh·kw·I, O]`.
fn panels<O: Operand>(instructions: Instructions, weights: &ConvolutionWeights) -> Panels<O> {
    let geometry = weights.geometry();
    let patch = patch(&geometry);
    let values = weights.weight.data();
    Panels::new(instructions, 1, patch, geometry.outputs, |k, output| {
        O::Sum::from_f32(values[output * patch + k])
    })
}

/// One convolution to be computed, its shapes checked.
struct Call<'a, T: Scalar> {
    pool: &'a Arc<Pool<T>>,
    instructions: Instructions,
    geometry: Geometry,
    input: &'a [T],
    bias: &'a [T],
    residual: Residual<'a, T>,
    relu: bool,
}

/// `[N, H, W, I] → [N, H', W', O]`.
pub(super) fn conv2d<T: Scalar>(
    pool: &Arc<Pool<T>>,
    input: &CpuTensor<T>,
    convolution: &CpuConvolution<T>,
    residual: Option<&CpuTensor<T>>,
    relu: bool,
) -> CpuTensor<T> {
    let [n, h, w, inputs] = input.axes();
    let (out_h, out_w) = convolution.geometry.output_size(h, w);
    let mut out = pool.tensor(&[n, out_h, out_w, convolution.geometry.outputs]);
    let operands = (convolution, convolution.bias.as_slice());
    let residual = residual.map_or(Residual::None, |residual| Residual::Of(residual.data()));
    run(pool, (input.data(), [n, h, w, inputs]), operands, residual, relu, out.data_mut());
    out
}

/// The same with a residual whose memory the output takes, if the convolution's way allows it: the lines that are read are
/// those that are written.
pub(super) fn conv2d_onto<T: Scalar>(
    pool: &Arc<Pool<T>>,
    input: &CpuTensor<T>,
    convolution: &CpuConvolution<T>,
    mut residual: CpuTensor<T>,
    relu: bool,
) -> CpuTensor<T> {
    if let Weights::Exact(_) = convolution.weights {
        return conv2d(pool, input, convolution, Some(&residual), relu);
    }
    let [n, h, w, inputs] = input.axes();
    let (out_h, out_w) = convolution.geometry.output_size(h, w);
    let shape = [n, out_h, out_w, convolution.geometry.outputs];
    assert_eq!(residual.axes(), shape, "a residual has the shape of the output");
    let operands = (convolution, convolution.bias.as_slice());
    run(pool, (input.data(), [n, h, w, inputs]), operands, Residual::InPlace, relu, residual.data_mut());
    residual
}

/// The same on slices, with a bias beside the convolution's own.
pub(super) fn run<T: Scalar>(
    pool: &Arc<Pool<T>>,
    (input, [_, h, w, inputs]): (&[T], [usize; 4]),
    (convolution, bias): (&CpuConvolution<T>, &[T]),
    residual: Residual<'_, T>,
    relu: bool,
    out: &mut [T],
) {
    let ConvolutionGeometry { kernel: (kernel_h, kernel_w), inputs: weight_inputs, stride, padding, .. } =
        convolution.geometry;
    assert_eq!(inputs, weight_inputs, "the convolution reads as many channels as the tensor has");
    if let Residual::Of(residual) = residual {
        assert_eq!(residual.len(), out.len(), "a residual has the shape of the output");
    }
    let (out_h, out_w) = convolution.geometry.output_size(h, w);
    let call = Call {
        pool,
        instructions: convolution.instructions,
        geometry: Geometry { h, w, inputs, kernel_h, kernel_w, out_h, out_w, stride, padding },
        input,
        bias,
        residual,
        relu,
    };
    match &convolution.weights {
        Weights::Exact(weight) => exact::conv2d(&call, weight, out),
        Weights::Direct(panels) if lines::serves(&call.geometry, panels) => lines::conv2d(&call, panels, out),
        Weights::Direct(panels) => direct::conv2d(&call, panels, out),
        Weights::Winograd(weights) => winograd::conv2d(&call, weights, out),
        Weights::Bf16Direct(panels) => direct::conv2d(&call, panels, out),
        Weights::Bf16Winograd(weights) => winograd::conv2d(&call, weights, out),
        Weights::Tiled(weights) => tiled::conv2d(&call, weights, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Backend;
    use crate::backend::cpu::Cpu;
    use crate::tensor::Tensor;

    #[test]
    fn repeated_convolutions_take_no_new_memory() {
        for (kernel, stride) in [(3, 1), (3, 2), (1, 1)] {
            let weights = ConvolutionWeights {
                weight: Tensor::full([40, kernel, kernel, 64], 0.5),
                bias: vec![0.0; 40],
                stride,
                padding: kernel / 2,
            };
            let threads = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
            let fast = Convolutions::Fast;
            let f32 = Cpu::<f32>::with(fast);
            let devices = [Some(f32.clone().without_tiles()), Some(f32), Cpu::bf16(fast)];
            for cpu in devices.into_iter().flatten() {
                let input = cpu.upload(&Tensor::full([2, 40, 40, 64], 1.0)).unwrap();
                let convolution = cpu.convolution(&weights).unwrap();
                let buffers: Vec<usize> = (0..4)
                    .map(|_| {
                        threads.install(|| cpu.conv2d(&input, &convolution, None, true)).unwrap();
                        cpu.pool.free_buffers()
                    })
                    .collect();
                assert!(buffers[0] > 0, "the output's buffer is kept");
                assert!(
                    buffers.iter().all(|&count| count == buffers[0]),
                    "{kernel}×{kernel}/{stride}: {buffers:?}"
                );
            }
        }
    }
}
