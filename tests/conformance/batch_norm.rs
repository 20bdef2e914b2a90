//! `batch_norm`: forward with the batch's statistics, its gradients, and evaluation.

use simplenet::backend::{Backend, BatchNormConstants, BatchNormState, Result};
use simplenet::tensor::{Scalar, Tensor};

use crate::draws::Draws;
use crate::reference::{cell, extent, matrix, vector};
use crate::subject::Subject;

/// Mean and biased variance of a column.
fn moments(x: &Tensor<f64>, column: usize) -> (f64, f64) {
    let rows = extent(x).0;
    let mean = (0..rows).map(|row| cell(x, row, column)).sum::<f64>() / rows as f64;
    let variance = (0..rows).map(|row| (cell(x, row, column) - mean).powi(2)).sum::<f64>() / rows as f64;
    (mean, variance)
}

fn forward(x: &Tensor<f64>, gamma: &[f64], beta: &[f64], epsilon: f64) -> Tensor<f64> {
    let (rows, channels) = extent(x);
    let statistics: Vec<_> = (0..channels).map(|c| moments(x, c)).collect();
    matrix(rows, channels, |row, c| {
        let (mean, variance) = statistics[c];
        gamma[c] * (cell(x, row, c) - mean) / (variance + epsilon).sqrt() + beta[c]
    })
}

/// `dx = Jᵀ·dy` with the Jacobian itself: `∂y_j/∂x_i = γ/√(var + ε)·(δ_ij − 1/R − x̂_i·x̂_j/R)`, column by column.
fn grad_input(x: &Tensor<f64>, dy: &Tensor<f64>, gamma: &[f64], epsilon: f64) -> Tensor<f64> {
    let (rows, channels) = extent(x);
    let unit = forward(x, &vec![1.0; channels], &vec![0.0; channels], epsilon);
    let scale: Vec<f64> = (0..channels).map(|c| gamma[c] / (moments(x, c).1 + epsilon).sqrt()).collect();
    let share = 1.0 / rows as f64;
    matrix(rows, channels, |i, c| {
        (0..rows)
            .map(|j| {
                let same = if i == j { 1.0 } else { 0.0 };
                scale[c] * (same - share - cell(&unit, i, c) * cell(&unit, j, c) * share) * cell(dy, j, c)
            })
            .sum()
    })
}

/// The Jacobian above against central differences of the definition.
#[test]
fn the_textbook_gradient_equals_finite_differences() {
    let (mut draws, epsilon, step) = (Draws::new(80), 1e-5, 1e-5);
    let (x, dy) = (draws.normals(&[7, 3], 2.0, 1.5), draws.normals(&[7, 3], 0.3, 1.0));
    let (gamma, beta) = (draws.normals(&[3], 1.0, 0.3), draws.normals(&[3], 0.0, 0.3));
    let objective = |x: &Tensor<f64>| {
        let y = forward(x, gamma.data(), beta.data(), epsilon);
        y.data().iter().zip(dy.data()).map(|(y, dy)| y * dy).sum::<f64>()
    };
    let analytic = grad_input(&x, &dy, gamma.data(), epsilon);
    for i in 0..x.len() {
        let moved = |by: f64| {
            let mut x = x.clone();
            x.data_mut()[i] += by;
            objective(&x)
        };
        let difference = (moved(step) - moved(-step)) / (2.0 * step);
        // The third derivative times step², and the objective's rounding over the step.
        assert!(
            (difference - analytic.data()[i]).abs() < 1e-8,
            "{difference} against {}",
            analytic.data()[i]
        );
    }
}

/// `‖a‖/‖b‖`.
fn ratio(a: &Tensor<f64>, b: &Tensor<f64>) -> f64 {
    let norm = |tensor: &Tensor<f64>| tensor.data().iter().map(|x| x * x).sum::<f64>().sqrt();
    norm(a) / norm(b)
}

/// By how much the parts of a sum, added like a random walk, are larger than the sum: that many digits cancel in any
/// order of addition. With two rows, x̂ is ±1 and next to nothing remains of an input's gradient.
fn cancellation(parts: &Tensor<f64>, sum: &Tensor<f64>) -> f64 {
    ratio(parts, sum).max(1.0)
}

pub(crate) fn check<B: Backend>(subject: &Subject<B>) {
    let mut draws = Draws::new(8);
    for (rows, channels) in [(2, 1), (5, 7), (117, 33), (300, 64), (1000, 20)] {
        // The last: a mean that squares to a million over a variance of 10⁻⁴, where one-pass formulas fail.
        for (mean, deviation) in [(0.0, 1.0), (3.0, 2.0), (1e3, 1e-2)] {
            if (rows, mean) == (2, 1e3) {
                continue; // Two such rows may differ by less than the mean's rounding.
            }
            let x = draws.normals(&[rows, channels], mean, deviation);
            training(subject, &mut draws, &x);
        }
        inference(subject, &mut draws, rows, channels);
    }
    a_constant_column_has_no_variance(subject);
}

fn training<B: Backend>(subject: &Subject<B>, draws: &mut Draws, x: &Tensor<f64>) {
    let (rows, channels) = extent(x);
    let constants = BatchNormConstants { epsilon: 1e-5, momentum: 0.1 };
    // How much larger the values are than what distinguishes them. Rounding the mean to the device's type moves
    // every normalised value by up to that many units, whatever the algorithm.
    let condition = (0..channels)
        .map(|c| moments(x, c))
        .map(|(mean, variance)| 1.0 + mean.abs() / (variance + constants.epsilon).sqrt())
        .fold(1.0, f64::max);
    let case = |part: &str| format!("{part} of [{rows}, {channels}], condition {condition:.0}");
    let gamma = draws.normals(&[channels], 1.0, 0.3);
    let beta = draws.normals(&[channels], 0.0, 0.3);
    let running_mean = draws.normals(&[channels], 0.5, 0.3);
    let running_var = vector(channels, |c| 0.5 + c as f64);
    let dy = draws.normals(&[rows, channels], 0.2, 1.0);
    let [device_x, device_gamma, device_beta, device_dy] = [x, &gamma, &beta, &dy].map(|t| subject.upload(t));

    let results = subject.run(&case("training"), |device| {
        let (mut mean, mut var) = (uploaded(device, &running_mean)?, uploaded(device, &running_var)?);
        let state = BatchNormState {
            gamma: &device_gamma,
            beta: &device_beta,
            running_mean: &mut mean,
            running_var: &mut var,
        };
        let (y, saved) = device.batch_norm(&device_x, state, constants)?;
        let (dx, dgamma, dbeta) = device.batch_norm_backward(&device_dy, &device_x, &device_gamma, &saved)?;
        Ok(vec![y, saved.mean, saved.inverse_std, mean, var, dx, dgamma, dbeta])
    });

    let unit = forward(x, &vec![1.0; channels], &vec![0.0; channels], constants.epsilon);
    let unbiased = rows as f64 / (rows as f64 - 1.0);
    let of_column = |f: &dyn Fn(f64, f64, usize) -> f64| {
        vector(channels, |c| {
            let (mean, variance) = moments(x, c);
            f(mean, variance, c)
        })
    };
    let over_rows =
        |f: &dyn Fn(usize, usize) -> f64| vector(channels, |c| (0..rows).map(|row| f(row, c)).sum());
    let root = |squares: Tensor<f64>| vector(channels, |c| squares.data()[c].sqrt());

    let moved = 2.0 * condition * subject.unit;
    let sum = subject.rounding(rows);
    // A wrong mean adds its square to the variance.
    let spread = sum + moved * moved;
    let compare = |part: &str, out: usize, reference: &Tensor<f64>, tolerance: f64| {
        subject.compare(&case(part), &results[out], reference, tolerance);
    };
    let y = forward(x, gamma.data(), beta.data(), constants.epsilon);
    let moved_output = matrix(rows, channels, |_, c| moved * gamma.data()[c]);
    compare("output", 0, &y, spread + ratio(&moved_output, &y));
    compare("mean", 1, &of_column(&|mean, _, _| mean), sum);
    compare("inverse deviation", 2, &of_column(&|_, var, _| 1.0 / (var + constants.epsilon).sqrt()), spread);
    let old_mean = |c: usize| running_mean.data()[c];
    compare("running mean", 3, &of_column(&|mean, _, c| 0.9 * old_mean(c) + 0.1 * mean), sum);
    let old_var = |c: usize| running_var.data()[c];
    compare("running variance", 4, &of_column(&|_, var, c| 0.9 * old_var(c) + 0.1 * unbiased * var), spread);

    let dx = grad_input(x, &dy, gamma.data(), constants.epsilon);
    let scale = of_column(&|_, var, c| gamma.data()[c] / (var + constants.epsilon).sqrt());
    let parts = matrix(rows, channels, |row, c| scale.data()[c] * cell(&dy, row, c));
    compare("input gradient", 5, &dx, (spread + moved) * cancellation(&parts, &dx));
    let dbeta = over_rows(&|row, c| cell(&dy, row, c));
    let dgamma = over_rows(&|row, c| cell(&dy, row, c) * cell(&unit, row, c));
    let parts = root(over_rows(&|row, c| (cell(&dy, row, c) * cell(&unit, row, c)).powi(2)));
    // A moved mean multiplies Σ dy.
    let of_mean = moved * ratio(&dbeta, &dgamma);
    compare("gamma gradient", 6, &dgamma, spread * cancellation(&parts, &dgamma) + of_mean);
    let parts = root(over_rows(&|row, c| cell(&dy, row, c).powi(2)));
    compare("beta gradient", 7, &dbeta, sum * cancellation(&parts, &dbeta));
}

/// A fresh tensor: the operation changes it.
fn uploaded<B: Backend>(device: &B, values: &Tensor<f64>) -> Result<B::Tensor> {
    let data = values.data().iter().map(|&value| B::Scalar::from_f64(value)).collect();
    device.upload(&Tensor::new(values.shape(), data))
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

/// Nothing distinguishes the rows: the output is beta, and no rounding makes a variance of it.
fn a_constant_column_has_no_variance<B: Backend>(subject: &Subject<B>) {
    let constants = BatchNormConstants { epsilon: 1e-5, momentum: 0.1 };
    let (rows, values) = (300, [0.0, -1e3, f64::from(1e8f32), f64::from(0.1f32)]);
    let x = subject.upload(&matrix(rows, values.len(), |_, c| values[c]));
    let beta = vector(values.len(), |c| c as f64);
    let (gamma, device_beta) = (subject.upload(&vector(values.len(), |_| 1.0)), subject.upload(&beta));
    let results = subject.run("constant columns", |device| {
        let (mut running_mean, mut running_var) = (uploaded(device, &beta)?, device.zeros(&[values.len()])?);
        let state = BatchNormState {
            gamma: &gamma,
            beta: &device_beta,
            running_mean: &mut running_mean,
            running_var: &mut running_var,
        };
        Ok(vec![device.batch_norm(&x, state, constants)?.0, running_var])
    });
    let reference = matrix(rows, values.len(), |_, c| beta.data()[c]);
    subject.compare_exactly("output of constant columns", &results[0], &reference);
    subject.compare("variance of constant columns", &results[1], &vector(values.len(), |_| 0.0), 1e-9);
}
