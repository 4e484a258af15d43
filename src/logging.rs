//! The log on standard error: text or JSON, level by configuration. Addresses appear at debug only, secrets never.

use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Installs the subscriber. `level` is a tracing filter such as `info` or `relais::net=debug`.
pub fn init(format: LogFormat, level: &str) -> anyhow::Result<()> {
    let builder = tracing_subscriber::fmt().with_env_filter(filter(level)?).with_writer(std::io::stderr);
    let installed = match format {
        LogFormat::Text => {
            let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            builder.with_ansi(colour).with_target(false).try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init(),
    };
    installed.map_err(|error| anyhow::anyhow!("cannot start the log: {error}"))
}

/// Reads `level`: a level alone speaks of relais, so that the libraries below stay at warnings.
pub fn filter(level: &str) -> anyhow::Result<EnvFilter> {
    let is_level = ["off", "error", "warn", "info", "debug", "trace"].contains(&level.to_ascii_lowercase().as_str());
    let directives = if is_level { format!("warn,relais={level}") } else { level.to_owned() };
    EnvFilter::builder()
        .parse(&directives)
        .with_context(|| format!("{level:?} is no log level; write error, warn, info, debug or trace"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_directives() {
        assert_eq!(filter("info").expect("a level").to_string(), "relais=info,warn");
        assert_eq!(filter("DEBUG").expect("a level").to_string(), "relais=debug,warn");
        assert_eq!(filter("relais::net=debug").expect("a directive").to_string(), "relais::net=debug");
        assert!(filter("relais=loud").is_err());
    }
}
