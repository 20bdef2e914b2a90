//! `anomaly_map`: bilinear upsampling and a Gaussian (Eq. 10–11), and the maximum of the raw grid.

use simplenet::backend::{Backend, gaussian_upsampling};
use simplenet::tensor::{Scalar, Tensor};

use crate::draws::Draws;
use crate::reference::{bilinear, vector};
use crate::subject::{DOUBLE, Subject};

/// What a smoothing leaves open, as `scipy.ndimage.gaussian_filter` names it.
#[derive(Clone, Copy)]
struct Smoothing {
    sigma: f64,
    truncate: f64,
    /// The index that a sample left or right of the image repeats.
    border: fn(isize, isize) -> isize,
}

/// d c b a | a b c d | d c b a
fn reflect(mut i: isize, length: isize) -> isize {
    while !(0..length).contains(&i) {
        i = if i < 0 { -1 - i } else { 2 * length - 1 - i };
    }
    i
}

/// d c b | a b c d | c b a
fn mirror(mut i: isize, length: isize) -> isize {
    while !(0..length).contains(&i) {
        i = if i < 0 { -i } else { 2 * length - 2 - i };
    }
    i
}

/// One line convolved with a normalised Gaussian cut at `⌊truncate·σ + ½⌋` samples.
fn smooth(line: &[f64], smoothing: Smoothing) -> Vec<f64> {
    let Smoothing { sigma, truncate, border } = smoothing;
    if sigma == 0.0 {
        return line.to_vec();
    }
    let radius = (truncate * sigma + 0.5).floor() as isize;
    let weight = |offset: isize| (-((offset * offset) as f64) / (2.0 * sigma * sigma)).exp();
    let total: f64 = (-radius..=radius).map(weight).sum();
    let length = line.len() as isize;
    (0..length)
        .map(|i| {
            (-radius..=radius)
                .map(|offset| weight(offset) / total * line[border(i + offset, length) as usize])
                .sum()
        })
        .collect()
}

/// One grid: every pixel interpolated, then every row smoothed, then every column.
fn map(grid: &[f64], [grid_h, grid_w]: [usize; 2], [h, w]: [usize; 2], smoothing: Smoothing) -> Vec<f64> {
    let mut pixels = vec![0.0; h * w];
    for y in 0..h {
        for x in 0..w {
            let ((top, bottom, down), (left, right, across)) =
                (bilinear(y, grid_h, h), bilinear(x, grid_w, w));
            let line =
                |y: usize| (1.0 - across) * grid[y * grid_w + left] + across * grid[y * grid_w + right];
            pixels[y * w + x] = (1.0 - down) * line(top) + down * line(bottom);
        }
    }
    for row in pixels.chunks_exact_mut(w) {
        let smoothed = smooth(row, smoothing);
        row.copy_from_slice(&smoothed);
    }
    for x in 0..w {
        let column: Vec<f64> = (0..h).map(|y| pixels[y * w + x]).collect();
        for (y, value) in smooth(&column, smoothing).into_iter().enumerate() {
            pixels[y * w + x] = value;
        }
    }
    pixels
}

fn maps(scores: &Tensor<f64>, [h, w]: [usize; 2], smoothing: Smoothing) -> Tensor<f64> {
    let &[n, grid_h, grid_w] = scores.shape() else { panic!("[N, H0, W0]") };
    let grids = scores.data().chunks_exact(grid_h * grid_w);
    Tensor::new([n, h, w], grids.flat_map(|grid| map(grid, [grid_h, grid_w], [h, w], smoothing)).collect())
}

fn matrices<B: Backend>(
    subject: &Subject<B>,
    [grid_h, grid_w]: [usize; 2],
    [h, w]: [usize; 2],
    sigma: f64,
) -> [B::Tensor; 2] {
    [gaussian_upsampling(grid_h, h, sigma), gaussian_upsampling(grid_w, w, sigma)].map(|m| subject.upload(&m))
}

pub(crate) fn check<B: Backend>(subject: &Subject<B>) {
    let mut draws = Draws::new(13);
    for (batch, grid, size, sigma) in [
        (1, [1, 1], [9, 7], 4.0),
        (5, [1, 1], [1, 1], 4.0),
        (5, [5, 7], [40, 56], 4.0),
        (5, [5, 7], [40, 56], 0.0),
        (1, [13, 9], [104, 72], 4.0),
        (5, [13, 9], [27, 31], 1.5),
        // Smaller than the Gaussian's radius: the border is mirrored more than once.
        (5, [4, 3], [11, 5], 4.0),
        (1, [28, 28], [224, 224], 4.0),
    ] {
        let case = |part: &str| format!("{part} of {batch} {grid:?} → {size:?}, σ {sigma}");
        let scores = draws.normals(&[batch, grid[0], grid[1]], -0.5, 1.0);
        let device_scores = subject.upload(&scores);
        let [rows, columns] = matrices(subject, grid, size, sigma);
        let out = subject.run(&case("both"), |device| {
            let (maps, maxima) = device.anomaly_map(&device_scores, &rows, &columns)?;
            Ok(vec![maps, maxima])
        });
        let reference = maps(&scores, size, Smoothing { sigma, truncate: 4.0, border: reflect });
        // A sum over the grid's rows, one over its columns, with rounded weights. Those are sums of up to 33 samples
        // of a Gaussian on either side, in `f64` on every device.
        let tolerance = subject.rounding(grid[0] + grid[1]) + 66.0 * DOUBLE;
        subject.compare(&case("map"), &out[0], &reference, tolerance);
        let maxima = scores.data().chunks_exact(grid[0] * grid[1]);
        let maxima: Vec<f64> = maxima.map(|grid| grid.iter().copied().fold(grid[0], f64::max)).collect();
        subject.compare_exactly(&case("maximum"), &out[1], &vector(batch, |i| maxima[i]));
    }
    a_score_that_is_no_number_shows(subject);
}

/// An image that could not be judged must not look like the best one seen.
fn a_score_that_is_no_number_shows<B: Backend>(subject: &Subject<B>) {
    for place in [0, 3, 5] {
        let mut scores = Tensor::full([2, 2, 3], B::Scalar::ONE);
        scores.data_mut()[6 + place] = B::Scalar::from_f64(f64::NAN);
        let scores = subject.device.upload(&scores).unwrap();
        let [rows, columns] = matrices(subject, [2, 3], [8, 12], 4.0);
        let maxima = subject.device.anomaly_map(&scores, &rows, &columns).unwrap().1;
        let maxima = subject.download(&maxima);
        assert!(maxima.data()[0] == 1.0 && maxima.data()[1].is_nan(), "{maxima:?} hides a NaN at {place}");
    }
}

/// Neighbouring conventions are farther from the map than any rounding: the test above tells them apart.
#[test]
fn other_conventions_give_other_maps() {
    let scores = Draws::new(14).normals(&[1, 5, 7], -0.5, 1.0);
    let ours = Smoothing { sigma: 4.0, truncate: 4.0, border: reflect };
    let map = maps(&scores, [40, 56], ours);
    for (name, other) in [
        ("mirror", Smoothing { border: mirror, ..ours }),
        ("nearest", Smoothing { border: |i, length| i.clamp(0, length - 1), ..ours }),
        ("truncated at 3 σ", Smoothing { truncate: 3.0, ..ours }),
        ("no smoothing", Smoothing { sigma: 0.0, ..ours }),
    ] {
        let other = maps(&scores, [40, 56], other);
        let square = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>();
        let difference = square(&mut map.data().iter().zip(other.data()).map(|(a, b)| a - b));
        let error = (difference / square(&mut map.data().iter().copied())).sqrt();
        assert!(error > 1e-4, "{name}: {error}");
    }
}
