//! `adam`: Adam and AdamW, several parameters a call.

use simplenet::backend::{AdamRule, AdamSlot, Backend, Epoch};
use simplenet::tensor::{Scalar, Tensor};

use crate::draws::Draws;
use crate::subject::{DOUBLE, Subject};

const STEPS: usize = 20;

/// The algorithm boxes of `torch.optim.Adam` and `torch.optim.AdamW`, one value, over all its gradients.
fn optimise(mut parameter: f64, gradients: &[f64], rule: AdamRule) -> [f64; 3] {
    let (beta_1, beta_2, epsilon): (f64, f64, f64) = (0.9, 0.999, 1e-8);
    let (mut m, mut v) = (0.0, 0.0);
    for (t, &gradient) in (1..).zip(gradients) {
        let mut g = gradient;
        if rule.decoupled {
            parameter -= rule.learning_rate * rule.weight_decay * parameter;
        } else {
            g += rule.weight_decay * parameter;
        }
        m = beta_1 * m + (1.0 - beta_1) * g;
        v = beta_2 * v + (1.0 - beta_2) * g * g;
        let m_hat = m / (1.0 - beta_1.powi(t));
        let v_hat = v / (1.0 - beta_2.powi(t));
        parameter -= rule.learning_rate * m_hat / (v_hat.sqrt() + epsilon);
    }
    [parameter, m, v]
}

pub(crate) fn check<B: Backend>(subject: &Subject<B>) {
    let mut draws = Draws::new(12);
    let rule = |learning_rate, weight_decay, decoupled| AdamRule { learning_rate, weight_decay, decoupled };
    // Every rule beside every other in one call; the largest is split between threads.
    let slots: [(&[usize], AdamRule); 6] = [
        (&[1], rule(0.1, 0.0, false)),
        (&[7], rule(0.1, 0.3, false)),
        (&[33, 20], rule(0.05, 0.3, true)),
        (&[131, 127], rule(0.1, 0.1, false)),
        (&[64], rule(1e-4, 0.01, true)),
        (&[5, 3], rule(2e-4, 1e-5, false)),
    ];
    let parameters: Vec<_> = slots.iter().map(|(shape, _)| draws.normals(shape, 0.0, 1.0)).collect();
    let gradients: Vec<Vec<_>> = (0..STEPS)
        .map(|step| {
            let gradient = |shape: &[usize]| {
                // Two steps without any gradient: there only momentum and decay act.
                let scale = if step % 9 == 4 { 0.0 } else { 1.0 };
                draws.normals(shape, 0.1 * scale, scale)
            };
            slots.iter().map(|(shape, _)| *shape).map(gradient).collect()
        })
        .collect();
    let device_gradients: Vec<Vec<_>> =
        gradients.iter().map(|step| step.iter().map(|gradient| subject.upload(gradient)).collect()).collect();

    let out = subject.run("all", |device| {
        let mut state = Vec::new();
        for parameter in &parameters {
            let data = parameter.data().iter().map(|&value| B::Scalar::from_f64(value)).collect();
            state.push(device.upload(&Tensor::new(parameter.shape(), data))?);
            state.push(device.zeros(parameter.shape())?);
            state.push(device.zeros(parameter.shape())?);
        }
        let order: Vec<u32> = (0..STEPS as u32).collect();
        let mut schedule = device.schedule(STEPS, 1)?;
        device.begin_epoch(&mut schedule, &Epoch { order: &order, first_step: 0, done: 0 })?;
        for gradients in &device_gradients {
            let mut step_slots: Vec<AdamSlot<'_, B::Tensor>> = Vec::new();
            for ((state, gradient), (_, rule)) in state.chunks_exact_mut(3).zip(gradients).zip(&slots) {
                let [parameter, first_moment, second_moment] = state else { panic!("three tensors a slot") };
                step_slots.push(AdamSlot { parameter, gradient, first_moment, second_moment, rule: *rule });
            }
            device.adam(&mut step_slots, &schedule)?;
            device.end_step(&mut schedule)?;
        }
        Ok(state)
    });

    for (slot, (shape, rule)) in slots.iter().enumerate() {
        let results: Vec<[f64; 3]> = (0..parameters[slot].len())
            .map(|i| {
                let history: Vec<f64> = gradients.iter().map(|step| step[slot].data()[i]).collect();
                optimise(parameters[slot].data()[i], &history, *rule)
            })
            .collect();
        for (which, name) in ["parameter", "first moment", "second moment"].into_iter().enumerate() {
            let reference = Tensor::new(*shape, results.iter().map(|result| result[which]).collect());
            // About five roundings a step, which the decaying averages do not undo; most rules move a parameter by
            // its own size, so that no update hides behind rounding. 1 − β₂ᵗ is what remains of 1 − 0.999: three
            // digits of `f64` are lost there, in the reference too.
            let tolerance = subject.rounding(5 * STEPS) + 1000.0 * DOUBLE;
            let case = format!("{name} {shape:?} under {rule:?}");
            subject.compare(&case, &out[3 * slot + which], &reference, tolerance);
        }
    }
}
