//! `dump`: every intermediate tensor as a safetensors file, for comparing implementations.

use super::Outcome;
use super::args::{BackboneArgs, DeviceArgs};
use super::backbone::{load_detector, resolve_backbone};
use super::console::Console;
use super::device::{self, Device};
use super::settings_args::{Configured, SettingsArgs};
use crate::backbone::{FeatureExtractor, Stages};
use crate::backend::{Backend, DeviceTensor};
use crate::data::{Exif, decode};
use crate::detector::{Detector, Model};
use crate::head::{Head, MapMatrices};
use crate::settings::Settings;
use crate::tensor::Tensor;
use crate::tensor_file::{NamedTensors, save_tensors};
use clap::Args;
use std::path::PathBuf;

/// `dump`.
#[derive(Args, Clone, Debug)]
pub(super) struct DumpArgs {
    /// The images; they form one batch.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// A trained model. Without it the dump stops after `features`.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["SettingsArgs", "backbone"])]
    model: Option<PathBuf>,
    /// The deployed path (folded head) instead of the plain one; there is no `adapted` then.
    #[arg(long, requires = "model")]
    fast: bool,
    #[command(flatten)]
    backbone: BackboneArgs,
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Do not turn images by their EXIF orientation, as `PIL.Image.open` does not.
    #[arg(long)]
    ignore_exif: bool,
    /// Where the tensors go.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

/// Runs the verb.
pub(super) fn run(args: &DumpArgs, console: &Console) -> anyhow::Result<Outcome> {
    match device::open(&args.device, console)? {
        Device::Cpu(cpu, _) => run_on(&cpu, args, console),
        Device::Cuda(cuda) => run_on(&cuda, args, console),
    }
}

fn run_on<B: Backend<Scalar = f32>>(
    backend: &B,
    args: &DumpArgs,
    console: &Console,
) -> anyhow::Result<Outcome> {
    let mut tensors = NamedTensors::new();
    match &args.model {
        Some(path) => {
            let (model, detector) = load_detector(backend, path, args.backbone.weights.as_deref())?;
            dump_model(backend, args, &model, &detector, &mut tensors)?;
        }
        None => {
            let Configured { settings, config } = args.settings.configured()?;
            let features = &settings.features;
            let (name, weights) = args.backbone.over(&config);
            let backbone = resolve_backbone(name, weights, features.levels.deepest())?;
            console.say(&backbone.description);
            let extractor = FeatureExtractor::new(
                backend,
                backbone.identity.architecture,
                &backbone.weights.tensors,
                features.levels.clone(),
                features.aggregation,
            )?;
            let exif = if args.ignore_exif { Exif::Ignore } else { Exif::Apply };
            dump_stages(backend, args, exif, &settings, &extractor, &mut tensors)?;
        }
    }
    let names: Vec<String> =
        tensors.iter().map(|(name, tensor)| format!("{name} {:?}", tensor.shape())).collect();
    save_tensors(&args.output, &tensors, "{\"kind\":\"dump\"}".to_owned())?;
    console.say(format_args!("{}: {}", args.output.display(), names.join(", ")));
    Ok(Outcome::Success)
}

/// `input`, `layer1`…, `features`; returns the images' bytes, and the features on the device.
fn dump_stages<B: Backend<Scalar = f32>>(
    backend: &B,
    args: &DumpArgs,
    exif: Exif,
    settings: &Settings,
    extractor: &FeatureExtractor<B>,
    tensors: &mut NamedTensors,
) -> anyhow::Result<(Vec<u8>, B::Tensor)> {
    let preprocess = &settings.features.preprocess;
    preprocess.validate()?;
    let mut pixels = Vec::new();
    for path in &args.images {
        let (input, _) = preprocess.apply(&decode(path, exif)?);
        pixels.extend_from_slice(input.as_raw());
    }
    let side = preprocess.crop as usize;
    let images = backend.upload_images(&pixels, [args.images.len(), side, side])?;
    let Stages { input, layers, features } = extractor.stages(backend, &images)?;
    tensors.insert("input".to_owned(), backend.download(&input)?);
    for (level, layer) in (1..).zip(&layers) {
        tensors.insert(format!("layer{level}"), backend.download(layer)?);
    }
    tensors.insert("features".to_owned(), backend.download(&features)?);
    Ok((pixels, features))
}

/// The stages, then `adapted`, `scores`, `map` and `image_score`.
fn dump_model<B: Backend<Scalar = f32>>(
    backend: &B,
    args: &DumpArgs,
    model: &Model,
    detector: &Detector<B>,
    tensors: &mut NamedTensors,
) -> anyhow::Result<()> {
    let settings = &model.metadata.settings;
    // As the model sees images in use, unless asked otherwise.
    let exif = if args.ignore_exif { Exif::Ignore } else { model.metadata.exif() };
    let (pixels, features) = dump_stages(backend, args, exif, settings, detector.extractor(), tensors)?;
    let &[n, h, w, channels] = features.shape() else { unreachable!("features have four axes") };
    let rows = backend.reshape(features, &[n * h * w, channels]);
    let side = settings.features.preprocess.crop as usize;
    if args.fast {
        let scores = detector.score(backend, &pixels)?;
        tensors.insert("scores".to_owned(), scores.grid);
        tensors.insert("map".to_owned(), scores.maps);
        tensors.insert("image_score".to_owned(), scores.image);
        return Ok(());
    }
    let head = Head::from_tensors(backend, model.metadata.head, &model.head)?;
    let rows = scaled(backend, rows, model.metadata.head.feature_scale)?;
    let adapted = head.adapt(backend, &rows)?;
    let discriminated = head.discriminate(backend, adapted.as_ref().unwrap_or(&rows))?;
    if let Some(adapted) = adapted {
        let adapted = backend.download(&adapted)?.reshape([n, h, w, channels]);
        tensors.insert("adapted".to_owned(), adapted);
    }
    // s = −D (Eq. 9).
    let scores: Vec<f32> = backend.download(&discriminated)?.data().iter().map(|d| -d).collect();
    let scores = Tensor::new([n, h, w], scores);
    let matrices = MapMatrices::new(backend, (h, w), (side, side), settings.map_sigma)?;
    let (maps, image) = matrices.apply(backend, &backend.upload(&scores)?)?;
    tensors.insert("scores".to_owned(), scores);
    tensors.insert("map".to_owned(), backend.download(&maps)?);
    tensors.insert("image_score".to_owned(), backend.download(&image)?);
    Ok(())
}

/// Features as the plain head takes them. The folded one has the factor in its weights, so no device has an operation for
/// it.
fn scaled<B: Backend<Scalar = f32>>(backend: &B, rows: B::Tensor, factor: f64) -> anyhow::Result<B::Tensor> {
    if factor == 1.0 {
        return Ok(rows);
    }
    let rows = backend.download(&rows)?;
    let values = rows.data().iter().map(|&value| (f64::from(value) * factor) as f32).collect();
    Ok(backend.upload(&Tensor::new(rows.shape(), values))?)
}
