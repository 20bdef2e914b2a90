//! Scores of the demo set: both devices rank its images alike.

use simplenet::backbone::architecture::Architecture;
use simplenet::backbone::weights::StateDict;
use simplenet::backbone::{FeatureExtractor, Levels};
use simplenet::backend::cpu::Cpu;
use simplenet::backend::cuda::{Cuda, Precision};
use simplenet::backend::{
    Aggregation, AggregationMode, Backend, CachePrecision, DeviceTensor, FeatureCacheOptions,
};
use simplenet::data::{Exif, Fit, Preprocess, decode, demo, list_images};
use simplenet::head::{FoldedHead, HeadConfig, Scorer};
use simplenet::settings::{Preset, Settings};
use simplenet::tensor_file::NamedTensors;
use simplenet::training::{HeadTrainer, TrainingPlan};
use std::path::Path;

/// Side of the network's input: a quarter of the usual work, which a simulated device has to do thread by thread.
const SIDE: usize = 112;
const EPOCHS: u32 = 12;
const CATEGORY: &str = "fabric";

struct Head {
    config: HeadConfig,
    tensors: NamedTensors,
}

fn images(folder: &Path) -> Vec<Vec<u8>> {
    let preprocess = Preprocess { resize: SIDE as u32, crop: SIDE as u32, fit: Fit::Stretch };
    let mut paths = list_images(folder, true).unwrap();
    paths.sort();
    let pixels =
        |path: &std::path::PathBuf| preprocess.apply(&decode(path, Exif::Apply).unwrap()).0.as_raw().clone();
    paths.iter().map(pixels).collect()
}

fn extractor<B: Backend<Scalar = f32>>(backend: &B) -> FeatureExtractor<B> {
    let weights = StateDict::embedded().unwrap();
    let aggregation = Aggregation { mode: AggregationMode::Mean, patch: 3 };
    FeatureExtractor::new(
        backend,
        Architecture::Resnet18Slim,
        &weights.tensors,
        Levels::default(),
        aggregation,
    )
    .unwrap()
}

/// A head trained on the CPU, long enough to tell defects from good images.
fn train(images: &[Vec<u8>]) -> Head {
    let cpu = Cpu::<f32>::new();
    let extractor = extractor(&cpu);
    let (h, w) = extractor.grid(SIDE, SIDE);
    let options = FeatureCacheOptions {
        precision: CachePrecision::F32,
        limit_bytes: u64::MAX,
        spill_folder: std::env::temp_dir(),
    };
    let mut cache = cpu.feature_cache(images.len(), h * w, extractor.channels(), &options).unwrap();
    for image in images {
        let features = extractor.features(&cpu, &cpu.upload_images(image, [1, SIDE, SIDE]).unwrap()).unwrap();
        cpu.append_features(&mut cache, &features).unwrap();
    }
    cpu.finish_features(&mut cache).unwrap();
    let mut settings = Settings::preset(Preset::Paper).training;
    (settings.epochs, settings.hidden) = (EPOCHS, 128);
    let config = settings.head(extractor.channels());
    let plan = TrainingPlan { head: config, seed: 0, images: (0..images.len() as u32).collect(), settings };
    let mut trainer = HeadTrainer::new(&cpu, plan).unwrap();
    trainer.run(&cache, &mut |_, _| Ok(())).unwrap();
    Head { config, tensors: trainer.head().to_tensors(&cpu).unwrap() }
}

fn scores<B: Backend<Scalar = f32>>(backend: &B, head: &Head, images: &[Vec<u8>]) -> Vec<f32> {
    let extractor = extractor(backend);
    let folded = FoldedHead::new(head.config, &head.tensors).unwrap();
    let scorer = Scorer::new(backend, &folded, extractor.grid(SIDE, SIDE), (SIDE, SIDE), 4.0).unwrap();
    let mut scores = Vec::new();
    for batch in images.chunks(8) {
        let images = backend.upload_images(&batch.concat(), [batch.len(), SIDE, SIDE]).unwrap();
        let features = extractor.features(backend, &images).unwrap();
        let &[n, h, w, channels] = features.shape() else { panic!("features have four axes") };
        let rows = backend.reshape(features, &[n * h * w, channels]);
        scores.extend_from_slice(scorer.score(backend, &rows).unwrap().image.data());
    }
    scores
}

/// Spearman's rank correlation of values without ties.
fn spearman(a: &[f32], b: &[f32]) -> f64 {
    let ranks = |values: &[f32]| {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
        let mut ranks = vec![0.0; values.len()];
        order.into_iter().enumerate().for_each(|(rank, i)| ranks[i] = rank as f64);
        ranks
    };
    let n = a.len() as f64;
    let squares: f64 = ranks(a).iter().zip(ranks(b)).map(|(a, b)| (a - b).powi(2)).sum();
    1.0 - 6.0 * squares / (n * (n * n - 1.0))
}

/// At least 0.999, for the arithmetic that is exact and for the one that is not.
pub(crate) fn check(cuda: &Cuda, precision: Precision) {
    let folder = tempfile::tempdir().unwrap();
    demo::write(folder.path()).unwrap();
    let category = folder.path().join(CATEGORY);
    let head = train(&images(&category.join("train/good")));
    let tested = images(&category.join("test"));
    let (reference, out) = (scores(&Cpu::<f32>::new(), &head, &tested), scores(cuda, &head, &tested));
    let correlation = spearman(&out, &reference);
    println!("{precision:?}: Spearman {correlation:.5} over {} images", tested.len());
    assert!(correlation >= 0.999, "{precision:?}: Spearman {correlation:.5} over {} images", tested.len());
}

#[test]
fn spearman_of_known_rankings() {
    assert_eq!(spearman(&[1.0, 2.0, 3.0], &[10.0, 20.0, 30.0]), 1.0);
    assert_eq!(spearman(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]), -1.0);
    assert_eq!(spearman(&[1.0, 2.0, 3.0, 4.0], &[2.0, 1.0, 3.0, 4.0]), 0.8);
}
