//! The head against autograd: forward, loss, every gradient, BatchNorm's statistics, evaluation.

use crate::by_type;
use crate::draws::{SEED, values};
use crate::findings::{Findings, Row};
use crate::reference::Reference;
use simplenet::backend::{Backend, Epoch, LOSS_TOTALS, Loss, Margins, Noise, TOTAL_LOSS};
use simplenet::head::{AdaptorKind, Head, HeadConfig};
use simplenet::tensor::{Scalar, Tensor, relative_error};
use simplenet::tensor_file::NamedTensors;

pub(crate) const MARGINS: Margins = Margins { positive: 0.5, negative: -0.5 };
pub(crate) const SIGMA: f64 = 0.015;

/// Rows, channels, hidden units; all odd, or no multiple of a vector's width.
const SIZES: [(usize, usize, usize); 2] = [(15, 13, 17), (98, 37, 65)];
const ADAPTORS: [&str; 4] = ["linear", "linear+bias", "mlp", "none"];
const LOSSES: [&str; 2] = ["truncated-l1", "cross-entropy"];

/// The adaptor a case names, and whether it has a bias.
pub(crate) fn adaptor(name: &str) -> (AdaptorKind, bool) {
    match name {
        "linear" => (AdaptorKind::Linear, false),
        "linear+bias" => (AdaptorKind::Linear, true),
        "mlp" => (AdaptorKind::Mlp, true),
        "none" => (AdaptorKind::None, false),
        other => panic!("no adaptor {other}"),
    }
}

/// The loss a case names.
pub(crate) fn loss(name: &str, margins: Margins) -> Loss {
    match name {
        "truncated-l1" => Loss::TruncatedL1(margins),
        "cross-entropy" => Loss::CrossEntropy(margins),
        other => panic!("no loss {other}"),
    }
}

/// The initial tensors of a case, as `start` of `generate.py` draws them.
pub(crate) fn start<T: Scalar>(case: &str, config: HeadConfig) -> NamedTensors<T> {
    let draw = |(name, shape): (&str, Vec<usize>)| {
        let (centre, spread) = match name {
            name if name.ends_with("gamma") => (1.0, 0.3),
            name if name.ends_with("running_var") => (1.0, 0.5),
            _ => (0.0, (3.0 / shape[shape.len() - 1] as f64).sqrt()),
        };
        (name.to_owned(), values(&format!("{case} {name}"), &shape, centre, spread))
    };
    config.tensors().into_iter().map(draw).collect()
}

/// The weight whose bias this is, if BatchNorm subtracts what the bias adds.
pub(crate) fn weight_of_idle_bias(name: &str, adaptor: AdaptorKind) -> Option<&'static str> {
    match (name, adaptor) {
        ("discriminator.hidden.bias", _) => Some("discriminator.hidden.weight"),
        ("adaptor.bias", AdaptorKind::Linear) => Some("adaptor.weight"),
        _ => None,
    }
}

/// Every size, adaptor and loss.
pub(crate) fn check<B: Backend>(backend: &B, name: &'static str) -> Findings {
    check_from(backend, name, start)
}

/// As [`check`], from initial tensors that a caller may have tampered with.
pub(crate) fn check_from<B: Backend>(
    backend: &B,
    name: &'static str,
    start: impl Fn(&str, HeadConfig) -> NamedTensors<B::Scalar>,
) -> Findings {
    let mut findings = Findings::new(name);
    for size in SIZES {
        for adaptor in ADAPTORS {
            for loss in LOSSES {
                check_case(backend, size, adaptor, loss, &start, &mut findings);
            }
        }
    }
    findings
}

fn check_case<B: Backend>(
    backend: &B,
    (rows, channels, hidden): (usize, usize, usize),
    adaptor_name: &str,
    loss_name: &str,
    start: impl Fn(&str, HeadConfig) -> NamedTensors<B::Scalar>,
    findings: &mut Findings,
) {
    // In f64 only the order of summation differs; the longest sum has 196 terms. In f32 a forward is three short
    // sums (a few 1e-7), and BatchNorm's backward subtracts means from gradients, which costs another digit or two.
    let forward = by_type::<B>(1e-5, 1e-9);
    let backward = by_type::<B>(3e-4, 1e-9);
    let reference = Reference::load("heads");
    let case = format!("{rows}x{channels}x{hidden}/{adaptor_name}/{loss_name}");
    let named = |name: &str| format!("{case}/{name}");
    let (adaptor, adaptor_bias) = adaptor(adaptor_name);
    let config = HeadConfig { channels, adaptor, adaptor_bias, hidden, feature_scale: 1.0 };
    let mut head = Head::from_tensors(backend, config, &start(&case, config)).unwrap();
    let features = values(&named("features").replace("/features", " features"), &[rows, channels], 0.4, 0.5);
    let features = || backend.upload(&features).unwrap();

    let mut schedule = backend.schedule(1, 1).unwrap();
    backend.begin_epoch(&mut schedule, &Epoch { order: &[0], first_step: 3, done: 0 }).unwrap();
    let noise = Noise { sigma: SIGMA, mixtures: 1, seed: SEED, schedule: &schedule };
    let (tape, scores) = head.record(backend, features(), noise).unwrap();
    let error = reference.error(&named("train_scores"), &backend.download(tape.value(scores)).unwrap());
    findings.note(Row::HeadForward, &*case, error, forward);

    let mut totals = backend.zeros(&[LOSS_TOTALS]).unwrap();
    let gradient = tape.loss(scores, loss(loss_name, MARGINS), 1, &mut totals).unwrap();
    let total = Tensor::new([1], vec![backend.download(&totals).unwrap().data()[TOTAL_LOSS]]);
    findings.note(Row::HeadLoss, &*case, reference.error(&named("loss"), &total), forward);

    let gradients = tape.backward(scores, gradient).unwrap();
    assert_eq!(gradients.len(), config.parameters().len());
    for ((name, _), gradient) in config.parameters().into_iter().zip(&gradients) {
        let gradient = backend.download(gradient.as_ref().expect("every parameter has a gradient")).unwrap();
        let key = named(&format!("grad/{name}"));
        if let Some(weight) = weight_of_idle_bias(name, adaptor) {
            // The gradient is exactly zero; what is computed is rounding, here as in PyTorch.
            let norm = |values: &[f64]| relative_error(values, &vec![0.0; values.len()]);
            let rounding: Vec<f64> = gradient.data().iter().map(|g| g.to_f64()).collect();
            let share = norm(&rounding) / norm(reference.get(&named(&format!("grad/{weight}"))).data());
            findings.note(Row::BiasGradients, key, share, 1e-6);
        } else {
            let error = reference.error(&key, &gradient);
            findings.note(Row::WeightGradients, key, error, backward);
        }
    }

    let after = head.to_tensors(backend).unwrap();
    for name in ["discriminator.batch_norm.running_mean", "discriminator.batch_norm.running_var"] {
        let key = named(name);
        let error = reference.error(&key, &after[name]);
        findings.note(Row::RunningStatistics, key, error, forward);
    }

    let features = features();
    let adapted = head.adapt(backend, &features).unwrap();
    let scores = head.discriminate(backend, adapted.as_ref().unwrap_or(&features)).unwrap();
    let error = reference.error(&named("scores"), &backend.download(&scores).unwrap());
    findings.note(Row::HeadInference, case, error, forward);
}
