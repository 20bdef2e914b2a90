//! The suite can fail: small faults, each caught by the check that is meant for it.

use crate::faulty::{Fault, Faulty};
use crate::findings::{Findings, Row};
use crate::{aggregation, backbones, head, official, training};
use simplenet::backbone::architecture::Architecture;
use simplenet::backbone::weights::StateDict;
use simplenet::backend::cpu::Cpu;
use simplenet::tensor::Tensor;

/// What the backbone check finds in resnet18 after `tamper` changed one of its tensors.
fn tampered_backbone(name: &str, tamper: impl FnOnce(&mut Tensor)) -> Findings {
    let mut weights = StateDict::synthetic(Architecture::Resnet18, 0);
    tamper(weights.tensors.get_mut(name).unwrap());
    let mut findings = Findings::new("CPU f32, tampered");
    backbones::check_network(
        &Cpu::<f32>::new(),
        Architecture::Resnet18,
        &weights,
        backbones::BOUND,
        &mut findings,
    );
    findings
}

/// Asserts that a check noticed, by a margin that rounding cannot take away.
fn caught(findings: &Findings, row: Row) {
    println!("{row:?}: {:.1} times the bound", findings.excess(row));
    assert!(findings.excess(row) > 1.5, "{row:?}: {findings:?}");
}

/// The baseline of the tests below: the same check without a fault.
#[test]
fn an_untouched_backbone_passes() {
    assert!(!tampered_backbone("conv1.weight", |_| {}).exceeds(Row::Backbone));
}

#[test]
fn one_weight_off_by_a_thousandth_is_caught() {
    let findings = tampered_backbone("conv1.weight", |weight| {
        let largest = weight.data_mut().iter_mut().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap();
        *largest *= 1.001;
    });
    caught(&findings, Row::Backbone);
}

#[test]
fn one_weight_of_the_head_off_by_a_thousandth_is_caught() {
    let findings = head::check_from(&Cpu::<f64>::new(), "CPU f64, tampered", |case, config| {
        let mut tensors = head::start(case, config);
        tensors.get_mut("discriminator.hidden.weight").unwrap().data_mut()[3] *= 1.001;
        tensors
    });
    for row in [Row::HeadForward, Row::WeightGradients, Row::RunningStatistics, Row::HeadInference] {
        caught(&findings, row);
    }
}

#[test]
fn two_swapped_channels_are_caught() {
    let findings = tampered_backbone("layer2.0.conv1.weight", |weight| {
        let filter = weight.len() / weight.shape()[0];
        let (first, rest) = weight.data_mut().split_at_mut(filter);
        first.swap_with_slice(&mut rest[..filter]);
    });
    caught(&findings, Row::Backbone);
}

#[test]
fn convolutions_without_zero_padding_are_caught() {
    let backend = Faulty { inner: Cpu::<f32>::new(), fault: Fault::ConvolutionPadding };
    let weights = StateDict::synthetic(Architecture::Resnet18, 0);
    let mut findings = Findings::new("CPU f32, faulty");
    backbones::check_network(&backend, Architecture::Resnet18, &weights, backbones::BOUND, &mut findings);
    caught(&findings, Row::Backbone);
}

#[test]
fn neighbourhoods_without_zero_padding_are_caught() {
    let backend = Faulty { inner: Cpu::<f32>::new(), fault: Fault::NeighbourhoodPadding };
    let findings = aggregation::check(&backend, "CPU f32, faulty");
    caught(&findings, Row::Mean);
    assert!(!findings.exceeds(Row::PatchCore), "the fault is in the mean alone: {findings:?}");
}

#[test]
fn a_biased_running_variance_is_caught() {
    let backend = Faulty { inner: Cpu::<f32>::new(), fault: Fault::BiasedVariance };
    let findings = head::check(&backend, "CPU f32, faulty");
    caught(&findings, Row::RunningStatistics);
    assert!(!findings.exceeds(Row::HeadForward), "training uses the batch's own variance: {findings:?}");
}

/// What the trainings find in `f32` with a fault.
fn faulty_trainings(fault: Fault) -> Findings {
    training::check(&Faulty { inner: Cpu::<f32>::new(), fault }, "CPU f32, faulty")
}

/// What the preset `official` finds in `f64` with a fault.
fn faulty_official(fault: Fault) -> Findings {
    official::check(&Faulty { inner: Cpu::<f64>::new(), fault }, "CPU f64, faulty")
}

/// The same in `f32`.
fn faulty_official_f32(fault: Fault) -> Findings {
    official::check(&Faulty { inner: Cpu::<f32>::new(), fault }, "CPU f32, faulty")
}

#[test]
fn decay_in_the_gradient_is_caught() {
    caught(&faulty_trainings(Fault::CoupledDecay), Row::EpochParameters);
    let findings = faulty_official_f32(Fault::CoupledDecay);
    caught(&findings, Row::OfficialChange);
    caught(&findings, Row::OfficialLosses);
}

#[test]
fn a_missing_decay_is_caught() {
    let findings = faulty_official(Fault::NoDecay);
    caught(&findings, Row::OfficialChange);
    caught(&findings, Row::OfficialIdleBiases);
}

#[test]
fn an_adaptors_bias_that_is_not_trained_is_caught() {
    // Behind an `mlp` it changes the scores; behind `official`'s linear adaptor it only decays.
    caught(&faulty_trainings(Fault::FrozenAdaptorBias), Row::EpochParameters);
    let findings = faulty_official(Fault::FrozenAdaptorBias);
    caught(&findings, Row::OfficialIdleBiases);
    assert!(!findings.exceeds(Row::OfficialChange), "BatchNorm subtracts the bias: {findings:?}");
}

#[test]
fn another_order_of_the_images_is_caught() {
    caught(&faulty_trainings(Fault::ReversedOrder), Row::EpochLosses);
    let findings = faulty_official_f32(Fault::ReversedOrder);
    caught(&findings, Row::OfficialLosses);
    caught(&findings, Row::OfficialChange);
}
