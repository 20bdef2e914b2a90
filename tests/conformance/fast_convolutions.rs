//! `Convolutions::Fast` beside `Convolutions::Exact`: what users of the program may rely on.

use simplenet::backbone::ResNet;
use simplenet::backbone::architecture::Architecture;
use simplenet::backbone::weights::StateDict;
use simplenet::backend::cpu::{Convolutions, Cpu};
use simplenet::backend::{Backend, ConvolutionWeights};
use simplenet::tensor::{Tensor, relative_error};

use crate::draws::Draws;

/// What `--conv fast` promises. Measured, over all networks with these weights: 1e-6, where the exact convolutions differ
/// from those in `f64` by 6e-7; by tiles 9e-6.
const BOUND: f64 = 1e-4;
/// Ten times what was measured, and four times by tiles: a fault too small for the bound shows here.
const EXPECTED: [f64; 2] = [1e-5, 4e-5];

#[test]
fn features_of_every_network_stay_within_the_bound() {
    let (exact, fast) = (Cpu::<f32>::new(), Cpu::<f32>::with(Convolutions::Fast));
    // The second one has tiles where the processor has.
    let devices = [fast.clone().without_tiles(), fast];
    let (batch, h, w) = (2, 97, 130);
    let images = Draws::new(20).bytes(batch * h * w * 3);
    for architecture in Architecture::ALL {
        let weights = StateDict::synthetic(architecture, 0);
        let layers = |device: &Cpu<f32>| -> Vec<Tensor<f32>> {
            let network =
                ResNet::new(device, architecture, &weights.tensors, Architecture::DEEPEST_LEVEL).unwrap();
            let input = device.normalize(&device.upload_images(&images, [batch, h, w]).unwrap()).unwrap();
            let layers = network.forward(device, &input).unwrap();
            layers.iter().map(|layer| device.download(layer).unwrap()).collect()
        };
        let references = layers(&exact);
        for (device, expected) in devices.iter().zip(EXPECTED) {
            for (level, (out, reference)) in (1..).zip(layers(device).iter().zip(&references)) {
                let error = relative_error(out.data(), reference.data());
                let name = format!("{}, {architecture} layer{level}", device.description());
                println!("{name}: {error:.1e}");
                assert!(error <= BOUND, "{name}: {error:.1e} breaks the promise");
                assert!(error <= expected, "{name}: {error:.1e} is more than rounding");
            }
        }
    }
}

/// A broken input must not come out as features of zero: every output that depends on a NaN is one, whatever ReLU makes of
/// it, and tiles without one are untouched.
#[test]
fn nan_reaches_every_output_that_depends_on_it() {
    let (size, channels, outputs) = (19, 20, 33);
    let mut draws = Draws::new(21);
    let single = |values: Tensor<f64>| {
        Tensor::new(values.shape(), values.data().iter().map(|&value| value as f32).collect::<Vec<_>>())
    };
    for (kernel, stride) in [(3, 1), (3, 2), (1, 1)] {
        let weights = ConvolutionWeights {
            weight: single(draws.normals(&[outputs, kernel, kernel, channels], 0.0, 1.0)),
            bias: vec![0.0; outputs],
            stride,
            padding: kernel / 2,
        };
        let mut input = single(draws.normals(&[1, size, size, channels], 0.5, 1.0));
        let (y, x) = (7, 10);
        input.data_mut()[(y * size + x) * channels + 3] = f32::NAN;
        let devices = [Convolutions::Exact, Convolutions::Fast].map(Cpu::<f32>::with);
        for device in devices.iter().chain([&devices[1].clone().without_tiles()]) {
            let name = device.description();
            let convolution = device.convolution(&weights).unwrap();
            let out = device.conv2d(&device.upload(&input).unwrap(), &convolution, None, true).unwrap();
            let out = device.download(&out).unwrap();
            let columns = out.shape()[2];
            for (position, pixel) in out.data().chunks_exact(outputs).enumerate() {
                let (out_y, out_x) = (position / columns * stride, position % columns * stride);
                let reach = kernel / 2;
                let depends = out_y.abs_diff(y) <= reach && out_x.abs_diff(x) <= reach;
                // No tile is larger than 6 inputs, or 9 where the stride is 2.
                let tile = 3 * (stride + 1);
                let far = out_y.abs_diff(y) >= tile || out_x.abs_diff(x) >= tile;
                for value in pixel {
                    assert!(!depends || value.is_nan(), "{name}: ({out_y}, {out_x}) hides a NaN");
                    assert!(!far || !value.is_nan(), "{name}: ({out_y}, {out_x}) is not its business");
                }
            }
        }
    }
}
