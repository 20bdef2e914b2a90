//! Finding the backbone a command needs, and building detectors on it.

use crate::backbone::architecture::Architecture;
use crate::backbone::weights::{Resolved, StateDict, WeightsSource, resolve, store};
use crate::backend::Backend;
use crate::detector::{BackboneIdentity, Detector, Model};
use crate::tensor_file::NamedTensors;
use anyhow::bail;
use std::path::Path;

/// A backbone's weights, checked and identified.
pub(super) struct ResolvedBackbone {
    /// The weights.
    pub weights: StateDict,
    /// Architecture and hash.
    pub identity: BackboneIdentity,
    /// Whether features are known to have the scale that the noise presumes.
    pub has_v1_scale: bool,
    /// The choice in words.
    pub description: String,
    deepest_level: usize,
}

impl ResolvedBackbone {
    /// The tensors up to the deepest level used: what a bundled model carries.
    pub(super) fn used_tensors(&self) -> NamedTensors {
        self.identity
            .architecture
            .parameters(self.deepest_level)
            .into_iter()
            .map(|parameter| (parameter.name.clone(), self.weights.tensors[&parameter.name].clone()))
            .collect()
    }
}

/// Resolves `--backbone` (a name or `auto`) and `--weights`.
pub(super) fn resolve_backbone(
    backbone: &str,
    weights: Option<&str>,
    deepest_level: usize,
) -> anyhow::Result<ResolvedBackbone> {
    let architecture = match backbone {
        "auto" => None,
        name => Some(name.parse::<Architecture>()?),
    };
    let source = weights.map_or(Ok(WeightsSource::Installed), str::parse)?;
    let Resolved { architecture, weights, has_v1_scale, description } =
        resolve(architecture, &source, store::folder().as_deref(), deepest_level)?;
    let embedded = architecture == Architecture::Resnet18Slim
        && matches!(source, WeightsSource::Installed | WeightsSource::Embedded);
    let origin = match source {
        _ if embedded => Some("embedded".to_owned()),
        WeightsSource::Synthetic(seed) => Some(format!("synthetic:{seed}")),
        _ => None,
    };
    let sha256 = weights.hash(architecture, deepest_level);
    let identity = BackboneIdentity { architecture, sha256, origin };
    Ok(ResolvedBackbone { weights, identity, has_v1_scale, description, deepest_level })
}

/// Reads a model and builds its detector, with the backbone from inside the model, from `weights`, or from where the
/// model says.
pub(super) fn load_detector<B: Backend<Scalar = f32>>(
    backend: &B,
    path: &Path,
    weights: Option<&str>,
) -> anyhow::Result<(Model, Detector<B>)> {
    let mut model = Model::load(path)?;
    let identity = &model.metadata.backbone;
    let weights = match model.backbone.take() {
        Some(_) if weights.is_some() => {
            bail!("{} carries its own backbone; leave --weights out", path.display())
        }
        Some(tensors) => {
            let weights = StateDict { tensors, origin: path.display().to_string() };
            weights.require(identity.architecture, model.metadata.settings.features.levels.deepest())?;
            weights
        }
        None => {
            // A model may name weights that any program makes itself, never a file.
            let known = |origin: &&str| *origin == "embedded" || origin.starts_with("synthetic:");
            let source = weights.or(identity.origin.as_deref().filter(known));
            let deepest = model.metadata.settings.features.levels.deepest();
            resolve_backbone(identity.architecture.name(), source, deepest)?.weights
        }
    };
    let detector = Detector::new(backend, &model, &weights)?;
    Ok((model, detector))
}
