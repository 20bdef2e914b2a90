//! `noise`: ε of Eq. 6, a function of seed, step and position.

use std::f64::consts::PI;

use simplenet::backend::{Backend, Epoch, Noise};
use simplenet::tensor::Tensor;

use crate::reference::matrix;
use crate::subject::{DOUBLE, Subject};

const SIGMA: f64 = 0.015;

/// Philox4x32-10 from its paper (Salmon et al. 2011, fig. 2 and table 2).
fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let [mut r0, mut l0, mut r1, mut l1] = counter;
    let [mut key_0, mut key_1] = key;
    for _ in 0..10 {
        let high_low = |a: u32, b: u32| ((u64::from(a) * u64::from(b)) >> 32, a.wrapping_mul(b));
        let (high_0, low_0) = high_low(0xD251_1F53, r0);
        let (high_1, low_1) = high_low(0xCD9E_8D57, r1);
        (r0, l0) = (high_1 as u32 ^ l0 ^ key_0, low_1);
        (r1, l1) = (high_0 as u32 ^ l1 ^ key_1, low_0);
        key_0 = key_0.wrapping_add(0x9E37_79B9);
        key_1 = key_1.wrapping_add(0xBB67_AE85);
    }
    [r0, l0, r1, l1]
}

/// The four words of a block: key = seed, counter = (block low, high, step, stream).
fn words(block: u64, seed: u64, step: u32, stream: u32) -> [u32; 4] {
    philox([block as u32, (block >> 32) as u32, step, stream], [seed as u32, (seed >> 32) as u32])
}

/// The standard normal of one element, from block element/4 of stream 0: Box–Muller gives (cos, sin) of the first pair of
/// words, then of the second.
pub(crate) fn normal(element: u64, seed: u64, step: u32) -> f64 {
    let uniform = words(element / 4, seed, step, 0).map(|word| (f64::from(word) + 0.5) / 2f64.powi(32));
    let pair = (element % 4) as usize / 2 * 2;
    let (radius, angle) = ((-2.0 * uniform[pair].ln()).sqrt(), 2.0 * PI * uniform[pair + 1]);
    if element.is_multiple_of(2) { radius * angle.cos() } else { radius * angle.sin() }
}

/// The component of a row: its share u = word/2³² of [0, 1), from word row mod 4 of block row/4 of stream 6, says which of
/// `mixtures` equal parts it lies in. Their product is exact in `f64`.
fn component(row: u64, mixtures: u32, seed: u64, step: u32) -> u32 {
    let word = words(row / 4, seed, step, 6)[(row % 4) as usize];
    (f64::from(word) / 2f64.powi(32) * f64::from(mixtures)).floor() as u32
}

/// Random123's published answer for a counter and a key that are the digits of π.
#[test]
fn philox_gives_the_known_answer() {
    let counter = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
    let answer = [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1];
    assert_eq!(philox(counter, [0xa409_3822, 0x299f_31d0]), answer);
}

pub(crate) fn check<B: Backend>(subject: &Subject<B>) {
    for mixtures in [1, 3, 8] {
        // The last two are split between threads.
        for shape in [[1, 1], [5, 7], [3, 33], [11, 2], [13, 20], [35, 64], [131, 127], [300, 173]] {
            for (seed, step) in [(0, 0), (7, 1), (0x0123_4567_89AB_CDEF, 4_000_000_000)] {
                case(subject, shape, mixtures, seed, step);
            }
        }
        frequencies(subject, mixtures);
    }
}

/// The noise of two steps in a row, as the schedule counts them.
fn two_steps<B: Backend>(
    subject: &Subject<B>,
    case: &str,
    shape: [usize; 2],
    mixtures: u32,
    (seed, first_step): (u64, u32),
) -> Vec<Tensor<f64>> {
    subject.run(case, |device| {
        let mut schedule = device.schedule(2, 1)?;
        device.begin_epoch(&mut schedule, &Epoch { order: &[0, 0], first_step, done: 0 })?;
        let mut steps = Vec::new();
        for _ in 0..2 {
            let noise = Noise { sigma: SIGMA, mixtures, seed, schedule: &schedule };
            steps.push(device.noise(shape, noise)?);
            device.end_step(&mut schedule)?;
        }
        Ok(steps)
    })
}

fn case<B: Backend>(subject: &Subject<B>, shape: [usize; 2], mixtures: u32, seed: u64, first_step: u32) {
    let [rows, channels] = shape;
    let case = format!("seed {seed}, step {first_step}, {mixtures} components in [{rows}, {channels}]");
    let out = two_steps(subject, &case, shape, mixtures, (seed, first_step));
    for (step, out) in (first_step..).zip(&out) {
        let reference = matrix(rows, channels, |row, channel| {
            let sigma = SIGMA * 1.1f64.powi(component(row as u64, mixtures, seed, step) as i32);
            sigma * normal((row * channels + channel) as u64, seed, step)
        });
        // A few roundings each in the logarithm, the root, the angle, its cosine and the product with σ; those of σ·1.1ᵏ
        // are in `f64`, and k of them.
        let tolerance = subject.rounding(6) + 8.0 * DOUBLE;
        subject.compare(&case, out, &reference, tolerance);
    }
}

/// How often each component comes, read off the noise itself: in 3000 rows of one step, a component's count is binomial,
/// of mean n/K and deviation √(n·(1/K)·(1 − 1/K)). Five deviations are exceeded by chance less than once in a million
/// draws, and the draws are the same in every run. The next step's components are others.
fn frequencies<B: Backend>(subject: &Subject<B>, mixtures: u32) {
    const ROWS: usize = 3000;
    let (seed, first_step) = (11, 5);
    let case = format!("frequencies of {mixtures} components");
    let steps = two_steps(subject, &case, [ROWS, 2], mixtures, (seed, first_step));
    let components: Vec<Vec<usize>> = (first_step..)
        .zip(&steps)
        .map(|(step, out)| {
            let component = |(row, noise): (usize, &[f64])| {
                let unmixed = [0, 1].map(|i| SIGMA * normal((2 * row + i) as u64, seed, step));
                let growth = noise[0].hypot(noise[1]) / unmixed[0].hypot(unmixed[1]);
                (growth.ln() / 1.1f64.ln()).round() as usize
            };
            out.data().chunks_exact(2).enumerate().map(component).collect()
        })
        .collect();
    let share = 1.0 / f64::from(mixtures);
    let mean = ROWS as f64 * share;
    let deviation = (mean * (1.0 - share)).sqrt();
    for components in &components {
        let mut counts = vec![0; mixtures as usize];
        for &component in components {
            counts[component] += 1;
        }
        for (component, &count) in counts.iter().enumerate() {
            let distance = (f64::from(count) - mean).abs();
            assert!(
                distance <= 5.0 * deviation,
                "{case}: component {component} comes {count} times in {ROWS}, which exceeds {mean} ± 5·{deviation}"
            );
        }
    }
    assert_eq!(components[0] == components[1], mixtures == 1, "{case}: the same in the next step");
}
