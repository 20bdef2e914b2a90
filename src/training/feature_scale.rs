//! The factor that brings features to the scale the noise presumes.

use super::{Features, TrainingError};
use crate::backend::{Backend, DeviceTensor, Epoch};
use crate::metrics::ColumnSpread;

/// The standard deviation that features are brought to, a mean over channels.
///
/// ImageNet weights of version 1, which σ = 0.015 was chosen for, give 0.09 to 0.1 on photographs of one kind of part with
/// ResNet18, where it was measured, and up to 0.2 with wider networks. This is the lower end: σ is then rather too large than
/// too small for the features, and `docs/paper.md`, Figure 5, has what either costs.
pub const PRESUMED_STD: f64 = 0.1;
/// So many images tell the scale: a mean over hundreds of channels and tens of thousands of positions.
const SAMPLED_IMAGES: usize = 64;

/// [`PRESUMED_STD`] over the mean, over channels, of the standard deviation of the training features, of at most 64 images
/// that are spread evenly over them. None where features do not vary at all, or are not finite: no factor mends those.
pub fn measured_feature_scale<B: Backend<Scalar = f32>>(
    backend: &B,
    features: &Features<B>,
) -> Result<Option<f64>, TrainingError> {
    let images = features.images.len();
    let sampled = images.min(SAMPLED_IMAGES);
    let order: Vec<u32> = (0..sampled).map(|place| (place * images / sampled) as u32).collect();
    let mut schedule = backend.schedule(sampled, 1)?;
    backend.begin_epoch(&mut schedule, &Epoch { order: &order, first_step: 0, done: 0 })?;
    let mut spread = None::<ColumnSpread>;
    for _ in &order {
        let rows = backend.gather_rows(&features.cache, &schedule, 1, 1.0)?;
        backend.end_step(&mut schedule)?;
        let spread = spread.get_or_insert_with(|| ColumnSpread::new(rows.shape()[1]));
        spread.add(backend.download(&rows)?.data());
    }
    let deviations = spread.and_then(|spread| spread.std()).unwrap_or_default();
    let mean = deviations.iter().sum::<f64>() / deviations.len() as f64;
    let factor = PRESUMED_STD / mean;
    Ok((factor.is_finite() && factor > 0.0).then_some(factor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::Cpu;
    use crate::backend::{CachePrecision, FeatureCacheOptions};
    use crate::random::philox::{Philox, Stream};
    use crate::tensor::Tensor;

    /// Features of `images` images of 5 × 5 positions and 6 channels around 3, of the given
    /// deviation.
    fn features(cpu: &Cpu<f32>, images: usize, deviation: f64) -> Features<Cpu<f32>> {
        let philox = Philox::new(3, Stream::Initialisation, 0);
        let options = FeatureCacheOptions {
            precision: CachePrecision::F32,
            limit_bytes: u64::MAX,
            spill_folder: std::env::temp_dir(),
        };
        let mut cache = cpu.feature_cache(images, 25, 6, &options).unwrap();
        for image in 0..images {
            let draw = |i: usize| philox.normals((image * 150 + i) as u64)[0];
            let values = (0..150).map(|i| (3.0 + deviation * draw(i)) as f32).collect::<Vec<f32>>();
            cpu.append_features(&mut cache, &cpu.upload(&Tensor::new([1, 5, 5, 6], values)).unwrap())
                .unwrap();
        }
        cpu.finish_features(&mut cache).unwrap();
        Features {
            cache,
            images: vec![std::path::PathBuf::new(); images],
            places: (0..images).collect(),
            geometries: Vec::new(),
            skipped: Vec::new(),
            inspected: 1.0,
            digest: [0; 32],
            grid: (5, 5),
        }
    }

    /// A deviation of n = 75 to 1600 draws errs by some 1/√(2n), 8 to 2 %, and the mean of six by less.
    #[test]
    fn features_of_any_scale_are_brought_to_the_presumed_one() {
        let cpu = Cpu::<f32>::new();
        for (images, deviation) in [(3, 0.1), (3, 0.66), (64, 0.02), (130, 12.0)] {
            let factor = measured_feature_scale(&cpu, &features(&cpu, images, deviation)).unwrap().unwrap();
            let reached = factor * deviation / PRESUMED_STD;
            assert!((reached - 1.0).abs() < 0.1, "{images} images, {deviation}: {reached}");
        }
    }

    #[test]
    fn what_does_not_vary_has_no_scale() {
        let cpu = Cpu::<f32>::new();
        assert_eq!(measured_feature_scale(&cpu, &features(&cpu, 2, 0.0)).unwrap(), None);
        assert_eq!(measured_feature_scale(&cpu, &features(&cpu, 2, f64::NAN)).unwrap(), None);
    }
}
