//! `score`: one dot product a row, alone and behind a LeakyReLU.

use simplenet::backend::Backend;

use crate::draws::Draws;
use crate::reference::{cell, vector};
use crate::subject::Subject;

const SLOPE: f64 = 0.2;

pub(crate) fn check<B: Backend>(subject: &Subject<B>) {
    let mut draws = Draws::new(10);
    for (rows, channels) in [(1, 1), (5, 7), (117, 33), (585, 20), (1, 64), (300, 1024)] {
        let case = |part: &str| format!("{part} [{rows}, {channels}]");
        // Away from zero, so that no single sum cancels by chance and leaves nothing but its rounding.
        let x = draws.normals(&[rows, channels], 1.0, 1.0);
        let w = draws.normals(&[1, channels], 1.0, 1.0);
        let (device_x, device_w) = (subject.upload(&x), subject.upload(&w));
        let out = subject.run(&case("all"), |device| {
            let fused = device.leaky_relu_score(&device_x, SLOPE, &device_w)?;
            Ok(vec![device.score(&device_x, &device_w)?, fused])
        });
        let scores = vector(rows, |row| (0..channels).map(|c| cell(&x, row, c) * w.data()[c]).sum());
        let activated = |x: f64| if x > 0.0 { x } else { SLOPE * x };
        let fused =
            vector(rows, |row| (0..channels).map(|c| activated(cell(&x, row, c)) * w.data()[c]).sum());
        // A sum over channels.
        subject.compare(&case("scores"), &out[0], &scores, subject.rounding(channels));
        // One product more a term.
        subject.compare(&case("scores of activations"), &out[1], &fused, subject.rounding(channels + 1));
    }
}
