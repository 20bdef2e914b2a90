//! Random inputs. All are `f32` numbers, so that every backend computes from exactly the same values.

use simplenet::random::{Philox, Stream};
use simplenet::tensor::Tensor;

/// A source of inputs: every call draws other values.
pub(crate) struct Draws {
    seed: u64,
    calls: u32,
}

impl Draws {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, calls: 0 }
    }

    fn philox(&mut self) -> Philox {
        self.calls += 1;
        Philox::new(self.seed, Stream::Demo, self.calls)
    }

    /// Normally distributed values.
    pub(crate) fn normals(&mut self, shape: &[usize], mean: f64, deviation: f64) -> Tensor<f64> {
        let philox = self.philox();
        let value = |i: usize| philox.normals(i as u64 / 4)[i % 4] * deviation + mean;
        let data = (0..shape.iter().product()).map(|i| f64::from(value(i) as f32)).collect();
        Tensor::new(shape, data)
    }

    /// Random bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let philox = self.philox();
        (0..count).map(|i| (philox.draw(i as u64) >> 24) as u8).collect()
    }
}
