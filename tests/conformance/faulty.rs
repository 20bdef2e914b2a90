//! The CPU in `f64` with one fault: every operation is the CPU's own, but for what the fault names.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use simplenet::backend::cpu::{
    Cpu, CpuConvolution, CpuFeatureCache, CpuImages, CpuRecording, CpuSchedule, CpuTensor,
};
use simplenet::backend::{
    AdamSlot, Aggregation, AggregationMode, Backend, BatchNormSaved, BatchNormScore, BatchNormScoreGradients,
    CachePrecision, ConvolutionWeights, DeviceTensor, Epoch, FeatureCacheOptions, LOSS_TOTALS, Loss, Noise,
    Result, RunningStatistics,
};
use simplenet::tensor::Tensor;

use crate::faults::Fault;
use crate::reference::{at, cell, extent, image, matrix};
use crate::wrong;

type T = CpuTensor<f64>;

/// A CPU that gets one thing wrong.
pub(crate) struct Faulty {
    cpu: Cpu<f64>,
    fault: Fault,
    calls: AtomicU32,
    first_order: OnceLock<Vec<u32>>,
}

/// A convolution, and the padding that the fault took from it.
#[derive(Debug)]
pub(crate) struct FaultyConvolution {
    convolution: CpuConvolution<f64>,
    border: usize,
}

impl Faulty {
    pub(crate) fn new(cpu: Cpu<f64>, fault: Fault) -> Self {
        Self { cpu, fault, calls: AtomicU32::new(0), first_order: OnceLock::new() }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    /// An epoch of one step, with these images, behind `step` others.
    fn only_step(&self, images: &[u32], step: u32) -> Result<CpuSchedule> {
        let mut schedule = self.cpu.schedule(images.len(), images.len())?;
        self.cpu.begin_epoch(&mut schedule, &Epoch { order: images, first_step: step, done: 0 })?;
        Ok(schedule)
    }

    /// The tensor with other elements.
    fn map(&self, tensor: &T, change: impl FnOnce(&Tensor<f64>) -> Tensor<f64>) -> Result<T> {
        self.cpu.upload(&change(&self.cpu.download(tensor)?))
    }

    /// `[hidden ; hidden + shift]`.
    fn batch(&self, hidden: &T, shift: &T) -> Result<Tensor<f64>> {
        let (hidden, shift) = (self.cpu.download(hidden)?, self.cpu.download(shift)?);
        let anomalous = hidden.data().iter().zip(shift.data()).map(|(hidden, shift)| hidden + shift);
        let data: Vec<f64> = hidden.data().iter().copied().chain(anomalous).collect();
        let (rows, channels) = extent(&hidden);
        Ok(Tensor::new([2 * rows, channels], data))
    }

    fn scaled(&self, tensor: &T, factor: f64) -> Result<T> {
        self.map(tensor, |t| Tensor::new(t.shape(), t.data().iter().map(|x| x * factor).collect()))
    }
}

impl Backend for Faulty {
    type Scalar = f64;
    type Tensor = T;
    type Convolution = FaultyConvolution;
    type FeatureCache = CpuFeatureCache;
    type Schedule = CpuSchedule;
    type Images = CpuImages;
    type Results = Vec<Tensor<f64>>;
    type Recording = CpuRecording<f64>;

    fn description(&self) -> String {
        format!("{} with {:?}", self.cpu.description(), self.fault)
    }

    fn synchronize(&self) -> Result<()> {
        self.cpu.synchronize()
    }

    fn memory_held(&self) -> Option<u64> {
        self.cpu.memory_held()
    }

    fn upload(&self, tensor: &Tensor<f64>) -> Result<T> {
        self.cpu.upload(tensor)
    }

    fn download(&self, tensor: &T) -> Result<Tensor<f64>> {
        self.cpu.download(tensor)
    }

    fn begin_download(&self, tensors: &[&T]) -> Result<Vec<Tensor<f64>>> {
        self.cpu.begin_download(tensors)
    }

    fn finish_download(&self, results: Vec<Tensor<f64>>) -> Result<Vec<Tensor<f64>>> {
        self.cpu.finish_download(results)
    }

    fn upload_images(&self, pixels: &[u8], shape: [usize; 3]) -> Result<CpuImages> {
        if self.has(Fault::SwappedColours) {
            let swapped: Vec<u8> = pixels.chunks_exact(3).flat_map(|rgb| [rgb[2], rgb[1], rgb[0]]).collect();
            return self.cpu.upload_images(&swapped, shape);
        }
        self.cpu.upload_images(pixels, shape)
    }

    fn replace_images(&self, images: &mut CpuImages, pixels: &[u8]) -> Result<()> {
        self.cpu.replace_images(images, pixels)
    }

    fn run_recorded<'r>(
        &self,
        recording: &'r mut CpuRecording<f64>,
        work: &mut (dyn FnMut() -> Result<Vec<T>> + Send),
    ) -> Result<&'r [T]> {
        self.cpu.run_recorded(recording, work)
    }

    fn normalize(&self, images: &CpuImages) -> Result<T> {
        let out = self.cpu.normalize(images)?;
        let calls = f64::from(self.calls.fetch_add(1, Ordering::Relaxed));
        if self.has(Fault::NotReproducible) { self.scaled(&out, 1.0 + calls * f64::EPSILON) } else { Ok(out) }
    }

    fn convolution(&self, weights: &ConvolutionWeights) -> Result<FaultyConvolution> {
        let (mut changed, mut border) = (weights.clone(), 0);
        if self.has(Fault::RepeatedBorder) {
            border = std::mem::take(&mut changed.padding);
        }
        if self.has(Fault::TransposedKernel) {
            changed.weight = wrong::transposed_kernel(&weights.weight);
        }
        Ok(FaultyConvolution { convolution: self.cpu.convolution(&changed)?, border })
    }

    fn conv2d(
        &self,
        input: &T,
        FaultyConvolution { convolution, border }: &FaultyConvolution,
        residual: Option<&T>,
        relu: bool,
    ) -> Result<T> {
        if let (Some(residual), true) = (residual, self.has(Fault::ResidualAfterRelu)) {
            let out = self.cpu.conv2d(input, convolution, None, relu)?;
            let residual = self.cpu.download(residual)?;
            return self.map(&out, |out| {
                let sum = out.data().iter().zip(residual.data()).map(|(a, b)| a + b).collect();
                Tensor::new(out.shape(), sum)
            });
        }
        let padded = self.map(input, |input| wrong::with_repeated_border(input, *border))?;
        self.cpu.conv2d(&padded, convolution, residual, relu)
    }

    fn max_pool2d(&self, input: &T) -> Result<T> {
        let out = self.cpu.max_pool2d(input)?;
        if !self.has(Fault::MaximumWithZeros) {
            return Ok(out);
        }
        self.map(&out, |out| {
            let &[n, h, w, channels] = out.shape() else { panic!("[N, H, W, C]") };
            image([n, h, w, channels], |n, y, x, c| {
                let value = at(out, n, y, x, c);
                if y == 0 || x == 0 { value.max(0.0) } else { value }
            })
        })
    }

    fn aggregate(&self, levels: &[&T], aggregation: &Aggregation) -> Result<T> {
        let patch = aggregation.patch;
        if self.has(Fault::CountExcludesPadding)
            && aggregation.mode == AggregationMode::Mean
            && let [level] = levels
        {
            let out = self.cpu.aggregate(&[level], aggregation)?;
            return self.map(&out, |means| wrong::excluding_padding(means, patch));
        }
        if self.has(Fault::TransposedUnfold) {
            let levels: Vec<T> =
                levels.iter().map(|level| self.map(level, wrong::transposed)).collect::<Result<_>>()?;
            let out = self.cpu.aggregate(&levels.iter().collect::<Vec<_>>(), aggregation)?;
            return self.map(&out, wrong::transposed);
        }
        let out = self.cpu.aggregate(levels, aggregation)?;
        if !self.has(Fault::LevelsReversed) || levels.len() == 1 {
            return Ok(out);
        }
        let widths: Vec<usize> = levels.iter().map(|level| level.shape()[3]).collect();
        let last = aggregation.level_channels(widths[widths.len() - 1], widths.len());
        self.map(&out, |out| {
            let &[n, h, w, channels] = out.shape() else { panic!("[N, H, W, C]") };
            image([n, h, w, channels], |n, y, x, c| at(out, n, y, x, (c + channels - last) % channels))
        })
    }

    fn aggregate_level(&self, level: &T, aggregation: &Aggregation, levels: usize) -> Result<T> {
        self.cpu.aggregate_level(level, aggregation, levels)
    }

    fn resize_add_score(&self, projections: &[&T], slope: f64, weight: &T) -> Result<T> {
        let levels = if self.has(Fault::DeeperLevelsForgotten) { &projections[..1] } else { projections };
        self.cpu.resize_add_score(levels, slope, weight)
    }

    fn feature_cache(
        &self,
        images: usize,
        rows: usize,
        channels: usize,
        options: &FeatureCacheOptions,
    ) -> Result<CpuFeatureCache> {
        let mut options = options.clone();
        if self.has(Fault::CacheInHalf) {
            options.precision = CachePrecision::F16;
        }
        self.cpu.feature_cache(images, rows, channels, &options)
    }

    fn append_features(&self, cache: &mut CpuFeatureCache, features: &T) -> Result<()> {
        self.cpu.append_features(cache, features)
    }

    fn finish_features(&self, cache: &mut CpuFeatureCache) -> Result<()> {
        self.cpu.finish_features(cache)
    }

    fn schedule(&self, images: usize, batch: usize) -> Result<CpuSchedule> {
        self.cpu.schedule(images, batch)
    }

    fn begin_epoch(&self, schedule: &mut CpuSchedule, epoch: &Epoch<'_>) -> Result<()> {
        let first = self.first_order.get_or_init(|| epoch.order.to_vec());
        let (mut order, mut done) = (epoch.order, epoch.done);
        if self.has(Fault::FirstOrderForEver) && first.len() == order.len() {
            order = first;
        }
        if self.has(Fault::ResumedAtTheStart) {
            done = 0;
        }
        self.cpu.begin_epoch(schedule, &Epoch { order, done, ..*epoch })
    }

    fn end_step(&self, schedule: &mut CpuSchedule) -> Result<()> {
        if self.has(Fault::SameStepForEver) { Ok(()) } else { self.cpu.end_step(schedule) }
    }

    fn reads_features(&self, cache: &CpuFeatureCache) -> bool {
        self.cpu.reads_features(cache)
    }

    fn gather_rows(
        &self,
        cache: &CpuFeatureCache,
        schedule: &CpuSchedule,
        images: usize,
        scale: f64,
    ) -> Result<T> {
        if self.has(Fault::ScaledInDouble) {
            return self.scaled(&self.cpu.gather_rows(cache, schedule, images, 1.0)?, scale);
        }
        if !self.has(Fault::SortedImages) {
            return self.cpu.gather_rows(cache, schedule, images, scale);
        }
        let mut sorted = schedule.images(images).to_vec();
        sorted.sort_unstable();
        self.cpu.gather_rows(cache, &self.only_step(&sorted, 0)?, images, scale)
    }

    fn linear(&self, input: &T, weight: &T, bias: Option<&T>) -> Result<T> {
        self.cpu.linear(input, weight, bias.filter(|_| !self.has(Fault::NoBias)))
    }

    fn linear_grad_input(&self, gradient: &T, weight: &T) -> Result<T> {
        self.cpu.linear_grad_input(gradient, weight)
    }

    fn linear_grad_weight(&self, gradient: &T, input: &T) -> Result<T> {
        let out = self.cpu.linear_grad_weight(gradient, input)?;
        let rows = input.shape()[0] as f64;
        if self.has(Fault::MeanWeightGradient) { self.scaled(&out, 1.0 / rows) } else { Ok(out) }
    }

    fn column_sums(&self, gradient: &T) -> Result<T> {
        let out = self.cpu.column_sums(gradient)?;
        let rows = gradient.shape()[0] as f64;
        if self.has(Fault::MeanBiasGradient) { self.scaled(&out, 1.0 / rows) } else { Ok(out) }
    }

    fn add(&self, sum: &mut T, term: &T) -> Result<()> {
        if self.has(Fault::SumOverwritten) {
            *sum = self.map(term, Tensor::clone)?;
            return Ok(());
        }
        self.cpu.add(sum, term)
    }

    fn noise(&self, [rows, channels]: [usize; 2], noise: Noise<'_, CpuSchedule>) -> Result<T> {
        let first_step = self.only_step(&[0], 0)?;
        let mut noise = Noise { ..noise };
        if self.has(Fault::SameNoiseEveryStep) {
            noise.schedule = &first_step;
        }
        if self.has(Fault::ShortSeed) {
            noise.seed &= 0xFFFF_FFFF;
        }
        if self.has(Fault::OneComponentForAllRows) {
            let one_row = self.cpu.download(&self.cpu.noise([1, 1], Noise { ..noise })?)?;
            noise.mixtures = 1;
            let unmixed = self.cpu.noise([rows, channels], noise)?;
            let factor = one_row.data()[0] / self.cpu.download(&unmixed)?.data()[0];
            return self.scaled(&unmixed, factor);
        }
        if self.has(Fault::ComponentByElement) {
            let column = self.cpu.noise([rows * channels, 1], noise)?;
            return Ok(self.cpu.reshape(column, &[rows, channels]));
        }
        if !self.has(Fault::NoiseByRow) {
            return self.cpu.noise([rows, channels], noise);
        }
        let padded = self.cpu.noise([rows, channels.next_multiple_of(4)], noise)?;
        self.map(&padded, |padded| matrix(rows, channels, |row, c| cell(padded, row, c)))
    }

    fn batch_norm_score(
        &self,
        hidden: &T,
        shift: &T,
        layers: &BatchNormScore<'_, T>,
        running: RunningStatistics<'_, T>,
    ) -> Result<(T, BatchNormSaved<T>)> {
        let &BatchNormScore { mut bias, gamma, beta, weight, slope, mut constants } = layers;
        if self.has(Fault::ReversedMomentum) {
            constants.momentum = 1.0 - constants.momentum;
        }
        let nothing = self.scaled(bias, 0.0)?;
        if self.has(Fault::RunningMeanWithoutBias) {
            bias = &nothing;
        }
        let RunningStatistics { mean: running_mean, var: running_var } = running;
        let before = self.cpu.download(running_var)?;
        let layers = BatchNormScore { bias, gamma, beta, weight, slope, constants };
        let running = RunningStatistics { mean: running_mean, var: &mut *running_var };
        let (mut scores, mut saved) = self.cpu.batch_norm_score(hidden, shift, &layers, running)?;
        let batch = self.batch(hidden, shift)?;
        if self.has(Fault::BiasedRunningVariance) {
            let (keep, rows) = (1.0 - constants.momentum, extent(&batch).0 as f64);
            let biased = |after: &Tensor<f64>| {
                let pairs = after.data().iter().zip(before.data());
                let mixed = pairs.map(|(after, old)| keep * old + (after - keep * old) * (rows - 1.0) / rows);
                Tensor::new(after.shape(), mixed.collect())
            };
            *running_var = self.map(running_var, biased)?;
        }
        if self.has(Fault::UnbiasedBatchVariance) || self.has(Fault::OnePassVariance) {
            let formula = if self.has(Fault::OnePassVariance) { wrong::one_pass } else { wrong::unbiased };
            let [mean, variance, inverse] = wrong::statistics(&batch, formula, constants.epsilon);
            let [batch, mean, variance, inverse] =
                [&batch, &mean, &variance, &inverse].map(|tensor| self.cpu.upload(tensor));
            let (mean, epsilon) = (mean?, constants.epsilon);
            let normalised =
                self.cpu.batch_norm_inference(&batch?, gamma, beta, &mean, &variance?, epsilon)?;
            scores = self.cpu.score(&self.cpu.leaky_relu(&normalised, slope)?, weight)?;
            saved = BatchNormSaved { mean, inverse_std: inverse? };
        }
        Ok((scores, saved))
    }

    fn batch_norm_score_backward(
        &self,
        gradient: &T,
        hidden: &T,
        shift: &T,
        layers: &BatchNormScore<'_, T>,
        saved: &BatchNormSaved<T>,
    ) -> Result<BatchNormScoreGradients<T>> {
        let mut gradients = self.cpu.batch_norm_score_backward(gradient, hidden, shift, layers, saved)?;
        let rows = hidden.shape()[0];
        if self.has(Fault::MeanScoreGradient) {
            gradients.weight = self.scaled(&gradients.weight, 0.5 / rows as f64)?;
        }
        if self.has(Fault::HalfTheGradient) {
            let anomalous = self.scaled(&gradients.shift, -1.0)?;
            self.cpu.add(&mut gradients.hidden, &anomalous)?;
        }
        if self.has(Fault::ConstantStatistics) {
            let [ds, gamma, beta, weight, mean, inverse] =
                [gradient, layers.gamma, layers.beta, layers.weight, &saved.mean, &saved.inverse_std]
                    .map(|tensor| self.cpu.download(tensor));
            let (ds, gamma, beta, weight, mean, inverse) = (ds?, gamma?, beta?, weight?, mean?, inverse?);
            let batch = self.batch(hidden, shift)?;
            let anomalous = matrix(rows, mean.len(), |row, c| {
                let scale = gamma.data()[c] * inverse.data()[c];
                let normalised = (cell(&batch, rows + row, c) - mean.data()[c]) * scale + beta.data()[c];
                let slope = if normalised > 0.0 { 1.0 } else { layers.slope };
                ds.data()[rows + row] * weight.data()[c] * slope * scale
            });
            gradients.shift = self.cpu.upload(&anomalous)?;
        }
        Ok(gradients)
    }

    fn batch_norm_inference(
        &self,
        input: &T,
        gamma: &T,
        beta: &T,
        mean: &T,
        variance: &T,
        epsilon: f64,
    ) -> Result<T> {
        if !self.has(Fault::EpsilonOutsideTheRoot) {
            return self.cpu.batch_norm_inference(input, gamma, beta, mean, variance, epsilon);
        }
        let variance = self.map(variance, |v| {
            Tensor::new(v.shape(), v.data().iter().map(|v| (v.sqrt() + epsilon).powi(2)).collect())
        })?;
        self.cpu.batch_norm_inference(input, gamma, beta, mean, &variance, 0.0)
    }

    fn leaky_relu(&self, input: &T, slope: f64) -> Result<T> {
        self.cpu.leaky_relu(input, slope)
    }

    fn leaky_relu_backward(&self, gradient: &T, input: &T, slope: f64) -> Result<T> {
        if !self.has(Fault::SlopeOneAtZero) {
            return self.cpu.leaky_relu_backward(gradient, input, slope);
        }
        let input = self.map(input, |x| {
            Tensor::new(x.shape(), x.data().iter().map(|&x| if x == 0.0 { 1.0 } else { x }).collect())
        })?;
        self.cpu.leaky_relu_backward(gradient, &input, slope)
    }

    fn score(&self, input: &T, weight: &T) -> Result<T> {
        self.cpu.score(input, weight)
    }

    fn loss(&self, scores: &T, loss: Loss, mut images: usize, totals: &mut T) -> Result<T> {
        if self.has(Fault::TotalsOverwritten) {
            *totals = self.cpu.zeros(&[LOSS_TOTALS])?;
        }
        if self.has(Fault::TotalsUnweighted) {
            images = 1;
        }
        let gradient = self.cpu.loss(scores, loss, images, totals)?;
        let summed = self.has(Fault::CrossEntropyOfTwoMeans) && matches!(loss, Loss::CrossEntropy(_));
        if summed { self.scaled(&gradient, 2.0) } else { Ok(gradient) }
    }

    fn adam(&self, slots: &mut [AdamSlot<'_, T>], schedule: &CpuSchedule) -> Result<()> {
        let late_step = self.only_step(&[0], u32::MAX)?;
        let schedule = if self.has(Fault::NoBiasCorrection) { &late_step } else { schedule };
        for slot in slots.iter_mut() {
            match self.fault {
                Fault::NeverDecoupled => slot.rule.decoupled = false,
                Fault::AlwaysDecoupled => slot.rule.decoupled = true,
                _ => {}
            }
        }
        let updated = if self.has(Fault::FirstParameterOnly) { 1 } else { slots.len() };
        self.cpu.adam(&mut slots[..updated], schedule)
    }

    fn anomaly_map(&self, scores: &T, rows: &T, columns: &T) -> Result<(T, T)> {
        let (maps, maxima) = self.cpu.anomaly_map(scores, rows, columns)?;
        let host = self.cpu.download(&maps)?;
        let count = host.shape()[0];
        let pixels = host.len() / count;
        if self.has(Fault::MaximumOfTheMap) {
            let maximum = |map: &[f64]| map.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let maxima = host.data().chunks_exact(pixels).map(maximum).collect();
            return Ok((maps, self.cpu.upload(&Tensor::new([count], maxima))?));
        }
        if self.has(Fault::FirstMapOnly) {
            let repeated = Tensor::new(host.shape(), host.data()[..pixels].repeat(count));
            return Ok((self.cpu.upload(&repeated)?, maxima));
        }
        Ok((maps, maxima))
    }

    fn reshape(&self, tensor: T, shape: &[usize]) -> T {
        self.cpu.reshape(tensor, shape)
    }

    fn clear(&self, tensor: &mut T) -> Result<()> {
        self.cpu.clear(tensor)
    }
}
