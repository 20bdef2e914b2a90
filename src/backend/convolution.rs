//! A convolution as the backbone hands it to a device.

use crate::tensor::Tensor;

/// The weights of one convolution with its BatchNorm folded in, as the backbone hands them to a device.
#[derive(Clone, Debug)]
pub struct ConvolutionWeights {
    /// `[O, kh, kw, I]`, row-major: the order in which im2col lays out a patch of an NHWC image.
    pub weight: Tensor<f32>,
    /// `[O]`.
    pub bias: Vec<f32>,
    /// Step between output positions, the same in both directions.
    pub stride: usize,
    /// Zeros added on every side.
    pub padding: usize,
}

impl ConvolutionWeights {
    /// Everything but the values.
    pub fn geometry(&self) -> ConvolutionGeometry {
        let [outputs, kernel_h, kernel_w, inputs] = *self.weight.shape() else {
            unreachable!("a convolution's weight has four axes")
        };
        let (stride, padding) = (self.stride, self.padding);
        ConvolutionGeometry { outputs, kernel: (kernel_h, kernel_w), inputs, stride, padding }
    }
}

/// The sizes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvolutionGeometry {
    /// Output channels O.
    pub outputs: usize,
    /// Height and width of the kernel.
    pub kernel: (usize, usize),
    /// Input channels I.
    pub inputs: usize,
    /// Step between output positions, the same in both directions.
    pub stride: usize,
    /// Zeros added on every side.
    pub padding: usize,
}

impl ConvolutionGeometry {
    /// The output size of an `h × w` input: `⌊(size + 2·padding − kernel) / stride⌋ + 1`.
    pub fn output_size(&self, h: usize, w: usize) -> (usize, usize) {
        let size = |input: usize, kernel: usize| (input + 2 * self.padding - kernel) / self.stride + 1;
        (size(h, self.kernel.0), size(w, self.kernel.1))
    }
}
