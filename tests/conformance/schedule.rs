//! `begin_epoch` and `end_step`: which images, which noise and which bias corrections belong to a step.

use simplenet::backend::{
    AdamRule, AdamSlot, Backend, CachePrecision, Epoch, FeatureCacheOptions, Noise, Result,
};
use simplenet::tensor::{Scalar, Tensor};

use crate::noise::normal;
use crate::subject::{DOUBLE, Subject};

/// Images in the cache; the feature of image `i` is `i + 1`.
const CACHED: usize = 9;
const SEED: u64 = 0x0123_4567_89AB_CDEF;
const LEARNING_RATE: f64 = 0.25;

pub(crate) fn check<B: Backend>(subject: &Subject<B>) {
    let device = &subject.device;
    let options = FeatureCacheOptions {
        precision: CachePrecision::F32,
        limit_bytes: u64::MAX,
        spill_folder: std::env::temp_dir(),
    };
    let mut cache = device.feature_cache(CACHED, 1, 1, &options).unwrap();
    let features = Tensor::new([CACHED, 1, 1, 1], (1..=CACHED).map(|i| i as f64).collect());
    device.append_features(&mut cache, &subject.upload(&features)).unwrap();
    device.finish_features(&mut cache).unwrap();

    // Epochs one after the other in the same schedule: a whole one, one that is resumed twice in its middle, one that
    // begins again from its start. The last step has as many images as the others, fewer, or one; or is the only one.
    let orders: [&[u32]; 2] = [&[8, 3, 0, 1, 7, 5], &[2, 2, 6, 4, 0, 3]];
    for batch in [1, 2, 4, 5, 6, 9] {
        let steps = 6usize.div_ceil(batch);
        let epochs =
            [(0, 0, 0), (1, steps as u32, steps / 2), (1, steps as u32, steps - 1), (0, 4_000_000_000, 0)]
                .map(|(order, first_step, done)| Epoch { order: orders[order], first_step, done });
        let case = format!("steps of {batch}");
        let out = subject.run(&case, |device| {
            let mut schedule = device.schedule(6, batch)?;
            let mut results = Vec::new();
            for epoch in &epochs {
                device.begin_epoch(&mut schedule, epoch)?;
                for images in epoch.order.chunks(batch).skip(epoch.done) {
                    results.push(device.gather_rows(&cache, &schedule, images.len(), 1.0)?);
                    results.extend(noise_and_update(device, &schedule)?);
                    device.end_step(&mut schedule)?;
                }
            }
            Ok(results)
        });

        let mut results = out.chunks_exact(3);
        for epoch in &epochs {
            for (number, images) in epoch.order.chunks(batch).enumerate().skip(epoch.done) {
                let Some([rows, noise, parameter]) = results.next() else { panic!("three results a step") };
                let case = format!("step {number} of {epoch:?}, {case}");
                let expected = images.iter().map(|&image| f64::from(image) + 1.0).collect();
                subject.compare_exactly(&case, rows, &Tensor::new([images.len(), 1], expected));

                let step = epoch.first_step + number as u32;
                let expected = (0..4).map(|i| normal(i, SEED, step)).collect();
                // As in `noise.rs`.
                subject.compare(&case, noise, &Tensor::new([1, 4], expected), subject.rounding(6));

                // As in `adam.rs`, one step.
                let tolerance = subject.rounding(5) + 1000.0 * DOUBLE;
                subject.compare(&case, parameter, &Tensor::new([1], vec![updated(step)]), tolerance);
            }
        }
        assert!(results.next().is_none());
    }
}

/// Noise, `[1, 4]`, and a parameter of zero after one step with a gradient of one, without momentum, `[1]`.
fn noise_and_update<B: Backend>(device: &B, schedule: &B::Schedule) -> Result<[B::Tensor; 2]> {
    let noise = device.noise([1, 4], Noise { sigma: 1.0, mixtures: 1, seed: SEED, schedule })?;
    let mut state = [device.zeros(&[1])?, device.zeros(&[1])?, device.zeros(&[1])?];
    let gradient = device.upload(&Tensor::full([1], B::Scalar::ONE))?;
    let [parameter, first_moment, second_moment] = &mut state;
    let rule = AdamRule { learning_rate: LEARNING_RATE, weight_decay: 0.0, decoupled: false };
    let slot = AdamSlot { parameter, gradient: &gradient, first_moment, second_moment, rule };
    device.adam(&mut [slot], schedule)?;
    let [parameter, ..] = state;
    Ok([noise, parameter])
}

/// What Adam makes of that parameter behind `step` other steps: −lr·m̂/(√v̂ + ε), m = 1 − β₁, v = 1 − β₂, t = `step` + 1.
fn updated(step: u32) -> f64 {
    let (beta_1, beta_2, epsilon): (f64, f64, f64) = (0.9, 0.999, 1e-8);
    let t = f64::from(step) + 1.0;
    let m_hat = (1.0 - beta_1) / (1.0 - beta_1.powf(t));
    let v_hat = (1.0 - beta_2) / (1.0 - beta_2.powf(t));
    -LEARNING_RATE * m_hat / (v_hat.sqrt() + epsilon)
}
