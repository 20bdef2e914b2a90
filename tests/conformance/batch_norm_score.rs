//! `batch_norm_score`: BatchNorm1d with the batch's statistics, LeakyReLU and a dot product, of `[hidden ; hidden + shift]`,
//! and the gradients of that.

use simplenet::backend::{
    Backend, BatchNormConstants, BatchNormSaved, BatchNormScore, BatchNormScoreGradients, Result,
    RunningStatistics,
};
use simplenet::tensor::{Scalar, Tensor};

use crate::draws::Draws;
use crate::reference::{cell, extent, matrix, vector};
use crate::subject::Subject;

const SLOPE: f64 = 0.2;
const CONSTANTS: BatchNormConstants = BatchNormConstants { epsilon: 1e-5, momentum: 0.1 };

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

/// The inputs of one case.
struct Case {
    hidden: Tensor<f64>,
    shift: Tensor<f64>,
    bias: Tensor<f64>,
    gamma: Tensor<f64>,
    beta: Tensor<f64>,
    weight: Tensor<f64>,
    running_mean: Tensor<f64>,
    running_var: Tensor<f64>,
    gradient: Tensor<f64>,
}

impl Case {
    /// Values on both sides of the mean and none near it: where LeakyReLU bends, a rounding would choose between two
    /// derivatives.
    fn draw(draws: &mut Draws, rows: usize, channels: usize, mean: f64, deviation: f64) -> Self {
        let spread = draws.normals(&[rows, channels], 1.0, 0.15);
        let hidden = matrix(rows, channels, |row, c| {
            let side = if (row + c).is_multiple_of(2) { 1.0 } else { -1.0 };
            f64::from((mean + side * deviation * cell(&spread, row, c)) as f32)
        });
        // Both halves are rounded to f32 here, so that their difference is all that a device has to round.
        let noise = draws.normals(&[rows, channels], 0.05, 0.1);
        let shift = matrix(rows, channels, |row, c| {
            let moved = (cell(&hidden, row, c) + deviation * cell(&noise, row, c)) as f32;
            f64::from((f64::from(moved) - cell(&hidden, row, c)) as f32)
        });
        Self {
            hidden,
            shift,
            bias: draws.normals(&[channels], 0.0, 2.0),
            gamma: draws.normals(&[channels], 1.0, 0.1),
            beta: draws.normals(&[channels], 0.0, 0.1),
            weight: draws.normals(&[1, channels], 1.0, 0.3),
            running_mean: draws.normals(&[channels], 0.5, 0.3),
            running_var: vector(channels, |c| 0.5 + c as f64),
            gradient: draws.normals(&[2 * rows], 0.2, 1.0),
        }
    }

    /// Both halves as one batch.
    fn batch(&self) -> Tensor<f64> {
        let (rows, channels) = extent(&self.hidden);
        matrix(2 * rows, channels, |row, c| match row.checked_sub(rows) {
            None => cell(&self.hidden, row, c),
            Some(row) => cell(&self.hidden, row, c) + cell(&self.shift, row, c),
        })
    }
}

fn leaky(x: f64) -> f64 {
    if x > 0.0 { x } else { SLOPE * x }
}

/// What one call and its backward pass give, in this order.
const SCORES: usize = 0;
const MEAN: usize = 1;
const INVERSE_STD: usize = 2;
const RUNNING_MEAN: usize = 3;
const RUNNING_VAR: usize = 4;
const GRAD_HIDDEN: usize = 5;
const GRAD_SHIFT: usize = 6;
const GRAD_BIAS: usize = 7;
const GRAD_GAMMA: usize = 8;
const GRAD_BETA: usize = 9;
const GRAD_WEIGHT: usize = 10;

fn run<B: Backend>(subject: &Subject<B>, name: &str, case: &Case) -> Vec<Tensor<f64>> {
    let [hidden, shift, bias, gamma, beta, weight, gradient] =
        [&case.hidden, &case.shift, &case.bias, &case.gamma, &case.beta, &case.weight, &case.gradient]
            .map(|tensor| subject.upload(tensor));
    subject.run(name, |device| {
        let (mut running_mean, mut running_var) =
            (uploaded(device, &case.running_mean)?, uploaded(device, &case.running_var)?);
        let running = RunningStatistics { mean: &mut running_mean, var: &mut running_var };
        let (bias, gamma, beta, weight) = (&bias, &gamma, &beta, &weight);
        let layers = BatchNormScore { bias, gamma, beta, weight, slope: SLOPE, constants: CONSTANTS };
        let (scores, saved) = device.batch_norm_score(&hidden, &shift, &layers, running)?;
        let gradients = device.batch_norm_score_backward(&gradient, &hidden, &shift, &layers, &saved)?;
        let BatchNormSaved { mean, inverse_std } = saved;
        let BatchNormScoreGradients { hidden, shift, bias, gamma, beta, weight } = gradients;
        Ok(vec![
            scores,
            mean,
            inverse_std,
            running_mean,
            running_var,
            hidden,
            shift,
            bias,
            gamma,
            beta,
            weight,
        ])
    })
}

/// A fresh tensor: the operation changes it.
fn uploaded<B: Backend>(device: &B, values: &Tensor<f64>) -> Result<B::Tensor> {
    let data = values.data().iter().map(|&value| B::Scalar::from_f64(value)).collect();
    device.upload(&Tensor::new(values.shape(), data))
}

pub(crate) fn check<B: Backend>(subject: &Subject<B>) {
    let mut draws = Draws::new(16);
    for (rows, channels) in [(1, 1), (5, 7), (59, 33), (150, 64), (300, 77), (500, 20)] {
        // The last: a mean that squares to a million over a variance of 10⁻⁴, where one-pass formulas fail.
        for (mean, deviation) in [(0.0, 1.0), (3.0, 2.0), (1e3, 1e-2)] {
            if (rows, mean) == (1, 1e3) {
                continue; // Two such rows may differ by less than the mean's rounding.
            }
            compare(subject, &Case::draw(&mut draws, rows, channels, mean, deviation));
        }
    }
    a_constant_column_has_no_variance(subject);
}

fn compare<B: Backend>(subject: &Subject<B>, case: &Case) {
    let x = case.batch();
    let (rows, channels) = extent(&x);
    let [bias, gamma, beta, weight, ds] =
        [&case.bias, &case.gamma, &case.beta, &case.weight, &case.gradient].map(|tensor| tensor.data());
    // How much larger the values are than what distinguishes them. Rounding the mean to the device's type moves
    // every normalised value by up to that many units, whatever the algorithm.
    let condition = (0..channels)
        .map(|c| moments(&x, c))
        .map(|(mean, variance)| 1.0 + mean.abs() / (variance + CONSTANTS.epsilon).sqrt())
        .fold(1.0, f64::max);
    let name = |part: &str| format!("{part} of 2·[{}, {channels}], condition {condition:.0}", rows / 2);
    let results = run(subject, &name("all"), case);

    let of_column = |f: &dyn Fn(f64, f64, usize) -> f64| {
        vector(channels, |c| {
            let (mean, variance) = moments(&x, c);
            f(mean, variance, c)
        })
    };
    let over_rows =
        |f: &dyn Fn(usize, usize) -> f64| vector(channels, |c| (0..rows).map(|row| f(row, c)).sum());
    let root = |squares: Tensor<f64>| {
        Tensor::new(squares.shape(), squares.data().iter().map(|x| x.sqrt()).collect())
    };

    let moved = 2.0 * condition * subject.unit;
    let sum = subject.rounding(rows);
    // A wrong mean adds its square to the variance.
    let spread = sum + moved * moved;
    let compare = |part: &str, out: usize, reference: &Tensor<f64>, tolerance: f64| {
        subject.compare(&name(part), &results[out], reference, tolerance);
    };
    compare("mean", MEAN, &of_column(&|mean, _, _| mean), sum);
    compare(
        "inverse deviation",
        INVERSE_STD,
        &of_column(&|_, var, _| 1.0 / (var + CONSTANTS.epsilon).sqrt()),
        spread,
    );
    let old_mean = |c: usize| case.running_mean.data()[c];
    let new_mean = of_column(&|mean, _, c| 0.9 * old_mean(c) + 0.1 * (mean + bias[c]));
    compare("running mean", RUNNING_MEAN, &new_mean, sum);
    let unbiased = rows as f64 / (rows as f64 - 1.0);
    let old_var = |c: usize| case.running_var.data()[c];
    let new_var = of_column(&|_, var, c| 0.9 * old_var(c) + 0.1 * unbiased * var);
    compare("running variance", RUNNING_VAR, &new_var, spread);

    let unit = forward(&x, &vec![1.0; channels], &vec![0.0; channels], CONSTANTS.epsilon);
    let normalised = forward(&x, gamma, beta, CONSTANTS.epsilon);
    let scores =
        vector(rows, |row| (0..channels).map(|c| weight[c] * leaky(cell(&normalised, row, c))).sum());
    let moved_scores = vector(rows, |_| (0..channels).map(|c| (moved * weight[c] * gamma[c]).powi(2)).sum());
    let rounded = spread + subject.rounding(channels + 4);
    compare("scores", SCORES, &scores, rounded + ratio(&root(moved_scores), &scores));

    let slope = |row: usize, c: usize| if cell(&normalised, row, c) > 0.0 { 1.0 } else { SLOPE };
    let dy = matrix(rows, channels, |row, c| ds[row] * weight[c] * slope(row, c));
    let dx = grad_input(&x, &dy, gamma, CONSTANTS.epsilon);
    let scale = of_column(&|_, var, c| gamma[c] / (var + CONSTANTS.epsilon).sqrt());
    let parts = matrix(rows, channels, |row, c| scale.data()[c] * cell(&dy, row, c));
    let half = rows / 2;
    let grad_hidden = matrix(half, channels, |row, c| cell(&dx, row, c) + cell(&dx, half + row, c));
    // One row of either half leaves nothing of it: of two rows, what one gains the other loses.
    if half > 1 {
        compare(
            "hidden gradient",
            GRAD_HIDDEN,
            &grad_hidden,
            (spread + moved) * cancellation(&parts, &grad_hidden),
        );
    }
    let grad_shift = matrix(half, channels, |row, c| cell(&dx, half + row, c));
    compare("shift gradient", GRAD_SHIFT, &grad_shift, (spread + moved) * cancellation(&parts, &grad_shift));
    // Zero but for rounding: as a share of what cancels.
    let cancelled = over_rows(&|row, c| cell(&parts, row, c).abs());
    let share = vector(channels, |c| results[GRAD_BIAS].data()[c] / cancelled.data()[c]);
    let nothing = vector(channels, |_| 0.0);
    subject.compare(&name("bias gradient"), &share, &nothing, (sum + moved) * (channels as f64).sqrt());

    let dbeta = over_rows(&|row, c| cell(&dy, row, c));
    let dgamma = over_rows(&|row, c| cell(&dy, row, c) * cell(&unit, row, c));
    let parts = root(over_rows(&|row, c| (cell(&dy, row, c) * cell(&unit, row, c)).powi(2)));
    // A moved mean multiplies Σ dy.
    let of_mean = moved * ratio(&dbeta, &dgamma);
    compare("gamma gradient", GRAD_GAMMA, &dgamma, spread * cancellation(&parts, &dgamma) + of_mean);
    let parts = root(over_rows(&|row, c| cell(&dy, row, c).powi(2)));
    compare("beta gradient", GRAD_BETA, &dbeta, sum * cancellation(&parts, &dbeta));
    let one_row = |tensor: Tensor<f64>| tensor.reshape([1, channels]);
    let dweight = one_row(over_rows(&|row, c| ds[row] * leaky(cell(&normalised, row, c))));
    // It is the sum of two products, of which either may be larger than it.
    let parts = root(one_row(over_rows(&|row, c| {
        let slope = ds[row] * slope(row, c);
        (slope * gamma[c] * cell(&unit, row, c)).powi(2) + (slope * beta[c]).powi(2)
    })));
    let slopes = one_row(over_rows(&|row, c| gamma[c] * ds[row] * slope(row, c)));
    let of_mean = moved * ratio(&slopes, &dweight);
    compare("weight gradient", GRAD_WEIGHT, &dweight, spread * cancellation(&parts, &dweight) + of_mean);
}

/// Nothing distinguishes the rows: LeakyReLU sees beta, and no rounding makes a variance. At zero its derivative is the
/// slope, as in PyTorch.
fn a_constant_column_has_no_variance<B: Backend>(subject: &Subject<B>) {
    let (rows, values) = (300, [0.0, -1e3, f64::from(1e8f32), f64::from(0.1f32)]);
    let columns = values.len();
    let case = Case {
        hidden: matrix(rows, columns, |_, c| values[c]),
        shift: matrix(rows, columns, |_, _| 0.0),
        bias: vector(columns, |_| 0.0),
        gamma: vector(columns, |_| 1.0),
        beta: vector(columns, |c| c as f64),
        weight: matrix(1, columns, |_, _| 1.0),
        running_mean: vector(columns, |_| 0.0),
        running_var: vector(columns, |_| 0.0),
        gradient: vector(2 * rows, |_| 1.0),
    };
    let results = run(subject, "constant columns", &case);
    let scores = vector(2 * rows, |_| 6.0);
    subject.compare_exactly("scores of constant columns", &results[SCORES], &scores);
    subject.compare("variance of constant columns", &results[RUNNING_VAR], &vector(columns, |_| 0.0), 1e-9);
    let slopes = vector(columns, |c| 2.0 * rows as f64 * if c == 0 { SLOPE } else { 1.0 });
    subject.compare("beta gradient of constant columns", &results[GRAD_BETA], &slopes, subject.rounding(2));
}
