//! The state directory: secrets and keys made at first run, mode 0600, written atomically (DESIGN section 6).

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::config::Config;
use crate::credentials::token::random_bytes;

/// Shared secret of the time-limited TURN credentials.
pub const TURN_SECRET: &str = "turn-secret";
/// HMAC key of the access tokens.
pub const TOKEN_KEY: &str = "token-key";
/// Bearer token of the administrator.
pub const ADMIN_TOKEN: &str = "admin-token";

const LOCK: &str = "lock";
/// Shortest secret that is taken from a file, in characters: a hand-made one may be shorter than ours, not guessable.
const MIN_SECRET: usize = 16;
/// Longest secret file that is read, in bytes.
const MAX_SECRET_FILE: u64 = 4096;

/// An opened state directory; holds the lock file while `serve` runs.
#[derive(Debug)]
pub struct State {
    pub dir: PathBuf,
    /// Shared secret of the time-limited TURN credentials.
    pub turn_secret: Vec<u8>,
    /// HMAC key of the access tokens.
    pub token_key: Vec<u8>,
    /// Bearer token of the administrator.
    pub admin_token: String,
    lock: Option<File>,
}

impl State {
    /// Opens `dir` for `serve`: makes it and whatever is missing, and takes the lock.
    pub fn create(dir: &Path) -> anyhow::Result<Self> {
        make_private_dir(dir)?;
        let lock = take_lock(dir)?;
        Ok(Self {
            turn_secret: read_or_make(dir, TURN_SECRET)?.into_bytes(),
            token_key: read_or_make(dir, TOKEN_KEY)?.into_bytes(),
            admin_token: read_or_make(dir, ADMIN_TOKEN)?,
            dir: dir.to_owned(),
            lock: Some(lock),
        })
    }

    /// Opens an existing `dir` for other commands; fails naming the missing file.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            turn_secret: read_existing(dir, TURN_SECRET)?.into_bytes(),
            token_key: read_existing(dir, TOKEN_KEY)?.into_bytes(),
            admin_token: read_existing(dir, ADMIN_TOKEN)?,
            dir: dir.to_owned(),
            lock: None,
        })
    }

    /// Takes the secrets of `read`, the same directory read again; true for those that are others.
    pub fn take(&mut self, read: Self) -> [(&'static str, bool); 3] {
        let changed = [
            (TURN_SECRET, self.turn_secret != read.turn_secret),
            (TOKEN_KEY, self.token_key != read.token_key),
            (ADMIN_TOKEN, self.admin_token != read.admin_token),
        ];
        (self.turn_secret, self.token_key, self.admin_token) = (read.turn_secret, read.token_key, read.admin_token);
        changed
    }

    /// True while this process is the one that serves from the directory.
    pub fn is_locked(&self) -> bool {
        self.lock.is_some()
    }
}

/// Reads one secret of an existing state directory; the error names the missing file and the remedy.
pub fn read_existing(dir: &Path, name: &str) -> anyhow::Result<String> {
    let path = dir.join(name);
    match read_secret(&path)? {
        Some(secret) => Ok(secret),
        None => bail!(
            "{} does not exist: run `relais serve` once with this state directory, or name another with --state-dir",
            path.display()
        ),
    }
}

/// Secrets of time-limited TURN credentials, newest first: the newest signs, all verify. Those of the configuration,
/// else of its secret file, else the one made at first run. Never empty.
pub fn turn_secrets(config: &Config) -> anyhow::Result<Vec<Vec<u8>>> {
    let secrets = match &config.secret_file {
        _ if !config.secrets.is_empty() => config.secrets.clone(),
        Some(file) => read_secret_file(file)?,
        None => vec![read_existing(&config.state_dir, TURN_SECRET)?],
    };
    Ok(secrets.into_iter().map(String::into_bytes).collect())
}

/// Reads the secrets of an operator's `--secret-file`: one a line, newest first; blank lines and `#` comments are
/// skipped.
pub fn read_secret_file(path: &Path) -> anyhow::Result<Vec<String>> {
    let text = read_bounded(path).with_context(|| format!("cannot read the secret file {}", path.display()))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let secrets: Vec<String> = lines.map(str::to_owned).collect();
    if secrets.is_empty() {
        bail!("the secret file {} is empty: put one secret on a line", path.display());
    }
    Ok(secrets)
}

/// Replaces `path` by `contents` so that a reader sees the old file or the new one and never a part; mode 0600.
pub fn write_private(path: &Path, contents: &[u8]) -> io::Result<()> {
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let temporary = dir.join(format!(".{}.{}.tmp", name.to_string_lossy(), std::process::id()));
    let written = write_synced(&temporary, contents).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
        return written;
    }
    // The rename itself survives a power cut only once the directory is on the disk.
    File::open(dir)?.sync_all()
}

fn write_synced(path: &Path, contents: &[u8]) -> io::Result<()> {
    // A left-over of a killed run with our process id may have any mode: start from a fresh file.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(contents)?;
    file.sync_all()
}

fn make_private_dir(dir: &Path) -> anyhow::Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.with_context(|| {
        format!("cannot make the state directory {}: choose one that is writable with --state-dir", dir.display())
    })?;
    tighten(dir, 0o700)
}

/// Takes away what group and others may do with `path`, or refuses saying how to.
fn tighten(path: &Path, mode: u32) -> anyhow::Result<()> {
    let metadata = fs::metadata(path).with_context(|| format!("cannot look at {}", path.display()))?;
    let found = metadata.permissions().mode() & 0o7777;
    if found & 0o077 == 0 {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(mode)).with_context(|| {
        let shown = path.display();
        format!(
            "{shown} is open to others (mode {found:o}) and belongs to user {}: chmod {mode:o} {shown}",
            metadata.uid()
        )
    })?;
    tracing::info!("{} was open to others (mode {found:o}): now {mode:o}", path.display());
    Ok(())
}

fn take_lock(dir: &Path) -> anyhow::Result<File> {
    let path = dir.join(LOCK);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(|| denied(dir, &format!("cannot write to the state directory {}", dir.display())))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = Read::by_ref(&mut file).take(20).read_to_string(&mut holder);
            let holder = holder.trim();
            let holder = if holder.is_empty() { "another process".into() } else { format!("process {holder}") };
            bail!(
                "the state directory {} is in use by {holder}: stop that one, or give this one its own --state-dir",
                dir.display()
            );
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {}", path.display()));
        }
    }
    // For the message above; the lock itself is the kernel's and ends with the process.
    if let Err(error) = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())) {
        tracing::warn!(path = %path.display(), %error, "cannot write to the state directory: free space there, or make it writable");
    }
    Ok(file)
}

fn read_or_make(dir: &Path, name: &str) -> anyhow::Result<String> {
    let path = dir.join(name);
    if let Some(secret) = read_secret(&path)? {
        tighten(&path, 0o600)?;
        return Ok(secret);
    }
    let secret = URL_SAFE_NO_PAD.encode(random_bytes::<32>());
    write_private(&path, format!("{secret}\n").as_bytes())
        .with_context(|| denied(dir, &format!("cannot write {}", path.display())))?;
    Ok(secret)
}

/// The secret in `path`; `None` when there is no such file.
fn read_secret(path: &Path) -> anyhow::Result<Option<String>> {
    let text = match read_bounded(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            let dir = path.parent().unwrap_or(Path::new("."));
            return Err(error).with_context(|| denied(dir, &format!("cannot read {}", path.display())));
        }
    };
    let secret = text.trim();
    if secret.len() < MIN_SECRET || secret.contains(char::is_whitespace) {
        bail!(
            "{} is damaged (one line of at least {MIN_SECRET} characters is expected): remove it and the next start makes a new one",
            path.display()
        );
    }
    Ok(Some(secret.to_owned()))
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_SECRET_FILE).read_to_string(&mut text)?;
    Ok(text)
}

/// `what`, with the owner of the directory and the remedy when that is another user.
fn denied(dir: &Path, what: &str) -> String {
    let owner = fs::metadata(dir).map(|metadata| metadata.uid());
    match owner {
        Ok(uid) if uid != effective_uid() => {
            format!(
                "{what}; {} belongs to user {uid}: run as that user or as root, or choose another --state-dir",
                dir.display()
            )
        }
        _ => format!("{what}; make it writable with space left, or choose another --state-dir"),
    }
}

fn effective_uid() -> u32 {
    fs::metadata("/proc/self").map_or(u32::MAX, |metadata| metadata.uid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_run_makes_everything_private_and_the_second_finds_it() {
        let root = tempfile::tempdir().expect("a directory");
        let dir = root.path().join("deep/state");
        let first = State::create(&dir).expect("created");
        assert!(first.is_locked());
        assert_eq!(mode(&dir), 0o700);
        for name in [TURN_SECRET, TOKEN_KEY, ADMIN_TOKEN, LOCK] {
            assert_eq!(mode(&dir.join(name)), 0o600, "{name}");
        }
        let secrets = (first.turn_secret.clone(), first.token_key.clone(), first.admin_token.clone());
        assert_ne!(secrets.0, secrets.1);
        assert!(secrets.0.len() >= 43);
        drop(first);
        let second = State::create(&dir).expect("opened again");
        assert_eq!((second.turn_secret, second.token_key, second.admin_token), secrets);
        let names = fs::read_dir(&dir).expect("listed").map(|entry| entry.expect("entry").file_name());
        assert!(names.into_iter().all(|name| !name.to_string_lossy().ends_with(".tmp")));
    }

    #[test]
    fn a_second_server_is_refused_and_told_who_holds_it() {
        let root = tempfile::tempdir().expect("a directory");
        let _first = State::create(root.path()).expect("created");
        let refusal = State::create(root.path()).expect_err("locked").to_string();
        assert!(refusal.contains(&root.path().display().to_string()), "{refusal}");
        assert!(refusal.contains(&std::process::id().to_string()), "{refusal}");
        assert!(refusal.contains("--state-dir"), "{refusal}");
        assert!(!State::open(root.path()).expect("others may read").is_locked());
    }

    #[test]
    fn loose_permissions_are_tightened() {
        let root = tempfile::tempdir().expect("a directory");
        drop(State::create(root.path()).expect("created"));
        let secret = root.path().join(TURN_SECRET);
        fs::set_permissions(&secret, Permissions::from_mode(0o644)).expect("loosened");
        fs::set_permissions(root.path(), Permissions::from_mode(0o755)).expect("loosened");
        drop(State::create(root.path()).expect("opened"));
        assert_eq!(mode(&secret), 0o600);
        assert_eq!(mode(root.path()), 0o700);
    }

    #[test]
    fn other_commands_create_nothing_and_name_the_missing_file() {
        let root = tempfile::tempdir().expect("a directory");
        let dir = root.path().join("none");
        let refusal = format!("{:#}", State::open(&dir).expect_err("missing"));
        assert!(refusal.contains(&dir.join(TURN_SECRET).display().to_string()), "{refusal}");
        assert!(refusal.contains("relais serve"), "{refusal}");
        assert!(!dir.exists());
    }

    #[test]
    fn a_damaged_secret_is_refused_not_replaced() {
        let root = tempfile::tempdir().expect("a directory");
        for contents in ["", "short", "two words that are long enough"] {
            fs::write(root.path().join(TOKEN_KEY), contents).expect("written");
            let refusal = State::create(root.path()).expect_err("damaged").to_string();
            assert!(refusal.contains(TOKEN_KEY) && refusal.contains("damaged"), "{refusal}");
            assert_eq!(fs::read_to_string(root.path().join(TOKEN_KEY)).expect("kept"), contents);
        }
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("leaf.key");
        fs::write(&path, "old and longer").expect("written");
        write_private(&path, b"new").expect("replaced");
        assert_eq!(fs::read(&path).expect("read"), b"new");
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn secret_files_hold_one_secret_a_line() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("secrets");
        fs::write(&path, "# rotated in May\nnew-secret\n\n old-secret \n").expect("written");
        assert_eq!(read_secret_file(&path).expect("read"), ["new-secret", "old-secret"]);
        fs::write(&path, "\n").expect("written");
        assert!(read_secret_file(&path).expect_err("empty").to_string().contains("empty"));
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("exists").permissions().mode() & 0o7777
    }
}
