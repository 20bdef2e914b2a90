//! What the definitions of several operations share: reading a tensor by its indices.

use simplenet::tensor::Tensor;

/// Element `[n, y, x, c]` of an NHWC tensor.
pub(crate) fn at(tensor: &Tensor<f64>, n: usize, y: usize, x: usize, c: usize) -> f64 {
    let &[_, h, w, channels] = tensor.shape() else { panic!("an NHWC tensor has four axes") };
    tensor.data()[((n * h + y) * w + x) * channels + c]
}

/// Element `[n, y, x, c]`, or `outside` where `(y, x)` leaves the image.
pub(crate) fn at_or(tensor: &Tensor<f64>, n: usize, (y, x): (isize, isize), c: usize, outside: f64) -> f64 {
    let (h, w) = (tensor.shape()[1] as isize, tensor.shape()[2] as isize);
    let inside = (0..h).contains(&y) && (0..w).contains(&x);
    if inside { at(tensor, n, y as usize, x as usize, c) } else { outside }
}

/// Rows and columns of a matrix.
pub(crate) fn extent(matrix: &Tensor<f64>) -> (usize, usize) {
    let &[rows, columns] = matrix.shape() else { panic!("a matrix has two axes") };
    (rows, columns)
}

/// Element `[row, column]` of a matrix.
pub(crate) fn cell(matrix: &Tensor<f64>, row: usize, column: usize) -> f64 {
    matrix.data()[row * extent(matrix).1 + column]
}

/// The tensor with `f(n, y, x, c)` at `[n, y, x, c]`.
pub(crate) fn image(shape: [usize; 4], f: impl Fn(usize, usize, usize, usize) -> f64) -> Tensor<f64> {
    let [batch, h, w, channels] = shape;
    let mut data = Vec::with_capacity(shape.iter().product());
    for n in 0..batch {
        for y in 0..h {
            for x in 0..w {
                for c in 0..channels {
                    data.push(f(n, y, x, c));
                }
            }
        }
    }
    Tensor::new(shape, data)
}

/// The matrix with `f(row, column)` at `[row, column]`.
pub(crate) fn matrix(rows: usize, columns: usize, f: impl Fn(usize, usize) -> f64) -> Tensor<f64> {
    let f = &f;
    Tensor::new(
        [rows, columns],
        (0..rows).flat_map(|row| (0..columns).map(move |column| f(row, column))).collect(),
    )
}

/// The vector with `f(i)` at `[i]`.
pub(crate) fn vector(len: usize, f: impl Fn(usize) -> f64) -> Tensor<f64> {
    Tensor::new([len], (0..len).map(f).collect())
}

/// A pair of neighbouring samples and the weight of the second: position `i` of `output` samples of a signal of
/// `input` ones, `align_corners = false`, as PyTorch documents `interpolate`.
pub(crate) fn bilinear(i: usize, input: usize, output: usize) -> (usize, usize, f64) {
    let position = (i as f64 + 0.5) / output as f64 * input as f64 - 0.5;
    let position = if position < 0.0 { 0.0 } else { position };
    let first = position.floor() as usize;
    let second = if first + 1 < input { first + 1 } else { first };
    (first, second, position - first as f64)
}
