//! Keeps what was revoked in `revoked.json` of the state directory, so that a restart opens nothing again.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::sync::watch;

use crate::clock;
use crate::net::Revocations;
use crate::state;

const FILE: &str = "revoked.json";
/// Largest file that is read: four times what the tables hold with subjects of the usual length.
const MAX_FILE: u64 = 64 << 20;
/// Least time between two writes: people leave in bursts.
const PAUSE: Duration = Duration::from_millis(200);
/// Writing takes at most this part of the time, however large the table is.
const SHARE: u32 = 10;
/// How long to wait after a write that failed.
const RETRY: Duration = Duration::from_secs(5);

/// Takes up what the last run kept.
pub(super) fn restore(dir: &Path, revoked: &Revocations) -> Result<()> {
    let path = dir.join(FILE);
    let mut json = Vec::new();
    match File::open(&path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut json)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
    let shown = path.display();
    let remedy = "remove it, and credentials and tokens that were taken back count again until they expire";
    if json.len() as u64 > MAX_FILE {
        bail!("{shown} is larger than {MAX_FILE} bytes: {remedy}");
    }
    revoked.restore(clock::now().unix, &json).with_context(|| format!("{shown} is damaged: {remedy}"))
}

/// Writes the file when something was revoked.
pub(super) struct Keeper {
    path: PathBuf,
    revoked: Arc<Revocations>,
    changes: watch::Receiver<u64>,
    /// Up to which change the file is written.
    kept: watch::Sender<u64>,
}

impl Keeper {
    pub(super) fn new(dir: &Path, revoked: Arc<Revocations>) -> Self {
        let changes = revoked.changes();
        Self { path: dir.join(FILE), revoked, changes, kept: watch::Sender::new(0) }
    }

    /// Tells up to which change the file is written.
    pub(super) fn kept(&self) -> watch::Receiver<u64> {
        self.kept.subscribe()
    }

    /// Runs until `stop` turns true, and writes what is left then.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        loop {
            let is_last = tokio::select! {
                changed = self.changes.changed() => changed.is_err(),
                _ = stop.wait_for(|stopped| *stopped) => true,
            };
            let pause =
                if *self.changes.borrow_and_update() == *self.kept.borrow() { PAUSE } else { self.write().await };
            if is_last {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stop.wait_for(|stopped| *stopped) => {}
            }
        }
    }

    /// Writes the file; tells how long to wait with the next one.
    async fn write(&mut self) -> Duration {
        let change = *self.changes.borrow();
        let (path, revoked) = (self.path.clone(), Arc::clone(&self.revoked));
        let started = clock::now().mono;
        let written =
            tokio::task::spawn_blocking(move || state::write_private(&path, &revoked.to_json(clock::now().unix)));
        match written.await {
            Ok(Ok(())) => {
                self.kept.send_replace(change);
                PAUSE.max((clock::now().mono - started) * SHARE)
            }
            failed => {
                let error = failed
                    .map_err(io::Error::other)
                    .and_then(|written| written)
                    .map_or_else(|error| error.to_string(), |()| String::new());
                tracing::error!(path = %self.path.display(), error, "cannot keep what was revoked, which would count again after a restart: free space there, or make it writable");
                // So that the next turn tries again.
                self.changes.mark_changed();
                RETRY
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn what_was_revoked_survives_in_a_private_file() {
        let dir = tempfile::tempdir().expect("directory");
        let revoked = Arc::<Revocations>::default();
        restore(dir.path(), &revoked).expect("no file is no fault");
        let keeper = Keeper::new(dir.path(), Arc::clone(&revoked));
        let mut kept = keeper.kept();
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(keeper.run(stopped));
        let until = clock::now().unix + 60;
        revoked.revoke_subject(clock::now().unix, "p.a", until);
        kept.wait_for(|kept| *kept >= 1).await.expect("written");
        // What comes last is written at the stop.
        revoked.revoke_token(clock::now().unix, "shop~1", until);
        stop.send_replace(true);
        task.await.expect("ended");
        let again = Revocations::default();
        restore(dir.path(), &again).expect("read");
        let now = clock::now().unix;
        assert!(again.is_subject_revoked(now, "p.a") && again.is_token_revoked(now, "shop~1"));
        let mode = std::fs::metadata(dir.path().join(FILE)).expect("file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_file_stops_the_start_and_says_what_to_do() {
        let dir = tempfile::tempdir().expect("directory");
        std::fs::write(dir.path().join(FILE), "{\"version\":1").expect("written");
        let refusal = format!("{:#}", restore(dir.path(), &Revocations::default()).expect_err("damaged"));
        assert!(refusal.contains(FILE) && refusal.contains("remove it"), "{refusal}");
    }
}
