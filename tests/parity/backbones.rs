//! Every backbone against torchvision.

use crate::draws::pixels;
use crate::findings::{Findings, Row};
use crate::reference::Reference;
use simplenet::backbone::ResNet;
use simplenet::backbone::architecture::Architecture;
use simplenet::backbone::weights::StateDict;
use simplenet::backend::Backend;

/// Sums of up to 4608 products through up to 30 blocks in `f32`, each rounding to 6e-8: about 1e-6 in the end, so
/// 1e-5 leaves room for other orders of summation and none for another formula. In `f64` what remains is the
/// rounding of the folded weights, which are stored in `f32` for every device.
pub(crate) const BOUND: f64 = 1e-5;
const SIZES: [(usize, usize); 2] = [(224, 224), (197, 260)];

/// All architectures with the weights `synthetic:0`.
pub(crate) fn check<B: Backend>(backend: &B, name: &'static str) -> Findings {
    check_within(backend, name, BOUND)
}

/// The same for another arithmetic than `f32`.
pub(crate) fn check_within<B: Backend>(backend: &B, name: &'static str, bound: f64) -> Findings {
    let mut findings = Findings::new(name);
    for architecture in Architecture::ALL {
        check_network(backend, architecture, &StateDict::synthetic(architecture, 0), bound, &mut findings);
    }
    findings
}

/// One network with given weights.
pub(crate) fn check_network<B: Backend>(
    backend: &B,
    architecture: Architecture,
    weights: &StateDict,
    bound: f64,
    findings: &mut Findings,
) {
    let reference = Reference::load("backbones");
    let network = ResNet::new(backend, architecture, &weights.tensors, Architecture::DEEPEST_LEVEL).unwrap();
    for (h, w) in SIZES {
        let input = {
            let pixels = pixels(&format!("image {h}x{w}"), h * w * 3);
            backend.normalize(&backend.upload_images(&pixels, [1, h, w]).unwrap()).unwrap()
        };
        let layers = network.forward(backend, &input).unwrap();
        assert_eq!(layers.len(), Architecture::DEEPEST_LEVEL);
        for (level, layer) in (1..).zip(&layers) {
            let case = format!("{architecture}/{h}x{w}/layer{level}");
            let error = reference.sampled_error(&case, &backend.download(layer).unwrap());
            findings.note(Row::Backbone, case, error, bound);
        }
    }
}
