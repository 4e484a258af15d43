//! The files of an installation: what is there already, what is missing, and writing it.

use std::fmt::Write as _;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::layout::{CONFIG, FILES, LINKS, Layout};

/// What is to be done with one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Create,
    Replace,
    /// As it should be already.
    Leave,
    /// The operator's own.
    Keep,
}

enum Contents {
    Text(String),
    CopyOf(PathBuf),
    LinkTo(String),
}

struct Item {
    path: PathBuf,
    contents: Contents,
    mode: u32,
    action: Action,
}

/// Everything that an installation writes.
pub struct Plan {
    items: Vec<Item>,
    config: PathBuf,
}

impl Plan {
    /// Compares what should be with what is there.
    pub fn make(layout: &Layout, configuration: &str) -> anyhow::Result<Self> {
        let config = layout.target(CONFIG);
        let mut items = Vec::new();
        if !layout.is_packaged {
            items.push(item(layout.installed(), Contents::CopyOf(layout.program.clone()), 0o755)?);
            for (path, text) in FILES {
                items.push(item(layout.target(path), Contents::Text((*text).to_owned()), 0o644)?);
            }
        }
        let mut own = item(config.clone(), Contents::Text(configuration.to_owned()), 0o640)?;
        if own.action == Action::Replace {
            own.action = Action::Keep;
        }
        items.push(own);
        if layout.is_image() {
            for (path, target) in LINKS {
                items.push(item(layout.target(path), Contents::LinkTo((*target).to_owned()), 0)?);
            }
        }
        Ok(Self { items, config })
    }

    /// The configuration file that is there and stays.
    pub fn kept_configuration(&self) -> Option<&Path> {
        let is_kept = |item: &Item| item.path == self.config && item.action == Action::Keep;
        self.items.iter().any(is_kept).then_some(&*self.config)
    }

    /// True when a file is new or another one.
    pub fn changes_anything(&self) -> bool {
        self.items.iter().any(|item| matches!(item.action, Action::Create | Action::Replace))
    }

    /// A line for each file.
    pub fn describe(&self, is_dry: bool) -> String {
        let mut text = String::new();
        for item in &self.items {
            let word = match (item.action, is_dry) {
                (Action::Create, false) => "written",
                (Action::Create, true) => "would write",
                (Action::Replace, false) => "replaced",
                (Action::Replace, true) => "would replace",
                (Action::Leave, _) => "unchanged",
                (Action::Keep, _) => "kept",
            };
            // Writing to a string does not fail.
            let _ = writeln!(text, "{word:<11} {}", item.path.display());
        }
        text
    }

    /// Writes what is missing; each file appears whole or not at all.
    pub fn carry_out(&self) -> anyhow::Result<()> {
        for item in self.items.iter().filter(|item| matches!(item.action, Action::Create | Action::Replace)) {
            write(item)
                .with_context(|| format!("cannot write {}: is there space, and is this root?", item.path.display()))?;
        }
        Ok(())
    }
}

fn item(path: PathBuf, contents: Contents, mode: u32) -> anyhow::Result<Item> {
    let action =
        state(&path, &contents).with_context(|| format!("cannot look at {}: run as root (sudo)", path.display()))?;
    Ok(Item { path, contents, mode, action })
}

fn state(path: &Path, contents: &Contents) -> io::Result<Action> {
    let is_same = match contents {
        Contents::LinkTo(target) => fs::read_link(path).map(|found| found == Path::new(target)),
        Contents::Text(text) => fs::read(path).map(|found| found == text.as_bytes()),
        Contents::CopyOf(source) => is_copy(path, source),
    };
    match is_same {
        Ok(true) => Ok(Action::Leave),
        Ok(false) => Ok(Action::Replace),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Action::Create),
        Err(error) => Err(error),
    }
}

/// Whether two files have the same contents.
fn is_copy(path: &Path, source: &Path) -> io::Result<bool> {
    let (mut one, mut other) = (File::open(path)?, File::open(source)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let length = one.read(&mut left)?;
        if length == 0 {
            return Ok(true);
        }
        other.read_exact(&mut right[..length])?;
        if left[..length] != right[..length] {
            return Ok(false);
        }
    }
}

fn write(item: &Item) -> io::Result<()> {
    let dir = item.path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(dir)?;
    let name = item.path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let temporary = dir.join(format!(".{}.{}.tmp", name.to_string_lossy(), std::process::id()));
    let written = fill(&temporary, item).and_then(|()| fs::rename(&temporary, &item.path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn fill(temporary: &Path, item: &Item) -> io::Result<()> {
    match &item.contents {
        Contents::LinkTo(target) => symlink(target, temporary),
        Contents::Text(text) => {
            let mut file = File::create_new(temporary)?;
            file.set_permissions(Permissions::from_mode(item.mode))?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        }
        Contents::CopyOf(source) => {
            // A running program cannot be written to, but its file can be replaced.
            fs::copy(source, temporary)?;
            fs::set_permissions(temporary, Permissions::from_mode(item.mode))?;
            File::open(temporary)?.sync_all()
        }
    }
}
