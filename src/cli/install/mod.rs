//! `relais install` and `relais uninstall`: this program as a systemd service.

mod layout;
mod machine;
mod plan;
mod report;
mod uninstall;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};

use super::print;
use crate::config::layers::Settings;
use crate::config::load::{self, Loaded, Surroundings};
use crate::config::parse;
use crate::config::sample::{self, Set, quoted};
use layout::{CONFIG, Layout};
use machine::Machine;
use plan::Plan;

pub use uninstall::{Args as UninstallArgs, run as run_uninstall};

/// What `relais install` takes.
#[derive(clap::Args)]
pub struct Args {
    /// The name under which the world reaches this server; its DNS must lead here
    #[arg(long, value_name = "NAME", value_parser = parse::domain)]
    domain: Option<String>,
    /// Where the certificate's authority (Let's Encrypt) may write when a certificate is about to expire
    #[arg(long, value_name = "ADDRESS", value_parser = parse::email)]
    email: Option<String>,
    /// The address the world sees, behind 1:1 NAT or without a domain (repeatable)
    #[arg(long, value_name = "PUBLIC[/BOUND]", value_parser = public_ip)]
    public_ip: Vec<String>,
    /// Get no certificate by ACME; browsers warn until one of your own is given or /ca.crt is installed
    #[arg(long)]
    no_acme: bool,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Write below this directory and start nothing: for images
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

fn public_ip(text: &str) -> Result<String, String> {
    parse::public_ip(text).map(|_| text.to_owned())
}

/// Installs, starts, tests and reports. Done twice, the second time changes nothing.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let layout = Layout::new(args.root.as_deref())?;
    let machine = Machine::new(args.root.is_some());
    if !args.dry_run {
        machine.demand(&layout)?;
    }
    let wanted = wanted(args, machine.has_ipv6());
    let plan = Plan::make(&layout, &sample::render(&wanted))?;
    let differences = match plan.kept_configuration() {
        Some(file) => differences(file, &wanted)?,
        None => Vec::new(),
    };
    print(&plan.describe(args.dry_run));
    for difference in &differences {
        print(&format!("            {difference}\n"));
    }
    if args.dry_run {
        print(&machine.describe(&plan));
        return Ok(ExitCode::SUCCESS);
    }
    plan.carry_out()?;
    machine.make_user(&layout)?;
    let config = check(&layout.target(CONFIG))?;
    if args.root.is_some() {
        print("\nWritten. The service starts when the image boots.\n");
        return Ok(ExitCode::SUCCESS);
    }
    machine.start(plan.changes_anything())?;
    report::installed(&config, &layout)
}

/// What the configuration file of this installation sets.
fn wanted(args: &Args, has_ipv6: bool) -> Set {
    let mut set = sample::installed(has_ipv6);
    if let Some(domain) = &args.domain {
        set.insert("domain", quoted(domain));
    }
    if !args.public_ip.is_empty() {
        let list: Vec<String> = args.public_ip.iter().map(|ip| quoted(ip)).collect();
        set.insert("public_ip", format!("[{}]", list.join(", ")));
    }
    let is_named = args.domain.as_deref().is_some_and(is_public_name);
    let is_addressed = args.domain.is_none() && args.public_ip.iter().any(|ip| is_public_ip(ip));
    if (is_named || is_addressed) && !args.no_acme {
        set.insert("acme", "true".to_owned());
        if let Some(email) = &args.email {
            set.insert("acme_email", quoted(email));
        }
    }
    set
}

/// False for names that no public authority certifies (RFC 6761, RFC 8375, RFC 9476 and what home routers use).
fn is_public_name(domain: &str) -> bool {
    let last = domain.rsplit('.').next().unwrap_or_default();
    domain.contains('.')
        && !["localhost", "local", "test", "example", "invalid", "internal", "lan", "home", "arpa", "alt"]
            .contains(&last)
}

fn is_public_ip(text: &str) -> bool {
    parse::public_ip(text).is_ok_and(|ip| crate::app::is_global(ip.public))
}

/// Where an existing file says something else than this installation would have written.
fn differences(file: &Path, wanted: &Set) -> anyhow::Result<Vec<String>> {
    let there = read_settings(file, &std::fs::read_to_string(file).with_context(|| unreadable(file))?)?;
    let asked = read_settings(file, &sample::render(wanted))?;
    let mut found = Vec::new();
    for key in crate::config::keys::KEYS {
        let shown = |settings: &Settings| match settings.get(key.name) {
            None => "not set".to_owned(),
            Some(_) if key.secret => "(hidden)".to_owned(),
            Some(setting) => setting.values.join(", "),
        };
        let (there, asked) = (shown(&there), shown(&asked));
        if there != asked {
            found.push(format!("{}: there {there}; this installation would have written {asked}", key.path()));
        }
    }
    Ok(found)
}

fn read_settings(file: &Path, text: &str) -> anyhow::Result<Settings> {
    crate::config::layers::from_file(file, text).map_err(|problems| load::ConfigError(problems).into())
}

fn unreadable(file: &Path) -> String {
    format!("cannot read {}: run as root (sudo)", file.display())
}

/// The installed configuration, as the service will read it.
fn check(file: &Path) -> anyhow::Result<crate::config::Config> {
    let surroundings = Surroundings { variables: Vec::new(), working_dir: "/".into(), default_file: file.to_owned() };
    let Loaded { config, .. } = load::load(Some(file), Settings::new(), &surroundings)?;
    if config.tcp.addresses.is_empty() && config.http.addresses.is_empty() {
        bail!("{} names no TCP port: pages cannot be served; set web.tcp", file.display());
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_asked_for_where_an_authority_can_give_them() {
        for (name, is_public) in [("call.example.org", true), ("box.local", false), ("box", false), ("a.lan", false)] {
            assert_eq!(is_public_name(name), is_public, "{name}");
        }
        assert!(is_public_ip("9.9.9.9/10.0.0.7") && !is_public_ip("192.168.1.2"));
    }
}
