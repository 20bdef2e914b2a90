//! `loss`: truncated L1 (Eq. 7–8) and cross-entropy, their gradients, and the totals of an epoch.

use simplenet::backend::{
    Backend, LOSS_TOTALS, Loss, Margins, TOTAL_LOSS, TOTAL_NEGATIVE, TOTAL_POSITIVE, TOTAL_ROWS,
};
use simplenet::tensor::{Scalar, Tensor};

use crate::draws::Draws;
use crate::reference::vector;
use crate::subject::Subject;

/// `mean(max(0, th⁺ − D(q))) + mean(max(0, −th⁻ + D(q⁻)))` and its gradient.
fn truncated_l1(scores: &[f64], margins: Margins) -> (f64, Vec<f64>) {
    let rows = scores.len() / 2;
    let (mut normal, mut anomalous, mut gradient) = (0.0, 0.0, vec![0.0; 2 * rows]);
    for i in 0..rows {
        let (normal_loss, anomalous_loss) =
            (margins.positive - scores[i], -margins.negative + scores[rows + i]);
        if normal_loss > 0.0 {
            normal += normal_loss;
            gradient[i] = -1.0 / rows as f64;
        }
        if anomalous_loss > 0.0 {
            anomalous += anomalous_loss;
            gradient[rows + i] = 1.0 / rows as f64;
        }
    }
    (normal / rows as f64 + anomalous / rows as f64, gradient)
}

/// `−mean(t·ln σ(s) + (1 − t)·ln(1 − σ(s)))` over both halves, t = 1 for the first; its gradient is `(σ(s) − t)/2R`.
///
/// `ln σ(s)` is written `−ln(1 + e^−s)`, and `1 − σ(s)` is `σ(−s)`: literally they are 0 in `f64` for |s| > 40.
fn cross_entropy(scores: &[f64]) -> (f64, Vec<f64>) {
    let count = scores.len() as f64;
    let sigmoid = |s: f64| 1.0 / (1.0 + (-s).exp());
    let (mut total, mut gradient) = (0.0, Vec::new());
    for (i, &s) in scores.iter().enumerate() {
        if i < scores.len() / 2 {
            total += (1.0 + (-s).exp()).ln();
            gradient.push(-sigmoid(-s) / count);
        } else {
            total += (1.0 + s.exp()).ln();
            gradient.push(sigmoid(s) / count);
        }
    }
    (total / count, gradient)
}

pub(crate) fn check<B: Backend>(subject: &Subject<B>) {
    let mut draws = Draws::new(11);
    let paper = Margins { positive: 0.5, negative: -0.5 };
    let uneven = Margins { positive: 0.25, negative: -0.75 };
    for rows in [1, 5, 117, 3136] {
        for loss in [
            Loss::TruncatedL1(paper),
            Loss::TruncatedL1(uneven),
            Loss::CrossEntropy(paper),
            Loss::CrossEntropy(uneven),
        ] {
            case(subject, &mut draws, rows, loss);
        }
    }
    a_score_that_is_no_number_shows(subject, paper);
}

fn case<B: Backend>(subject: &Subject<B>, draws: &mut Draws, rows: usize, loss: Loss) {
    let case = |part: &str| format!("{part} of {loss:?}, 2·{rows} scores");
    let margins = loss.margins();
    let batches: Vec<(usize, Tensor<f64>)> = [4, 1, 3]
        .into_iter()
        .map(|images| {
            let mut scores = draws.normals(&[2 * rows], 0.0, 1.0);
            if rows > 4 {
                // On a margin a row is neither beyond it nor has it a loss; far out nothing overflows.
                for (i, (normal, anomalous)) in
                    [(margins.positive, margins.negative), (100.0, 100.0), (-100.0, -100.0)]
                        .into_iter()
                        .enumerate()
                {
                    scores.data_mut()[i] = normal;
                    scores.data_mut()[rows + i] = anomalous;
                }
            }
            (images, scores)
        })
        .collect();
    let device_batches: Vec<_> =
        batches.iter().map(|(images, scores)| (*images, subject.upload(scores))).collect();
    let out = subject.run(&case("batches"), |device| {
        let mut totals = device.zeros(&[LOSS_TOTALS])?;
        let mut out = Vec::new();
        for (images, scores) in &device_batches {
            out.push(device.loss(scores, loss, *images, &mut totals)?);
        }
        out.push(totals);
        Ok(out)
    });

    let mut totals = [0.0; LOSS_TOTALS];
    for (i, (images, scores)) in batches.iter().enumerate() {
        let (value, gradient) = match loss {
            Loss::TruncatedL1(margins) => truncated_l1(scores.data(), margins),
            Loss::CrossEntropy(_) => cross_entropy(scores.data()),
        };
        let (normal, anomalous) = scores.data().split_at(rows);
        totals[TOTAL_LOSS] += value * *images as f64;
        totals[TOTAL_POSITIVE] += normal.iter().filter(|&&score| score > margins.positive).count() as f64;
        totals[TOTAL_NEGATIVE] += anomalous.iter().filter(|&&score| score < margins.negative).count() as f64;
        totals[TOTAL_ROWS] += rows as f64;
        // σ is a handful of operations.
        let reference = vector(2 * rows, |i| gradient[i]);
        subject.compare(&case("gradient"), &out[i], &reference, subject.rounding(4));
    }
    let (loss_total, counts) = out[3].data().split_at(1);
    assert_eq!(counts, &totals[1..], "{}: error of counts exceeds zero", case("totals"));
    // A sum over both halves.
    let (loss_total, reference) = (vector(1, |_| loss_total[0]), vector(1, |_| totals[TOTAL_LOSS]));
    subject.compare(&case("total"), &loss_total, &reference, subject.rounding(2 * rows));
}

/// A diverged training must not look like a perfect one.
fn a_score_that_is_no_number_shows<B: Backend>(subject: &Subject<B>, margins: Margins) {
    for loss in [Loss::TruncatedL1(margins), Loss::CrossEntropy(margins)] {
        for place in [1, 5] {
            let mut scores = Tensor::full([8], B::Scalar::ONE);
            scores.data_mut()[place] = B::Scalar::from_f64(f64::NAN);
            let mut totals = subject.device.zeros(&[LOSS_TOTALS]).unwrap();
            let scores = subject.device.upload(&scores).unwrap();
            subject.device.loss(&scores, loss, 1, &mut totals).unwrap();
            assert!(subject.download(&totals).data()[TOTAL_LOSS].is_nan(), "{loss:?} hides a NaN");
        }
    }
}
