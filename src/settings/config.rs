//! Configuration files: settings by name in TOML.
//!
//! ```toml
//! preset = "official"
//! backbone = "resnet18"
//! noise-sigma = 0.02
//! levels = [2, 3]
//! ```

use super::keys::did_you_mean;
use super::{KEYS, Overrides, Preset, SettingError, Settings};
use crate::spelling::nearest;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use toml::Value;

/// What a configuration file may say beside settings.
const OTHER_KEYS: [&str; 3] = ["preset", "backbone", "weights"];

/// A configuration file, read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// The preset it starts from.
    pub preset: Option<Preset>,
    /// The backbone's name.
    pub backbone: Option<String>,
    /// Where its weights are: a path as written, `embedded` or `synthetic:SEED`.
    pub weights: Option<String>,
    /// Values that differ from the preset's.
    pub overrides: Overrides,
}

/// What is wrong with a configuration file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It could not be read.
    #[error("cannot read the configuration {}: {source}; check the path", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// It is no TOML.
    #[error("{} is no TOML file: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what.
        reason: String,
    },
    /// A key that nothing is known of.
    #[error("{}: there is no setting `{name}`{}", path.display(), did_you_mean(.meant.as_deref()))]
    Unknown {
        /// The file.
        path: PathBuf,
        /// The key.
        name: String,
        /// What may have been meant.
        meant: Option<String>,
    },
    /// A value that cannot be used.
    #[error("{}: {name} = {value}: {reason}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        name: String,
        /// The value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Config {
    /// Reads a configuration file. Every value is tried by itself; whether they fit together is found when they meet
    /// those of the command line.
    ///
    /// # Errors
    /// A file that cannot be read, unknown keys, values that cannot be.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| ConfigError::Syntax {
            path: path.to_owned(),
            reason: error.to_string().trim_end().to_owned(),
        })?;
        let mut config = Self::default();
        for (name, value) in &table {
            config.take(name, value).map_err(|problem| match problem {
                Problem::Unknown(meant) => {
                    ConfigError::Unknown { path: path.to_owned(), name: name.clone(), meant }
                }
                Problem::Value(reason) => ConfigError::Value {
                    path: path.to_owned(),
                    name: name.clone(),
                    value: value.to_string(),
                    reason,
                },
            })?;
        }
        Ok(config)
    }

    fn take(&mut self, name: &str, value: &Value) -> Result<(), Problem> {
        let key = KEYS.iter().find(|key| key.name == name);
        match (value, key.map(|key| key.get(&Settings::preset(Preset::Paper)))) {
            (Value::Array(values), Some(Value::Array(_))) if !values.iter().any(Value::is_array) => {}
            (Value::Array(_), _) => {
                return Err(Problem::Value(
                    "one value is expected, or a plain list where --show-config has one".to_owned(),
                ));
            }
            _ => {}
        }
        match name {
            "preset" => self.preset = Some(text(value)?.parse().map_err(Problem::Value)?),
            "backbone" => self.backbone = Some(text(value)?),
            "weights" => self.weights = Some(text(value)?),
            _ => {
                let Some(key) = key else {
                    let known = KEYS.iter().map(|key| key.name).chain(OTHER_KEYS);
                    return Err(Problem::Unknown(nearest(name, known).map(str::to_owned)));
                };
                let text = text(value)?;
                key.set(&mut Settings::preset(Preset::Paper), &text).map_err(Problem::Value)?;
                self.overrides.insert(name, text).map_err(|error| Problem::Value(error.to_string()))?;
            }
        }
        Ok(())
    }
}

enum Problem {
    Unknown(Option<String>),
    Value(String),
}

/// A value as it would be typed on the command line.
fn text(value: &Value) -> Result<String, Problem> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        Value::Boolean(switch) => Ok(switch.to_string()),
        Value::Array(list) => Ok(list.iter().map(text).collect::<Result<Vec<_>, _>>()?.join(",")),
        Value::Datetime(_) | Value::Table(_) => {
            Err(Problem::Value("a number, a word, true, false or a list of numbers is expected".to_owned()))
        }
    }
}

/// Every setting as a configuration file that gives it back; what differs from the preset says so.
pub fn render(settings: &Settings, backbone: &str, weights: Option<&str>) -> String {
    let mut out = String::new();
    let quoted = |text: &str| Value::String(text.to_owned()).to_string();
    // Writing into a String cannot fail.
    let _ = writeln!(out, "preset = {}", quoted(settings.preset.name()));
    let _ = writeln!(out, "backbone = {}", quoted(backbone));
    if let Some(weights) = weights {
        let _ = writeln!(out, "weights = {}", quoted(weights));
    }
    let preset = Settings::preset(settings.preset);
    for key in &KEYS {
        let (value, usual) = (key.get(settings), key.get(&preset));
        let _ = writeln!(out, "\n# {}", key.about);
        let _ = write!(out, "{} = {value}", key.name);
        let note = if value == usual { String::new() } else { format!("  # preset: {usual}") };
        let _ = writeln!(out, "{note}");
    }
    out
}

impl Preset {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Preset::Paper => "paper",
            Preset::Official => "official",
        }
    }
}

impl std::str::FromStr for Preset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Preset::Paper, Preset::Official]
            .into_iter()
            .find(|preset| preset.name() == text)
            .ok_or_else(|| "choose one of paper, official".to_owned())
    }
}

/// The settings of a configuration, under the flags of a command line.
///
/// # Errors
/// A value that cannot be read, or settings that contradict each other.
pub fn resolve(config: &Config, preset: Option<Preset>, flags: &Overrides) -> Result<Settings, SettingError> {
    let preset = preset.or(config.preset).unwrap_or(Preset::Paper);
    Settings::with_overrides(preset, &config.overrides.clone().and(flags.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("part.toml");
        std::fs::write(&path, text).unwrap();
        Config::read(&path).map_err(|error| error.to_string())
    }

    fn overridden(pairs: &[(&str, &str)]) -> Overrides {
        let mut overrides = Overrides::default();
        pairs.iter().for_each(|(name, value)| overrides.insert(name, (*value).to_owned()).unwrap());
        overrides
    }

    #[test]
    fn what_is_shown_reads_back_to_the_same_settings() {
        for preset in [Preset::Paper, Preset::Official] {
            let changes = [
                ("levels", "1+2+3"),
                ("size", "96"),
                ("resize", "100"),
                ("loss", "cross-entropy"),
                ("margin-negative", "-0.75"),
                ("adaptor-weight-decay", "0.000001"),
            ];
            for flags in [Overrides::default(), overridden(&changes)] {
                let settings = Settings::with_overrides(preset, &flags).unwrap();
                let text = render(&settings, "resnet18", Some("a \"file\".pth"));
                let config = read(&text).unwrap();
                assert_eq!(config.backbone.as_deref(), Some("resnet18"));
                assert_eq!(config.weights.as_deref(), Some("a \"file\".pth"));
                assert_eq!(resolve(&config, None, &Overrides::default()).unwrap(), settings, "{text}");
                // The other preset's values are all overridden too.
                let names = text.lines().filter(|line| line.contains(" = ") && !line.starts_with('#'));
                assert_eq!(names.count(), KEYS.len() + 3);
            }
        }
    }

    #[test]
    fn flags_outrank_files_and_files_presets() {
        let config = read("preset = \"official\"\nepochs = 7\nbatch = 2\n").unwrap();
        let settings = resolve(&config, None, &overridden(&[("batch", "3")])).unwrap();
        let training = &settings.training;
        assert_eq!((training.epochs, training.batch, training.adaptor_bias), (7, 3, true));
        let settings = resolve(&config, Some(Preset::Paper), &Overrides::default()).unwrap();
        assert_eq!((settings.training.adaptor_bias, settings.training.epochs), (false, 7));
    }

    #[test]
    fn a_size_brings_its_resize_unless_one_is_given_in_whatever_order() {
        let settings = resolve(&read("resize = 150\nsize = 140\n").unwrap(), None, &Overrides::default());
        assert_eq!(settings.unwrap().features.preprocess.resize, 150);
        let settings = resolve(&read("size = 140\n").unwrap(), None, &Overrides::default());
        assert_eq!(settings.unwrap().features.preprocess.resize, 160);
    }

    #[test]
    fn bad_files_are_refused_with_the_key_and_a_cure() {
        for (text, expected) in [
            ("epoch = 3", "there is no setting `epoch`; did you mean `epochs`?"),
            ("back-bone = \"x\"", "did you mean `backbone`?"),
            ("colour = 3", "`simplenet train --show-config` lists them"),
            ("epochs = \"many\"", "epochs = \"many\": give a number"),
            ("epochs = 1.5", "epochs = 1.5: give a whole number"),
            ("loss = \"l2\"", "choose one of truncated-l1, cross-entropy"),
            ("preset = \"mine\"", "choose one of paper, official"),
            ("[training]\nepochs = 3", "there is no setting `training`"),
            ("[epochs]\nmany = 3", "a number, a word"),
            ("epochs = [3]", "epochs = [3]: one value is expected"),
            ("backbone = [\"resnet18\"]", "one value is expected"),
            ("levels = [[2], [3]]", "a plain list"),
            ("levels = [2, 4]", "no list of backbone levels"),
            ("epochs 3", "is no TOML file"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected) && error.contains("part.toml"), "{text}: {error}");
        }
        let missing = Config::read(Path::new("nowhere/part.toml")).unwrap_err().to_string();
        assert!(missing.contains("cannot read") && missing.contains("nowhere"), "{missing}");
    }
}
