//! The operations every device offers, behind one trait.
//!
//! [`Backend`] is the seam of the program: nothing above it knows which device it runs on. Each method is one
//! operation with a stated shape and layout; the CPU implements it in Rust ([`cpu`]). The conformance suite in `tests/conformance` takes any backend.
//!
//! Notation: `N` images, `H×W` pixels, `C` channels, `R = N·H0·W0` rows of features, `O`/`I` outputs and inputs of
//! a linear layer. Everything is row-major, feature maps are NHWC.
//!
//! Shapes are the caller's promise: an operation panics on shapes that do not fit, because they never come from a
//! user's file. What can fail at run time (memory, disk, a device) is a [`BackendError`].

pub mod cpu;
pub mod cuda;

mod plans;
mod schedule;

pub use plans::{Aggregation, AggregationMode, Interpolation, gaussian_upsampling};
pub use schedule::Epoch;

use crate::tensor::{Scalar, Tensor};

/// What a device can fail at.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The file that holds spilled features could not be written or mapped.
    #[error(
        "cannot keep {needed} bytes of features in a file in {folder}: {source}; free space there, raise \
         --feature-cache-limit, or choose another folder with --output"
    )]
    Spill {
        /// Bytes of the whole cache.
        needed: u64,
        /// Where the file was to be.
        folder: String,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// The GPU failed, or there is none.
    #[error(transparent)]
    Cuda(#[from] cuda::CudaError),
    /// A feature is too large for half precision.
    #[error(
        "a feature of {value} does not fit half precision (at most 65504); use --feature-cache f32, and check that the \
         backbone's weights are the right ones"
    )]
    FeatureOverflow {
        /// The feature.
        value: f32,
    },
}

/// What an operation returns.
pub type Result<T> = std::result::Result<T, BackendError>;

/// The weights of one convolution with its BatchNorm folded in, as the backbone hands them to a device.
#[derive(Clone, Debug)]
pub struct ConvolutionWeights {
    /// `[O, kh, kw, I]`, row-major: the order in which im2col lays out a patch of an NHWC image.
    pub weight: Tensor<f32>,
    /// `[O]`.
    pub bias: Vec<f32>,
    /// Step between output positions, the same in both directions.
    pub stride: usize,
    /// Zeros added on every side.
    pub padding: usize,
}

impl ConvolutionWeights {
    /// Everything but the values.
    pub fn geometry(&self) -> ConvolutionGeometry {
        let [outputs, kernel_h, kernel_w, inputs] = *self.weight.shape() else {
            unreachable!("a convolution's weight has four axes")
        };
        let (stride, padding) = (self.stride, self.padding);
        ConvolutionGeometry { outputs, kernel: (kernel_h, kernel_w), inputs, stride, padding }
    }
}

/// The sizes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvolutionGeometry {
    /// Output channels O.
    pub outputs: usize,
    /// Height and width of the kernel.
    pub kernel: (usize, usize),
    /// Input channels I.
    pub inputs: usize,
    /// Step between output positions, the same in both directions.
    pub stride: usize,
    /// Zeros added on every side.
    pub padding: usize,
}

impl ConvolutionGeometry {
    /// The output size of an `h × w` input: `⌊(size + 2·padding − kernel) / stride⌋ + 1`.
    pub fn output_size(&self, h: usize, w: usize) -> (usize, usize) {
        let size = |input: usize, kernel: usize| (input + 2 * self.padding - kernel) / self.stride + 1;
        (size(h, self.kernel.0), size(w, self.kernel.1))
    }
}

/// Where the noise of one training step comes from: ε of Eq. 6, `N(0, σ²)`. `S` is the backend's schedule.
#[derive(Debug)]
pub struct Noise<'a, S> {
    /// Standard deviation σ.
    pub sigma: f64,
    /// The generator's key.
    pub seed: u64,
    /// Knows the optimiser steps before this one, the third word of the counter: no step repeats another's noise.
    pub schedule: &'a S,
}

/// The margins of the truncated L1 loss (Eq. 7): normal features should score above `positive`, anomalous ones
/// below `negative`.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Margins {
    /// th⁺.
    pub positive: f64,
    /// th⁻.
    pub negative: f64,
}

/// What training minimises.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Loss {
    /// Eq. 7: `mean(max(0, th⁺ − D(q))) + mean(max(0, −th⁻ + D(q⁻)))`.
    TruncatedL1(Margins),
    /// The alternative of the paper's Table 3: `binary_cross_entropy_with_logits` of both halves, good = 1.
    CrossEntropy(Margins),
}

impl Loss {
    /// The margins beyond which a row counts as decided; the loss itself uses them only as `TruncatedL1`.
    pub fn margins(&self) -> Margins {
        match *self {
            Loss::TruncatedL1(margins) | Loss::CrossEntropy(margins) => margins,
        }
    }
}

/// Number of sums in the tensor that [`Backend::loss`] adds to, in this order.
pub const LOSS_TOTALS: usize = 4;
/// Index of Σ loss · images.
pub const TOTAL_LOSS: usize = 0;
/// Index of the number of normal rows with `D(q) > th⁺`.
pub const TOTAL_POSITIVE: usize = 1;
/// Index of the number of anomalous rows with `D(q⁻) < th⁻`.
pub const TOTAL_NEGATIVE: usize = 2;
/// Index of the number of rows in each half.
pub const TOTAL_ROWS: usize = 3;

/// The constants of BatchNorm1d in training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNormConstants {
    /// Added to the variance.
    pub epsilon: f64,
    /// Share of the batch in the running statistics.
    pub momentum: f64,
}

impl Default for BatchNormConstants {
    /// PyTorch's defaults.
    fn default() -> Self {
        Self { epsilon: 1e-5, momentum: 0.1 }
    }
}

/// What [`Backend::batch_norm_score`] reads besides its input.
#[derive(Debug)]
pub struct BatchNormScore<'a, T> {
    /// `[C]`, added to every row before the statistics are taken.
    pub bias: &'a T,
    /// Scale of the BatchNorm, `[C]`.
    pub gamma: &'a T,
    /// Shift of the BatchNorm, `[C]`.
    pub beta: &'a T,
    /// What the dot product is with, `[1, C]`.
    pub weight: &'a T,
    /// LeakyReLU's slope on the negative side.
    pub slope: f64,
    /// The BatchNorm's constants.
    pub constants: BatchNormConstants,
}

/// The statistics that a BatchNorm1d keeps for evaluation, both `[C]`; a training step moves them.
#[derive(Debug)]
pub struct RunningStatistics<'a, T> {
    /// Running mean.
    pub mean: &'a mut T,
    /// Running variance, unbiased, as PyTorch keeps it.
    pub var: &'a mut T,
}

/// What the backward pass of a BatchNorm needs from its forward pass.
#[derive(Debug)]
pub struct BatchNormSaved<T> {
    /// Mean of the batch, before any bias, `[C]`.
    pub mean: T,
    /// `1/√(var + ε)` of the batch with the biased variance, `[C]`.
    pub inverse_std: T,
}

/// Gradients of [`Backend::batch_norm_score`].
#[derive(Debug)]
pub struct BatchNormScoreGradients<T> {
    /// With respect to the hidden features, which both halves depend on, `[R, C]`.
    pub hidden: T,
    /// With respect to what noise adds to them, `[R, C]`.
    pub shift: T,
    /// `[C]`; zero but for rounding, since a BatchNorm subtracts whatever is added to all rows.
    pub bias: T,
    /// `[C]`.
    pub gamma: T,
    /// `[C]`.
    pub beta: T,
    /// `[1, C]`.
    pub weight: T,
}

/// One parameter in the multi-tensor optimiser step.
#[derive(Debug)]
pub struct AdamSlot<'a, T> {
    /// Updated in place.
    pub parameter: &'a mut T,
    /// ∂L/∂parameter.
    pub gradient: &'a T,
    /// Running mean of the gradient.
    pub first_moment: &'a mut T,
    /// Running mean of its square.
    pub second_moment: &'a mut T,
    /// How this parameter is updated.
    pub rule: AdamRule,
}

/// `torch.optim.Adam` or `AdamW` for one parameter.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct AdamRule {
    /// Learning rate.
    pub learning_rate: f64,
    /// Weight decay λ.
    pub weight_decay: f64,
    /// `false`: L2, λ·parameter is added to the gradient (Adam). `true`: the parameter shrinks by `1 − lr·λ` (AdamW).
    pub decoupled: bool,
}

/// Adam's β₁ and β₂ and ε: PyTorch's defaults, which the paper uses.
pub const ADAM_BETAS: (f64, f64) = (0.9, 0.999);
/// Adam's ε.
pub const ADAM_EPSILON: f64 = 1e-8;

/// How features are kept between epochs.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureCacheOptions {
    /// Half precision halves the memory at a relative error of 2⁻¹¹.
    pub precision: CachePrecision,
    /// Above this many bytes the cache goes to a file in `spill_folder`.
    pub limit_bytes: u64,
    /// Where that file is made (unnamed: nothing is left behind, whatever happens).
    pub spill_folder: std::path::PathBuf,
}

/// Element type of the feature cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CachePrecision {
    /// Exact.
    F32,
    /// IEEE half, rounded to nearest even.
    F16,
}

/// A tensor that lives on a device.
pub trait DeviceTensor: std::fmt::Debug + Send + Sync {
    /// The extent of every axis, outermost first.
    fn shape(&self) -> &[usize];
}

/// A shape whose last axis has another extent.
fn with_last_axis(shape: &[usize], extent: usize) -> Vec<usize> {
    let mut shape = shape.to_vec();
    *shape.last_mut().unwrap_or_else(|| panic!("a vector or a matrix has a last axis")) = extent;
    shape
}

/// A device: memory, and the operations by the one name that kernel, launcher and test share.
pub trait Backend: Send + Sync {
    /// The element type computations run in.
    type Scalar: Scalar;
    /// A tensor on the device.
    type Tensor: DeviceTensor;
    /// Convolution weights prepared for the device.
    type Convolution: std::fmt::Debug + Send + Sync;
    /// The features of all training images, kept where the device reads them fastest.
    type FeatureCache: std::fmt::Debug + Send + Sync;
    /// The steps of an epoch, and which of them is the present one.
    type Schedule: std::fmt::Debug + Send + Sync;
    /// Images on the device, u8 RGB `[N, H, W, 3]`.
    type Images: std::fmt::Debug + Send + Sync;
    /// Tensors on their way to the host.
    type Results: std::fmt::Debug + Send;
    /// Work that is run again and again, see [`Backend::run_recorded`].
    type Recording: std::fmt::Debug + Default + Send + Sync;

    /// The device in words, for reports.
    fn description(&self) -> String;

    /// Waits until everything that was enqueued so far has run, copies included. Only a clock needs it: results wait
    /// for themselves.
    fn synchronize(&self) -> Result<()>;

    /// Bytes of the device's own memory that are held at present, buffers kept for reuse included; `None` where
    /// tensors live in the program's host memory.
    fn memory_held(&self) -> Option<u64>;

    /// Whether the device works while the host goes on: then a second batch is worth submitting before the first one's
    /// answer is fetched.
    fn works_beside_host(&self) -> bool {
        false
    }

    /// Whoever makes the device choose the fastest of several ways to compute the same, where there is a choice.
    fn tuner(&self) -> Option<cuda::Tuner<'_>> {
        None
    }

    /// Copies a host tensor to the device.
    fn upload(&self, tensor: &Tensor<Self::Scalar>) -> Result<Self::Tensor>;

    /// Copies a device tensor to the host, waiting for the work that produces it.
    fn download(&self, tensor: &Self::Tensor) -> Result<Tensor<Self::Scalar>>;

    /// Begins to copy tensors to the host as they are now. The device goes on with what is enqueued after it.
    fn begin_download(&self, tensors: &[&Self::Tensor]) -> Result<Self::Results>;

    /// Waits for what [`Backend::begin_download`] began, and for nothing behind it.
    fn finish_download(&self, results: Self::Results) -> Result<Vec<Tensor<Self::Scalar>>>;

    /// Copies images `[N, H, W, 3]` to the device: while it still works on the last ones, where it can.
    fn upload_images(&self, pixels: &[u8], shape: [usize; 3]) -> Result<Self::Images>;

    /// Replaces every pixel of images: work that is enqueued from here on sees the new ones.
    fn replace_images(&self, images: &mut Self::Images, pixels: &[u8]) -> Result<()>;

    /// Runs `work` and gives its tensors; a device may write down what it does, and replay that from then on: a GPU
    /// replays it as one graph. The tensors are overwritten when the same recording runs again.
    ///
    /// A recording is of one piece of work. Each time that runs, it must call the same operations in the same order, on
    /// tensors of the same shapes in the same places; what it reads and writes beside its own tensors must live as long as
    /// the recording. It copies nothing between host and device.
    fn run_recorded<'r>(
        &self,
        recording: &'r mut Self::Recording,
        work: &mut dyn FnMut() -> Result<Vec<Self::Tensor>>,
    ) -> Result<&'r [Self::Tensor]>;

    /// Whether a recording is as fast as it gets: everything about it is decided.
    fn is_recorded(&self, _recording: &Self::Recording) -> bool {
        true
    }

    // --- The frozen backbone ---------------------------------------------------------------------------------

    /// `(x/255 − mean)/std` with ImageNet's statistics: u8 RGB `[N, H, W, 3]` → `[N, H, W, 3]`.
    fn normalize(&self, images: &Self::Images) -> Result<Self::Tensor>;

    /// Lays out convolution weights once, at load.
    fn convolution(&self, weights: &ConvolutionWeights) -> Result<Self::Convolution>;

    /// `[N, H, W, I] → [N, H', W', O]`: convolution plus bias, plus `residual` where given, then ReLU if asked.
    fn conv2d(
        &self,
        input: &Self::Tensor,
        convolution: &Self::Convolution,
        residual: Option<&Self::Tensor>,
        relu: bool,
    ) -> Result<Self::Tensor>;

    /// 3×3 maximum with stride 2 and padding 1 (ResNet's only pooling): `[N, H, W, C] → [N, ⌈H/2⌉, ⌈W/2⌉, C]`.
    fn max_pool2d(&self, input: &Self::Tensor) -> Result<Self::Tensor>;

    /// Eq. 1–4: every level's neighbourhood means, resized to the first level's grid and concatenated:
    /// `[N, Hₗ, Wₗ, Cₗ]… → [N, H0, W0, C]`.
    fn aggregate(&self, levels: &[&Self::Tensor], aggregation: &Aggregation) -> Result<Self::Tensor>;

    /// What one of `levels` levels contributes to [`Backend::aggregate`], on its own grid: `[N, Hₗ, Wₗ, Cₗ] → [N, Hₗ, Wₗ, C']`,
    /// C' as [`Aggregation::level_channels`] says. Resizing it to the first level's grid gives that level's channels
    /// of the result.
    fn aggregate_level(
        &self,
        level: &Self::Tensor,
        aggregation: &Aggregation,
        levels: usize,
    ) -> Result<Self::Tensor>;

    // --- The feature cache -----------------------------------------------------------------------------------

    /// Room for the features of at most `images` images, `rows × channels` each.
    fn feature_cache(
        &self,
        images: usize,
        rows: usize,
        channels: usize,
        options: &FeatureCacheOptions,
    ) -> Result<Self::FeatureCache>;

    /// Appends the features of the next images, `[N, H0, W0, C]`.
    fn append_features(&self, cache: &mut Self::FeatureCache, features: &Self::Tensor) -> Result<()>;

    /// Ends the appending: from here on the cache is only read.
    fn finish_features(&self, cache: &mut Self::FeatureCache) -> Result<()>;

    /// Whether [`Backend::gather_rows`] can be recorded: the device reads the features itself. It does not where they lie in
    /// a file, from which the host copies them.
    fn reads_features(&self, cache: &Self::FeatureCache) -> bool;

    /// The rows of the `images` images of the schedule's present step, in its order: `[images·rows, C]`.
    fn gather_rows(
        &self,
        cache: &Self::FeatureCache,
        schedule: &Self::Schedule,
        images: usize,
    ) -> Result<Self::Tensor>;

    // --- The schedule ----------------------------------------------------------------------------------------

    /// Room for epochs of `images` images, `batch` a step, in the last step what is left.
    fn schedule(&self, images: usize, batch: usize) -> Result<Self::Schedule>;

    /// Puts the schedule at a step of an epoch, in place: whatever reads it goes on reading the same memory.
    fn begin_epoch(&self, schedule: &mut Self::Schedule, epoch: &Epoch<'_>) -> Result<()>;

    /// Moves the schedule to the next step, once every operation of the present one has read it.
    fn end_step(&self, schedule: &mut Self::Schedule) -> Result<()>;

    // --- The head --------------------------------------------------------------------------------------------

    /// `x·Wᵀ + b`: `[R, I], [O, I], [O] → [R, O]`. Here and in its gradients a vector counts as one row: `[I] → [O]`.
    fn linear(
        &self,
        input: &Self::Tensor,
        weight: &Self::Tensor,
        bias: Option<&Self::Tensor>,
    ) -> Result<Self::Tensor>;

    /// [`Backend::linear`] of a deployed head, whose weight stays what it is: a device may lay it out once and keep that,
    /// and multiply in its own precision.
    fn project(
        &self,
        input: &Self::Tensor,
        weight: &Self::Tensor,
        bias: Option<&Self::Tensor>,
    ) -> Result<Self::Tensor> {
        self.linear(input, weight, bias)
    }

    /// Gradient of [`Backend::linear`] with respect to its input: `dy·W`, `[R, O], [O, I] → [R, I]`.
    fn linear_grad_input(&self, gradient: &Self::Tensor, weight: &Self::Tensor) -> Result<Self::Tensor>;

    /// Gradient of [`Backend::linear`] with respect to its weight: `dyᵀ·x`, `[R, O], [R, I] → [O, I]`.
    fn linear_grad_weight(&self, gradient: &Self::Tensor, input: &Self::Tensor) -> Result<Self::Tensor>;

    /// Gradient of a bias: the sum over rows, `[R, C] → [C]`.
    fn column_sums(&self, gradient: &Self::Tensor) -> Result<Self::Tensor>;

    /// `sum + term`, element by element, into `sum`: gradients of what two operations read.
    fn add(&self, sum: &mut Self::Tensor, term: &Self::Tensor) -> Result<()>;

    /// ε of Eq. 6, `[R, C]`: element `row·C + channel` is σ times normal number `element mod 4` of Philox block
    /// `element / 4`.
    fn noise(&self, shape: [usize; 2], noise: Noise<'_, Self::Schedule>) -> Result<Self::Tensor>;

    /// The discriminator behind its first product, in training: `D` of the hidden features of q, `hidden`, and of
    /// q + ε, `hidden + shift`: `[R, C], [R, C] → [2R]`. To both, as one batch, the bias is added; then come BatchNorm1d
    /// with the batch's own statistics, LeakyReLU and the dot product. Moves the running statistics.
    ///
    /// Nothing of the batch's size is written but the scores; gradients are computed from the input again.
    fn batch_norm_score(
        &self,
        hidden: &Self::Tensor,
        shift: &Self::Tensor,
        layers: &BatchNormScore<'_, Self::Tensor>,
        running: RunningStatistics<'_, Self::Tensor>,
    ) -> Result<(Self::Tensor, BatchNormSaved<Self::Tensor>)>;

    /// Gradients of [`Backend::batch_norm_score`], given that of the scores, `[2R]`.
    fn batch_norm_score_backward(
        &self,
        gradient: &Self::Tensor,
        hidden: &Self::Tensor,
        shift: &Self::Tensor,
        layers: &BatchNormScore<'_, Self::Tensor>,
        saved: &BatchNormSaved<Self::Tensor>,
    ) -> Result<BatchNormScoreGradients<Self::Tensor>>;

    /// BatchNorm1d with given statistics (evaluation): `(x − mean)/√(var + ε)·gamma + beta`, all `[C]`.
    fn batch_norm_inference(
        &self,
        input: &Self::Tensor,
        gamma: &Self::Tensor,
        beta: &Self::Tensor,
        mean: &Self::Tensor,
        variance: &Self::Tensor,
        epsilon: f64,
    ) -> Result<Self::Tensor>;

    /// `x` where positive, `slope·x` elsewhere.
    fn leaky_relu(&self, input: &Self::Tensor, slope: f64) -> Result<Self::Tensor>;

    /// Gradient of [`Backend::leaky_relu`]: the slope at zero is `slope`, as in PyTorch.
    fn leaky_relu_backward(
        &self,
        gradient: &Self::Tensor,
        input: &Self::Tensor,
        slope: f64,
    ) -> Result<Self::Tensor>;

    /// The last linear layer, one dot product a row: `[R, C], [1, C] → [R]`.
    fn score(&self, input: &Self::Tensor, weight: &Self::Tensor) -> Result<Self::Tensor>;

    /// [`Backend::score`] of [`Backend::leaky_relu`], as a deployed head computes it: where a device can do both in
    /// one pass, the activation is never written.
    fn leaky_relu_score(
        &self,
        input: &Self::Tensor,
        slope: f64,
        weight: &Self::Tensor,
    ) -> Result<Self::Tensor> {
        self.score(&self.leaky_relu(input, slope)?, weight)
    }

    /// `Σ_c w[c]·leaky_relu(Σ_l resize(x_l)[r, c])`: projections of the levels, `[N, Hₗ, Wₗ, C]… `, resized bilinearly
    /// (`align_corners = false`) to the first one's grid and added, behind them LeakyReLU and the dot product with
    /// `[1, C]`: `[N·H0·W0]`. One to three levels.
    fn resize_add_score(
        &self,
        projections: &[&Self::Tensor],
        slope: f64,
        weight: &Self::Tensor,
    ) -> Result<Self::Tensor>;

    /// The loss of `D([q ; q⁻])`, `[2R]`: returns its gradient `[2R]` and adds to `totals` (`[LOSS_TOTALS]`):
    /// loss · `images`, the rows beyond each margin, and R. Nothing is read back: an epoch costs one download. A
    /// score that is NaN makes the loss NaN: a training that diverged has no loss of zero.
    fn loss(
        &self,
        scores: &Self::Tensor,
        loss: Loss,
        images: usize,
        totals: &mut Self::Tensor,
    ) -> Result<Self::Tensor>;

    /// One Adam or AdamW step of every parameter (`torch.optim.Adam`'s update order), the schedule's present one.
    fn adam(&self, slots: &mut [AdamSlot<'_, Self::Tensor>], schedule: &Self::Schedule) -> Result<()>;

    // --- Scores and maps -------------------------------------------------------------------------------------

    /// Eq. 10–11: `A·s·Bᵀ` of every image's score grid, and the grid's own maximum:
    /// `[N, H0, W0], [H, H0], [W, W0] → [N, H, W], [N]`. The matrices come from [`gaussian_upsampling`]. The maximum
    /// of a grid that holds a NaN is NaN: an image that could not be scored has no small score.
    fn anomaly_map(
        &self,
        scores: &Self::Tensor,
        rows: &Self::Tensor,
        columns: &Self::Tensor,
    ) -> Result<(Self::Tensor, Self::Tensor)>;

    /// The same elements under another shape, without a copy.
    fn reshape(&self, tensor: Self::Tensor, shape: &[usize]) -> Self::Tensor;

    /// Sets every element to zero, in place.
    fn clear(&self, tensor: &mut Self::Tensor) -> Result<()>;

    /// A tensor of zeros.
    fn zeros(&self, shape: &[usize]) -> Result<Self::Tensor> {
        self.upload(&Tensor::full(shape, Self::Scalar::ZERO))
    }
}
