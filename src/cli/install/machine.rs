//! The machine that is installed on: its users, and the commands of its systemd.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use super::layout::{Layout, USER};
use super::plan::Plan;
use crate::cli::print;

/// Both units, the socket first.
const UNITS: [&str; 2] = ["relais.socket", "relais.service"];
/// Lines of the journal that are shown when the service does not start.
const JOURNAL_LINES: &str = "20";

/// Runs commands, or does not: an image is only written.
pub struct Machine {
    is_image: bool,
}

impl Machine {
    pub fn new(is_image: bool) -> Self {
        Self { is_image }
    }

    /// Refuses where it cannot work, saying what would.
    pub fn demand(&self, layout: &Layout) -> anyhow::Result<()> {
        if self.is_image {
            return Ok(());
        }
        if effective_uid() != 0 {
            bail!(
                "this must be done by root: sudo {} … (or --dry-run to see what would be done)",
                layout.program.display()
            );
        }
        if !Path::new("/run/systemd/system").is_dir() {
            bail!(
                "systemd does not run here: run `relais serve` from what starts services here, use the Containerfile, \
                 or write an image with --root DIR"
            );
        }
        Ok(())
    }

    /// Whether addresses of IPv6 can be bound; an image is for machines that have it.
    pub fn has_ipv6(&self) -> bool {
        self.is_image || Path::new("/proc/net/if_inet6").exists()
    }

    /// The commands that follow the files of `plan`, for --dry-run.
    pub fn describe(&self, plan: &Plan) -> String {
        if self.is_image {
            return String::new();
        }
        let user = if user_exists() { "" } else { "would make  the system user relais\n" };
        let start = if plan.changes_anything() || !is_active() {
            "would run   systemctl daemon-reload\nwould run   systemctl enable relais.socket relais.service\n\
             would run   systemctl restart relais.socket relais.service, and wait until it is ready\n"
        } else {
            ""
        };
        format!("{user}{start}would run   relais check\nNothing was changed.\n")
    }

    /// Makes the service's user where it is missing, and gives it the configuration to read.
    pub fn make_user(&self, layout: &Layout) -> anyhow::Result<()> {
        if self.is_image {
            // systemd-sysusers and systemd-tmpfiles do it when the image boots.
            return Ok(());
        }
        if !user_exists() {
            if find("systemd-sysusers") {
                run("systemd-sysusers", &["relais.conf"])?;
            } else {
                let home = ["--home-dir", super::layout::STATE_DIR, "--no-create-home"];
                run("useradd", &[&["--system", "--shell", "/usr/sbin/nologin"], &home[..], &[USER]].concat())?;
            }
            print("made        the system user relais\n");
        }
        let config = layout.target(super::layout::CONFIG);
        let config = config.to_string_lossy();
        run("chgrp", &[USER, super::layout::CONFIG_DIR, &config])?;
        run("chmod", &["0750", super::layout::CONFIG_DIR])?;
        run("chmod", &["0640", &config])
    }

    /// Enables and starts the service and waits until it is ready; when nothing changed and it runs, it stays as it is.
    pub fn start(&self, has_changed: bool) -> anyhow::Result<()> {
        if !has_changed && is_active() {
            print("unchanged   the service runs\n");
            return Ok(());
        }
        run("systemctl", &["daemon-reload"])?;
        run("systemctl", &[&["--quiet", "enable"], &UNITS[..]].concat())?;
        // The unit is Type=notify: this returns when every socket is served.
        if let Err(error) = run("systemctl", &[&["restart"], &UNITS[..]].concat()) {
            let journal = ["-u", UNITS[1], "-n", JOURNAL_LINES, "--no-pager", "--output=cat"];
            let _ = Command::new("journalctl").args(journal).status();
            return Err(error).context("the service did not start; its last words are above (journalctl -u relais)");
        }
        print("started     relais.service\n");
        Ok(())
    }
}

/// Stops both units for good.
pub fn stop() -> anyhow::Result<()> {
    run("systemctl", &[&["--quiet", "disable", "--now"], &UNITS[..]].concat())
}

/// Runs a command to its end; the error names it and what it said.
pub fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let shown = format!("{program} {}", arguments.join(" "));
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run {shown}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{shown} failed ({}): {}", output.status, said.trim());
    }
    Ok(())
}

fn is_active() -> bool {
    run("systemctl", &["--quiet", "is-active", UNITS[1]]).is_ok()
}

pub fn user_exists() -> bool {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    users.lines().any(|line| line.split(':').next() == Some(USER))
}

fn find(program: &str) -> bool {
    ["/usr/bin", "/bin", "/usr/sbin", "/sbin"].iter().any(|dir| Path::new(dir).join(program).exists())
}

pub fn effective_uid() -> u32 {
    fs::metadata("/proc/self").map_or(u32::MAX, |metadata| metadata.uid())
}
