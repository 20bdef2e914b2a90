//! `project`: the linear map of a deployed head.

use simplenet::backend::Backend;

use crate::draws::Draws;
use crate::reference::{cell, matrix};
use crate::subject::Subject;

pub(crate) fn check<B: Backend>(subject: &Subject<B>) {
    let mut draws = Draws::new(22);
    for (rows, inputs, outputs) in
        [(1, 1, 1), (5, 3, 7), (35, 20, 33), (117, 33, 1), (585, 20, 64), (300, 131, 70), (31, 512, 64)]
    {
        let x = draws.normals(&[rows, inputs], 1.0, 1.0);
        let w = draws.normals(&[outputs, inputs], 1.0, 1.0);
        let b = draws.normals(&[outputs], 0.0, 2.0);
        let (device_x, device_w, device_b) = (subject.upload(&x), subject.upload(&w), subject.upload(&b));
        for bias in [None, Some(&device_b)] {
            let case = format!("[{rows}, {inputs}] → [{rows}, {outputs}], bias {}", bias.is_some());
            let out = subject.run(&case, |device| Ok(vec![device.project(&device_x, &device_w, bias)?]));
            let reference = matrix(rows, outputs, |row, o| {
                let product: f64 = (0..inputs).map(|i| cell(&x, row, i) * cell(&w, o, i)).sum();
                product + if bias.is_some() { b.data()[o] } else { 0.0 }
            });
            // As many products as inputs, and the bias.
            subject.compare(&case, &out[0], &reference, subject.rounding(inputs + 1));
        }
    }
}
