//! `relais config check`: is it right, and what does it come to?

use std::process::ExitCode;

use super::flags::{Flags, ServeFlags};
use super::{complain, print};
use crate::config::show;

/// Checks all layers and prints the effective configuration, which can be read again as a file.
pub fn run(flags: &Flags<ServeFlags>) -> anyhow::Result<ExitCode> {
    let loaded = flags.load()?;
    let origin = match &loaded.file {
        Some(file) => format!("# {} is good. With variables and flags it comes to:\n", file.display()),
        None => "# No configuration file. Defaults, variables and flags come to:\n".to_owned(),
    };
    print(&format!("{origin}\n{}", show::to_toml(&loaded.config)));
    for warning in &loaded.warnings {
        complain(&format!("warning: {warning}"));
    }
    Ok(ExitCode::SUCCESS)
}
