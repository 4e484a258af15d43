//! Parses the command line, runs the command, turns errors into exit codes.

use std::process::ExitCode;

fn main() -> ExitCode {
    relais::cli::main()
}
