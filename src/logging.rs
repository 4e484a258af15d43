//! The log on standard error: text or JSON, level by configuration. Addresses appear at debug only, secrets never.

use std::io::IsTerminal;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::clock;
use crate::config::LogFormat;

/// How often the same complaint is logged, in milliseconds.
const SELDOM: u64 = 10_000;

/// Puts another filter in force.
type SetFilter = Box<dyn Fn(EnvFilter) -> bool + Send + Sync>;

static SET_FILTER: OnceLock<SetFilter> = OnceLock::new();

/// Lets a complaint that may come a thousand times a second into the log every ten seconds.
#[derive(Debug, Default)]
pub struct Seldom {
    /// From when on it may speak again, in monotonic milliseconds.
    next: AtomicU64,
    withheld: AtomicU64,
}

impl Seldom {
    /// `Some` when it is time to speak, with how often it was withheld since the last time.
    pub fn take(&self) -> Option<u64> {
        let (now, next) = (clock::now().mono.0, self.next.load(Ordering::Relaxed));
        let is_due =
            now >= next && self.next.compare_exchange(next, now + SELDOM, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if is_due {
            return Some(self.withheld.swap(0, Ordering::Relaxed));
        }
        self.withheld.fetch_add(1, Ordering::Relaxed);
        None
    }
}

/// Installs the subscriber. `level` is a tracing filter such as `info` or `relais::net=debug`.
pub fn init(format: LogFormat, level: &str) -> anyhow::Result<()> {
    let builder = tracing_subscriber::fmt().with_env_filter(filter(level)?).with_writer(std::io::stderr);
    let installed = match format {
        LogFormat::Text => {
            let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let builder = builder.with_ansi(colour).with_target(false).with_filter_reloading();
            let handle = builder.reload_handle();
            let _ = SET_FILTER.set(Box::new(move |filter| handle.reload(filter).is_ok()));
            builder.try_init()
        }
        LogFormat::Json => {
            let builder = builder
                .json()
                .flatten_event(true)
                .with_current_span(true)
                .with_span_list(false)
                .with_filter_reloading();
            let handle = builder.reload_handle();
            let _ = SET_FILTER.set(Box::new(move |filter| handle.reload(filter).is_ok()));
            builder.try_init()
        }
    };
    installed.map_err(|error| anyhow::anyhow!("cannot start the log: {error}"))
}

/// Another level from now on. False when it is none, or when there is no log.
pub fn set_level(level: &str) -> bool {
    filter(level).is_ok_and(|filter| SET_FILTER.get().is_some_and(|set| set(filter)))
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
