//! `normalize`: bytes to the network's input.

use simplenet::backend::Backend;
use simplenet::tensor::Tensor;

use crate::draws::Draws;
use crate::reference::image;
use crate::subject::Subject;

/// ImageNet's statistics, from torchvision's documentation.
const MEAN: [f64; 3] = [0.485, 0.456, 0.406];
const STD: [f64; 3] = [0.229, 0.224, 0.225];

fn normalize(bytes: &[u8], [n, h, w]: [usize; 3]) -> Tensor<f64> {
    image([n, h, w, 3], |n, y, x, c| {
        (f64::from(bytes[((n * h + y) * w + x) * 3 + c]) / 255.0 - MEAN[c]) / STD[c]
    })
}

pub(crate) fn check<B: Backend>(subject: &Subject<B>) {
    let mut draws = Draws::new(1);
    // The last is large enough to be split between threads.
    for shape in [[1, 1, 1], [1, 5, 7], [5, 13, 9], [2, 150, 130]] {
        let case = format!("{shape:?}");
        let bytes = draws.bytes(shape.iter().product::<usize>() * 3);
        let run = |device: &B| Ok(vec![device.normalize(&device.upload_images(&bytes, shape)?)?]);
        let out = subject.run(&case, run);
        // Three operations and two rounded constants; where x/255 is near the mean the difference is small, but so
        // is its part in the norm.
        subject.compare(&case, &out[0], &normalize(&bytes, shape), subject.rounding(3));
    }
    let every_byte: Vec<u8> = (0..=255).flat_map(|byte| [byte; 3]).collect();
    let run = |device: &B| Ok(vec![device.normalize(&device.upload_images(&every_byte, [1, 16, 16])?)?]);
    let out = subject.run("every byte", run);
    subject.compare("every byte", &out[0], &normalize(&every_byte, [1, 16, 16]), subject.rounding(3));
}
