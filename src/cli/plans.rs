//! `--plans`: the fastest way for each product and convolution, chosen once and kept beside the model.

use super::Environment;
use super::console::Console;
use crate::backend::Backend;
use crate::backend::cuda::{Plans, Tuned, Tuner};
use crate::detector::{Detector, Model};
use anyhow::{Context, bail};
use clap::Args;
use std::path::{Path, PathBuf};

/// The ending of a table's name, instead of the model's.
const ENDING: &str = "plans.json";

/// How a GPU chooses among ways to compute the same.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct PlansArgs {
    /// On a GPU: take the ways of computing that this file names, and nothing that is timed; `off` takes the first that
    /// cuBLASLt offers. Default: the fastest, timed once and kept as <model>.plans.json.
    #[arg(long, value_name = "FILE|off")]
    plans: Option<String>,
}

/// `--plans` as it was meant.
enum Choice {
    /// What is kept beside the model, and made where it is missing.
    Kept(Option<PathBuf>),
    /// What a file says.
    Pinned(PathBuf),
    /// Nothing is timed, and no file is looked at.
    Off,
}

impl PlansArgs {
    fn choice(&self, model: Option<&Path>) -> Choice {
        match self.plans.as_deref() {
            None => Choice::Kept(model.map(|model| model.with_extension(ENDING))),
            Some("off") => Choice::Off,
            Some(file) => Choice::Pinned(file.into()),
        }
    }

    /// Settles how a detector computes batches of these sizes, before the first image: one pass of each. Other sizes
    /// take the first way that is offered. What was timed is kept beside the model's file, if there is one.
    ///
    /// # Errors
    /// [`Environment`] for pinned plans of another device; what is wrong with their file.
    pub(super) fn settle<B: Backend<Scalar = f32>>(
        &self,
        backend: &B,
        detector: &Detector<B>,
        model: &Model,
        path: Option<&Path>,
        batches: &[usize],
        console: &Console,
    ) -> anyhow::Result<()> {
        let side = model.metadata.settings.features.preprocess.crop as usize;
        self.settle_with(backend, path, console, || {
            for (index, &batch) in batches.iter().enumerate() {
                if batch > 0 && !batches[..index].contains(&batch) {
                    detector.score(backend, &noise(batch * side * side * 3))?;
                }
            }
            Ok(())
        })
    }

    fn settle_with<B: Backend>(
        &self,
        backend: &B,
        model: Option<&Path>,
        console: &Console,
        passes: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let Some(tuner) = backend.tuner() else {
            if self.plans.is_some() {
                console.detail("--plans does nothing here: the CPU times nothing");
            }
            return Ok(());
        };
        match self.choice(model) {
            Choice::Off => Ok(()),
            Choice::Pinned(path) => pin(&tuner, &path, console, passes),
            Choice::Kept(path) => keep(&tuner, path.as_deref(), console, passes),
        }
    }
}

/// Takes what a file says, and nothing else.
fn pin(
    tuner: &Tuner<'_>,
    path: &Path,
    console: &Console,
    passes: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let Some(plans) = Plans::read(path).context("--plans")? else {
        bail!(
            "--plans {}: there is no such file; run once without --plans and copy the model's .{ENDING}, or use --plans \
             off",
            path.display()
        );
    };
    let origin = tuner.origin()?;
    if plans.origin != origin {
        bail!(Environment(format!(
            "--plans {} is of {}, and this is {origin}; leave --plans out to have plans made for this device, or give \
             a file that was made like that",
            path.display(),
            plans.origin
        )));
    }
    tuner.begin(Some(&plans), false);
    passes()?;
    let Tuned { missing, refused, .. } = tuner.finish()?;
    if missing > 0 {
        let refused = refused.len();
        console.warn(format_args!(
            "{} has no plan that serves for {missing} products and convolutions{}: these are computed in the first way that \
             is offered; for a table that has them, run once without --plans",
            path.display(),
            if refused > 0 { format!(" ({refused} of its plans are refused)") } else { String::new() },
        ));
    }
    Ok(())
}

/// Takes what is kept, times what is missing, and keeps that, too.
fn keep(
    tuner: &Tuner<'_>,
    path: Option<&Path>,
    console: &Console,
    passes: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let known = path.and_then(|path| kept(tuner, path, console).transpose()).transpose()?;
    if known.is_none() {
        console.say(format_args!(
            "choosing the fastest of several ways for each product and convolution on {}: once, {}",
            tuner.device(),
            match path {
                Some(path) => format!("kept in {}", path.display()),
                None => "for this run".to_owned(),
            }
        ));
    }
    let start = std::time::Instant::now();
    tuner.begin(known.as_ref(), true);
    passes()?;
    let Tuned { plans, measured, refused, failed, warm, .. } = tuner.finish()?;
    if !refused.is_empty() {
        console.warn(format_args!("{} kept plans were not accepted and were made again", refused.len()));
    }
    if let Some(first) = failed.first() {
        let again =
            path.map(|path| format!("; delete {} to choose again", path.display())).unwrap_or_default();
        console
            .warn(format_args!("ways that failed and were not chosen: {}, as {first}{again}", failed.len()));
    }
    if measured > 0 {
        console.say(format_args!("timed {measured} choices in {:.1} s", start.elapsed().as_secs_f64()));
    }
    if warm && measured > 0 {
        console.warn(
            "there was no memory to clear the GPU's cache between measurements: they favour what fits it",
        );
    }
    let Some(path) = path.filter(|_| known.as_ref() != Some(&plans)) else { return Ok(()) };
    if let Err(error) = plans.write(path) {
        console.warn(format_args!(
            "{error}; the plans serve this run only, and the next one times them again (--plans off times nothing)"
        ));
    }
    Ok(())
}

/// The table beside the model, where it serves here.
fn kept(tuner: &Tuner<'_>, path: &Path, console: &Console) -> anyhow::Result<Option<Plans>> {
    let plans = match Plans::read(path) {
        Ok(Some(plans)) => plans,
        Ok(None) => return Ok(None),
        Err(error) => {
            console.warn(error);
            return Ok(None);
        }
    };
    let origin = tuner.origin()?;
    if plans.origin == origin {
        return Ok(Some(plans));
    }
    console.say(format_args!(
        "{} is of {}, and this is {origin}: it is made anew",
        path.display(),
        plans.origin
    ));
    Ok(None)
}

/// Bytes without a pattern, as pixels: a processor that multiplies zeros needs less power, and runs faster, than one at
/// work.
fn noise(len: usize) -> Vec<u8> {
    // Knuth's multiplicative hash.
    (0..len).map(|index| ((index as u32).wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_lies_beside_its_model() {
        let choice = |flag: Option<&str>, model: Option<&str>| {
            let args = PlansArgs { plans: flag.map(str::to_owned) };
            match args.choice(model.map(Path::new)) {
                Choice::Kept(path) => format!("kept {path:?}"),
                Choice::Pinned(path) => format!("pinned {path:?}"),
                Choice::Off => "off".to_owned(),
            }
        };
        assert_eq!(choice(None, Some("a/model.safetensors")), r#"kept Some("a/model.plans.json")"#);
        assert_eq!(choice(None, Some("bottle.v2")), r#"kept Some("bottle.plans.json")"#);
        assert_eq!(choice(None, None), "kept None");
        assert_eq!(choice(Some("off"), Some("m.safetensors")), "off");
        assert_eq!(choice(Some("./off"), None), r#"pinned "./off""#);
    }

    #[test]
    fn made_up_pixels_take_all_values() {
        let mut counts = [0usize; 256];
        noise(256 * 64).iter().for_each(|&value| counts[usize::from(value)] += 1);
        assert!(counts.iter().all(|&count| (48..=80).contains(&count)), "{counts:?}");
    }
}
