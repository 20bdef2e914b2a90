//! A run folder: what lies where, and the record that lets a run be repeated or resumed.

use super::args::DataArgs;
use super::backbone::ResolvedBackbone;
use super::sweep::SWEEP_FILE;
use crate::backend::{CachePrecision, FeatureCacheOptions};
use crate::data::{Category, GOOD_NAMES, OneClassSet, PlainFolders, demo, discover, from_folders};
use crate::detector::BackboneIdentity;
use crate::files::write_whole;
use crate::report::jsonl::is_false;
use crate::settings::{Selection, Settings};
use crate::training::CalibrationPlan;
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

/// Where images come from, with absolute paths.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum DataSource {
    /// The built-in synthetic set.
    Demo(PathBuf),
    /// A folder in MVTec AD's layout.
    Tree {
        /// The folder.
        root: PathBuf,
        /// Chosen categories; all if empty.
        categories: Vec<String>,
    },
    /// Classes, each to be learned on its own.
    OneClass {
        /// The folder.
        root: PathBuf,
        /// Chosen classes; all if empty.
        classes: Vec<String>,
        /// How many images of each class are taken; all if `None`.
        subset: Option<usize>,
    },
    /// Folders that follow no layout.
    Folders {
        /// Good images to learn from.
        train_good: PathBuf,
        /// Good images to test on.
        test_good: Option<PathBuf>,
        /// Defective images to test on.
        test_bad: Option<PathBuf>,
        /// Masks of the defective images.
        masks: Option<PathBuf>,
    },
}

impl DataSource {
    /// What the flags say; the demo set, written to the cache folder if need be, where they say nothing.
    pub(super) fn from_args(args: &DataArgs) -> anyhow::Result<Self> {
        let optional = |path: &Option<PathBuf>| path.as_deref().map(absolute).transpose();
        if let Some(train_good) = &args.train_good {
            return Ok(Self::Folders {
                train_good: absolute(train_good)?,
                test_good: optional(&args.test_good)?,
                test_bad: optional(&args.test_bad)?,
                masks: optional(&args.masks)?,
            });
        }
        match &args.data {
            Some(root) if args.one_class => Ok(Self::OneClass {
                root: absolute(root)?,
                classes: args.category.clone(),
                subset: args.subset,
            }),
            Some(root) => Ok(Self::Tree { root: absolute(root)?, categories: args.category.clone() }),
            None => Ok(Self::Demo(demo::ensure_cached()?)),
        }
    }

    /// The classes, where each is to be learned on its own.
    pub(super) fn one_class(&self) -> anyhow::Result<Option<OneClassSet>> {
        Ok(match self {
            Self::OneClass { root, classes, subset } => Some(OneClassSet::discover(root, classes, *subset)?),
            Self::Demo(_) | Self::Tree { .. } | Self::Folders { .. } => None,
        })
    }

    /// How many images of each class are taken, where not all are.
    pub(super) fn subset(&self) -> Option<usize> {
        if let Self::OneClass { subset, .. } = self { *subset } else { None }
    }

    /// The categories with their images; test images that belong to several are left to [`DataSource::one_class`].
    pub(super) fn categories(&self) -> anyhow::Result<Vec<Category>> {
        Ok(match self {
            Self::Demo(root) => discover(root, &[])?,
            Self::Tree { root, categories } => discover(root, categories)?,
            Self::OneClass { root, classes, subset } => {
                OneClassSet::discover(root, classes, *subset)?.categories()
            }
            Self::Folders { train_good, test_good, test_bad, masks } => {
                // The folder above `good` names the part, where there is one.
                let name = train_good
                    .ancestors()
                    .filter_map(|folder| folder.file_name())
                    .map(|name| name.to_string_lossy().into_owned())
                    .find(|name| {
                        let mut generic = GOOD_NAMES.iter().chain(&["train", "images"]);
                        !generic.any(|generic| name.eq_ignore_ascii_case(generic))
                    })
                    .unwrap_or_else(|| "part".to_owned());
                vec![from_folders(PlainFolders {
                    name,
                    train_good: train_good.clone(),
                    test_good: test_good.clone(),
                    test_bad: test_bad.clone(),
                    masks: masks.clone(),
                })?]
            }
        })
    }

    /// Whether these are the program's own synthetic images.
    pub(super) fn is_synthetic(&self) -> bool {
        match self {
            Self::Demo(_) => true,
            Self::Tree { root, .. } | Self::OneClass { root, .. } => demo::is_demo(root),
            Self::Folders { .. } => false,
        }
    }

    /// The source in words.
    pub(super) fn description(&self) -> String {
        match self {
            Self::Demo(_) => "the built-in synthetic demo set".to_owned(),
            Self::Tree { root, .. } => root.display().to_string(),
            Self::OneClass { root, subset: None, .. } => format!("{}, class by class", root.display()),
            Self::OneClass { root, subset: Some(subset), .. } => {
                format!("{}, class by class, subset of {subset} images a class", root.display())
            }
            Self::Folders { train_good, .. } => train_good.display().to_string(),
        }
    }
}

/// A path that means the same from every folder and in `run.json`.
pub(super) fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    let absolute = std::path::absolute(path).with_context(|| format!("cannot resolve {}", path.display()))?;
    if absolute.to_str().is_none() {
        bail!("{} is not valid UTF-8, and run.json could not name it; rename it", path.display());
    }
    Ok(absolute)
}

/// Everything that decides what a run computes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RunSpec {
    /// Where images come from.
    pub data: DataSource,
    /// Whether EXIF orientation is ignored.
    pub ignore_exif: bool,
    /// Whether an unreadable image ends the run.
    pub strict: bool,
    /// `--backbone` as resolved.
    pub backbone: String,
    /// `--weights` as given.
    pub weights: Option<String>,
    /// Everything that shapes a model.
    pub settings: Settings,
    /// One model each.
    pub seeds: Vec<u64>,
    /// How thresholds are found.
    pub calibration: CalibrationPlan,
    /// Element type of the feature cache.
    pub cache_precision: CachePrecision,
    /// Bytes of features kept in memory.
    pub cache_limit: u64,
    /// Whether models carry their backbone.
    pub bundle: bool,
    /// What evaluation writes.
    pub evaluation: EvaluationSpec,
}

/// What an evaluation measures and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EvaluationSpec {
    /// Whether overlays are written.
    pub overlays: bool,
    /// Whether float TIFF maps are written.
    pub maps: bool,
    /// Whether pixel metrics cover the whole original image instead of the network's input.
    pub original_geometry: bool,
    /// Whether the results are set beside the paper's.
    #[serde(default)]
    pub compare_with_paper: bool,
}

impl EvaluationSpec {
    /// The same measurements, with pictures only if they are `wanted`.
    pub(super) fn pictures_if(self, wanted: bool) -> Self {
        Self { overlays: self.overlays && wanted, maps: self.maps && wanted, ..self }
    }
}

/// `run.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RunRecord {
    /// Version of the program.
    pub version: String,
    /// What compiled it, and for which machine.
    pub compiler: String,
    /// The command line.
    pub command: Vec<String>,
    /// When it started, local time.
    pub started: String,
    /// The device in words.
    pub device: String,
    /// What is computed.
    pub spec: RunSpec,
    /// The backbone that was used.
    pub backbone: BackboneIdentity,
    /// Where its weights came from, in words.
    pub backbone_description: String,
    /// Whether the data is the program's own synthetic set.
    pub synthetic_data: bool,
    /// Whether the epoch is picked on the test set, which inflates all results; written only where it is.
    #[serde(default, skip_serializing_if = "is_false")]
    pub selected_on_test: bool,
}

impl RunRecord {
    /// The record of a run that begins now, by this command.
    pub(super) fn new(spec: RunSpec, device: String, backbone: &ResolvedBackbone) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            compiler: super::COMPILER.to_owned(),
            command: std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect(),
            started: jiff::ZonedDateTime::now().strftime("%Y-%m-%d %H:%M:%S %Z").to_string(),
            device,
            synthetic_data: spec.data.is_synthetic(),
            selected_on_test: spec.settings.training.select == Selection::Test,
            spec,
            backbone: backbone.identity.clone(),
            backbone_description: backbone.description.clone(),
        }
    }
}

/// The folder of a run.
#[derive(Debug)]
pub(super) struct RunFolder {
    root: PathBuf,
    /// The folder itself, locked as long as this process works in it: locks end with their process, however it ends.
    _lock: Option<File>,
}

impl RunFolder {
    /// Makes a folder for a new run: `given`, or `runs/<date-time>`.
    pub(super) fn create(given: Option<&Path>) -> anyhow::Result<Self> {
        let root = match given {
            Some(root) => root.to_owned(),
            None => {
                let stamp = jiff::ZonedDateTime::now().strftime("%Y-%m-%d_%H-%M-%S").to_string();
                claim(Path::new("runs"), &stamp)
                    .context("cannot make a folder in runs/; choose a writable place with --output")?
            }
        };
        for (file, what, verb) in [("run.json", "run", "train"), (SWEEP_FILE, "sweep", "sweep")] {
            if root.join(file).exists() {
                bail!(
                    "{} already holds a {what}; choose another --output, or continue one that was interrupted with \
                     `simplenet {verb} --resume {0}`",
                    root.display()
                );
            }
        }
        std::fs::create_dir_all(&root).with_context(|| {
            format!("cannot make the folder {}; choose a writable place with --output", root.display())
        })?;
        Self::claimed(root)
    }

    /// The folder of a run that was begun, and its record.
    pub(super) fn open(root: &Path) -> anyhow::Result<(Self, RunRecord)> {
        let record = read_record(root, "continue")?;
        Ok((Self::claimed(root.to_owned())?, record))
    }

    /// The folder of a run that others may be working in, to read from.
    pub(super) fn read(root: &Path) -> anyhow::Result<(Self, RunRecord)> {
        let record = read_record(root, "read")?;
        Ok((Self { root: root.to_owned(), _lock: None }, record))
    }

    /// Removes what a killed process had begun to write into `folder` and its run; absent folders hold nothing.
    pub(super) fn tidy(&self, folder: &Path) {
        for folder in [self.root.as_path(), folder] {
            crate::files::remove_unfinished(folder);
        }
    }

    /// Locks a folder. That it can be written is found out now rather than after an hour of training.
    pub(super) fn claimed(root: PathBuf) -> anyhow::Result<Self> {
        tempfile::tempfile_in(&root).with_context(|| {
            format!("cannot write into {}; make the folder writable, or take another one", root.display())
        })?;
        // Not every system opens folders, not every file system has locks; what they lose is this check.
        let lock = File::open(&root).ok();
        if let Some(Err(TryLockError::WouldBlock)) = lock.as_ref().map(File::try_lock) {
            bail!(
                "another process is working in {}; wait for it to end, or take another folder",
                root.display()
            );
        }
        Ok(Self { root, _lock: lock })
    }

    /// The folder itself.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of one model: `<category>/`, or `<category>/seed-N/` where several seeds run.
    pub(super) fn model_folder(&self, category: &str, seed: u64, seeds: &[u64]) -> PathBuf {
        let folder = self.root.join(category);
        if seeds.len() > 1 { folder.join(format!("seed-{seed}")) } else { folder }
    }

    /// Writes a value as indented JSON.
    pub(super) fn write_json(&self, name: &str, value: &impl Serialize) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(value)?;
        write_whole(&self.root.join(name), |out| out.write_all(text.as_bytes()))?;
        Ok(())
    }

    /// How features are cached in this run.
    pub(super) fn cache_options(&self, spec: &RunSpec) -> FeatureCacheOptions {
        FeatureCacheOptions {
            precision: spec.cache_precision,
            limit_bytes: spec.cache_limit,
            spill_folder: self.root.clone(),
        }
    }
}

/// `run.json` of a training; `purpose` is what the run is wanted for.
fn read_record(root: &Path, purpose: &str) -> anyhow::Result<RunRecord> {
    let path = root.join("run.json");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("{} holds no run to {purpose}: cannot read run.json", root.display()))?;
    let broken = || format!("{} is damaged or from another version; start a new run", path.display());
    // A test has its models' files in the place of a training's settings.
    let of_test = |value: &serde_json::Value| value.get("models").is_some() && value.get("spec").is_none();
    if serde_json::from_str(&text).is_ok_and(|value| of_test(&value)) {
        bail!("{} was written by `test`; give the folder of the training instead", root.display());
    }
    let record: RunRecord = serde_json::from_str(&text).with_context(broken)?;
    record.spec.settings.validate().with_context(broken)?;
    if record.spec.seeds.is_empty() {
        bail!(broken());
    }
    Ok(record)
}

/// Makes `root/name`, or `root/name-2` and so on where another process was first: making a folder is what claims it.
fn claim(root: &Path, name: &str) -> std::io::Result<PathBuf> {
    std::fs::create_dir_all(root)?;
    let mut folder = root.join(name);
    for number in 2.. {
        match std::fs::create_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                folder = root.join(format!("{name}-{number}"));
            }
            outcome => return outcome.map(|()| folder),
        }
    }
    unreachable!("there are more numbers than folders")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_claimed_once() {
        let root = tempfile::tempdir().unwrap();
        let names: Vec<PathBuf> = (0..3).map(|_| claim(root.path(), "run").unwrap()).collect();
        assert_eq!(names, ["run", "run-2", "run-3"].map(|name| root.path().join(name)));
    }
}
