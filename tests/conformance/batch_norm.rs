//! `batch_norm_inference`: BatchNorm1d with given statistics.

use simplenet::backend::Backend;

use crate::draws::Draws;
use crate::reference::{cell, matrix, vector};
use crate::subject::Subject;

pub(crate) fn check<B: Backend>(subject: &Subject<B>) {
    let mut draws = Draws::new(8);
    for (rows, channels) in [(2, 1), (5, 7), (117, 33), (300, 64), (1000, 20)] {
        inference(subject, &mut draws, rows, channels);
    }
}

fn inference<B: Backend>(subject: &Subject<B>, draws: &mut Draws, rows: usize, channels: usize) {
    let case = format!("inference [{rows}, {channels}]");
    let x = draws.normals(&[rows, channels], 1.0, 1.0);
    let (gamma, beta) = (draws.normals(&[channels], 1.0, 0.3), draws.normals(&[channels], 0.0, 0.3));
    let (mean, var) = (draws.normals(&[channels], 1.0, 0.5), vector(channels, |c| 0.25 + c as f64));
    let tensors = [&x, &gamma, &beta, &mean, &var].map(|tensor| subject.upload(tensor));
    let out = subject.run(&case, |device| {
        let [x, gamma, beta, mean, var] = &tensors;
        Ok(vec![device.batch_norm_inference(x, gamma, beta, mean, var, 1e-5)?])
    });
    let reference = matrix(rows, channels, |row, c| {
        (cell(&x, row, c) - mean.data()[c]) / (var.data()[c] + 1e-5).sqrt() * gamma.data()[c] + beta.data()[c]
    });
    // Difference, root, quotient, product, sum.
    subject.compare(&case, &out[0], &reference, subject.rounding(5));
}
