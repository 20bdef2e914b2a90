//! Training of the head: the CPU's losses, the same bits every time, recorded or not, and a device that is not kept
//! waiting.

use simplenet::backend::cpu::Cpu;
use simplenet::backend::cuda::{
    Cuda, CudaFeatureCache, CudaOptions, CudaRecording, CudaSchedule, CudaTensor, Precision,
};
use simplenet::backend::{AdamRule, AdamSlot, Backend, CachePrecision, Epoch, FeatureCacheOptions, Noise};
use simplenet::settings::{Preset, Settings};
use simplenet::tensor::Tensor;
use simplenet::training::{EpochSummary, HeadTrainer, TrainingPlan};

use crate::cusim::Counters;
use crate::draws::normals;

const IMAGES: usize = 11;
const GRID: [usize; 2] = [5, 6];
const CHANNELS: usize = 52;
const BATCH: usize = 4;
/// Steps of an epoch: two whole batches and a short one.
const STEPS: u32 = 3;
/// The short batch is recorded in the third epoch; from the fourth one on everything is a replay.
const EPOCHS: u32 = 5;

fn plan(preset: Preset) -> TrainingPlan {
    let mut settings = Settings::preset(preset).training;
    (settings.hidden, settings.epochs, settings.batch) = (68, EPOCHS, BATCH);
    let head = settings.head(CHANNELS);
    TrainingPlan { settings, head, seed: 5, images: (0..IMAGES as u32).collect() }
}

/// The features of all images; beyond `host_bytes`, and where the device has no room for them, in a file.
fn features<B: Backend<Scalar = f32>>(backend: &B, host_bytes: u64) -> B::FeatureCache {
    let [h, w] = GRID;
    let options = FeatureCacheOptions {
        precision: CachePrecision::F32,
        limit_bytes: host_bytes,
        spill_folder: std::env::temp_dir(),
    };
    let mut cache = backend.feature_cache(IMAGES, h * w, CHANNELS, &options).unwrap();
    let features = backend.upload(&normals(7, &[IMAGES, h, w, CHANNELS], 0.3, 0.4)).unwrap();
    backend.append_features(&mut cache, &features).unwrap();
    backend.finish_features(&mut cache).unwrap();
    cache
}

/// What a training ends with: the head's tensors, and the loss of every epoch.
type Outcome = (Vec<Tensor<f32>>, Vec<f64>);

/// Trains to the end. `observe` hears of every step.
fn finish<'b, B: Backend<Scalar = f32>>(
    backend: &'b B,
    mut trainer: HeadTrainer<'b, B>,
    cache: &B::FeatureCache,
    mut observe: impl FnMut(&HeadTrainer<'b, B>, Option<&EpochSummary>),
) -> Outcome {
    let mut losses = Vec::new();
    trainer
        .run(cache, &mut |trainer, summary| {
            losses.extend(summary.map(|summary| summary.loss));
            observe(trainer, summary);
            Ok(())
        })
        .unwrap();
    (trainer.head().to_tensors(backend).unwrap().into_values().collect(), losses)
}

/// A whole training. `at_epoch` hears of each epoch's end.
fn train<B: Backend<Scalar = f32>>(backend: &B, preset: Preset, mut at_epoch: impl FnMut()) -> Outcome {
    let cache = features(backend, u64::MAX);
    let trainer = HeadTrainer::new(backend, plan(preset)).unwrap();
    finish(backend, trainer, &cache, |_, summary| {
        if summary.is_some() {
            at_epoch();
        }
    })
}

/// f32: 3e-4 in the losses of the epochs, as between PyTorch's devices; products in TF32 move them by the share of
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

/// A training whose steps are replayed ends with the bits of one whose steps are not.
pub(crate) fn check_recording(recording: &Cuda, ordinary: &Cuda) {
    for preset in [Preset::Paper, Preset::Official] {
        let [recorded, reference] = [recording, ordinary].map(|cuda| train(cuda, preset, || {}));
        assert!(recorded == reference, "{preset:?}: a recorded training differs");
    }
}

/// A training goes on from any of its steps as if it had not been stopped.
pub(crate) fn check_resumption(cuda: &Cuda) {
    let cache = features(cuda, u64::MAX);
    let mut states = Vec::new();
    let trainer = HeadTrainer::new(cuda, plan(Preset::Paper)).unwrap();
    let whole = finish(cuda, trainer, &cache, |trainer, _| {
        states.push((trainer.position(), trainer.state().unwrap()));
    });
    assert_eq!(states.len(), (EPOCHS * STEPS) as usize);
    for (position, state) in states {
        let trainer = HeadTrainer::resume(cuda, plan(Preset::Paper), position, &state).unwrap();
        let (tensors, losses) = finish(cuda, trainer, &cache, |_, _| {});
        let same = tensors == whole.0 && losses == whole.1[position.epoch as usize..];
        assert!(same, "resumed at {position:?}, a training ends elsewhere");
    }
}

/// Features in device memory, in host memory and in a file teach the same: in the last place steps are not recorded.
pub(crate) fn check_places(open: impl Fn(CudaOptions) -> Cuda, ordinal: usize) {
    let outcomes = [(usize::MAX, 0, "device memory"), (0, u64::MAX, "host memory"), (0, 0, "a file")].map(
        |(device_bytes, host_bytes, place)| {
            let options = CudaOptions::new(ordinal, Precision::F32);
            let cuda = open(CudaOptions { feature_memory: Some(device_bytes), ..options });
            let cache = features(&cuda, host_bytes);
            assert_eq!((cache.place(), cuda.reads_features(&cache)), (place, place != "a file"));
            finish(&cuda, HeadTrainer::new(&cuda, plan(Preset::Paper)).unwrap(), &cache, |_, _| {})
        },
    );
    assert!(
        outcomes[0] == outcomes[1] && outcomes[0] == outcomes[2],
        "features in another place teach otherwise"
    );
}

/// What the host does in an epoch whose steps are not recorded: it waits for the device once, for the epoch's sums.
pub(crate) fn check_waiting(ordinary: &Cuda, counters: impl Fn() -> Counters) {
    let mut counts = Vec::new();
    train(ordinary, Preset::Paper, || counts.push(counters()));
    for pair in counts.windows(2) {
        assert_eq!(pair[1].synchronisations - pair[0].synchronisations, 1, "times the host waited");
        assert_eq!(pair[1].graph_launches, pair[0].graph_launches, "nothing is recorded");
    }
}

/// What the host does in an epoch of replayed steps: it tells the device the epoch's order, launches each step as one
/// graph, and takes the epoch's sums.
pub(crate) fn check_counts(recording: &Cuda, counters: impl Fn() -> Counters) {
    let mut counts = Vec::new();
    train(recording, Preset::Paper, || counts.push(counters()));
    let replayed: Vec<[Counters; 2]> = counts.windows(2).skip(2).map(|pair| [pair[0], pair[1]]).collect();
    assert_eq!(replayed.len(), 2, "the fourth epoch and the fifth");
    for [before, after] in replayed {
        assert_eq!(after.graph_launches - before.graph_launches, u64::from(STEPS), "one launch a step");
        assert_eq!((after.launches, after.products), (before.launches, before.products), "and nothing else");
        assert_eq!(after.allocations, before.allocations, "and no allocation");
        assert_eq!(after.uploads - before.uploads, 1, "the epoch's order");
        assert_eq!(after.downloads - before.downloads, 1, "the epoch's sums");
        assert_eq!(after.synchronisations - before.synchronisations, 1, "times the host waited");
        assert!(after.kernels_run > before.kernels_run + 30, "three steps of more than ten kernels each");
    }
}

/// One graph, replayed: every step has its own images, its own noise and its own update, in every epoch; a step behind the
/// epoch's last one is none.
pub(crate) fn check_replays(recording: &Cuda, ordinary: &Cuda) {
    let orders: [Vec<u32>; 2] = [(0..IMAGES as u32).rev().collect(), (0..IMAGES as u32).collect()];
    let [recorded, reference] = [(recording, true), (ordinary, false)].map(|(cuda, records)| {
        let mut work = Replays::new(cuda);
        let steps: Vec<_> = (0..).zip(&orders).flat_map(|(epoch, order)| work.epoch(epoch, order)).collect();
        assert_eq!(work.recording.is_captured(), records);
        steps
    });
    assert!(recorded == reference, "a replayed step differs");

    let features = normals(7, &[IMAGES, GRID[0], GRID[1], CHANNELS], 0.3, 0.4);
    let per_image = features.len() / IMAGES;
    for (&image, [rows, ..]) in orders.iter().flatten().zip(&recorded) {
        assert_eq!(rows.data(), &features.data()[image as usize * per_image..][..per_image], "image {image}");
    }
    for (step, [_, noise, parameter]) in recorded.iter().enumerate() {
        for [_, earlier_noise, earlier_parameter] in &recorded[..step] {
            assert!(noise != earlier_noise, "step {step} repeats another's noise");
            assert!(parameter != earlier_parameter, "step {step} updates nothing");
        }
    }
}

/// A training step without the head: images, noise, and an update by a constant gradient.
struct Replays<'a> {
    cuda: &'a Cuda,
    cache: CudaFeatureCache,
    schedule: CudaSchedule,
    gradient: CudaTensor,
    /// Parameter and moments.
    state: [CudaTensor; 3],
    recording: CudaRecording,
}

impl<'a> Replays<'a> {
    fn new(cuda: &'a Cuda) -> Self {
        Self {
            cuda,
            cache: features(cuda, u64::MAX),
            schedule: cuda.schedule(IMAGES, 1).unwrap(),
            gradient: cuda.upload(&Tensor::full([5], 1.0)).unwrap(),
            state: [(); 3].map(|()| cuda.zeros(&[5]).unwrap()),
            recording: CudaRecording::default(),
        }
    }

    /// Rows, noise and parameter of every step of an epoch.
    fn epoch(&mut self, number: u32, order: &[u32]) -> Vec<[Tensor<f32>; 3]> {
        let first_step = number * IMAGES as u32;
        self.cuda.begin_epoch(&mut self.schedule, &Epoch { order, first_step, done: 0 }).unwrap();
        let steps = order.iter().map(|_| self.step()).collect();
        // A step that the epoch does not have spoils what it updates, so that it does not pass for one.
        let [_, _, spoilt] = self.step();
        assert!(spoilt.data().iter().all(|value| value.is_nan()), "{spoilt:?} after a surplus step");
        // From zero again, in place. The bias corrections are those of later steps, so the parameter goes elsewhere.
        for tensor in &mut self.state {
            self.cuda.clear(tensor).unwrap();
        }
        steps
    }

    fn step(&mut self) -> [Tensor<f32>; 3] {
        let Self { cuda, cache, schedule, gradient, state, recording } = self;
        let outputs = cuda.run_recorded(recording, &mut || {
            let rows = cuda.gather_rows(cache, schedule, 1, 1.0)?;
            let noise = Noise { sigma: 1.0, mixtures: 1, seed: 3, schedule };
            let noise = cuda.noise([7, 9], noise)?;
            let [parameter, first_moment, second_moment] = &mut *state;
            let rule = AdamRule { learning_rate: 0.1, weight_decay: 0.0, decoupled: false };
            cuda.adam(&mut [AdamSlot { parameter, gradient, first_moment, second_moment, rule }], schedule)?;
            cuda.end_step(schedule)?;
            Ok(vec![rows, noise])
        });
        let [rows, noise] = outputs.unwrap() else { panic!("two results") };
        [rows, noise, &self.state[0]].map(|tensor| cuda.download(tensor).unwrap())
    }
}
