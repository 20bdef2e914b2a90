//! The settings of a model on the command line: a flag a key of [`KEYS`], a preset, a configuration file.

use crate::settings::{Config, KEYS, Key, Overrides, Preset, Settings, resolve};
use anyhow::bail;
use clap::builder::{PossibleValuesParser, TypedValueParser, ValueParser};
use clap::{Arg, ArgGroup, ArgMatches, Args, Command, FromArgMatches};
use std::path::PathBuf;

/// Settings that shape a model, as they were given.
#[derive(Clone, Debug, Default)]
pub(super) struct SettingsArgs {
    /// `--preset`.
    preset: Option<Preset>,
    /// `--config`.
    config: Option<PathBuf>,
    /// A flag each.
    flags: Overrides,
}

/// Settings, and what else the configuration file said.
#[derive(Clone, Debug)]
pub(super) struct Configured {
    /// Preset, file and flags in one.
    pub settings: Settings,
    /// The file, empty where none was given.
    pub config: Config,
}

const GROUP: &str = "SettingsArgs";

impl SettingsArgs {
    /// The preset, under the configuration file, under the flags.
    pub(super) fn configured(&self) -> anyhow::Result<Configured> {
        let config = self.config.as_deref().map_or_else(|| Ok(Config::default()), Config::read)?;
        Ok(Configured { settings: self.over(&config, &Overrides::default())?, config })
    }

    /// As [`SettingsArgs::configured`], with values over all of it.
    pub(super) fn over(&self, config: &Config, values: &Overrides) -> anyhow::Result<Settings> {
        // Such as --show-config writes it, a file names every value: under another preset's name they would all stay.
        if let (Some(flag), Some(file)) = (self.preset, config.preset)
            && flag != file
        {
            bail!(
                "--preset {} contradicts the configuration file, which starts from the preset {}; leave one of them out",
                flag.name(),
                file.name()
            );
        }
        Ok(resolve(config, self.preset, &self.flags.clone().and(values.clone()))?)
    }
}

/// A flag's parser: one of its words, or whatever the key can read.
fn parser(key: &'static Key) -> ValueParser {
    if !key.choices.is_empty() {
        return PossibleValuesParser::new(key.choices).map(|word| word).into();
    }
    ValueParser::new(move |text: &str| {
        key.set(&mut Settings::preset(Preset::Paper), text).map(|()| text.to_owned())
    })
}

impl Args for SettingsArgs {
    fn group_id() -> Option<clap::Id> {
        Some(GROUP.into())
    }

    fn augment_args(command: Command) -> Command {
        let preset = Arg::new("preset")
            .long("preset")
            .value_name("NAME")
            .value_parser(PossibleValuesParser::new([Preset::Paper.name(), Preset::Official.name()]))
            .help("Starting values of all settings: what the paper describes (the default), or what its authors' code runs");
        let config = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help("Settings from a TOML file, under the flags; --show-config writes such a file");
        let flags = KEYS.iter().map(|key| {
            Arg::new(key.name)
                .long(key.name)
                .value_name(key.value)
                .allow_negative_numbers(true)
                .value_parser(parser(key))
                .help(key.about)
        });
        let all: Vec<Arg> = [preset, config].into_iter().chain(flags).collect();
        let names: Vec<clap::Id> = all.iter().map(|arg| arg.get_id().clone()).collect();
        command.args(all).group(ArgGroup::new(GROUP).multiple(true).args(names))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingsArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut args = Self::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        if let Some(name) = matches.get_one::<String>("preset") {
            self.preset = name.parse().ok();
        }
        if let Some(path) = matches.get_one::<PathBuf>("config") {
            self.config = Some(path.clone());
        }
        for key in &KEYS {
            if let Some(text) = matches.get_one::<String>(key.name) {
                let refused = |error| clap::Error::raw(clap::error::ErrorKind::InvalidValue, error);
                self.flags.insert(key.name, text.clone()).map_err(refused)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        settings: SettingsArgs,
    }

    #[test]
    fn every_key_is_a_flag_that_is_read_back() {
        let given = [
            "line",
            "--preset",
            "official",
            "--margin-negative",
            "-0.75",
            "--levels",
            "1+2",
            "--loss",
            "cross-entropy",
        ];
        let settings = Line::try_parse_from(given).unwrap().settings.configured().unwrap().settings;
        assert_eq!(settings.preset, Preset::Official);
        assert_eq!(settings.training.loss.margins().negative, -0.75);
        assert_eq!(settings.features.levels.as_slice(), [1, 2]);
        for key in &KEYS {
            let text = key.get(&settings).to_string().replace(['"', '[', ']', ' '], "");
            let flag = format!("--{}={text}", key.name);
            let again = Line::try_parse_from(["line", "--preset=official", &flag]).unwrap();
            let again = again.settings.configured().unwrap().settings;
            assert_eq!(key.get(&again), key.get(&settings), "{flag}");
        }
    }

    #[test]
    fn a_preset_does_not_lend_its_name_to_the_values_of_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("part.toml");
        std::fs::write(&path, "preset = \"official\"\nepochs = 7\n").unwrap();
        let configured = |preset: &str| {
            let line = ["line", "--preset", preset, "--config", path.to_str().unwrap()];
            Line::try_parse_from(line).unwrap().settings.configured()
        };
        assert_eq!(configured("official").unwrap().settings.training.epochs, 7);
        let error = configured("paper").unwrap_err().to_string();
        assert!(error.contains("--preset paper contradicts") && error.contains("official"), "{error}");
    }

    #[test]
    fn what_cannot_be_read_is_refused_where_it_is_typed() {
        for (flag, expected) in [
            ("--loss=l2", "truncated-l1"),
            ("--epochs=many", "give a number"),
            ("--patch=-1", "give a whole number"),
            ("--levels=4", "no list of backbone levels"),
        ] {
            let error = Line::try_parse_from(["line", flag]).err().unwrap().to_string();
            assert!(error.contains(expected), "{flag}: {error}");
        }
    }
}
