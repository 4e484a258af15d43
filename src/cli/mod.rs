//! The command line: one file per command.

use std::process::ExitCode;

/// Parses the command line and runs the command; `serve` is the default.
pub fn main() -> ExitCode {
    todo!("W1")
}
