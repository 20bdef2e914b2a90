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

mod adam;
mod batch_norm_score;
mod convolution;
mod feature_cache;
mod loss;
mod noise;
mod plans;
mod schedule;

pub use adam::{ADAM_BETAS, ADAM_EPSILON, AdamRule, AdamSlot};
pub use batch_norm_score::{
    BatchNormConstants, BatchNormSaved, BatchNormScore, BatchNormScoreGradients, RunningStatistics,
};
pub use convolution::{ConvolutionGeometry, ConvolutionWeights};
pub use feature_cache::{CachePrecision, FeatureCacheOptions};
pub use loss::{LOSS_TOTALS, Loss, Margins, TOTAL_LOSS, TOTAL_NEGATIVE, TOTAL_POSITIVE, TOTAL_ROWS};
pub use noise::Noise;
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
    /// the recording. It copies nothing between host and device, and may run on another thread than its caller's.
    fn run_recorded<'r>(
        &self,
        recording: &'r mut Self::Recording,
        work: &mut (dyn FnMut() -> Result<Vec<Self::Tensor>> + Send),
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

    /// [`Backend::conv2d`] with a residual that nobody reads afterwards: the result may take its memory.
    fn conv2d_onto(
        &self,
        input: &Self::Tensor,
        convolution: &Self::Convolution,
        residual: Self::Tensor,
        relu: bool,
    ) -> Result<Self::Tensor> {
        self.conv2d(input, convolution, Some(&residual), relu)
    }

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

    /// The rows of the `images` images of the schedule's present step, in its order, times `scale`: `[images·rows, C]`.
    /// On every device the product is one of two `f32` numbers, the kept feature and the nearest to `scale`, rounded
    /// once; a scale of one changes no bit.
    fn gather_rows(
        &self,
        cache: &Self::FeatureCache,
        schedule: &Self::Schedule,
        images: usize,
        scale: f64,
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
    /// `element / 4`. Of a mixture of K components, row `row` has σ·1.1ᵏ in place of σ: k is the high word of K times draw
    /// number `row` of [`Stream::NoiseMixture`](crate::random::Stream::NoiseMixture).
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
