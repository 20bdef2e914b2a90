//! The CUDA device: every operation as a kernel of `kernels/`, or as a product by cuBLASLt.
//!
//! One context, one compute stream on which everything runs in order, a stream each for images and results, joined by events.
//! Results have the same bits every time: no float is added atomically, every sum has one order, and a shape keeps
//! the algorithm that was first chosen for it: the first that is offered, or by [`Tuner`] the fastest, kept in [`Plans`].

mod adam;
mod add;
mod aggregate;
mod anomaly_map;
mod arena;
mod batch_norm;
mod batch_norm_score;
mod column_sums;
mod context;
mod conv2d;
mod conv2d_implicit;
mod convolutions;
mod cublaslt;
mod error;
mod feature_cache;
mod images;
mod launch;
mod leaky_relu;
mod linear;
mod loss;
mod max_pool2d;
mod memory;
mod modules;
mod noise;
mod normalize;
mod plans;
pub mod probe;
mod products;
mod recording;
mod resize_add_score;
mod results;
mod schedule;
mod score;
mod staging;
mod stopwatch;
mod tuning;

pub use conv2d::CudaConvolution;
pub use error::CudaError;
pub use feature_cache::CudaFeatureCache;
pub use memory::CudaTensor;
pub use normalize::CudaImages;
pub use plans::{Choice, Origin, Plans, PlansError};
pub use recording::CudaRecording;
pub use results::CudaResults;
pub use schedule::CudaSchedule;
pub use tuning::{Tuned, Tuner};

use super::{
    AdamSlot, Aggregation, Backend, BatchNormSaved, BatchNormScore, BatchNormScoreGradients,
    ConvolutionWeights, DeviceTensor, Epoch, FeatureCacheOptions, Loss, Noise, Result, RunningStatistics,
};
use crate::tensor::Tensor;
use context::Context;
use half::f16;
use half::slice::HalfFloatSliceExt;
use memory::ElementType;
use std::sync::Arc;

/// How matrix products and activations are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// IEEE single precision throughout.
    F32,
    /// Operands of products rounded to ten bits of mantissa, on tensor cores; everything else in f32.
    Tf32,
    /// The backbone in half precision with sums in f32; the head as under [`Precision::Tf32`].
    F16,
}

impl Precision {
    /// Its name under `--precision`.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Tf32 => "tf32",
            Precision::F16 => "f16",
        }
    }
}

/// Which device to open, and how.
#[derive(Clone, Copy, Debug)]
pub struct CudaOptions {
    /// The device's number.
    pub ordinal: usize,
    /// Its arithmetic.
    pub precision: Precision,
    /// Every convolution of halves in one kernel without patches in memory, where it serves them: for tests. Otherwise
    /// that is one of the ways to choose from by timing, and not taken where nothing is measured.
    pub implicit_gemm: bool,
    /// Bytes of device memory that cached features may take. Default: what is free, but for a reserve.
    pub feature_memory: Option<usize>,
    /// Fill every buffer with NaN before it is used, so that an element nobody wrote shows: for tests.
    pub poison_memory: bool,
    /// Replay recorded work as graphs. Without it every run is an ordinary one, with the same results.
    pub records: bool,
}

impl CudaOptions {
    /// Device `ordinal` as a user wants it.
    pub fn new(ordinal: usize, precision: Precision) -> Self {
        Self {
            ordinal,
            precision,
            implicit_gemm: false,
            feature_memory: None,
            poison_memory: false,
            records: true,
        }
    }
}

/// A GPU. Clones share it.
#[derive(Clone, Debug)]
pub struct Cuda {
    context: Arc<Context>,
}

impl Cuda {
    /// Opens a device.
    ///
    /// # Errors
    /// The first thing that is missing, from driver to cuBLASLt, or an arithmetic that the device lacks.
    pub fn open(options: CudaOptions) -> std::result::Result<Self, CudaError> {
        Ok(Self { context: Arc::new(Context::open(options)?) })
    }

    /// Why uploads do not go through write-combined host memory, which passes the host's caches by; none where they do. Some
    /// virtual machines refuse it; there they go through ordinary page-locked memory, which costs the host more.
    pub fn upload_refusal(&self) -> Option<String> {
        self.context.staging().refusal()
    }
}

impl Backend for Cuda {
    type Scalar = f32;
    type Tensor = CudaTensor;
    type Convolution = CudaConvolution;
    type FeatureCache = CudaFeatureCache;
    type Schedule = CudaSchedule;
    type Images = CudaImages;
    type Results = CudaResults;
    type Recording = CudaRecording;

    fn description(&self) -> String {
        let probe::Device { ordinal, name, capability: (major, minor), .. } = &self.context.device;
        let precision = self.context.precision.name();
        format!("cuda:{ordinal} {name}, compute capability {major}.{minor}, {precision}")
    }

    fn tuner(&self) -> Option<Tuner<'_>> {
        Some(Tuner::new(&self.context))
    }

    fn synchronize(&self) -> Result<()> {
        Ok(self.context.synchronize()?)
    }

    fn memory_held(&self) -> Option<u64> {
        Some(self.context.memory.held() as u64)
    }

    fn works_beside_host(&self) -> bool {
        true
    }

    fn upload(&self, tensor: &Tensor<f32>) -> Result<CudaTensor> {
        let out = self.context.tensor(tensor.shape(), ElementType::F32)?;
        self.context.staging().upload(bytemuck::must_cast_slice(tensor.data()), out.buffer())?;
        Ok(out)
    }

    fn download(&self, tensor: &CudaTensor) -> Result<Tensor<f32>> {
        let mut staging = self.context.staging();
        let data = match tensor.element() {
            ElementType::F32 => {
                let mut data = vec![0.0f32; tensor.len()];
                staging.download(tensor.buffer(), bytemuck::must_cast_slice_mut(&mut data))?;
                data
            }
            ElementType::F16 => {
                let mut data = vec![f16::ZERO; tensor.len()];
                staging.download(tensor.buffer(), bytemuck::must_cast_slice_mut(&mut data))?;
                data.to_f32_vec()
            }
        };
        Ok(Tensor::new(tensor.shape(), data))
    }

    fn begin_download(&self, tensors: &[&CudaTensor]) -> Result<CudaResults> {
        let arriving = tensors.iter().map(|tensor| self.context.results.begin(tensor));
        Ok(CudaResults(arriving.collect::<std::result::Result<_, _>>()?))
    }

    fn finish_download(&self, results: CudaResults) -> Result<Vec<Tensor<f32>>> {
        let arrived = results.0.into_iter().map(|arriving| arriving.finish(&self.context));
        Ok(arrived.collect::<std::result::Result<_, _>>()?)
    }

    fn upload_images(&self, pixels: &[u8], shape: [usize; 3]) -> Result<CudaImages> {
        let mut images = CudaImages::new(&self.context, shape)?;
        images.replace(&self.context, pixels)?;
        Ok(images)
    }

    fn replace_images(&self, images: &mut CudaImages, pixels: &[u8]) -> Result<()> {
        images.replace(&self.context, pixels)
    }

    fn run_recorded<'r>(
        &self,
        recording: &'r mut CudaRecording,
        work: &mut (dyn FnMut() -> Result<Vec<CudaTensor>> + Send),
    ) -> Result<&'r [CudaTensor]> {
        recording::run_recorded(&self.context, recording, work)
    }

    fn is_recorded(&self, recording: &CudaRecording) -> bool {
        recording.is_captured() || !self.context.records
    }

    fn normalize(&self, images: &CudaImages) -> Result<CudaTensor> {
        normalize::normalize(&self.context, images)
    }

    fn convolution(&self, weights: &ConvolutionWeights) -> Result<CudaConvolution> {
        conv2d::convolution(&self.context, weights)
    }

    fn conv2d(
        &self,
        input: &CudaTensor,
        convolution: &CudaConvolution,
        residual: Option<&CudaTensor>,
        relu: bool,
    ) -> Result<CudaTensor> {
        conv2d::conv2d(&self.context, input, convolution, residual, relu)
    }

    fn max_pool2d(&self, input: &CudaTensor) -> Result<CudaTensor> {
        max_pool2d::max_pool2d(&self.context, input)
    }

    fn aggregate(&self, levels: &[&CudaTensor], aggregation: &Aggregation) -> Result<CudaTensor> {
        aggregate::aggregate(&self.context, levels, aggregation)
    }

    fn aggregate_level(
        &self,
        level: &CudaTensor,
        aggregation: &Aggregation,
        levels: usize,
    ) -> Result<CudaTensor> {
        aggregate::aggregate_level(&self.context, level, aggregation, levels)
    }

    fn feature_cache(
        &self,
        images: usize,
        rows: usize,
        channels: usize,
        options: &FeatureCacheOptions,
    ) -> Result<CudaFeatureCache> {
        CudaFeatureCache::new(&self.context, [images, rows, channels], options)
    }

    fn append_features(&self, cache: &mut CudaFeatureCache, features: &CudaTensor) -> Result<()> {
        cache.append_features(&self.context, features)
    }

    fn finish_features(&self, cache: &mut CudaFeatureCache) -> Result<()> {
        cache.finish(&self.context)
    }

    fn schedule(&self, images: usize, batch: usize) -> Result<CudaSchedule> {
        CudaSchedule::new(&self.context, images, batch)
    }

    fn begin_epoch(&self, schedule: &mut CudaSchedule, epoch: &Epoch<'_>) -> Result<()> {
        schedule.begin_epoch(&self.context, epoch)
    }

    fn end_step(&self, schedule: &mut CudaSchedule) -> Result<()> {
        schedule.end_step(&self.context)
    }

    fn reads_features(&self, cache: &CudaFeatureCache) -> bool {
        cache.is_mapped()
    }

    fn gather_rows(
        &self,
        cache: &CudaFeatureCache,
        schedule: &CudaSchedule,
        images: usize,
        scale: f64,
    ) -> Result<CudaTensor> {
        cache.gather_rows(&self.context, schedule, images, scale)
    }

    fn linear(
        &self,
        input: &CudaTensor,
        weight: &CudaTensor,
        bias: Option<&CudaTensor>,
    ) -> Result<CudaTensor> {
        linear::linear(&self.context, input, weight, bias)
    }

    fn linear_grad_input(&self, gradient: &CudaTensor, weight: &CudaTensor) -> Result<CudaTensor> {
        linear::linear_grad_input(&self.context, gradient, weight)
    }

    fn linear_grad_weight(&self, gradient: &CudaTensor, input: &CudaTensor) -> Result<CudaTensor> {
        linear::linear_grad_weight(&self.context, gradient, input)
    }

    fn column_sums(&self, gradient: &CudaTensor) -> Result<CudaTensor> {
        column_sums::column_sums(&self.context, gradient)
    }

    fn add(&self, sum: &mut CudaTensor, term: &CudaTensor) -> Result<()> {
        add::add(&self.context, sum, term)
    }

    fn noise(&self, shape: [usize; 2], noise: Noise<'_, CudaSchedule>) -> Result<CudaTensor> {
        noise::noise(&self.context, shape, noise)
    }

    fn batch_norm_score(
        &self,
        hidden: &CudaTensor,
        shift: &CudaTensor,
        layers: &BatchNormScore<'_, CudaTensor>,
        running: RunningStatistics<'_, CudaTensor>,
    ) -> Result<(CudaTensor, BatchNormSaved<CudaTensor>)> {
        batch_norm_score::batch_norm_score(&self.context, hidden, shift, layers, running)
    }

    fn batch_norm_score_backward(
        &self,
        gradient: &CudaTensor,
        hidden: &CudaTensor,
        shift: &CudaTensor,
        layers: &BatchNormScore<'_, CudaTensor>,
        saved: &BatchNormSaved<CudaTensor>,
    ) -> Result<BatchNormScoreGradients<CudaTensor>> {
        batch_norm_score::batch_norm_score_backward(&self.context, gradient, hidden, shift, layers, saved)
    }

    fn batch_norm_inference(
        &self,
        input: &CudaTensor,
        gamma: &CudaTensor,
        beta: &CudaTensor,
        mean: &CudaTensor,
        variance: &CudaTensor,
        epsilon: f64,
    ) -> Result<CudaTensor> {
        batch_norm::batch_norm_inference(&self.context, input, gamma, beta, mean, variance, epsilon)
    }

    fn leaky_relu(&self, input: &CudaTensor, slope: f64) -> Result<CudaTensor> {
        leaky_relu::leaky_relu(&self.context, input, slope)
    }

    fn leaky_relu_backward(
        &self,
        gradient: &CudaTensor,
        input: &CudaTensor,
        slope: f64,
    ) -> Result<CudaTensor> {
        leaky_relu::leaky_relu_backward(&self.context, gradient, input, slope)
    }

    fn score(&self, input: &CudaTensor, weight: &CudaTensor) -> Result<CudaTensor> {
        score::score(&self.context, input, weight)
    }

    fn leaky_relu_score(&self, input: &CudaTensor, slope: f64, weight: &CudaTensor) -> Result<CudaTensor> {
        score::leaky_relu_score(&self.context, input, slope, weight)
    }

    fn resize_add_score(
        &self,
        projections: &[&CudaTensor],
        slope: f64,
        weight: &CudaTensor,
    ) -> Result<CudaTensor> {
        resize_add_score::resize_add_score(&self.context, projections, slope, weight)
    }

    fn loss(
        &self,
        scores: &CudaTensor,
        loss: Loss,
        images: usize,
        totals: &mut CudaTensor,
    ) -> Result<CudaTensor> {
        loss::loss(&self.context, scores, loss, images, totals)
    }

    fn adam(&self, slots: &mut [AdamSlot<'_, CudaTensor>], schedule: &CudaSchedule) -> Result<()> {
        adam::adam(&self.context, slots, schedule)
    }

    fn anomaly_map(
        &self,
        scores: &CudaTensor,
        rows: &CudaTensor,
        columns: &CudaTensor,
    ) -> Result<(CudaTensor, CudaTensor)> {
        anomaly_map::anomaly_map(&self.context, scores, rows, columns)
    }

    fn reshape(&self, tensor: CudaTensor, shape: &[usize]) -> CudaTensor {
        tensor.with_shape(shape)
    }

    fn clear(&self, tensor: &mut CudaTensor) -> Result<()> {
        Ok(tensor.buffer().fill(0)?)
    }

    fn zeros(&self, shape: &[usize]) -> Result<CudaTensor> {
        Ok(self.context.zeros(shape)?)
    }
}
