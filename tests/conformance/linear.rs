//! `linear` and its gradients.

use simplenet::backend::Backend;

use crate::draws::Draws;
use crate::reference::{cell, matrix, vector};
use crate::subject::Subject;

pub(crate) fn check<B: Backend>(subject: &Subject<B>) {
    let mut draws = Draws::new(6);
    for (rows, inputs, outputs) in [
        (1, 1, 1),
        (5, 3, 7),
        (35, 20, 33),
        (117, 33, 1),
        (1, 64, 20),
        (117, 64, 33),
        (585, 20, 64),
        (300, 131, 70),
    ] {
        let case = |part: &str| format!("{part} [{rows}, {inputs}] → [{rows}, {outputs}]");
        // Away from zero, so that no single sum cancels by chance and leaves nothing but its rounding.
        let x = draws.normals(&[rows, inputs], 1.0, 1.0);
        let w = draws.normals(&[outputs, inputs], 1.0, 1.0);
        let b = draws.normals(&[outputs], 0.0, 2.0);
        let dy = draws.normals(&[rows, outputs], 1.0, 1.0);
        let (device_x, device_w) = (subject.upload(&x), subject.upload(&w));
        let (device_b, device_dy) = (subject.upload(&b), subject.upload(&dy));

        let product = |row, o| (0..inputs).map(|i| cell(&x, row, i) * cell(&w, o, i)).sum::<f64>();
        for bias in [None, Some(&device_b)] {
            let case = case(if bias.is_some() { "with bias" } else { "without bias" });
            let out = subject.run(&case, |device| Ok(vec![device.linear(&device_x, &device_w, bias)?]));
            let reference = matrix(rows, outputs, |row, o| {
                product(row, o) + if bias.is_some() { b.data()[o] } else { 0.0 }
            });
            // As many products as inputs, and the bias.
            subject.compare(&case, &out[0], &reference, subject.rounding(inputs + 1));
        }

        let out = subject.run(&case("gradients"), |device| {
            Ok(vec![
                device.linear_grad_input(&device_dy, &device_w)?,
                device.linear_grad_weight(&device_dy, &device_x)?,
                device.column_sums(&device_dy)?,
            ])
        });
        let grad_input =
            matrix(rows, inputs, |row, i| (0..outputs).map(|o| cell(&dy, row, o) * cell(&w, o, i)).sum());
        let grad_weight =
            matrix(outputs, inputs, |o, i| (0..rows).map(|row| cell(&dy, row, o) * cell(&x, row, i)).sum());
        let grad_bias = vector(outputs, |o| (0..rows).map(|row| cell(&dy, row, o)).sum());
        // Each is a sum over the axis that vanishes.
        subject.compare(&case("input gradient"), &out[0], &grad_input, subject.rounding(outputs));
        subject.compare(&case("weight gradient"), &out[1], &grad_weight, subject.rounding(rows));
        subject.compare(&case("bias gradient"), &out[2], &grad_bias, subject.rounding(rows));
    }
    a_vector_is_one_row(subject, &mut draws);
}

/// In and out, as `torch.nn.functional.linear` takes it.
fn a_vector_is_one_row<B: Backend>(subject: &Subject<B>, draws: &mut Draws) {
    let (inputs, outputs) = (33, 20);
    let [x, b, dy] = [inputs, outputs, outputs].map(|length| draws.normals(&[length], 1.0, 1.0));
    let w = draws.normals(&[outputs, inputs], 1.0, 1.0);
    let [device_x, device_w, device_b, device_dy] = [&x, &w, &b, &dy].map(|tensor| subject.upload(tensor));
    let out = subject.run("a vector", |device| {
        Ok(vec![
            device.linear(&device_x, &device_w, Some(&device_b))?,
            device.linear_grad_input(&device_dy, &device_w)?,
            device.linear_grad_weight(&device_dy, &device_x)?,
        ])
    });
    let product = |o| (0..inputs).map(|i| x.data()[i] * cell(&w, o, i)).sum::<f64>();
    let forward = vector(outputs, |o| product(o) + b.data()[o]);
    let grad_input = vector(inputs, |i| (0..outputs).map(|o| dy.data()[o] * cell(&w, o, i)).sum());
    let grad_weight = matrix(outputs, inputs, |o, i| dy.data()[o] * x.data()[i]);
    subject.compare("product with a vector", &out[0], &forward, subject.rounding(inputs + 1));
    subject.compare("input gradient of a vector", &out[1], &grad_input, subject.rounding(outputs));
    subject.compare("weight gradient of a vector", &out[2], &grad_weight, subject.rounding(1));
}
