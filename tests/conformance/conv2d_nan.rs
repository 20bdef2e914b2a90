//! `conv2d` of NaN: whoever writes ReLU as a maximum makes zeros of it, and a broken image looks like a good one.

use simplenet::backend::Backend;

use crate::conv2d::weights;
use crate::draws::Draws;
use crate::subject::Subject;

/// Every output that depends on a NaN is one, whatever ReLU makes of it, and no other; by patches and as a plain product.
pub(crate) fn check<B: Backend>(subject: &Subject<B>) {
    let mut draws = Draws::new(23);
    for padding in [1, 0] {
        case(subject, &mut draws, padding);
    }
}

/// A kernel of 3×3 with padding 1, or of 1×1 with padding 0.
fn case<B: Backend>(subject: &Subject<B>, draws: &mut Draws, padding: usize) {
    let [h, w, inputs, outputs] = [9, 11, 32, 24];
    let weights = weights(draws, (2 * padding + 1, 1, padding), inputs, outputs);
    let mut input = draws.normals(&[2, h, w, inputs], 0.5, 1.0);
    let mut residual = draws.normals(&[2, h, w, outputs], 0.0, 1.0);
    let (image, y, x) = (1, 4, 7);
    input.data_mut()[((image * h + y) * w + x) * inputs + 19] = f64::NAN;
    let alone = 5 * outputs + 3;
    residual.data_mut()[alone] = f64::NAN;
    let (input, residual) = (subject.upload(&input), subject.upload(&residual));
    let convolution = subject.device.convolution(&weights).unwrap();
    for with_residual in [false, true] {
        let added = with_residual.then_some(&residual);
        let out = subject.device.conv2d(&input, &convolution, added, true).unwrap();
        for (at, value) in subject.download(&out).data().iter().enumerate() {
            let pixel = at / outputs;
            let near = (pixel / w % h).abs_diff(y) <= padding && (pixel % w).abs_diff(x) <= padding;
            let expected = (at == alone && with_residual) || (pixel / w / h == image && near);
            assert_eq!(
                value.is_nan(),
                expected,
                "padding {padding}, residual {with_residual}: output {at} hides a NaN, or is none of its business"
            );
        }
    }
}
