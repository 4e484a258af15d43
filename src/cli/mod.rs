//! The command line: one file per command.

mod bench;
mod check;
mod config_check;
mod credentials;
mod flags;
mod install;
mod invite;
mod reach;
mod status;
mod words;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::app;
use crate::config::load::{ConfigError, Loaded};
use crate::logging;

use flags::{Flags, ServeFlags};

/// Exit code of a wrong command line or configuration.
const USAGE: u8 = 2;
/// Exit code of everything else that failed.
const FAILED: u8 = 1;

const ABOUT: &str = "STUN/TURN server, WebRTC signaling and pages for video calls, in one program";

const AFTER_HELP: &str = "\
Without a command, `relais` serves. The first start makes secrets and a certificate of its own and prints the links to \
open. Every option is also a key of the configuration file and a variable (--relay-ip: relay_ip in [turn], \
RELAIS_RELAY_IP); flags win over variables over the file, and lists replace each other.

Exit codes: 0 done, 1 failed, 2 wrong command line or configuration.";

#[derive(Parser)]
#[command(name = "relais", version, about = ABOUT, after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Flags<ServeFlags>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGINT or SIGTERM (what relais does without a command)
    #[command(after_help = AFTER_HELP)]
    Serve(Flags<ServeFlags>),
    /// Test a STUN/TURN server, ours or any other: name, UDP, TCP, TLS, and packets through its relay
    Check(check::Args),
    /// Print a TURN username and password, and the iceServers entry that uses them
    Credentials(credentials::Args),
    /// Print a link that lets its bearer into a room
    Invite(invite::Args),
    /// Put a TURN server under load, ours or any other of yours: rates, loss, latency, CPU of its process
    Bench(Box<bench::Args>),
    /// Show the running service: sockets, certificate, allocations, traffic, refusals
    Status(status::Args),
    /// Make this program a systemd service that starts with the machine, and test it (as root)
    Install(install::Args),
    /// Undo `install`; configuration and state are kept unless told otherwise
    Uninstall(install::UninstallArgs),
    /// Look at the configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Check file, variables and flags, and print what they come to, secrets hidden
    Check(Flags<ServeFlags>),
}

/// The whole command line, for the manual page.
pub fn command() -> clap::Command {
    CommandLine::command()
}

/// Parses the command line and runs the command; `serve` is the default.
pub fn main() -> ExitCode {
    let line = CommandLine::parse();
    let done = match line.command {
        None => serve(&line.serve),
        Some(Command::Serve(flags)) => serve(&flags),
        Some(Command::Check(args)) => check::run(&args),
        Some(Command::Credentials(args)) => credentials::run(&args),
        Some(Command::Invite(args)) => invite::run(&args),
        Some(Command::Bench(args)) => bench::run(&args),
        Some(Command::Status(args)) => status::run(&args),
        Some(Command::Install(args)) => install::run(&args),
        Some(Command::Uninstall(args)) => install::run_uninstall(&args),
        Some(Command::Config { command: ConfigCommand::Check(flags) }) => config_check::run(&flags),
    };
    done.unwrap_or_else(|error| report(&error))
}

fn serve(flags: &Flags<ServeFlags>) -> anyhow::Result<ExitCode> {
    let Loaded { config, warnings, file } = flags.load()?;
    let again = flags.clone();
    logging::init(config.log_format, &config.log_level)?;
    if let Some(file) = file {
        tracing::info!(file = %file.display(), "configuration read");
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    app::run(config, &(Box::new(move || again.load()) as app::Source))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints each problem on a line of its own, with its chain of causes.
fn report(error: &anyhow::Error) -> ExitCode {
    if let Some(ConfigError(problems)) = error.downcast_ref() {
        for problem in problems {
            complain(&problem.to_string());
        }
        return ExitCode::from(USAGE);
    }
    complain(&format!("{error:#}"));
    if error.is::<UsageError>() { ExitCode::from(USAGE) } else { ExitCode::from(FAILED) }
}

/// A fault of the command line that only the command itself can see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UsageError(String);

fn complain(problem: &str) {
    let line = problem.split('\n').map(str::trim).collect::<Vec<_>>().join(" ");
    let _ = writeln!(std::io::stderr(), "relais: {line}");
}

/// Prints to standard output. A reader that went away (`| head`) is no failure of ours.
fn print(text: &str) {
    let mut output = std::io::stdout().lock();
    let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
}
