//! Folding BatchNorm into the convolution before it.

use crate::backend::ConvolutionWeights;
use crate::tensor::Tensor;
use std::collections::BTreeMap;

/// ε of every BatchNorm of the backbones.
const EPSILON: f64 = 1e-5;

/// The convolution `convolution` followed by the BatchNorm `norm` as one convolution with bias, in `f64`:
/// `w' = w·γ/√(var + ε)`, `b' = β − mean·γ/√(var + ε)`. The weight goes from PyTorch's `[O, I, kh, kw]` to
/// `[O, kh, kw, I]`, the order of a patch in an NHWC image; padding keeps the size at stride 1.
pub(super) fn fold_batch_norm(
    tensors: &BTreeMap<String, Tensor<f32>>,
    convolution: &str,
    norm: &str,
    stride: usize,
) -> ConvolutionWeights {
    let weight = &tensors[&format!("{convolution}.weight")];
    let &[outputs, inputs, kernel_h, kernel_w] = weight.shape() else {
        unreachable!("the shapes were checked when the weights were accepted")
    };
    let of = |name: &str| tensors[&format!("{norm}.{name}")].data();
    let (gamma, beta, mean, var) = (of("weight"), of("bias"), of("running_mean"), of("running_var"));

    let area = kernel_h * kernel_w;
    let mut folded = vec![0.0; weight.len()];
    let mut bias = vec![0.0; outputs];
    for output in 0..outputs {
        let scale = f64::from(gamma[output]) / (f64::from(var[output]) + EPSILON).sqrt();
        bias[output] = (f64::from(beta[output]) - f64::from(mean[output]) * scale) as f32;
        let filter = output * inputs * area..(output + 1) * inputs * area;
        let (source, target) = (&weight.data()[filter.clone()], &mut folded[filter]);
        for input in 0..inputs {
            for tap in 0..area {
                target[tap * inputs + input] = (f64::from(source[input * area + tap]) * scale) as f32;
            }
        }
    }
    ConvolutionWeights {
        weight: Tensor::new([outputs, kernel_h, kernel_w, inputs], folded),
        bias,
        stride,
        padding: kernel_h / 2,
    }
}
