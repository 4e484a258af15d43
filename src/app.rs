//! Binds everything, starts shards and web, waits, drains.

use crate::config::Config;

/// Runs `serve` until SIGINT or SIGTERM.
pub fn run(config: Config) -> anyhow::Result<()> {
    let _ = config;
    todo!("W2")
}
