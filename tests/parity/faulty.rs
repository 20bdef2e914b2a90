//! A backend that is right in everything but one: the proof that the suite notices.

use simplenet::backend::{
    AdamSlot, Aggregation, AggregationMode, Backend, BatchNormSaved, BatchNormScore, BatchNormScoreGradients,
    ConvolutionWeights, DeviceTensor, Epoch, FeatureCacheOptions, Loss, Noise, Result, RunningStatistics,
};
use simplenet::tensor::{Scalar, Tensor};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A convolution sees its border pixels repeated where zeros belong.
    ConvolutionPadding,
    /// A neighbourhood at the border is divided by the values it has, as if nothing were padded.
    NeighbourhoodPadding,
    /// The running variance takes the batch's biased variance.
    BiasedVariance,
    /// AdamW's decay is added to the gradient, as Adam's is.
    CoupledDecay,
    /// AdamW without its decay.
    NoDecay,
    /// Vectors under AdamW stay where they are: the adaptor's bias.
    FrozenAdaptorBias,
    /// An epoch's images come in the opposite order.
    ReversedOrder,
}

/// `inner` with a fault.
#[derive(Debug)]
pub(crate) struct Faulty<B> {
    pub(crate) inner: B,
    pub(crate) fault: Fault,
}

/// A convolution, and the padding that it was not told of.
#[derive(Debug)]
pub(crate) struct FaultyConvolution<C> {
    inner: C,
    hidden_padding: usize,
}

impl<B: Backend> Faulty<B> {
    /// `[N, H, W, C]` with its border repeated `by` times on every side.
    fn repeat_border(&self, input: &B::Tensor, by: usize) -> Result<B::Tensor> {
        let host = self.inner.download(input)?;
        let &[n, h, w, c] = host.shape() else { panic!("an image has four axes") };
        let (height, width) = (h + 2 * by, w + 2 * by);
        let mut data = Vec::with_capacity(n * height * width * c);
        for image in 0..n {
            for y in 0..height {
                for x in 0..width {
                    let (y, x) = (y.saturating_sub(by).min(h - 1), x.saturating_sub(by).min(w - 1));
                    data.extend_from_slice(&host.data()[((image * h + y) * w + x) * c..][..c]);
                }
            }
        }
        self.inner.upload(&Tensor::new([n, height, width, c], data))
    }

    /// The p×p mean of one level, divided by the number of values inside the image.
    fn mean_without_padding(&self, level: &B::Tensor, aggregation: &Aggregation) -> Result<B::Tensor> {
        let mut mean = self.inner.download(&self.inner.aggregate(&[level], aggregation)?)?;
        let &[n, h, w, c] = level.shape() else { panic!("a level has four axes") };
        let (p, radius) = (aggregation.patch, aggregation.patch / 2);
        let inside = |at: usize, size: usize| (at + radius + 1).min(size) - at.saturating_sub(radius);
        for position in 0..n * h * w {
            let count = inside(position / w % h, h) * inside(position % w, w);
            let factor = B::Scalar::from_f64((p * p) as f64 / count as f64);
            mean.data_mut()[position * c..][..c].iter_mut().for_each(|value| *value *= factor);
        }
        self.inner.upload(&mean)
    }
}

impl<B: Backend> Backend for Faulty<B> {
    type Scalar = B::Scalar;
    type Tensor = B::Tensor;
    type Convolution = FaultyConvolution<B::Convolution>;
    type FeatureCache = B::FeatureCache;
    type Schedule = B::Schedule;
    type Images = B::Images;
    type Results = B::Results;
    type Recording = B::Recording;

    fn description(&self) -> String {
        format!("{} with {:?}", self.inner.description(), self.fault)
    }

    fn convolution(&self, weights: &ConvolutionWeights) -> Result<Self::Convolution> {
        if self.fault != Fault::ConvolutionPadding {
            return Ok(FaultyConvolution { inner: self.inner.convolution(weights)?, hidden_padding: 0 });
        }
        let unpadded = ConvolutionWeights { padding: 0, ..weights.clone() };
        Ok(FaultyConvolution { inner: self.inner.convolution(&unpadded)?, hidden_padding: weights.padding })
    }

    fn conv2d(
        &self,
        input: &B::Tensor,
        convolution: &Self::Convolution,
        residual: Option<&B::Tensor>,
        relu: bool,
    ) -> Result<B::Tensor> {
        if convolution.hidden_padding == 0 {
            return self.inner.conv2d(input, &convolution.inner, residual, relu);
        }
        let padded = self.repeat_border(input, convolution.hidden_padding)?;
        self.inner.conv2d(&padded, &convolution.inner, residual, relu)
    }

    fn aggregate(&self, levels: &[&B::Tensor], aggregation: &Aggregation) -> Result<B::Tensor> {
        if self.fault != Fault::NeighbourhoodPadding || aggregation.mode != AggregationMode::Mean {
            return self.inner.aggregate(levels, aggregation);
        }
        let means = levels
            .iter()
            .map(|level| self.mean_without_padding(level, aggregation))
            .collect::<Result<Vec<_>>>()?;
        let means: Vec<&B::Tensor> = means.iter().collect();
        self.inner.aggregate(&means, &Aggregation { patch: 1, ..*aggregation })
    }

    fn batch_norm_score(
        &self,
        hidden: &B::Tensor,
        shift: &B::Tensor,
        layers: &BatchNormScore<'_, B::Tensor>,
        running: RunningStatistics<'_, B::Tensor>,
    ) -> Result<(B::Tensor, BatchNormSaved<B::Tensor>)> {
        let before = self.inner.download(running.var)?;
        let RunningStatistics { mean, var } = running;
        let inner = RunningStatistics { mean, var: &mut *var };
        let result = self.inner.batch_norm_score(hidden, shift, layers, inner)?;
        if self.fault == Fault::BiasedVariance {
            let rows = 2.0 * hidden.shape()[0] as f64;
            let mut after = self.inner.download(var)?;
            for (after, before) in after.data_mut().iter_mut().zip(before.data()) {
                let kept = (1.0 - layers.constants.momentum) * before.to_f64();
                *after = B::Scalar::from_f64(kept + (after.to_f64() - kept) * (rows - 1.0) / rows);
            }
            *var = self.inner.upload(&after)?;
        }
        Ok(result)
    }

    fn begin_epoch(&self, schedule: &mut B::Schedule, epoch: &Epoch<'_>) -> Result<()> {
        let mut order = epoch.order.to_vec();
        if self.fault == Fault::ReversedOrder {
            order.reverse();
        }
        self.inner.begin_epoch(schedule, &Epoch { order: &order, ..*epoch })
    }

    fn adam(&self, slots: &mut [AdamSlot<'_, B::Tensor>], schedule: &B::Schedule) -> Result<()> {
        for slot in slots.iter_mut().filter(|slot| slot.rule.decoupled) {
            match self.fault {
                Fault::CoupledDecay => slot.rule.decoupled = false,
                Fault::NoDecay => slot.rule.weight_decay = 0.0,
                Fault::FrozenAdaptorBias if slot.parameter.shape().len() == 1 => {
                    (slot.rule.learning_rate, slot.rule.weight_decay) = (0.0, 0.0);
                }
                _ => {}
            }
        }
        self.inner.adam(slots, schedule)
    }

    // --- Everything else is the inner backend's -------------------------------------------------------------------

    fn synchronize(&self) -> Result<()> {
        self.inner.synchronize()
    }

    fn memory_held(&self) -> Option<u64> {
        self.inner.memory_held()
    }

    fn upload(&self, tensor: &Tensor<B::Scalar>) -> Result<B::Tensor> {
        self.inner.upload(tensor)
    }

    fn download(&self, tensor: &B::Tensor) -> Result<Tensor<B::Scalar>> {
        self.inner.download(tensor)
    }

    fn begin_download(&self, tensors: &[&B::Tensor]) -> Result<B::Results> {
        self.inner.begin_download(tensors)
    }

    fn finish_download(&self, results: B::Results) -> Result<Vec<Tensor<B::Scalar>>> {
        self.inner.finish_download(results)
    }

    fn upload_images(&self, pixels: &[u8], shape: [usize; 3]) -> Result<B::Images> {
        self.inner.upload_images(pixels, shape)
    }

    fn replace_images(&self, images: &mut B::Images, pixels: &[u8]) -> Result<()> {
        self.inner.replace_images(images, pixels)
    }

    fn run_recorded<'r>(
        &self,
        recording: &'r mut B::Recording,
        work: &mut (dyn FnMut() -> Result<Vec<B::Tensor>> + Send),
    ) -> Result<&'r [B::Tensor]> {
        self.inner.run_recorded(recording, work)
    }

    fn normalize(&self, images: &B::Images) -> Result<B::Tensor> {
        self.inner.normalize(images)
    }

    fn max_pool2d(&self, input: &B::Tensor) -> Result<B::Tensor> {
        self.inner.max_pool2d(input)
    }

    fn aggregate_level(
        &self,
        level: &B::Tensor,
        aggregation: &Aggregation,
        levels: usize,
    ) -> Result<B::Tensor> {
        self.inner.aggregate_level(level, aggregation, levels)
    }

    fn resize_add_score(
        &self,
        projections: &[&B::Tensor],
        slope: f64,
        weight: &B::Tensor,
    ) -> Result<B::Tensor> {
        self.inner.resize_add_score(projections, slope, weight)
    }

    fn feature_cache(
        &self,
        images: usize,
        rows: usize,
        channels: usize,
        options: &FeatureCacheOptions,
    ) -> Result<B::FeatureCache> {
        self.inner.feature_cache(images, rows, channels, options)
    }

    fn append_features(&self, cache: &mut B::FeatureCache, features: &B::Tensor) -> Result<()> {
        self.inner.append_features(cache, features)
    }

    fn finish_features(&self, cache: &mut B::FeatureCache) -> Result<()> {
        self.inner.finish_features(cache)
    }

    fn schedule(&self, images: usize, batch: usize) -> Result<B::Schedule> {
        self.inner.schedule(images, batch)
    }

    fn end_step(&self, schedule: &mut B::Schedule) -> Result<()> {
        self.inner.end_step(schedule)
    }

    fn reads_features(&self, cache: &B::FeatureCache) -> bool {
        self.inner.reads_features(cache)
    }

    fn gather_rows(
        &self,
        cache: &B::FeatureCache,
        schedule: &B::Schedule,
        images: usize,
        scale: f64,
    ) -> Result<B::Tensor> {
        self.inner.gather_rows(cache, schedule, images, scale)
    }

    fn linear(&self, input: &B::Tensor, weight: &B::Tensor, bias: Option<&B::Tensor>) -> Result<B::Tensor> {
        self.inner.linear(input, weight, bias)
    }

    fn linear_grad_input(&self, gradient: &B::Tensor, weight: &B::Tensor) -> Result<B::Tensor> {
        self.inner.linear_grad_input(gradient, weight)
    }

    fn linear_grad_weight(&self, gradient: &B::Tensor, input: &B::Tensor) -> Result<B::Tensor> {
        self.inner.linear_grad_weight(gradient, input)
    }

    fn column_sums(&self, gradient: &B::Tensor) -> Result<B::Tensor> {
        self.inner.column_sums(gradient)
    }

    fn add(&self, sum: &mut B::Tensor, term: &B::Tensor) -> Result<()> {
        self.inner.add(sum, term)
    }

    fn noise(&self, shape: [usize; 2], noise: Noise<'_, B::Schedule>) -> Result<B::Tensor> {
        self.inner.noise(shape, noise)
    }

    fn batch_norm_score_backward(
        &self,
        gradient: &B::Tensor,
        hidden: &B::Tensor,
        shift: &B::Tensor,
        layers: &BatchNormScore<'_, B::Tensor>,
        saved: &BatchNormSaved<B::Tensor>,
    ) -> Result<BatchNormScoreGradients<B::Tensor>> {
        self.inner.batch_norm_score_backward(gradient, hidden, shift, layers, saved)
    }

    fn batch_norm_inference(
        &self,
        input: &B::Tensor,
        gamma: &B::Tensor,
        beta: &B::Tensor,
        mean: &B::Tensor,
        variance: &B::Tensor,
        epsilon: f64,
    ) -> Result<B::Tensor> {
        self.inner.batch_norm_inference(input, gamma, beta, mean, variance, epsilon)
    }

    fn leaky_relu(&self, input: &B::Tensor, slope: f64) -> Result<B::Tensor> {
        self.inner.leaky_relu(input, slope)
    }

    fn leaky_relu_backward(&self, gradient: &B::Tensor, input: &B::Tensor, slope: f64) -> Result<B::Tensor> {
        self.inner.leaky_relu_backward(gradient, input, slope)
    }

    fn score(&self, input: &B::Tensor, weight: &B::Tensor) -> Result<B::Tensor> {
        self.inner.score(input, weight)
    }

    fn loss(
        &self,
        scores: &B::Tensor,
        loss: Loss,
        images: usize,
        totals: &mut B::Tensor,
    ) -> Result<B::Tensor> {
        self.inner.loss(scores, loss, images, totals)
    }

    fn anomaly_map(
        &self,
        scores: &B::Tensor,
        rows: &B::Tensor,
        columns: &B::Tensor,
    ) -> Result<(B::Tensor, B::Tensor)> {
        self.inner.anomaly_map(scores, rows, columns)
    }

    fn reshape(&self, tensor: B::Tensor, shape: &[usize]) -> B::Tensor {
        self.inner.reshape(tensor, shape)
    }

    fn clear(&self, tensor: &mut B::Tensor) -> Result<()> {
        self.inner.clear(tensor)
    }
}
