//! The anomaly map against `interpolate` and SciPy's Gaussian filter.

use crate::draws::values;
use crate::findings::{Findings, Row};
use crate::reference::{Reference, worse};
use simplenet::backend::Backend;
use simplenet::head::MapMatrices;
use simplenet::tensor::{Scalar, Tensor};

/// Two products with matrices whose rows sum to one: some ten roundings of 6e-8, of which most average out. The
/// sampled values are stored in `f32`, which is all that is left of the error in `f64`.
const BOUND: f64 = 1e-6;

/// Grid, size, sigma. A height of 9 is less than the Gaussian's radius: the border is mirrored more than once.
type Case = ((usize, usize), (usize, usize), f64);
const CASES: [Case; 6] = [
    ((28, 28), (224, 224), 4.0),
    ((36, 36), (288, 288), 4.0),
    ((7, 9), (50, 61), 4.0),
    ((1, 5), (9, 40), 4.0),
    ((3, 3), (3, 3), 1.5),
    ((5, 4), (17, 30), 0.0),
];

/// Maps of two images, every row and column by its norm, a grid of values; and the scores, exactly.
pub(crate) fn check<B: Backend>(backend: &B, name: &'static str) -> Findings {
    let reference = Reference::load("maps");
    let mut findings = Findings::new(name);
    for (grid, size, sigma) in CASES {
        let case = format!("{}x{}/{}x{}/{sigma:?}", grid.0, grid.1, size.0, size.1);
        let scores = values::<B::Scalar>(&format!("scores {case}"), &[2, grid.0, grid.1], 0.0, 1.0);
        let matrices = MapMatrices::new(backend, grid, size, sigma).unwrap();
        let (maps, maxima) = matrices.apply(backend, &backend.upload(&scores).unwrap()).unwrap();
        let (maps, maxima) = (backend.download(&maps).unwrap(), backend.download(&maxima).unwrap());

        let at = |n: usize, y: usize, x: usize| maps.data()[(n * size.0 + y) * size.1 + x];
        let norm = |line: &mut dyn Iterator<Item = B::Scalar>| {
            line.map(|value| value.to_f64().powi(2)).sum::<f64>().sqrt()
        };
        let rows = (0..2 * size.0).map(|i| norm(&mut (0..size.1).map(|x| at(i / size.0, i % size.0, x))));
        let columns = (0..2 * size.1).map(|i| norm(&mut (0..size.0).map(|y| at(i / size.1, y, i % size.1))));
        let error = [
            reference
                .error(&format!("{case}/map"), &every(&maps, if size.0 * size.1 < 4000 { 1 } else { 7 })),
            reference.error(&format!("{case}/row_norms"), &Tensor::new([2, size.0], rows.collect())),
            reference.error(&format!("{case}/column_norms"), &Tensor::new([2, size.1], columns.collect())),
        ];
        findings.note(Row::Map, case, error.into_iter().fold(0.0, worse), BOUND);

        let largest = |scores: &[B::Scalar]| scores.iter().copied().fold(scores[0], B::Scalar::max);
        let expected: Vec<B::Scalar> = scores.data().chunks(grid.0 * grid.1).map(largest).collect();
        assert_eq!(maxima.data(), expected, "the image score is the largest value of the raw grid");
    }
    findings
}

/// Every `step`-th row and column of maps `[N, H, W]`.
pub(crate) fn every<T: Scalar>(maps: &Tensor<T>, step: usize) -> Tensor<T> {
    let &[n, h, w] = maps.shape() else { panic!("maps have three axes") };
    let mut data = Vec::new();
    for image in 0..n {
        for y in (0..h).step_by(step) {
            data.extend((0..w).step_by(step).map(|x| maps.data()[(image * h + y) * w + x]));
        }
    }
    Tensor::new([n, h.div_ceil(step), w.div_ceil(step)], data)
}
