//! `max_pool2d`: the 3×3 maximum with stride 2 and padding 1.

use simplenet::backend::Backend;
use simplenet::tensor::Tensor;

use crate::draws::Draws;
use crate::reference::{at_or, image};
use crate::subject::Subject;

/// `out[y, x] = max in[2y + i − 1, 2x + j − 1]` over i, j in 0..3, −∞ outside.
fn max_pool2d(input: &Tensor<f64>) -> Tensor<f64> {
    let &[n, h, w, channels] = input.shape() else { panic!("[N, H, W, C]") };
    // ⌊(size + 2·1 − 3)/2⌋ + 1
    image([n, (h - 1) / 2 + 1, (w - 1) / 2 + 1, channels], |n, y, x, c| {
        let mut maximum = f64::NEG_INFINITY;
        for i in 0..3 {
            for j in 0..3 {
                let source = ((2 * y + i) as isize - 1, (2 * x + j) as isize - 1);
                maximum = maximum.max(at_or(input, n, source, c, f64::NEG_INFINITY));
            }
        }
        maximum
    })
}

pub(crate) fn check<B: Backend>(subject: &Subject<B>) {
    let mut draws = Draws::new(3);
    for [batch, h, w, channels] in [
        [1, 1, 1, 1],
        [5, 1, 1, 33],
        [5, 5, 7, 3],
        [1, 13, 9, 20],
        [5, 13, 9, 64],
        [5, 6, 4, 33],
        [2, 40, 33, 64],
    ] {
        // A maximum of negative numbers tells a border of zeros from one that never wins.
        for mean in [0.0, -9.0] {
            let case = format!("[{batch}, {h}, {w}, {channels}] around {mean}");
            let input = draws.normals(&[batch, h, w, channels], mean, 1.0);
            let device_input = subject.upload(&input);
            let out = subject.run(&case, |device| Ok(vec![device.max_pool2d(&device_input)?]));
            // A maximum is one of its inputs: nothing is rounded.
            subject.compare_exactly(&case, &out[0], &max_pool2d(&input));
        }
    }
    a_pixel_that_is_no_number_shows(subject);
}

/// Every window that holds it is no number either, wherever in the window it lies; all others are what they were.
fn a_pixel_that_is_no_number_shows<B: Backend>(subject: &Subject<B>) {
    let shape = [1, 5, 7, 4];
    for (y, x) in [(0, 0), (2, 3), (3, 4), (4, 6)] {
        let holds = |out: usize, place: usize| (2 * out).abs_diff(place) <= 1;
        let case = format!("a NaN at {y}, {x} of {shape:?}");
        let input = image(shape, |_, row, column, c| match (row, column, c) {
            (row, column, 2) if (row, column) == (y, x) => f64::NAN,
            _ => (7 * row + column) as f64,
        });
        let device_input = subject.upload(&input);
        let out = subject.run(&case, |device| Ok(vec![device.max_pool2d(&device_input)?]));
        for (i, value) in out[0].data().iter().enumerate() {
            let (row, column, c) = (i / 16, i / 4 % 4, i % 4);
            let hit = c == 2 && holds(row, y) && holds(column, x);
            assert_eq!(value.is_nan(), hit, "{case} hides a NaN, or spreads it, at {row}, {column}, {c}");
        }
    }
}
