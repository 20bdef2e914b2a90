//! What is summed over the rows of a group, a few neighbouring columns at a time, whose sums stay in registers.

use crate::backend::cpu::instructions::Vectorized;
use crate::backend::cpu::memory::CpuTensor;
use crate::backend::{BatchNormSaved, BatchNormScore};
use crate::tensor::Scalar;

/// Columns of a block: as many as leave all sums of a pass in AVX-512's registers.
const LANES: usize = 32;
/// Columns of a block where fewer than [`LANES`] are left.
const FEW_LANES: usize = 8;

/// `L` neighbouring values.
#[inline(always)]
pub(super) fn lanes<T, const L: usize>(values: &[T], first: usize) -> &[T; L] {
    let Some(lanes) = values[first..].first_chunk() else { panic!("{L} columns begin at {first}") };
    lanes
}

#[inline(always)]
fn lanes_mut<T, const L: usize>(values: &mut [T], first: usize) -> &mut [T; L] {
    let Some(lanes) = values[first..].first_chunk_mut() else { panic!("{L} columns begin at {first}") };
    lanes
}

/// Work that is done for every block of columns.
trait Columns {
    /// All columns of a row.
    fn channels(&self) -> usize;

    /// Does it for `L` columns from `first` on.
    fn block<const L: usize>(&mut self, first: usize);

    #[inline(always)]
    fn every_block(&mut self) {
        let channels = self.channels();
        let mut first = 0;
        while first + LANES <= channels {
            self.block::<LANES>(first);
            first += LANES;
        }
        while first + FEW_LANES <= channels {
            self.block::<FEW_LANES>(first);
            first += FEW_LANES;
        }
        while first < channels {
            self.block::<1>(first);
            first += 1;
        }
    }
}

/// BatchNorm with known statistics, and LeakyReLU.
pub(super) struct Activation<T> {
    mean: Vec<T>,
    scale: Vec<T>,
    beta: Vec<T>,
    slope: T,
}

impl<T: Scalar> Activation<T> {
    pub(super) fn new(
        layers: &BatchNormScore<'_, CpuTensor<T>>,
        saved: &BatchNormSaved<CpuTensor<T>>,
    ) -> Self {
        let scale = layers.gamma.data().iter().zip(saved.inverse_std.data());
        Self {
            mean: saved.mean.data().to_vec(),
            scale: scale.map(|(&gamma, &inverse)| gamma * inverse).collect(),
            beta: layers.beta.data().to_vec(),
            slope: T::from_f64(layers.slope),
        }
    }

    /// Its constants in `L` columns.
    #[inline(always)]
    pub(super) fn columns<const L: usize>(&self, first: usize) -> ActivationColumns<'_, T, L> {
        let [mean, scale, beta] = [&self.mean, &self.scale, &self.beta].map(|values| lanes(values, first));
        ActivationColumns { mean, scale, beta, slope: self.slope }
    }
}

/// An [`Activation`] in a few columns.
pub(super) struct ActivationColumns<'a, T, const L: usize> {
    mean: &'a [T; L],
    scale: &'a [T; L],
    beta: &'a [T; L],
    slope: T,
}

impl<T: Scalar, const L: usize> ActivationColumns<'_, T, L> {
    /// `x − mean`, and LeakyReLU's derivative there. Subtracting the mean first keeps what distinguishes rows.
    #[inline(always)]
    pub(super) fn at(&self, lane: usize, x: T) -> (T, T) {
        let deviation = x - self.mean[lane];
        (deviation, if self.normalised(lane, deviation) > T::ZERO { T::ONE } else { self.slope })
    }

    /// What LeakyReLU sees.
    #[inline(always)]
    pub(super) fn normalised(&self, lane: usize, deviation: T) -> T {
        deviation * self.scale[lane] + self.beta[lane]
    }
}

/// Sums over a group of rows, for every column.
pub(super) struct Group<T> {
    /// Rows.
    pub(super) count: usize,
    /// The first row.
    pub(super) origin: Vec<T>,
    /// Σ (x − origin).
    pub(super) deviations: Vec<T>,
    /// Σ (x − origin)².
    pub(super) squares: Vec<T>,
}

impl<T: Scalar> Group<T> {
    pub(super) fn new(count: usize, channels: usize) -> Self {
        let [origin, deviations, squares] = std::array::from_fn(|_| vec![T::ZERO; channels]);
        Self { count, origin, deviations, squares }
    }
}

/// The sums of a [`Group`], of both halves.
pub(super) struct MomentsTask<'a, T> {
    pub(super) hidden: &'a [T],
    pub(super) shift: &'a [T],
    pub(super) channels: usize,
    pub(super) groups: &'a mut [Group<T>; 2],
}

impl<T: Scalar> Vectorized for MomentsTask<'_, T> {
    #[inline(always)]
    fn run(mut self) {
        self.every_block();
    }
}

impl<T: Scalar> Columns for MomentsTask<'_, T> {
    #[inline(always)]
    fn channels(&self) -> usize {
        self.channels
    }

    #[inline(always)]
    fn block<const L: usize>(&mut self, first: usize) {
        let value = |hidden: &[T; L], shift: &[T; L], lane: usize| [hidden[lane], hidden[lane] + shift[lane]];
        let [hidden, shift] = [self.hidden, self.shift].map(|values| lanes::<T, L>(values, first));
        let (mut origin, mut deviations, mut squares) =
            ([[T::ZERO; L]; 2], [[T::ZERO; L]; 2], [[T::ZERO; L]; 2]);
        for lane in 0..L {
            [origin[0][lane], origin[1][lane]] = value(hidden, shift, lane);
        }
        let rows = self.hidden.chunks_exact(self.channels).zip(self.shift.chunks_exact(self.channels));
        for (hidden, shift) in rows.skip(1) {
            let [hidden, shift] = [hidden, shift].map(|row| lanes::<T, L>(row, first));
            for lane in 0..L {
                let value = value(hidden, shift, lane);
                for half in 0..2 {
                    let deviation = value[half] - origin[half][lane];
                    deviations[half][lane] += deviation;
                    squares[half][lane] += deviation * deviation;
                }
            }
        }
        for (half, group) in self.groups.iter_mut().enumerate() {
            *lanes_mut(&mut group.origin, first) = origin[half];
            *lanes_mut(&mut group.deviations, first) = deviations[half];
            *lanes_mut(&mut group.squares, first) = squares[half];
        }
    }
}

/// `Σ ds·f` and `Σ ds·f·(x − mean)` over a group of rows of both halves.
pub(super) struct SumsTask<'a, T> {
    pub(super) hidden: &'a [T],
    pub(super) shift: &'a [T],
    pub(super) gradient: [&'a [T]; 2],
    pub(super) activation: &'a Activation<T>,
    pub(super) of_factors: &'a mut [f64],
    pub(super) of_deviations: &'a mut [f64],
}

impl<T: Scalar> Vectorized for SumsTask<'_, T> {
    #[inline(always)]
    fn run(mut self) {
        self.every_block();
    }
}

impl<T: Scalar> Columns for SumsTask<'_, T> {
    #[inline(always)]
    fn channels(&self) -> usize {
        self.of_factors.len()
    }

    #[inline(always)]
    fn block<const L: usize>(&mut self, first: usize) {
        let (channels, activation) = (self.channels(), self.activation.columns::<L>(first));
        let (mut of_factors, mut of_deviations) = ([0.0; L], [0.0; L]);
        let rows = self.hidden.chunks_exact(channels).zip(self.shift.chunks_exact(channels));
        for (row, (hidden, shift)) in rows.enumerate() {
            let [hidden, shift] = [hidden, shift].map(|row| lanes::<T, L>(row, first));
            let gradient = self.gradient.map(|gradient| gradient[row]);
            for lane in 0..L {
                let (deviation, factor) = activation.at(lane, hidden[lane]);
                let (deviation_2, factor_2) = activation.at(lane, hidden[lane] + shift[lane]);
                let (factor, factor_2) = (gradient[0] * factor, gradient[1] * factor_2);
                of_factors[lane] += (factor + factor_2).to_f64();
                of_deviations[lane] += (factor * deviation + factor_2 * deviation_2).to_f64();
            }
        }
        *lanes_mut(self.of_factors, first) = of_factors;
        *lanes_mut(self.of_deviations, first) = of_deviations;
    }
}

/// The gradients of a group of rows, and their sum over both halves.
pub(super) struct GradientTask<'a, T> {
    pub(super) hidden: &'a [T],
    pub(super) shift: &'a [T],
    pub(super) gradient: [&'a [T]; 2],
    pub(super) activation: &'a Activation<T>,
    /// `γ·s·w`.
    pub(super) factor: &'a [T],
    /// `P/N`.
    pub(super) mean_factor: &'a [T],
    /// `s²·Q/N`.
    pub(super) mean_product: &'a [T],
    pub(super) grad_hidden: &'a mut [T],
    pub(super) grad_shift: &'a mut [T],
    pub(super) grad_bias: &'a mut [f64],
}

impl<T: Scalar> Vectorized for GradientTask<'_, T> {
    #[inline(always)]
    fn run(mut self) {
        self.every_block();
    }
}

impl<T: Scalar> Columns for GradientTask<'_, T> {
    #[inline(always)]
    fn channels(&self) -> usize {
        self.grad_bias.len()
    }

    #[inline(always)]
    fn block<const L: usize>(&mut self, first: usize) {
        let (channels, activation) = (self.channels(), self.activation.columns::<L>(first));
        let [factor, mean_factor, mean_product] =
            [self.factor, self.mean_factor, self.mean_product].map(|values| lanes::<T, L>(values, first));
        let mut grad_bias = [0.0; L];
        let rows = self.hidden.chunks_exact(channels).zip(self.shift.chunks_exact(channels));
        let out = self.grad_hidden.chunks_exact_mut(channels).zip(self.grad_shift.chunks_exact_mut(channels));
        for (row, ((hidden, shift), (grad_hidden, grad_shift))) in rows.zip(out).enumerate() {
            let [hidden, shift] = [hidden, shift].map(|row| lanes::<T, L>(row, first));
            let [grad_hidden, grad_shift] =
                [grad_hidden, grad_shift].map(|row| lanes_mut::<T, L>(row, first));
            let gradient = self.gradient.map(|gradient| gradient[row]);
            for lane in 0..L {
                let values = [hidden[lane], hidden[lane] + shift[lane]];
                let mut parts = [T::ZERO; 2];
                for half in 0..2 {
                    let (deviation, slope) = activation.at(lane, values[half]);
                    parts[half] = factor[lane]
                        * (gradient[half] * slope - mean_factor[lane] - deviation * mean_product[lane]);
                }
                grad_hidden[lane] = parts[0] + parts[1];
                grad_shift[lane] = parts[1];
                grad_bias[lane] += (parts[0] + parts[1]).to_f64();
            }
        }
        *lanes_mut(self.grad_bias, first) = grad_bias;
    }
}
