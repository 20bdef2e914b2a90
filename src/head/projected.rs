//! The deployed head behind the levels themselves: projected first, resized after.
//!
//! Neighbourhood means, resizing and the folded head's affine map are linear, and a level's channels stay its own, so
//!
//! ```text
//! W·concat(resize(p₂), resize(p₃)) + b  =  resize(W₂·p₂ + b) + resize(W₃·p₃)
//! ```
//!
//! with W cut into the columns of each level. Every level is projected on its own grid: 1.23 GMAC a 224 px image become
//! 0.62 for the default backbone (0.77 with PatchCore's bins), and the features themselves are never written.

use super::{FoldedHead, LEAKY_SLOPE};
use crate::backend::{Backend, DeviceTensor, Result};
use crate::tensor::{Scalar, Tensor};

/// A folded head on a device, cut by levels.
#[derive(Debug)]
pub struct ProjectedHead<B: Backend> {
    /// `[hidden, C_l]`, one a level.
    weights: Vec<B::Tensor>,
    /// `[hidden]`, added with the first level.
    bias: B::Tensor,
    score_weight: B::Tensor,
}

impl FoldedHead {
    /// Copies the head to a device, cut into levels of the given numbers of channels; `None` for an adaptor that is
    /// not linear, in front of which nothing can be exchanged.
    ///
    /// # Panics
    /// If the channels do not add up to the head's.
    pub fn project<B: Backend>(&self, backend: &B, channels: &[usize]) -> Result<Option<ProjectedHead<B>>> {
        if self.adaptor.is_some() {
            return Ok(None);
        }
        let [hidden, total] = *self.weight.shape() else { unreachable!("a weight has two axes") };
        assert_eq!(channels.iter().sum::<usize>(), total, "the levels make up the features");
        let upload = |shape: &[usize], values: &mut dyn Iterator<Item = f64>| {
            backend.upload(&Tensor::new(shape, values.map(B::Scalar::from_f64).collect()))
        };
        let mut weights = Vec::with_capacity(channels.len());
        let mut first = 0;
        for &count in channels {
            let rows = self.weight.data().chunks_exact(total);
            let mut columns = rows.flat_map(|row| row[first..first + count].iter().copied());
            weights.push(upload(&[hidden, count], &mut columns)?);
            first += count;
        }
        let bias = upload(&[hidden], &mut self.bias.data().iter().copied())?;
        let score_weight = upload(&[1, hidden], &mut self.score_weight.data().iter().copied())?;
        Ok(Some(ProjectedHead { weights, bias, score_weight }))
    }
}

/// What a level contributes to the features, as the rows that heads project.
#[derive(Debug)]
pub struct LevelRows<T> {
    /// `[N·Hₗ·Wₗ, Cₗ]`.
    rows: T,
    /// N, Hₗ and Wₗ.
    extent: [usize; 3],
}

impl<T> LevelRows<T> {
    /// The rows of `[N, Hₗ, Wₗ, Cₗ]`.
    pub fn new<B: Backend<Tensor = T>>(backend: &B, level: T) -> Self
    where
        T: DeviceTensor,
    {
        let &[n, h, w, channels] = level.shape() else { unreachable!("a level has four axes") };
        Self { rows: backend.reshape(level, &[n * h * w, channels]), extent: [n, h, w] }
    }
}

impl<B: Backend> ProjectedHead<B> {
    /// `s = −D(G(o))` (Eq. 9) from what each level contributes to the features on its own grid
    /// ([`Backend::aggregate_level`]): `[N, Hₗ, Wₗ, Cₗ]… → [N·H0·W0]`.
    pub fn anomaly_scores(&self, backend: &B, levels: Vec<B::Tensor>) -> Result<B::Tensor> {
        // A level is gone as soon as it is projected.
        let projections = levels.into_iter().map(|level| LevelRows::new(backend, level)).enumerate();
        let projections: Vec<_> =
            projections.map(|(index, level)| self.project(backend, index, &level)).collect::<Result<_>>()?;
        self.score(backend, &projections)
    }

    /// As [`ProjectedHead::anomaly_scores`], from levels that other heads are behind as well.
    pub fn anomaly_scores_of(&self, backend: &B, levels: &[LevelRows<B::Tensor>]) -> Result<B::Tensor> {
        let projections = levels.iter().enumerate();
        let projections: Vec<_> =
            projections.map(|(index, level)| self.project(backend, index, level)).collect::<Result<_>>()?;
        self.score(backend, &projections)
    }

    /// A level's part of the hidden features, on its own grid: `[N, Hₗ, Wₗ, hidden]`.
    fn project(&self, backend: &B, index: usize, level: &LevelRows<B::Tensor>) -> Result<B::Tensor> {
        let (weight, [n, h, w]) = (&self.weights[index], level.extent);
        let projected = backend.project(&level.rows, weight, (index == 0).then_some(&self.bias))?;
        Ok(backend.reshape(projected, &[n, h, w, weight.shape()[0]]))
    }

    fn score(&self, backend: &B, projections: &[B::Tensor]) -> Result<B::Tensor> {
        assert_eq!(projections.len(), self.weights.len(), "a level for each part of the head");
        let projections: Vec<&B::Tensor> = projections.iter().collect();
        backend.resize_add_score(&projections, LEAKY_SLOPE, &self.score_weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::Cpu;
    use crate::backend::{Aggregation, AggregationMode, CachePrecision, FeatureCacheOptions};
    use crate::head::{Head, HeadConfig};
    use crate::random::{Philox, Stream};
    use crate::settings::{Preset, Settings};
    use crate::tensor::relative_error;
    use crate::tensor_file::NamedTensors;
    use crate::training::{HeadTrainer, TrainingPlan};

    const IMAGES: usize = 6;
    /// Channels divide 1536, so that PatchCore's bins have equal widths too.
    const LEVELS: [[usize; 3]; 2] = [[8, 6, 32], [4, 3, 64]];

    fn levels() -> Vec<Tensor<f32>> {
        let draw = |(level, &[h, w, channels]): (usize, &[usize; 3])| {
            let philox = Philox::new(level as u64, Stream::Demo, 0);
            let len = IMAGES * h * w * channels;
            let values = (0..len / 4).flat_map(|i| philox.normals(i as u64)).map(|x| (0.4 + 0.3 * x) as f32);
            Tensor::new([IMAGES, h, w, channels], values.collect())
        };
        LEVELS.iter().enumerate().map(draw).collect()
    }

    /// A head trained on these levels: large weights that cancel, as after a real training.
    fn train(aggregation: &Aggregation, plan: &TrainingPlan) -> NamedTensors {
        let cpu = Cpu::<f32>::new();
        let levels: Vec<_> = levels().iter().map(|level| cpu.upload(level).unwrap()).collect();
        let features = cpu.aggregate(&levels.iter().collect::<Vec<_>>(), aggregation).unwrap();
        let &[_, h, w, channels] = features.shape() else { panic!("four axes") };
        let options = FeatureCacheOptions {
            precision: CachePrecision::F32,
            limit_bytes: u64::MAX,
            spill_folder: std::env::temp_dir(),
        };
        let mut cache = cpu.feature_cache(IMAGES, h * w, channels, &options).unwrap();
        cpu.append_features(&mut cache, &features).unwrap();
        cpu.finish_features(&mut cache).unwrap();
        let mut trainer = HeadTrainer::new(&cpu, plan.clone()).unwrap();
        trainer.run(&cache, &mut |_, _| Ok(())).unwrap();
        trainer.head().to_tensors(&cpu).unwrap()
    }

    /// Against the head as it was trained, in f64, on features that were resized first.
    #[test]
    fn projecting_first_changes_rounding_only() {
        for (mode, feature_scale) in [(AggregationMode::Mean, 1.0), (AggregationMode::PatchCore, 0.37)] {
            let aggregation = Aggregation { mode, patch: 3 };
            let channels: Vec<usize> = LEVELS.iter().map(|level| level[2]).collect();
            let shares: Vec<usize> =
                channels.iter().map(|&width| aggregation.level_channels(width, channels.len())).collect();
            let mut settings = Settings::preset(Preset::Paper).training;
            (settings.hidden, settings.epochs, settings.adaptor_rule.learning_rate) = (48, 40, 1e-3);
            let images = (0..IMAGES as u32).collect();
            let config = HeadConfig { feature_scale, ..settings.head(shares.iter().sum()) };
            let plan = TrainingPlan { settings, head: config, seed: 3, images };
            let tensors = train(&aggregation, &plan);

            let exact = Cpu::<f64>::new();
            let widened = |tensor: &Tensor<f32>| {
                Tensor::new(tensor.shape(), tensor.data().iter().map(|&x| f64::from(x)).collect())
            };
            let head_tensors = tensors.iter().map(|(name, tensor)| (name.clone(), widened(tensor))).collect();
            let head = Head::from_tensors(&exact, config, &head_tensors).unwrap();
            let wide: Vec<_> = levels().iter().map(|level| exact.upload(&widened(level)).unwrap()).collect();
            let features = exact.aggregate(&wide.iter().collect::<Vec<_>>(), &aggregation).unwrap();
            let &[n, h, w, c] = features.shape() else { panic!("four axes") };
            let features = exact.download(&features).unwrap().into_data();
            let scaled = features.iter().map(|x| x * feature_scale).collect();
            let features = exact.upload(&Tensor::new([n * h * w, c], scaled)).unwrap();
            let adapted = head.adapt(&exact, &features).unwrap();
            let scores = head.discriminate(&exact, adapted.as_ref().unwrap()).unwrap();
            let reference: Vec<f64> =
                exact.download(&scores).unwrap().data().iter().map(|score| -score).collect();

            let cpu = Cpu::<f32>::new();
            let folded = FoldedHead::new(config, &tensors).unwrap();
            let projected = folded.project(&cpu, &shares).unwrap().expect("a linear adaptor");
            let narrow: Vec<_> = levels()
                .iter()
                .map(|level| cpu.aggregate_level(&cpu.upload(level).unwrap(), &aggregation, 2).unwrap())
                .collect();
            let out = projected.anomaly_scores(&cpu, narrow).unwrap();
            let error = relative_error(cpu.download(&out).unwrap().data(), &reference);
            assert!(error <= 1e-5, "{mode:?}: {error:.2e}");
        }
    }
}
