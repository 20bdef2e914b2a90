//! `add`: gradients of what two operations read.

use simplenet::backend::Backend;

use crate::draws::Draws;
use crate::reference::{cell, matrix};
use crate::subject::Subject;

pub(crate) fn check<B: Backend>(subject: &Subject<B>) {
    let mut draws = Draws::new(15);
    // The last is split between threads.
    for (rows, channels) in [(1, 1), (5, 7), (13, 20), (117, 33), (301, 333)] {
        let case = format!("[{rows}, {channels}]");
        // Away from zero, so that no sum cancels and leaves nothing but its rounding.
        let [sum, term] = [1.0, 2.0].map(|mean| draws.normals(&[rows, channels], mean, 0.2));
        let device_term = subject.upload(&term);
        let out = subject.run(&case, |device| {
            let values = sum.data().iter().map(|&value| simplenet::tensor::Scalar::from_f64(value)).collect();
            let mut sum = device.upload(&simplenet::tensor::Tensor::new([rows, channels], values))?;
            device.add(&mut sum, &device_term)?;
            Ok(vec![sum])
        });
        let reference = matrix(rows, channels, |row, c| cell(&sum, row, c) + cell(&term, row, c));
        // One addition.
        subject.compare(&case, &out[0], &reference, subject.rounding(1));
    }
}
