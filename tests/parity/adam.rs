//! The optimiser alone against `torch.optim`.

use crate::by_type;
use crate::draws::values;
use crate::findings::{Findings, Row};
use crate::reference::Reference;
use simplenet::backend::{AdamRule, AdamSlot, Backend, Epoch};
use simplenet::tensor::Scalar;

const RULES: [(&str, AdamRule); 4] = [
    ("adam", AdamRule { learning_rate: 2e-4, weight_decay: 1e-5, decoupled: false }),
    ("adamw", AdamRule { learning_rate: 1e-4, weight_decay: 1e-2, decoupled: true }),
    // Rates at which the twenty steps, not the start, make up the result.
    ("adam_fast", AdamRule { learning_rate: 0.05, weight_decay: 0.1, decoupled: false }),
    ("adamw_fast", AdamRule { learning_rate: 0.05, weight_decay: 0.1, decoupled: true }),
];
const SHAPES: [(&str, &[usize]); 2] = [("5x7", &[5, 7]), ("33", &[33])];

/// Twenty steps of two parameters in one launch, one element of each with a gradient of zero.
pub(crate) fn check<B: Backend>(backend: &B, name: &'static str) -> Findings {
    // Twenty steps of a handful of operations; each rounds a parameter once, to 6e-8 or 1e-16.
    let bound = by_type::<B>(1e-6, 1e-12);
    let reference = Reference::load("adam");
    let mut findings = Findings::new(name);
    for (case, rule) in RULES {
        let mut parameters: Vec<[B::Tensor; 3]> = SHAPES
            .iter()
            .map(|(name, shape)| {
                let start = backend.upload(&values(&format!("{case} {name}"), shape, 0.0, 0.5)).unwrap();
                [start, backend.zeros(shape).unwrap(), backend.zeros(shape).unwrap()]
            })
            .collect();
        let order: Vec<u32> = (0..20).collect();
        let mut schedule = backend.schedule(20, 1).unwrap();
        backend.begin_epoch(&mut schedule, &Epoch { order: &order, first_step: 0, done: 0 }).unwrap();
        for step in 1..=20 {
            let gradients = SHAPES.map(|(name, shape)| {
                let mut gradient = values(&format!("{case} {name} gradient {step}"), shape, 0.1, 1.0);
                gradient.data_mut()[0] = B::Scalar::ZERO;
                backend.upload(&gradient).unwrap()
            });
            let mut slots: Vec<AdamSlot<'_, B::Tensor>> = parameters
                .iter_mut()
                .zip(&gradients)
                .map(|([parameter, first_moment, second_moment], gradient)| AdamSlot {
                    parameter,
                    gradient,
                    first_moment,
                    second_moment,
                    rule,
                })
                .collect();
            backend.adam(&mut slots, &schedule).unwrap();
            backend.end_step(&mut schedule).unwrap();
        }
        for ((name, _), [parameter, ..]) in SHAPES.iter().zip(&parameters) {
            let key = format!("{case}/{name}");
            let error = reference.error(&key, &backend.download(parameter).unwrap());
            findings.note(Row::Adam, key, error, bound);
        }
    }
    findings
}
