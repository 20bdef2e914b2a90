//! The kernels of the backbone on half-precision tensors, which only occur between them.

use simplenet::backend::cpu::Cpu;
use simplenet::backend::cuda::Cuda;
use simplenet::backend::{Aggregation, AggregationMode, Backend, ConvolutionWeights};
use simplenet::tensor::{Tensor, relative_error};

use crate::draws::normals;

/// A convolution that changes nothing: on a device of half precision its result is a half tensor.
fn identity(channels: usize) -> ConvolutionWeights {
    let mut weight = vec![0.0; channels * channels];
    (0..channels).for_each(|channel| weight[channel * channels + channel] = 1.0);
    ConvolutionWeights {
        weight: Tensor::new([channels, 1, 1, channels], weight),
        bias: vec![0.0; channels],
        stride: 1,
        padding: 0,
    }
}

/// Values that half precision holds exactly.
fn halves(seed: u64, shape: [usize; 4]) -> Tensor<f32> {
    let values = normals(seed, &shape, 0.0, 1.0);
    Tensor::new(shape, values.data().iter().map(|x| half::f16::from_f32(*x).to_f32()).collect())
}

/// Pooling copies values, so it is exact; aggregation adds them in f32, so that only its own rounding remains.
pub(crate) fn check(cuda: &Cuda) {
    let cpu = Cpu::<f32>::new();
    for shape in [[1usize, 7, 9, 8], [2, 12, 10, 24], [5, 5, 5, 3], [1, 1, 6, 13]] {
        let channels = shape[3];
        let deep = [shape[0], shape[1].div_ceil(2), shape[2].div_ceil(2), channels];
        let (values, deeper) = (halves(1, shape), halves(2, deep));
        let convolution = cuda.convolution(&identity(channels)).unwrap();
        let half = |values: &Tensor<f32>| {
            cuda.conv2d(&cuda.upload(values).unwrap(), &convolution, None, false).unwrap()
        };
        let (level, deep_level) = (half(&values), half(&deeper));
        assert_eq!(cuda.download(&level).unwrap(), values, "{shape:?}: the identity");

        let reference = cpu.upload(&values).unwrap();
        let pooled = cuda.download(&cuda.max_pool2d(&level).unwrap()).unwrap();
        assert_eq!(pooled, cpu.download(&cpu.max_pool2d(&reference).unwrap()).unwrap(), "{shape:?}: pooled");

        let deep_reference = cpu.upload(&deeper).unwrap();
        for mode in [AggregationMode::Mean, AggregationMode::PatchCore] {
            let aggregation = Aggregation { mode, patch: 3 };
            let out = cuda.aggregate(&[&level, &deep_level], &aggregation).unwrap();
            let expected = cpu.aggregate(&[&reference, &deep_reference], &aggregation).unwrap();
            let (out, expected) = (cuda.download(&out).unwrap(), cpu.download(&expected).unwrap());
            assert_eq!(out.shape(), expected.shape());
            let error = relative_error(out.data(), expected.data());
            assert!(error < 1e-6, "{shape:?} {mode:?}: {error:.2e}");
        }
    }
}
