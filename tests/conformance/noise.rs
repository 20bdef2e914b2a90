//! `noise`: ε of Eq. 6, a function of seed, step and position.

use std::f64::consts::PI;

use simplenet::backend::{Backend, Epoch, Noise};

use crate::reference::matrix;
use crate::subject::Subject;

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

/// The standard normal of one element: key = seed, counter = (element/4 low, high, step, stream 0); Box–Muller gives
/// (cos, sin) of the first pair of words, then of the second.
pub(crate) fn normal(element: u64, seed: u64, step: u32) -> f64 {
    let block = element / 4;
    let counter = [block as u32, (block >> 32) as u32, step, 0];
    let words = philox(counter, [seed as u32, (seed >> 32) as u32]);
    let uniform = words.map(|word| (f64::from(word) + 0.5) / 2f64.powi(32));
    let pair = (element % 4) as usize / 2 * 2;
    let (radius, angle) = ((-2.0 * uniform[pair].ln()).sqrt(), 2.0 * PI * uniform[pair + 1]);
    if element.is_multiple_of(2) { radius * angle.cos() } else { radius * angle.sin() }
}

/// Random123's published answer for a counter and a key that are the digits of π.
#[test]
fn philox_gives_the_known_answer() {
    let counter = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
    let answer = [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1];
    assert_eq!(philox(counter, [0xa409_3822, 0x299f_31d0]), answer);
}

pub(crate) fn check<B: Backend>(subject: &Subject<B>) {
    // The last two are split between threads.
    for (rows, channels) in [(1, 1), (5, 7), (3, 33), (13, 20), (35, 64), (131, 127), (300, 173)] {
        for (seed, step) in [(0, 0), (7, 1), (0x0123_4567_89AB_CDEF, 4_000_000_000)] {
            case(subject, [rows, channels], seed, step);
        }
    }
}

/// Two steps in a row, as the schedule counts them.
fn case<B: Backend>(subject: &Subject<B>, shape: [usize; 2], seed: u64, first_step: u32) {
    let [rows, channels] = shape;
    let case = format!("seed {seed}, step {first_step} in [{rows}, {channels}]");
    let out = subject.run(&case, |device| {
        let mut schedule = device.schedule(2, 1)?;
        device.begin_epoch(&mut schedule, &Epoch { order: &[0, 0], first_step, done: 0 })?;
        let mut steps = Vec::new();
        for _ in 0..2 {
            steps.push(device.noise(shape, Noise { sigma: SIGMA, seed, schedule: &schedule })?);
            device.end_step(&mut schedule)?;
        }
        Ok(steps)
    });
    for (step, out) in (first_step..).zip(&out) {
        let reference = matrix(rows, channels, |row, channel| {
            SIGMA * normal((row * channels + channel) as u64, seed, step)
        });
        // A few roundings each in the logarithm, the root, the angle, its cosine and the product with σ.
        subject.compare(&case, out, &reference, subject.rounding(6));
    }
}
