//! The rate of a plain matrix product on this device: what a forward pass is compared with.

use super::statistics::median;
use crate::backend::{Backend, ConvolutionWeights, Result};
use crate::tensor::{Scalar, Tensor};
use serde::Serialize;
use std::time::Instant;

/// A product should take at least this long, so that starting it does not count.
const LONG_ENOUGH: f64 = 0.02;
const SMALLEST: usize = 256;
const LARGEST: usize = 8192;
const REPEATS: usize = 9;
/// Columns of the picture whose pixels are the rows of the product as a convolution.
const PICTURE_WIDTH: usize = 64;

/// Measured rates of a square product, in TFLOP/s, two FLOP a multiply–accumulate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ProductRate {
    /// Rows, columns and depth.
    pub side: usize,
    /// Products timed, each way; the median counts.
    pub repeats: usize,
    /// By [`Backend::linear`].
    pub linear: f64,
    /// As a 1×1 convolution, which runs in the arithmetic of the backbone: under `f16` only this one is in half.
    pub convolution: f64,
}

impl ProductRate {
    /// Measures both, at the smallest power of two whose product takes long enough, 8192 at most.
    pub fn measure<B: Backend>(backend: &B) -> Result<Self> {
        let mut side = SMALLEST;
        while side < LARGEST && linear(backend, side, 1)? < LONG_ENOUGH {
            side *= 2;
        }
        let tflops = |seconds: f64| 2.0 * (side as f64).powi(3) / seconds / 1e12;
        let (linear, convolution) = (linear(backend, side, REPEATS)?, convolution(backend, side, REPEATS)?);
        Ok(Self { side, repeats: REPEATS, linear: tflops(linear), convolution: tflops(convolution) })
    }

    /// The better of the two.
    pub fn tflops(&self) -> f64 {
        self.linear.max(self.convolution)
    }
}

/// The median time of a job, which is run once before.
fn time<B: Backend, T>(backend: &B, repeats: usize, run: impl Fn() -> Result<T>) -> Result<f64> {
    let timed = || {
        let start = Instant::now();
        let _result = run()?;
        backend.synchronize()?;
        Ok(start.elapsed().as_secs_f64())
    };
    timed()?;
    let seconds = (0..repeats).map(|_| timed()).collect::<Result<Vec<f64>>>()?;
    Ok(median(&seconds))
}

/// Values around zero without a short period; a processor that is fed zeros runs cooler and faster.
fn values<T: Scalar>(shape: &[usize]) -> Tensor<T> {
    const PERIOD: usize = 65_537;
    let pattern: Vec<T> =
        (0..PERIOD).map(|i| T::from_f64((i * 7919 % PERIOD) as f64 / PERIOD as f64 - 0.5)).collect();
    Tensor::new(shape, (0..shape.iter().product()).map(|i| pattern[i % PERIOD]).collect())
}

fn linear<B: Backend>(backend: &B, side: usize, repeats: usize) -> Result<f64> {
    let input = backend.upload(&values(&[side, side]))?;
    let weight = backend.upload(&values(&[side, side]))?;
    time(backend, repeats, || backend.linear(&input, &weight, None))
}

fn convolution<B: Backend>(backend: &B, side: usize, repeats: usize) -> Result<f64> {
    let one_by_one = |inputs: usize| {
        let weight = values(&[side, 1, 1, inputs]);
        let bias = vec![0.0; side];
        backend.convolution(&ConvolutionWeights { weight, bias, stride: 1, padding: 0 })
    };
    let shape = [1, side / PICTURE_WIDTH, PICTURE_WIDTH];
    let pixels: Vec<u8> = (0..side * 3).map(|i| (i * 31 % 251) as u8).collect();
    // A convolution of a picture is what makes activations of the backbone's own type.
    let images = backend.upload_images(&pixels, shape)?;
    let input = backend.conv2d(&backend.normalize(&images)?, &one_by_one(3)?, None, false)?;
    let product = one_by_one(side)?;
    time(backend, repeats, || backend.conv2d(&input, &product, None, false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::Cpu;

    #[test]
    fn a_rate_is_a_positive_number() {
        let rate = ProductRate::measure(&Cpu::<f32>::new()).unwrap();
        assert!((SMALLEST..=LARGEST).contains(&rate.side) && rate.side.is_power_of_two());
        assert!(rate.linear > 0.0 && rate.convolution > 0.0 && rate.tflops().is_finite());
        assert_eq!(rate.tflops(), f64::max(rate.linear, rate.convolution));
    }

    #[test]
    fn the_values_are_no_constant() {
        let values = values::<f32>(&[300, 300]);
        let mean = values.data().iter().sum::<f32>() / 90_000.0;
        assert!(mean.abs() < 0.01 && values.data()[..300] != values.data()[300..600]);
    }
}
