//! `import`: the authors' checkpoints as model files.

use super::Outcome;
use super::backbone::resolve_backbone;
use super::console::Console;
use crate::backbone::architecture::Architecture;
use crate::detector::{FORMAT, Model, ModelMetadata, Thresholds, import_head};
use crate::settings::{FeatureScale, Preset, Settings};
use anyhow::bail;
use clap::Args;
use std::path::PathBuf;

/// `import`.
#[derive(Args, Clone, Debug)]
pub(super) struct ImportArgs {
    /// The `ckpt.pth` that the authors' code wrote.
    #[arg(value_name = "CKPT")]
    checkpoint: PathBuf,
    /// The settings it was trained with: `official` is what the authors' scripts run.
    #[arg(long, value_name = "NAME", default_value = Preset::Official.name())]
    preset: Preset,
    /// Size the shorter side is resized to, where the training changed it.
    #[arg(long, value_name = "PIXELS")]
    resize: Option<u32>,
    /// Side of the network's input, where the training changed it.
    #[arg(long, value_name = "PIXELS")]
    size: Option<u32>,
    /// The backbone it was trained on.
    #[arg(long, value_name = "NAME", default_value = Architecture::WideResnet50_2.name())]
    backbone: String,
    /// The backbone's weights: a safetensors or .pth file, `embedded`, or `synthetic:SEED`. Default: installed ones.
    #[arg(long, value_name = "FILE")]
    weights: Option<String>,
    /// What the model inspects, for reports.
    #[arg(long, value_name = "NAME", default_value = "imported")]
    category: String,
    /// Keep the backbone inside the model file.
    #[arg(long)]
    bundle: bool,
    /// Where the model goes.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

/// Runs the verb.
pub(super) fn run(args: &ImportArgs, console: &Console) -> anyhow::Result<Outcome> {
    let (head, tensors) = import_head(&args.checkpoint)?;
    let mut settings = Settings::preset(args.preset);
    let (features, training) = (&mut settings.features, &mut settings.training);
    features.preprocess.resize = args.resize.unwrap_or(features.preprocess.resize);
    features.preprocess.crop = args.size.unwrap_or(features.preprocess.crop);
    (training.adaptor, training.adaptor_bias) = (head.adaptor, head.adaptor_bias);
    training.hidden = head.hidden;
    // Their code takes features as they are.
    training.feature_scale = FeatureScale::None;
    settings.validate()?;

    let deepest = settings.features.levels.deepest();
    let backbone = resolve_backbone(&args.backbone, args.weights.as_deref(), deepest)?;
    let widths = backbone.identity.architecture.channels();
    let levels: Vec<usize> = settings.features.levels.as_slice().iter().map(|l| widths[l - 1]).collect();
    let channels = settings.features.aggregation.output_channels(&levels);
    if channels != head.channels {
        bail!(
            "{}: its head takes features of {} channels, but {} with these settings gives {channels}; name the \
             backbone and the preset it was trained with (--backbone, --preset)",
            args.checkpoint.display(),
            head.channels,
            backbone.identity.architecture
        );
    }
    let model = Model {
        metadata: ModelMetadata {
            format: FORMAT,
            category: args.category.clone(),
            backbone: backbone.identity.clone(),
            settings,
            head,
            // A checkpoint of the authors tells neither; zero stands for unknown.
            seed: 0,
            train_images: 0,
            synthetic_data: false,
            // Their loader is PIL.Image.open, which leaves orientation tags alone.
            ignore_exif: true,
            calibration: None,
            thresholds: Thresholds::default(),
            chosen_epoch: None,
        },
        head: tensors,
        backbone: args.bundle.then(|| backbone.used_tensors()),
    };
    model.save(&args.output)?;
    console.say(format_args!(
        "{}: a model on {}; it has no threshold yet: set one with `simplenet threshold --model {} --set SCORE`",
        args.output.display(),
        backbone.description,
        args.output.display()
    ));
    console.warn(
        "the authors' script keeps the epoch that was best on the test set: results on that set flatter the model",
    );
    Ok(Outcome::Success)
}
