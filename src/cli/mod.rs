//! The command line: one file per command.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::keys::{KEYS, Kind};
use crate::config::layers::{Setting, Settings, Source};
use crate::config::load::{Surroundings, load};

/// Parses the command line and runs the command; `serve` is the default.
pub fn main() -> ExitCode {
    let mut settings = Settings::new();
    let mut file: Option<PathBuf> = None;
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "serve");
    while let Some(argument) = arguments.next() {
        if argument == "--config" {
            file = arguments.next().map(PathBuf::from);
            continue;
        }
        let Some(key) = KEYS.iter().find(|key| key.flag_name() == argument) else {
            eprintln!("unknown argument {argument}");
            return ExitCode::from(2);
        };
        let value = match key.kind {
            Kind::Switch => "true".to_owned(),
            Kind::One | Kind::List | Kind::Pairs => arguments.next().unwrap_or_default(),
        };
        let setting = settings.entry(key.name).or_insert(Setting { values: Vec::new(), source: Source::Flag });
        setting.values.push(value);
    }
    let loaded = match load(file.as_deref(), settings, &Surroundings::of_process()) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let outcome = crate::logging::init(loaded.config.log_format, &loaded.config.log_level)
        .and_then(|()| crate::app::run(loaded.config));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("relais: {error:#}");
            ExitCode::FAILURE
        }
    }
}
