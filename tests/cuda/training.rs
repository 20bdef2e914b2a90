//! Training of the head: the CPU's losses, the same bits every time, and a device that is not kept waiting.

use simplenet::backend::cpu::Cpu;
use simplenet::backend::cuda::{Cuda, Precision};
use simplenet::backend::{Backend, CachePrecision, FeatureCacheOptions};
use simplenet::settings::{Preset, Settings};
use simplenet::tensor::Tensor;
use simplenet::training::{HeadTrainer, TrainingPlan};

use crate::draws::normals;

const IMAGES: usize = 11;
const GRID: [usize; 2] = [5, 6];
const CHANNELS: usize = 52;

/// Three epochs with a short last batch.
fn plan(preset: Preset) -> TrainingPlan {
    let mut settings = Settings::preset(preset).training;
    (settings.hidden, settings.epochs, settings.batch) = (68, 3, 4);
    TrainingPlan { settings, channels: CHANNELS, seed: 5, images: (0..IMAGES as u32).collect() }
}

/// The trained tensors and the loss of every epoch. `at_epoch` hears of each epoch's end.
fn train<B: Backend<Scalar = f32>>(
    backend: &B,
    preset: Preset,
    mut at_epoch: impl FnMut(),
) -> (Vec<Tensor<f32>>, Vec<f64>) {
    let [h, w] = GRID;
    let options = FeatureCacheOptions {
        precision: CachePrecision::F32,
        limit_bytes: u64::MAX,
        spill_folder: std::env::temp_dir(),
    };
    let mut cache = backend.feature_cache(IMAGES, h * w, CHANNELS, &options).unwrap();
    let features = backend.upload(&normals(7, &[IMAGES, h, w, CHANNELS], 0.3, 0.4)).unwrap();
    backend.append_features(&mut cache, &features).unwrap();
    backend.finish_features(&mut cache).unwrap();
    let mut trainer = HeadTrainer::new(backend, plan(preset)).unwrap();
    let mut losses = Vec::new();
    trainer
        .run(&cache, &mut |_, summary| {
            if let Some(summary) = summary {
                losses.push(summary.loss);
                at_epoch();
            }
            Ok(())
        })
        .unwrap();
    (trainer.head().to_tensors(backend).unwrap().into_values().collect(), losses)
}

/// f32: 3e-4 in the losses of three epochs, as between PyTorch's devices; products in TF32 move them by the share of
/// their operands' rounding, 2⁻¹¹ each.
pub(crate) fn check(cuda: &Cuda, precision: Precision) {
    let bound = if precision == Precision::F32 { 3e-4 } else { 5e-3 };
    for preset in [Preset::Paper, Preset::Official] {
        let (_, reference) = train(&Cpu::<f32>::new(), preset, || {});
        let (_, losses) = train(cuda, preset, || {});
        for (epoch, (loss, reference)) in losses.iter().zip(&reference).enumerate() {
            let error = (loss - reference).abs() / reference;
            println!("{preset:?} {precision:?} epoch {}: {error:.1e}", epoch + 1);
            assert!(error <= bound, "{preset:?} {precision:?} epoch {}: {error:.2e}", epoch + 1);
        }
    }
}

/// Two trainings end with the same bits.
pub(crate) fn check_repeatability(cuda: &Cuda) {
    let [first, second] = std::array::from_fn(|_| train(cuda, Preset::Paper, || {}));
    assert!(first == second, "two trainings differ");
}

/// `synchronisations` counts how often the host waited for the device so far: once an epoch, for its sums.
pub(crate) fn check_waiting(cuda: &Cuda, synchronisations: impl Fn() -> u64) {
    let mut counts = Vec::new();
    train(cuda, Preset::Paper, || counts.push(synchronisations()));
    let waits: Vec<u64> = counts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(waits, [1, 1], "times the host waited in the second and third epoch");
}
