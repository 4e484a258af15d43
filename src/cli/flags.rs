//! The options as flags: made from the same table as the keys of the file, so that no name or help text is said twice.

use std::marker::PhantomData;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::config::keys::{KEYS, Key, Kind};
use crate::config::layers::{Setting, Settings, Source};
use crate::config::load::{self, ConfigError, Loaded, Surroundings};

const CONFIG: &str = "config";

/// Which options a command takes.
pub trait Selection {
    /// True when the command has a flag for `key`.
    fn takes(key: &Key) -> bool;
}

/// Every option that has a flag.
#[derive(Clone, Copy, Debug)]
pub struct ServeFlags;

impl Selection for ServeFlags {
    fn takes(_: &Key) -> bool {
        true
    }
}

/// What finds the secrets and tells how the server is reached.
#[derive(Clone, Copy, Debug)]
pub struct IdentityFlags;

impl Selection for IdentityFlags {
    fn takes(key: &Key) -> bool {
        ["state_dir", "secret_file", "secret", "domain", "public_ip"].contains(&key.name)
    }
}

/// What finds the secrets alone.
#[derive(Clone, Copy, Debug)]
pub struct SecretFlags;

impl Selection for SecretFlags {
    fn takes(key: &Key) -> bool {
        ["state_dir", "secret_file", "secret"].contains(&key.name)
    }
}

/// `--config` and the options of `S`, as far as they were given.
#[derive(Clone, Debug)]
pub struct Flags<S> {
    config: Option<PathBuf>,
    pub settings: Settings,
    selection: PhantomData<S>,
}

impl<S: Selection> Flags<S> {
    /// Reads the other layers and checks the whole.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        load::load(self.config.as_deref(), self.settings.clone(), &Surroundings::of_process())
    }
}

impl<S: Selection> Args for Flags<S> {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new(CONFIG)
            .long("config")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help(format!("Configuration file [default: {} if it exists]", load::DEFAULT_FILE));
        let keys = KEYS.iter().filter(|key| key.flag && S::takes(key));
        command.arg(config.help_heading(heading(""))).args(keys.map(argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<S: Selection> FromArgMatches for Flags<S> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut settings = Settings::new();
        for key in KEYS.iter().filter(|key| key.flag && S::takes(key)) {
            if matches.value_source(key.name) != Some(ValueSource::CommandLine) {
                continue;
            }
            let values = match key.kind {
                Kind::Switch => vec!["true".to_owned()],
                Kind::One | Kind::List | Kind::Pairs => {
                    matches.get_many::<String>(key.name).into_iter().flatten().cloned().collect()
                }
            };
            settings.insert(key.name, Setting { values, source: Source::Flag });
        }
        Ok(Self { config: matches.get_one::<PathBuf>(CONFIG).cloned(), settings, selection: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn argument(key: &Key) -> Arg {
    let repeatable = if key.kind == Kind::List { " (repeatable)" } else { "" };
    let default = if key.default == "none" { String::new() } else { format!(" [default: {}]", key.default) };
    let argument = Arg::new(key.name)
        .long(key.name.replace('_', "-"))
        .help(format!("{}{repeatable}{default}", key.help))
        .help_heading(heading(key.group));
    match key.kind {
        Kind::Switch => argument.action(ArgAction::SetTrue),
        Kind::One | Kind::List | Kind::Pairs => {
            let action = if key.kind == Kind::One { ArgAction::Set } else { ArgAction::Append };
            let argument = argument.action(action).value_name(key.value).allow_hyphen_values(false);
            if key.choices.is_empty() { argument } else { argument.value_parser(key.choices.to_vec()) }
        }
    }
}

fn heading(group: &str) -> &'static str {
    match group {
        "turn" => "STUN/TURN",
        "web" => "Web",
        "signaling" => "Signaling",
        "tls" => "TLS",
        "limits" => "Limits",
        _ => "General",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_become_settings() {
        let command = Flags::<ServeFlags>::augment_args(Command::new("x"));
        let given = ["x", "--config", "f", "--udp", "a", "--udp", "b", "--legacy-channels", "--access", "open"];
        let matches = command.try_get_matches_from(given).expect("parsed");
        let flags = Flags::<ServeFlags>::from_arg_matches(&matches).expect("taken");
        assert_eq!(flags.config.as_deref(), Some("f".as_ref()));
        let names: Vec<_> = flags.settings.keys().copied().collect();
        assert_eq!(names, ["access", "legacy_channels", "udp"]);
        assert_eq!(flags.settings["udp"].values, ["a", "b"]);
        assert_eq!(flags.settings["legacy_channels"].values, ["true"]);
    }

    #[test]
    fn choices_and_unknown_flags_are_refused() {
        for given in [
            &["x", "--access", "all"][..],
            &["x", "--acme-email", "a@b.c"],
            &["x", "--alt-port", "1"],
            &["x", "--rooms", "5"],
        ] {
            let command = Flags::<ServeFlags>::augment_args(Command::new("x"));
            assert!(command.try_get_matches_from(given).is_err(), "{given:?}");
        }
    }
}
