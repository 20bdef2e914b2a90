//! Wrong readings of definitions, as functions of host tensors.

use simplenet::tensor::Tensor;

use crate::reference::{at, cell, extent, image, vector};

/// Height and width exchanged.
pub(crate) fn transposed(tensor: &Tensor<f64>) -> Tensor<f64> {
    let &[n, h, w, channels] = tensor.shape() else { panic!("[N, H, W, C]") };
    image([n, w, h, channels], |n, y, x, c| at(tensor, n, x, y, c))
}

/// `[O, kh, kw, I]` with the kernel's axes exchanged.
pub(crate) fn transposed_kernel(weight: &Tensor<f32>) -> Tensor<f32> {
    let widened = Tensor::new(weight.shape(), weight.data().iter().map(|&w| f64::from(w)).collect());
    let changed = transposed(&widened);
    Tensor::new(weight.shape(), changed.data().iter().map(|&w| w as f32).collect())
}

/// `border` more pixels on every side, each equal to its nearest neighbour.
pub(crate) fn with_repeated_border(input: &Tensor<f64>, border: usize) -> Tensor<f64> {
    let &[n, h, w, channels] = input.shape() else { panic!("[N, H, W, C]") };
    let inside = |i: usize, length: usize| i.saturating_sub(border).min(length - 1);
    image([n, h + 2 * border, w + 2 * border, channels], |n, y, x, c| {
        at(input, n, inside(y, h), inside(x, w), c)
    })
}

/// Neighbourhood means that divide by the neighbours inside the image, from those that divide by p².
pub(crate) fn excluding_padding(means: &Tensor<f64>, patch: usize) -> Tensor<f64> {
    let &[n, h, w, channels] = means.shape() else { panic!("[N, H, W, C]") };
    let count = |i: usize, length: usize| (i + patch / 2 + 1).min(length) - i.saturating_sub(patch / 2);
    image([n, h, w, channels], |n, y, x, c| {
        at(means, n, y, x, c) * (patch * patch) as f64 / (count(y, h) * count(x, w)) as f64
    })
}

/// `E[x²] − E[x]²` of a column.
pub(crate) fn one_pass(column: &[f64], mean: f64) -> f64 {
    column.iter().map(|x| x * x).sum::<f64>() / column.len() as f64 - mean * mean
}

/// The unbiased variance of a column.
pub(crate) fn unbiased(column: &[f64], mean: f64) -> f64 {
    column.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (column.len() as f64 - 1.0)
}

/// Mean, variance by `formula`, and `1/√(var + ε)` of every column.
pub(crate) fn statistics(x: &Tensor<f64>, formula: fn(&[f64], f64) -> f64, epsilon: f64) -> [Tensor<f64>; 3] {
    let (rows, channels) = extent(x);
    let column = |c: usize| (0..rows).map(|row| cell(x, row, c)).collect::<Vec<f64>>();
    let mean = vector(channels, |c| column(c).iter().sum::<f64>() / rows as f64);
    let variance = vector(channels, |c| formula(&column(c), mean.data()[c]));
    let inverse = vector(channels, |c| 1.0 / (variance.data()[c] + epsilon).sqrt());
    [mean, variance, inverse]
}
