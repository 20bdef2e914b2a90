//! A backend under test: how it is fed, run and compared.

use std::cell::RefCell;
use std::sync::OnceLock;

use rayon::{ThreadPool, ThreadPoolBuilder};
use simplenet::backend::{Backend, Result};
use simplenet::tensor::{Scalar, Tensor};

use crate::cusim::sanitized;

/// Unit roundoff of `f32`: the relative error of one correctly rounded operation.
pub(crate) const SINGLE: f64 = f32::EPSILON as f64 / 2.0;
/// Unit roundoff of half precision, and of the operands of a product in TF32.
pub(crate) const HALF: f64 = 1.0 / 2048.0;
/// Unit roundoff of bfloat16.
pub(crate) const BFLOAT: f64 = 1.0 / 256.0;
/// What the sum of two bfloat16 numbers leaves of a number, and the product of two such sums without its smallest term.
pub(crate) const PAIR: f64 = BFLOAT * BFLOAT;
/// Unit roundoff of `f64`.
pub(crate) const DOUBLE: f64 = f64::EPSILON / 2.0;

/// A device, and the worst error it showed.
pub(crate) struct Subject<B> {
    name: &'static str,
    /// The device.
    pub(crate) device: B,
    /// Unit roundoff of its arithmetic.
    pub(crate) unit: f64,
    worst: RefCell<Worst>,
}

#[derive(Default)]
struct Worst {
    error: f64,
    share: f64,
    case: String,
}

impl<B: Backend> Subject<B> {
    pub(crate) fn new(name: &'static str, device: B, unit: f64) -> Self {
        Self { name, device, unit, worst: RefCell::default() }
    }

    /// The error that `terms` rounded additions and products may leave, relative to the result.
    ///
    /// Rounding errors of a sum add up like a random walk: `√terms` units where the terms have one sign or random
    /// ones. Four times that covers constants rounded to the device's type and the summation of the reference.
    pub(crate) fn rounding(&self, terms: usize) -> f64 {
        4.0 * self.unit * (terms as f64).sqrt()
    }

    /// Copies values to the device, rounded to its element type.
    pub(crate) fn upload(&self, values: &Tensor<f64>) -> B::Tensor {
        let data = values.data().iter().map(|&value| B::Scalar::from_f64(value)).collect();
        self.device.upload(&Tensor::new(values.shape(), data)).unwrap()
    }

    /// Copies values to the host, widened.
    pub(crate) fn download(&self, tensor: &B::Tensor) -> Tensor<f64> {
        widened::<B>(&self.device.download(tensor).unwrap())
    }

    /// The result of an operation, which must have the same bits with one, two and three threads, and twice in a
    /// row: the second time it writes into the buffers of the first. Under the sanitizers, which look at something
    /// else, once is enough.
    pub(crate) fn run(
        &self,
        case: &str,
        operation: impl Fn(&B) -> Result<Vec<B::Tensor>> + Sync,
    ) -> Vec<Tensor<f64>> {
        let device = &self.device;
        let results: Vec<Vec<Tensor<f64>>> = pools()
            .iter()
            .flat_map(|pool| [pool, pool])
            .take(if sanitized() { 1 } else { usize::MAX })
            .map(|pool| {
                let tensors = pool.install(|| operation(device)).unwrap();
                tensors.iter().map(|tensor| widened::<B>(&device.download(tensor).unwrap())).collect()
            })
            .collect();
        for (run, result) in results.iter().enumerate().skip(1) {
            for (output, (tensor, first)) in result.iter().zip(&results[0]).enumerate() {
                assert!(
                    same_bits(tensor, first),
                    "{} {case}: output {output} of run {} with {} threads differs in bits from the first",
                    self.name,
                    run % 2 + 1,
                    run / 2 + 1
                );
            }
        }
        results.into_iter().next().unwrap()
    }

    /// Panics where `‖out − reference‖/‖reference‖` exceeds the tolerance, or the shapes differ.
    pub(crate) fn compare(&self, case: &str, out: &Tensor<f64>, reference: &Tensor<f64>, tolerance: f64) {
        assert_eq!(out.shape(), reference.shape(), "{} {case}: shape", self.name);
        assert!(tolerance < 0.5, "{} {case}: {tolerance:.2e} would let anything pass", self.name);
        let error = relative_error(out.data(), reference.data());
        assert!(error <= tolerance, "{} {case}: error {error:.2e} exceeds {tolerance:.2e}", self.name);
        let share = if tolerance > 0.0 { error / tolerance } else { 0.0 };
        let mut worst = self.worst.borrow_mut();
        if share > worst.share || worst.case.is_empty() {
            *worst = Worst { error, share, case: case.to_owned() };
        }
    }

    /// Panics where `out` differs from the reference at all.
    pub(crate) fn compare_exactly(&self, case: &str, out: &Tensor<f64>, reference: &Tensor<f64>) {
        self.compare(case, out, reference, 0.0);
        assert!(same_bits(out, reference), "{} {case}: exceeds equality in the sign of a zero", self.name);
    }
}

impl<B> Drop for Subject<B> {
    /// `cargo test --test conformance -- --nocapture` shows how near every operation came to its tolerance.
    fn drop(&mut self) {
        let Worst { error, share, case } = &*self.worst.borrow();
        println!(
            "{}: worst error {error:.1e}, {:.0} % of what is allowed ({case})",
            self.name,
            100.0 * share
        );
    }
}

/// Pools of one, two and three threads.
fn pools() -> &'static [ThreadPool] {
    static POOLS: OnceLock<Vec<ThreadPool>> = OnceLock::new();
    POOLS.get_or_init(|| {
        (1..=3).map(|threads| ThreadPoolBuilder::new().num_threads(threads).build().unwrap()).collect()
    })
}

fn widened<B: Backend>(tensor: &Tensor<B::Scalar>) -> Tensor<f64> {
    Tensor::new(tensor.shape(), tensor.data().iter().map(|value| value.to_f64()).collect())
}

/// NaN equals itself here: what a NaN's payload becomes is no part of any operation.
fn same_bits(a: &Tensor<f64>, b: &Tensor<f64>) -> bool {
    a.shape() == b.shape()
        && a.data()
            .iter()
            .zip(b.data())
            .all(|(a, b)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()))
}

/// `‖out − reference‖/‖reference‖`; of a zero reference, `‖out‖`. NaN passes no tolerance.
fn relative_error(out: &[f64], reference: &[f64]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let difference = norm(&mut out.iter().zip(reference).map(|(a, b)| a - b));
    let size = norm(&mut reference.iter().copied());
    if size == 0.0 { difference } else { difference / size }
}
