//! The model that is measured.

use super::work;
use crate::backbone::FeatureExtractor;
use crate::backend::Backend;
use crate::detector::{BackboneIdentity, Detector, FORMAT, Model, ModelError, ModelMetadata, Thresholds};
use crate::head::Head;
use crate::random::{Philox, Stream};
use crate::settings::Settings;

/// A detector as it is deployed, with what it was made of.
#[derive(Debug)]
pub struct Subject<B: Backend> {
    /// The model.
    pub model: Model,
    /// The same on a device.
    pub detector: Detector<B>,
}

/// A model whose head has its initial values: it does the work of a trained one, and its scores mean nothing.
///
/// # Errors
/// The device failed.
pub fn untrained<B: Backend<Scalar = f32>>(
    backend: &B,
    backbone: BackboneIdentity,
    settings: Settings,
    extractor: FeatureExtractor<B>,
) -> Result<Subject<B>, ModelError> {
    let head = settings.training.head(extractor.channels());
    let tensors = Head::initial(backend, head, 0)?.to_tensors(backend)?;
    let metadata = ModelMetadata {
        format: FORMAT,
        category: "benchmark".to_owned(),
        backbone,
        settings,
        head,
        seed: 0,
        train_images: 0,
        synthetic_data: true,
        ignore_exif: false,
        calibration: None,
        thresholds: Thresholds::default(),
        chosen_epoch: None,
    };
    let model = Model { metadata, head: tensors, backbone: None };
    let detector = Detector::with_extractor(backend, &model, extractor)?;
    Ok(Subject { model, detector })
}

impl<B: Backend<Scalar = f32>> Subject<B> {
    /// Side of the network's input.
    pub fn side(&self) -> usize {
        self.model.metadata.settings.features.preprocess.crop as usize
    }

    /// Multiply–accumulate operations of one image, from pixels to map.
    pub fn macs(&self) -> u64 {
        let metadata = &self.model.metadata;
        let levels = &metadata.settings.features.levels;
        let sides = work::level_sides(self.side());
        let rows = levels.as_slice().iter().map(|level| sides[level - 1] * sides[level - 1]);
        let shares = self.detector.extractor().level_channels().iter().copied();
        let grid = sides[levels.shallowest() - 1];
        work::backbone(metadata.backbone.architecture, levels.deepest(), self.side())
            + work::deployed_head(metadata.head, &rows.zip(shares).collect::<Vec<_>>())
            + work::map(grid, self.side())
    }

    /// Random pixels of `images` inputs, `[N, side, side, 3]`.
    pub(super) fn pixels(&self, images: usize) -> Vec<u8> {
        let philox = Philox::new(0, Stream::Demo, 0);
        let len = images * self.side() * self.side() * 3;
        (0..len.div_ceil(16) as u64)
            .flat_map(|block| philox.block(block).map(u32::to_le_bytes).into_iter().flatten())
            .take(len)
            .collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::backbone::architecture::Architecture;
    use crate::backbone::weights::StateDict;
    use crate::head::AdaptorKind;
    use crate::settings::Preset;

    /// The small network at 32 px, with synthetic weights.
    pub(in super::super) fn tiny<B: Backend<Scalar = f32>>(backend: &B, adaptor: AdaptorKind) -> Subject<B> {
        let mut settings = Settings::preset(Preset::Paper);
        (settings.features.preprocess.resize, settings.features.preprocess.crop) = (36, 32);
        (settings.training.hidden, settings.training.adaptor) = (16, adaptor);
        settings.map_sigma = 2.0;
        let architecture = Architecture::Resnet18Slim;
        let weights = StateDict::synthetic(architecture, 0);
        let (levels, aggregation) = (settings.features.levels.clone(), settings.features.aggregation);
        let extractor =
            FeatureExtractor::new(backend, architecture, &weights.tensors, levels, aggregation).unwrap();
        let identity = BackboneIdentity { architecture, sha256: weights.hash(architecture, 3), origin: None };
        untrained(backend, identity, settings, extractor).unwrap()
    }

    #[test]
    fn the_work_of_a_subject_is_that_of_its_parts() {
        let cpu = crate::backend::cpu::Cpu::<f32>::new();
        let linear = tiny(&cpu, AdaptorKind::Linear);
        // Levels of 4 × 4 with 64 channels and 2 × 2 with 128, a map of 32 × 32.
        let head = 16 * 64 * 16 + 4 * 128 * 16 + 16 * 16;
        let map = 32 * 4 * 4 + 32 * 32 * 4;
        assert_eq!(linear.macs(), work::backbone(Architecture::Resnet18Slim, 3, 32) + head + map);
        let mlp = 16 * 192 * (192 + 16) + 16 * 16;
        assert_eq!(tiny(&cpu, AdaptorKind::Mlp).macs() - linear.macs() + head, mlp);
    }

    #[test]
    fn pixels_are_as_many_as_asked_for_and_look_random() {
        let pixels = tiny(&crate::backend::cpu::Cpu::<f32>::new(), AdaptorKind::Linear).pixels(3);
        assert_eq!(pixels.len(), 3 * 32 * 32 * 3);
        let mean = pixels.iter().map(|&x| f64::from(x)).sum::<f64>() / pixels.len() as f64;
        assert!((mean - 127.5).abs() < 3.0, "{mean}");
    }
}
