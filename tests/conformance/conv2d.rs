//! `conv2d`: convolution, bias, residual and ReLU.

use simplenet::backend::{Backend, ConvolutionWeights};
use simplenet::tensor::Tensor;

use crate::draws::Draws;
use crate::reference::{at_or, image};
use crate::subject::Subject;

/// Edge, stride and padding.
pub(crate) type Kernel = (usize, usize, usize);

/// Those of every convolution in a ResNet.
const KERNELS: [Kernel; 5] = [(7, 2, 3), (3, 1, 1), (3, 2, 1), (1, 1, 0), (1, 2, 0)];

/// `out[n, y, x, o] = b[o] + Σ w[o, i, j, c]·in[n, y·s + i − p, x·s + j − p, c]`, zero outside the image.
fn convolve(input: &Tensor<f64>, weights: &ConvolutionWeights) -> Tensor<f64> {
    let &[outputs, kernel_h, kernel_w, channels] = weights.weight.shape() else { panic!("[O, kh, kw, I]") };
    let &[n, h, w, _] = input.shape() else { panic!("[N, H, W, I]") };
    let (stride, padding) = (weights.stride, weights.padding);
    let size = |size: usize, kernel: usize| (size + 2 * padding - kernel) / stride + 1;
    image([n, size(h, kernel_h), size(w, kernel_w), outputs], |n, y, x, o| {
        let mut sum = f64::from(weights.bias[o]);
        for i in 0..kernel_h {
            for j in 0..kernel_w {
                let source = (
                    (y * stride + i) as isize - padding as isize,
                    (x * stride + j) as isize - padding as isize,
                );
                for c in 0..channels {
                    let weight = weights.weight.data()[((o * kernel_h + i) * kernel_w + j) * channels + c];
                    sum += f64::from(weight) * at_or(input, n, source, c, 0.0);
                }
            }
        }
        sum
    })
}

fn add_and_rectify(sum: &Tensor<f64>, residual: Option<&Tensor<f64>>, relu: bool) -> Tensor<f64> {
    let value = |i: usize| {
        let value = sum.data()[i] + residual.map_or(0.0, |residual| residual.data()[i]);
        if relu && value < 0.0 { 0.0 } else { value }
    };
    Tensor::new(sum.shape(), (0..sum.len()).map(value).collect())
}

pub(crate) fn check<B: Backend>(subject: &Subject<B>) {
    let mut draws = Draws::new(2);
    for (kernel, stride, padding) in KERNELS {
        let channels: &[_] =
            if kernel == 7 { &[(3, 64), (3, 20)] } else { &[(1, 3), (3, 20), (33, 20), (20, 64), (64, 33)] };
        for &(inputs, outputs) in channels {
            for (batch, h, w) in [(1, 1, 1), (5, 1, 1), (5, 5, 7), (1, 13, 9), (5, 13, 9)] {
                let weights = weights(&mut draws, (kernel, stride, padding), inputs, outputs);
                case(subject, &mut draws, &weights, [batch, h, w, inputs]);
            }
        }
    }
    // More patches than any device gathers at a time, the second tile beginning within an image.
    // Then, for algorithms on tiles: more tiles than one core takes through at once, with stride 2 on both axes a rest of two,
    // and more than are transformed at a time.
    for (kernel, inputs, outputs, shape) in [
        ((3, 1, 1), 64, 5, [2, 123, 121]),
        ((3, 2, 1), 20, 33, [2, 59, 51]),
        ((3, 1, 1), 163, 5, [1, 30, 30]),
        ((3, 2, 1), 73, 5, [1, 59, 59]),
    ] {
        let weights = weights(&mut draws, kernel, inputs, outputs);
        let [batch, h, w] = shape;
        // Of numbers as coarse as bfloat16 a long sum may differ by as much as it is.
        if subject.rounding(weights.weight.len() / outputs + 2) >= 0.5 {
            continue;
        }
        case(subject, &mut draws, &weights, [batch, h, w, inputs]);
    }
}

pub(crate) fn weights(
    draws: &mut Draws,
    (kernel, stride, padding): Kernel,
    inputs: usize,
    outputs: usize,
) -> ConvolutionWeights {
    let single = |values: Tensor<f64>| values.data().iter().map(|&value| value as f32).collect::<Vec<_>>();
    let shape = [outputs, kernel, kernel, inputs];
    ConvolutionWeights {
        weight: Tensor::new(shape, single(draws.normals(&shape, 0.1, 1.0))),
        bias: single(draws.normals(&[outputs], 0.0, 3.0)),
        stride,
        padding,
    }
}

/// Compares a convolution, with and without residual and ReLU.
pub(crate) fn case<B: Backend>(
    subject: &Subject<B>,
    draws: &mut Draws,
    weights: &ConvolutionWeights,
    input_shape: [usize; 4],
) {
    let input = draws.normals(&input_shape, 0.5, 1.0);
    let sum = convolve(&input, weights);
    let residual = draws.normals(sum.shape(), 0.0, 3.0);
    let (device_input, device_residual) = (subject.upload(&input), subject.upload(&residual));
    let convolution = subject.device.convolution(weights).unwrap();
    let &[_, kernel_h, kernel_w, inputs] = weights.weight.shape() else { panic!("[O, kh, kw, I]") };
    // A patch's products, the bias and the residual.
    let tolerance = subject.rounding(kernel_h * kernel_w * inputs + 2);
    for (with_residual, relu) in [(false, false), (false, true), (true, false), (true, true)] {
        let case = format!(
            "{:?} stride {} padding {} of {input_shape:?}, residual {with_residual}, ReLU {relu}",
            weights.weight.shape(),
            weights.stride,
            weights.padding
        );
        let out = subject.run(&case, |device| {
            let residual = with_residual.then_some(&device_residual);
            Ok(vec![device.conv2d(&device_input, &convolution, residual, relu)?])
        });
        let reference = add_and_rectify(&sum, with_residual.then_some(&residual), relu);
        subject.compare(&case, &out[0], &reference, tolerance);
        if with_residual && relu {
            let values = subject.device.download(&device_residual).unwrap();
            let onto = subject.run(&case, |device| {
                Ok(vec![device.conv2d_onto(&device_input, &convolution, device.upload(&values)?, relu)?])
            });
            subject.compare_exactly(&format!("{case}, in its place"), &onto[0], &out[0]);
        }
    }
}
