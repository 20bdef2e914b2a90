//! The suite can fail: small faults, each caught by the check that is meant for it.

use crate::faulty::{Fault, Faulty};
use crate::findings::{Findings, Row};
use crate::{aggregation, backbones, head};
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
