//! The CPU device: every operation in Rust, parallel over `rayon`'s threads.
//!
//! Results do not depend on the number of threads: work is cut into pieces of fixed size, and partial sums are
//! added in the order of the pieces.

mod adam;
mod add;
mod aggregate;
mod amx;
mod anomaly_map;
mod batch_norm;
mod batch_norm_score;
mod conv2d;
mod feature_cache;
mod instructions;
mod leaky_relu;
mod linear;
mod loss;
mod matmul;
mod max_pool2d;
mod memory;
mod noise;
mod normalize;
mod operand;
mod panels;
mod project;
mod resize_add_score;
mod schedule;
mod score;

pub use conv2d::{Convolutions, CpuConvolution};
pub use feature_cache::CpuFeatureCache;
pub use memory::CpuTensor;
pub use normalize::CpuImages;
pub use schedule::CpuSchedule;

use super::{
    AdamSlot, Aggregation, Backend, BatchNormSaved, BatchNormScore, BatchNormScoreGradients,
    ConvolutionWeights, DeviceTensor, Epoch, FeatureCacheOptions, Loss, Noise, Result, RunningStatistics,
    with_last_axis,
};
use crate::tensor::{Scalar, Tensor};
use amx::Written;
use conv2d::Arithmetic;
use instructions::Instructions;
use memory::Pool;
use std::sync::Arc;

/// Rows of a feature matrix that one task works on: a few hundred kilobytes, which stay in a core's cache between
/// the passes of an operation.
const ROWS_PER_TASK: usize = 128;

/// The CPU, computing in `T`: `f32` for use, `f64` as the project's own reference.
#[derive(Clone, Debug)]
pub struct Cpu<T = f32> {
    pool: Arc<Pool<T>>,
    arithmetic: Arithmetic,
}

impl<T: Scalar> Cpu<T> {
    /// The device with exact convolutions; it uses the threads of the `rayon` pool it is called from.
    pub fn new() -> Self {
        Self::with(Convolutions::Exact)
    }

    /// The device with a choice of how convolutions are computed.
    pub fn with(convolutions: Convolutions) -> Self {
        let arithmetic = Arithmetic { convolutions, bf16: false, tiles: conv2d::tile_unit::<T>() };
        Self { pool: Pool::new(), arithmetic }
    }

    /// As [`Cpu::with`], but what convolutions multiply is rounded to bfloat16, in all but those that see pixels; sums, and
    /// whatever else the device computes, stay in `T`. Where the processor has tiles (AMX) as well, convolutions sum
    /// every product of the definition, whichever were asked for. `None` where it lacks the instructions (AVX512-BF16).
    pub fn bf16(convolutions: Convolutions) -> Option<Self> {
        let mut device = Self::with(convolutions);
        device.arithmetic.bf16 = true;
        Instructions::have_bf16().then_some(device)
    }

    /// The device as it is on a processor without tiles, for comparisons.
    #[must_use]
    pub fn without_tiles(mut self) -> Self {
        self.arithmetic.tiles = None;
        self
    }

    /// What multiplies bfloat16 numbers on this machine; `None` where nothing does.
    pub fn bf16_unit() -> Option<Bf16Unit> {
        let unit = if conv2d::tile_unit::<T>().is_some() {
            Bf16Unit::AmxTiles
        } else if Instructions::bf16_is_slow() {
            Bf16Unit::SlowAvx512
        } else {
            Bf16Unit::Avx512
        };
        Instructions::have_bf16().then_some(unit)
    }

    fn filled(&self, shape: &[usize], data: &[T]) -> CpuTensor<T> {
        let mut tensor = self.pool.tensor(shape);
        tensor.data_mut().copy_from_slice(data);
        tensor
    }
}

/// What multiplies bfloat16 numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bf16Unit {
    /// AMX tiles, which serve fast convolutions in `f32` too.
    AmxTiles,
    /// Vectors (AVX512-BF16): twice as many products as of `f32` in the same time.
    Avx512,
    /// The same where it takes longer than `f32` does.
    SlowAvx512,
}

/// The tensors of the last run of some work.
#[derive(Debug)]
pub struct CpuRecording<T: Scalar> {
    outputs: Vec<CpuTensor<T>>,
}

impl<T: Scalar> Default for CpuRecording<T> {
    fn default() -> Self {
        Self { outputs: Vec::new() }
    }
}

impl<T: Scalar> Default for Cpu<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Scalar> Backend for Cpu<T> {
    type Scalar = T;
    type Tensor = CpuTensor<T>;
    type Convolution = CpuConvolution<T>;
    type FeatureCache = CpuFeatureCache;
    type Schedule = CpuSchedule;
    type Images = CpuImages;
    type Results = Vec<Tensor<T>>;
    type Recording = CpuRecording<T>;

    fn description(&self) -> String {
        let convolutions = match self.arithmetic.convolutions {
            Convolutions::Exact => "exact convolutions",
            Convolutions::Fast => "fast convolutions",
        };
        let convolutions = match (self.arithmetic.tiled(usize::MAX), self.arithmetic.bf16) {
            (Some((_, Written::Rounded)), _) => "convolutions in bf16 by AMX tiles".to_owned(),
            (Some((_, Written::Split)), _) => format!("{convolutions} by AMX tiles on pairs of bf16"),
            (None, true) => format!("{convolutions} in bf16"),
            (None, false) => convolutions.to_owned(),
        };
        format!("CPU, {} threads, {convolutions}", rayon::current_num_threads())
    }

    /// Every operation has run when it returns.
    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    fn memory_held(&self) -> Option<u64> {
        None
    }

    fn upload(&self, tensor: &Tensor<T>) -> Result<CpuTensor<T>> {
        Ok(self.filled(tensor.shape(), tensor.data()))
    }

    fn download(&self, tensor: &CpuTensor<T>) -> Result<Tensor<T>> {
        Ok(tensor.to_host())
    }

    fn begin_download(&self, tensors: &[&CpuTensor<T>]) -> Result<Vec<Tensor<T>>> {
        Ok(tensors.iter().map(|tensor| tensor.to_host()).collect())
    }

    fn finish_download(&self, results: Vec<Tensor<T>>) -> Result<Vec<Tensor<T>>> {
        Ok(results)
    }

    fn upload_images(&self, pixels: &[u8], shape: [usize; 3]) -> Result<CpuImages> {
        Ok(CpuImages::new(pixels, shape))
    }

    fn replace_images(&self, images: &mut CpuImages, pixels: &[u8]) -> Result<()> {
        images.replace(pixels);
        Ok(())
    }

    /// Runs it, on a thread of the pool: operations called from there wake no thread between one another.
    fn run_recorded<'r>(
        &self,
        recording: &'r mut CpuRecording<T>,
        work: &mut (dyn FnMut() -> Result<Vec<CpuTensor<T>>> + Send),
    ) -> Result<&'r [CpuTensor<T>]> {
        // The last run's buffers are there for this one.
        recording.outputs.clear();
        recording.outputs = rayon::scope(|_| work())?;
        Ok(&recording.outputs)
    }

    fn normalize(&self, images: &CpuImages) -> Result<CpuTensor<T>> {
        let [n, h, w] = images.shape();
        let mut out = self.pool.tensor(&[n, h, w, 3]);
        normalize::normalize(images.pixels(), out.data_mut());
        Ok(out)
    }

    fn convolution(&self, weights: &ConvolutionWeights) -> Result<CpuConvolution<T>> {
        Ok(CpuConvolution::new(weights, self.arithmetic))
    }

    fn conv2d(
        &self,
        input: &CpuTensor<T>,
        convolution: &CpuConvolution<T>,
        residual: Option<&CpuTensor<T>>,
        relu: bool,
    ) -> Result<CpuTensor<T>> {
        Ok(conv2d::conv2d(&self.pool, input, convolution, residual, relu))
    }

    fn conv2d_onto(
        &self,
        input: &CpuTensor<T>,
        convolution: &CpuConvolution<T>,
        residual: CpuTensor<T>,
        relu: bool,
    ) -> Result<CpuTensor<T>> {
        Ok(conv2d::conv2d_onto(&self.pool, input, convolution, residual, relu))
    }

    fn max_pool2d(&self, input: &CpuTensor<T>) -> Result<CpuTensor<T>> {
        let [n, h, w, channels] = input.axes();
        let mut out = self.pool.tensor(&[n, h.div_ceil(2), w.div_ceil(2), channels]);
        max_pool2d::max_pool2d(input.data(), [n, h, w, channels], out.data_mut());
        Ok(out)
    }

    fn aggregate(&self, levels: &[&CpuTensor<T>], aggregation: &Aggregation) -> Result<CpuTensor<T>> {
        Ok(aggregate::aggregate(&self.pool, levels, aggregation))
    }

    fn aggregate_level(
        &self,
        level: &CpuTensor<T>,
        aggregation: &Aggregation,
        levels: usize,
    ) -> Result<CpuTensor<T>> {
        Ok(aggregate::aggregate_level(&self.pool, level, aggregation, levels))
    }

    fn feature_cache(
        &self,
        images: usize,
        rows: usize,
        channels: usize,
        options: &FeatureCacheOptions,
    ) -> Result<CpuFeatureCache> {
        CpuFeatureCache::new(images, rows, channels, options)
    }

    fn append_features(&self, cache: &mut CpuFeatureCache, features: &CpuTensor<T>) -> Result<()> {
        cache.append(features.data())
    }

    fn finish_features(&self, cache: &mut CpuFeatureCache) -> Result<()> {
        cache.finish()
    }

    fn schedule(&self, images: usize, batch: usize) -> Result<CpuSchedule> {
        Ok(CpuSchedule::new(images, batch))
    }

    fn begin_epoch(&self, schedule: &mut CpuSchedule, epoch: &Epoch<'_>) -> Result<()> {
        schedule.begin_epoch(epoch);
        Ok(())
    }

    fn end_step(&self, schedule: &mut CpuSchedule) -> Result<()> {
        schedule.end_step();
        Ok(())
    }

    fn reads_features(&self, _: &CpuFeatureCache) -> bool {
        true
    }

    fn gather_rows(
        &self,
        cache: &CpuFeatureCache,
        schedule: &CpuSchedule,
        images: usize,
        scale: f64,
    ) -> Result<CpuTensor<T>> {
        let (rows, channels) = cache.image_shape();
        let mut out = self.pool.tensor(&[images * rows, channels]);
        cache.gather_rows(schedule.images(images), scale, out.data_mut());
        Ok(out)
    }

    fn linear(
        &self,
        input: &CpuTensor<T>,
        weight: &CpuTensor<T>,
        bias: Option<&CpuTensor<T>>,
    ) -> Result<CpuTensor<T>> {
        let (shape, [outputs, _]) = (input.shape(), weight.axes());
        let mut out = self.pool.tensor(&with_last_axis(shape, outputs));
        linear::linear(input, weight, bias, out.data_mut());
        Ok(out)
    }

    fn project(
        &self,
        input: &CpuTensor<T>,
        weight: &CpuTensor<T>,
        bias: Option<&CpuTensor<T>>,
    ) -> Result<CpuTensor<T>> {
        let Arithmetic { convolutions, bf16, .. } = self.arithmetic;
        if convolutions == Convolutions::Exact && !bf16 {
            return self.linear(input, weight, bias);
        }
        Ok(project::project(&self.pool, input, weight, bias, self.arithmetic))
    }

    fn linear_grad_input(&self, gradient: &CpuTensor<T>, weight: &CpuTensor<T>) -> Result<CpuTensor<T>> {
        let (shape, [_, inputs]) = (gradient.shape(), weight.axes());
        let mut out = self.pool.tensor(&with_last_axis(shape, inputs));
        linear::linear_grad_input(gradient, weight, out.data_mut());
        Ok(out)
    }

    fn linear_grad_weight(&self, gradient: &CpuTensor<T>, input: &CpuTensor<T>) -> Result<CpuTensor<T>> {
        let [outputs, inputs] = [gradient, input].map(|tensor| *tensor.shape().last().unwrap_or(&1));
        let mut out = self.pool.tensor(&[outputs, inputs]);
        linear::linear_grad_weight(gradient, input, out.data_mut());
        Ok(out)
    }

    fn column_sums(&self, gradient: &CpuTensor<T>) -> Result<CpuTensor<T>> {
        let [_, columns] = gradient.axes();
        let sums = linear::column_sums(gradient.data(), columns);
        Ok(self.filled(&[columns], &sums))
    }

    fn add(&self, sum: &mut CpuTensor<T>, term: &CpuTensor<T>) -> Result<()> {
        assert_eq!(sum.shape(), term.shape(), "a term for every element");
        add::add(sum.data_mut(), term.data());
        Ok(())
    }

    fn noise(&self, shape: [usize; 2], noise: Noise<'_, CpuSchedule>) -> Result<CpuTensor<T>> {
        let mut out = self.pool.tensor(&shape);
        noise::noise(&noise, shape[1], out.data_mut());
        Ok(out)
    }

    fn batch_norm_score(
        &self,
        hidden: &CpuTensor<T>,
        shift: &CpuTensor<T>,
        layers: &BatchNormScore<'_, CpuTensor<T>>,
        running: RunningStatistics<'_, CpuTensor<T>>,
    ) -> Result<(CpuTensor<T>, BatchNormSaved<CpuTensor<T>>)> {
        Ok(batch_norm_score::batch_norm_score(&self.pool, hidden, shift, layers, running))
    }

    fn batch_norm_score_backward(
        &self,
        gradient: &CpuTensor<T>,
        hidden: &CpuTensor<T>,
        shift: &CpuTensor<T>,
        layers: &BatchNormScore<'_, CpuTensor<T>>,
        saved: &BatchNormSaved<CpuTensor<T>>,
    ) -> Result<BatchNormScoreGradients<CpuTensor<T>>> {
        Ok(batch_norm_score::batch_norm_score_backward(&self.pool, gradient, hidden, shift, layers, saved))
    }

    fn batch_norm_inference(
        &self,
        input: &CpuTensor<T>,
        gamma: &CpuTensor<T>,
        beta: &CpuTensor<T>,
        mean: &CpuTensor<T>,
        variance: &CpuTensor<T>,
        epsilon: f64,
    ) -> Result<CpuTensor<T>> {
        let mut out = self.pool.tensor(&input.axes::<2>());
        let statistics = batch_norm::Affine::new(
            gamma.data(),
            beta.data(),
            mean.data(),
            &batch_norm::inverse_std(variance.data(), epsilon),
        );
        statistics.apply(input.data(), out.data_mut());
        Ok(out)
    }

    fn leaky_relu(&self, input: &CpuTensor<T>, slope: f64) -> Result<CpuTensor<T>> {
        let mut out = self.pool.tensor(&input.axes::<2>());
        leaky_relu::leaky_relu(input.data(), slope, out.data_mut());
        Ok(out)
    }

    fn leaky_relu_backward(
        &self,
        gradient: &CpuTensor<T>,
        input: &CpuTensor<T>,
        slope: f64,
    ) -> Result<CpuTensor<T>> {
        let mut out = self.pool.tensor(&input.axes::<2>());
        leaky_relu::leaky_relu_backward(gradient.data(), input.data(), slope, out.data_mut());
        Ok(out)
    }

    fn score(&self, input: &CpuTensor<T>, weight: &CpuTensor<T>) -> Result<CpuTensor<T>> {
        let [rows, _] = input.axes();
        let mut out = self.pool.tensor(&[rows]);
        score::score(input.data(), weight.data(), out.data_mut());
        Ok(out)
    }

    fn resize_add_score(
        &self,
        projections: &[&CpuTensor<T>],
        slope: f64,
        weight: &CpuTensor<T>,
    ) -> Result<CpuTensor<T>> {
        let [n, h, w, _] = projections[0].axes();
        let mut out = self.pool.tensor(&[n * h * w]);
        resize_add_score::resize_add_score(projections, slope, weight.data(), out.data_mut());
        Ok(out)
    }

    fn loss(
        &self,
        scores: &CpuTensor<T>,
        loss: Loss,
        images: usize,
        totals: &mut CpuTensor<T>,
    ) -> Result<CpuTensor<T>> {
        let mut out = self.pool.tensor(&scores.axes::<1>());
        loss::loss(scores.data(), loss, images, totals.data_mut(), out.data_mut());
        Ok(out)
    }

    fn adam(&self, slots: &mut [AdamSlot<'_, CpuTensor<T>>], schedule: &CpuSchedule) -> Result<()> {
        adam::adam(slots, schedule.step());
        Ok(())
    }

    fn anomaly_map(
        &self,
        scores: &CpuTensor<T>,
        rows: &CpuTensor<T>,
        columns: &CpuTensor<T>,
    ) -> Result<(CpuTensor<T>, CpuTensor<T>)> {
        Ok(anomaly_map::anomaly_map(&self.pool, scores, rows, columns))
    }

    fn reshape(&self, tensor: CpuTensor<T>, shape: &[usize]) -> CpuTensor<T> {
        tensor.with_shape(shape)
    }

    fn clear(&self, tensor: &mut CpuTensor<T>) -> Result<()> {
        tensor.data_mut().fill(T::ZERO);
        Ok(())
    }
}
