//! `leaky_relu` and its gradient.

use simplenet::backend::Backend;

use crate::draws::Draws;
use crate::reference::{cell, matrix};
use crate::subject::Subject;

pub(crate) fn check<B: Backend>(subject: &Subject<B>) {
    let mut draws = Draws::new(9);
    // The last is split between threads.
    for (rows, channels) in [(1, 1), (5, 7), (117, 33), (301, 333)] {
        for slope in [0.2, 0.01] {
            let case = |part: &str| format!("{part} [{rows}, {channels}], slope {slope}");
            let mut x = draws.normals(&[rows, channels], 0.0, 1.0);
            let dy = draws.normals(&[rows, channels], 0.1, 1.0);
            // Where PyTorch takes the slope: at zero, of either sign.
            x.data_mut()[0] = 0.0;
            if let Some(value) = x.data_mut().get_mut(1) {
                *value = -0.0;
            }
            let (device_x, device_dy) = (subject.upload(&x), subject.upload(&dy));
            let out = subject.run(&case("both"), |device| {
                Ok(vec![
                    device.leaky_relu(&device_x, slope)?,
                    device.leaky_relu_backward(&device_dy, &device_x, slope)?,
                ])
            });
            let forward = matrix(rows, channels, |row, c| {
                let x = cell(&x, row, c);
                if x > 0.0 { x } else { slope * x }
            });
            let backward = matrix(rows, channels, |row, c| {
                if cell(&x, row, c) > 0.0 { cell(&dy, row, c) } else { slope * cell(&dy, row, c) }
            });
            // One product, with a rounded slope.
            subject.compare(&case("forward"), &out[0], &forward, subject.rounding(1));
            subject.compare(&case("backward"), &out[1], &backward, subject.rounding(1));
            for (out, x) in out[0].data().iter().zip(x.data()) {
                assert_eq!(
                    out.is_sign_negative(),
                    x.is_sign_negative(),
                    "{}: the sign of {x}",
                    case("forward")
                );
            }
        }
    }
}
