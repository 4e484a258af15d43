//! `relais uninstall`: takes away what `relais install` brought and says what it kept.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};

use super::layout::{CONFIG_DIR, FILES, LINKS, Layout, STATE_DIR, USER};
use super::machine::{self, Machine};
use crate::cli::print;

/// What `relais uninstall` takes.
#[derive(clap::Args)]
pub struct Args {
    /// Remove the configuration, the state (secrets, certificates) and the user as well
    #[arg(long)]
    purge: bool,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Remove from below this directory and stop nothing: for images
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

/// Stops the service and removes its files.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let layout = Layout::new(args.root.as_deref())?;
    if layout.is_packaged {
        bail!("this is a package's program: apt remove relais (apt purge relais takes configuration and state too)");
    }
    if !args.dry_run {
        Machine::new(layout.is_image()).demand(&layout)?;
    }
    let has_unit = layout.target(FILES[0].0).exists();
    if !layout.is_image() && has_unit {
        tell(args.dry_run, "stopped", "would stop", "relais.service and relais.socket");
        if !args.dry_run {
            machine::stop()?;
        }
    }
    let links = LINKS.iter().map(|(path, _)| layout.target(path));
    let files = FILES.iter().map(|(path, _)| layout.target(path));
    for path in links.chain(files).chain([layout.installed()]) {
        remove(&path, args.dry_run)?;
    }
    if !layout.is_image() && !args.dry_run && has_unit {
        machine::run("systemctl", &["daemon-reload"])?;
    }
    let own = [layout.target(CONFIG_DIR), layout.target(STATE_DIR)];
    for path in own.iter().filter(|path| path.exists()) {
        if args.purge {
            remove(path, args.dry_run)?;
        } else {
            print(&format!("kept        {} (--purge removes it)\n", path.display()));
        }
    }
    if !layout.is_image() && machine::user_exists() {
        if args.purge {
            tell(args.dry_run, "removed", "would remove", "the user relais");
            if !args.dry_run {
                machine::run("userdel", &[USER])?;
            }
        } else {
            print("kept        the user relais (--purge removes it)\n");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(is_dry: bool, done: &str, planned: &str, what: &str) {
    let word = if is_dry { planned } else { done };
    print(&format!("{word:<11} {what}\n"));
}

/// Removes a file or a directory with what is in it; what is not there needs no removing.
fn remove(path: &Path, is_dry: bool) -> anyhow::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot look at {}", path.display())),
    };
    tell(is_dry, "removed", "would remove", &path.display().to_string());
    if is_dry {
        return Ok(());
    }
    let removed = if metadata.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.with_context(|| format!("cannot remove {}: run as root (sudo)", path.display()))
}
