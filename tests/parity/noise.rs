//! The noise of a training step, whose rows may be of several widths, against the same draws in NumPy.

use crate::by_type;
use crate::draws::SEED;
use crate::findings::{Findings, Row};
use crate::head::SIGMA;
use crate::reference::Reference;
use simplenet::backend::{Backend, Epoch, Noise};

const SHAPE: [usize; 2] = [50, 7];

/// The fourth step, as one component and as mixtures of several.
pub(crate) fn check<B: Backend>(backend: &B, name: &'static str) -> Findings {
    // Box–Muller in f32 is within a few ulp of f64's; a wrong component would be an error of a tenth.
    let bound = by_type::<B>(1e-6, 1e-12);
    let reference = Reference::load("mixtures");
    let mut schedule = backend.schedule(1, 1).unwrap();
    backend.begin_epoch(&mut schedule, &Epoch { order: &[0], first_step: 3, done: 0 }).unwrap();
    let mut findings = Findings::new(name);
    for mixtures in [1, 3, 8] {
        let noise = Noise { sigma: SIGMA, mixtures, seed: SEED, schedule: &schedule };
        let noise = backend.download(&backend.noise(SHAPE, noise).unwrap()).unwrap();
        let key = mixtures.to_string();
        let error = reference.error(&key, &noise);
        findings.note(Row::Noise, format!("{key} components"), error, bound);
    }
    findings
}
