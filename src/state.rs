//! The state directory: secrets and keys made at first run, mode 0600, written atomically (DESIGN section 6).

use std::path::{Path, PathBuf};

/// An opened state directory; holds the lock file while `serve` runs.
pub struct State {
    pub dir: PathBuf,
    /// Shared secret of the time-limited TURN credentials.
    pub turn_secret: Vec<u8>,
    /// HMAC key of the access tokens.
    pub token_key: Vec<u8>,
    /// Bearer token of the administrator.
    pub admin_token: String,
    lock: Option<std::fs::File>,
}

impl State {
    /// Opens `dir` for `serve`: makes it and whatever is missing, and takes the lock.
    pub fn create(dir: &Path) -> anyhow::Result<Self> {
        let _ = dir;
        todo!("W1")
    }

    /// Opens an existing `dir` for other commands; fails naming the missing file.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        let _ = dir;
        todo!("W1")
    }

    /// True while this process is the one that serves from the directory.
    pub fn is_locked(&self) -> bool {
        self.lock.is_some()
    }
}
