//! Both aggregations against PyTorch's pooling, unfolding and interpolation.

use crate::draws::values;
use crate::findings::{Findings, Row};
use crate::reference::Reference;
use simplenet::backend::{Aggregation, AggregationMode, Backend};

/// A mean of at most 49 values, a blend of four, and at most twelve of those averaged: a few roundings of 6e-8. The
/// references are stored in `f32`, which is all that is left of the error in `f64`.
const BOUND: f64 = 1e-6;
/// Odd grids, none a multiple of another; few and many channels against the 1536 of `patchcore`.
const LEVELS: [[usize; 4]; 3] = [[2, 9, 11, 40], [2, 5, 6, 80], [2, 3, 3, 200]];
const SUBSETS: [&[usize]; 6] = [&[1], &[2], &[3], &[1, 2], &[2, 3], &[1, 2, 3]];

/// Every mode, patch size and set of levels.
pub(crate) fn check<B: Backend>(backend: &B, name: &'static str) -> Findings {
    let reference = Reference::load("aggregation");
    let mut findings = Findings::new(name);
    let maps: Vec<B::Tensor> = (1..)
        .zip(LEVELS)
        .map(|(level, shape)| backend.upload(&values(&format!("level {level}"), &shape, 0.4, 0.6)).unwrap())
        .collect();
    let modes = [
        (AggregationMode::Mean, Row::Mean, "mean"),
        (AggregationMode::PatchCore, Row::PatchCore, "patchcore"),
    ];
    for (mode, row, mode_name) in modes {
        for patch in [1, 3, 5, 7] {
            for subset in SUBSETS {
                let levels: Vec<&B::Tensor> = subset.iter().map(|level| &maps[level - 1]).collect();
                let out = backend.aggregate(&levels, &Aggregation { mode, patch }).unwrap();
                let levels: Vec<String> = subset.iter().map(usize::to_string).collect();
                let case = format!("{mode_name}/{patch}/{}", levels.join("+"));
                let error = reference.sampled_error(&case, &backend.download(&out).unwrap());
                findings.note(row, case, error, BOUND);
            }
        }
    }
    findings
}
