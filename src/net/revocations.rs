//! What was revoked, as shards, streams and the HTTP surface share it, and how it is kept over a restart.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::credentials::revoked::Table;
use crate::credentials::turn::{account_pattern, covers};
use crate::relay::Revoked;

/// The form of the file.
const VERSION: u32 = 1;

/// Rooms that are remembered for the log: allocations end within a second of their revocation.
const ROOMS: usize = 1024;

/// Subjects whose credentials, and tokens which open nothing any more.
pub struct Revocations {
    tables: Mutex<Tables>,
    /// Counts the changes, for whoever keeps them.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Tables {
    subjects: Table,
    tokens: Table,
    /// The rooms of those who were revoked last, the oldest first.
    rooms: VecDeque<(String, String)>,
}

/// The file: names with the unix second until which each is refused.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    subjects: Names,
    tokens: Names,
}

type Names = std::collections::BTreeMap<String, u64>;

/// The file cannot be read as one of ours.
#[derive(Debug, thiserror::Error)]
pub enum Damaged {
    #[error("it is not the JSON that is expected: {0}")]
    Json(#[from] serde_json::Error),
    #[error("its version is {0}, and this program knows {VERSION} only")]
    Version(u32),
}

impl Default for Revocations {
    fn default() -> Self {
        Self { tables: Mutex::default(), changes: watch::Sender::new(0) }
    }
}

impl Revocations {
    /// Refuses `subject` until `until` (unix seconds); one that ends with `.*` stands for all credentials of an account
    /// (`t.<token>.*`, `a.<key>.*`).
    pub fn revoke_subject(&self, unix: u64, subject: &str, until: u64) {
        self.lock().subjects.add(unix, subject, until);
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Remembers the room of somebody who is about to be revoked.
    pub(super) fn set_room(&self, subject: &str, room: &str) {
        let mut tables = self.lock();
        if tables.rooms.len() == ROOMS {
            tables.rooms.pop_front();
        }
        tables.rooms.push_back((subject.to_owned(), room.to_owned()));
    }

    /// The room that `subject` was in when it was revoked a moment ago.
    pub(super) fn room_of(&self, subject: &str) -> Option<String> {
        let tables = self.lock();
        tables.rooms.iter().rev().find(|(revoked, _)| covers(revoked, subject)).map(|(_, room)| room.clone())
    }

    /// Whether `subject`, or the account that it belongs to, is refused at `unix`.
    pub fn is_subject_revoked(&self, unix: u64, subject: &str) -> bool {
        let tables = self.lock();
        if tables.subjects.is_empty() {
            return false;
        }
        let is_account_revoked = || account_pattern(subject).is_some_and(|all| tables.subjects.contains(unix, &all));
        tables.subjects.contains(unix, subject) || is_account_revoked()
    }

    /// Refuses the token of this account until `until`.
    pub fn revoke_token(&self, unix: u64, account: &str, until: u64) {
        self.lock().tokens.add(unix, account, until);
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Whether the token of this account is refused at `unix`.
    pub fn is_token_revoked(&self, unix: u64, account: &str) -> bool {
        self.lock().tokens.contains(unix, account)
    }

    /// How often something was revoked; tells when that grows.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The file to keep, without what is over at `unix`.
    pub fn to_json(&self, unix: u64) -> Vec<u8> {
        // The lock is held for the copy only: shards wait for it.
        let (subjects, tokens) = {
            let tables = self.lock();
            (tables.subjects.entries(unix), tables.tokens.entries(unix))
        };
        let names = |entries: Vec<(std::sync::Arc<str>, u64)>| -> Names {
            entries.into_iter().map(|(name, until)| (name.as_ref().to_owned(), until)).collect()
        };
        let file = File { version: VERSION, subjects: names(subjects), tokens: names(tokens) };
        // Text keys and numbers always serialize.
        serde_json::to_vec(&file).unwrap_or_default()
    }

    /// Takes up what [`Self::to_json`] wrote.
    pub fn restore(&self, unix: u64, json: &[u8]) -> Result<(), Damaged> {
        let file: File = serde_json::from_slice(json)?;
        if file.version != VERSION {
            return Err(Damaged::Version(file.version));
        }
        let mut tables = self.lock();
        file.subjects.iter().for_each(|(name, until)| tables.subjects.add(unix, name, *until));
        file.tokens.iter().for_each(|(name, until)| tables.tokens.add(unix, name, *until));
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        // Nothing panics between the two halves of a change.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Revoked for Revocations {
    fn is_revoked(&self, unix: u64, subject: &str) -> bool {
        self.is_subject_revoked(unix, subject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_stands_for_its_credentials() {
        let revoked = Revocations::default();
        revoked.revoke_subject(100, "t.abc.*", 200);
        revoked.revoke_subject(100, "a.shop.ada", 200);
        for (subject, expected) in [
            ("t.abc.0011", true),
            ("t.abcd.0011", false),
            ("a.shop.ada", true),
            ("a.shop.bob", false),
            ("p.abc", false),
            ("c.t.abc.x", false),
        ] {
            assert_eq!(revoked.is_subject_revoked(150, subject), expected, "{subject}");
            assert!(!revoked.is_subject_revoked(200, subject), "{subject}: over");
        }
        assert!(!revoked.is_token_revoked(150, "abc"), "tokens are another table");
        revoked.revoke_token(100, "abc", 200);
        assert!(revoked.is_token_revoked(199, "abc") && !revoked.is_token_revoked(200, "abc"));
        assert_eq!(*revoked.changes().borrow(), 3);
    }

    #[test]
    fn the_rooms_of_the_last_are_remembered() {
        let revoked = Revocations::default();
        revoked.set_room("p.a", "blue");
        revoked.set_room("t.x.*", "red");
        let rooms = |subject: &str| revoked.room_of(subject);
        assert_eq!((rooms("p.a"), rooms("t.x.1"), rooms("p.b")), (Some("blue".into()), Some("red".into()), None));
        (0..ROOMS).for_each(|number| revoked.set_room(&format!("p.{number}"), "r"));
        assert_eq!((rooms("p.a"), rooms("p.0"), revoked.lock().rooms.len()), (None, Some("r".into()), ROOMS));
    }

    #[test]
    fn what_is_kept_is_taken_up_again() {
        let revoked = Revocations::default();
        revoked.revoke_subject(100, "p.a", 200);
        revoked.revoke_subject(100, "p.over", 101);
        revoked.revoke_token(100, "shop~1", 300);
        let json = revoked.to_json(150);
        let text = String::from_utf8(json.clone()).expect("UTF-8");
        assert_eq!(text, r#"{"version":1,"subjects":{"p.a":200},"tokens":{"shop~1":300}}"#);
        let again = Revocations::default();
        again.restore(160, &json).expect("read");
        assert!(again.is_subject_revoked(160, "p.a") && again.is_token_revoked(160, "shop~1"));
        assert!(!again.is_subject_revoked(160, "p.over"));
        for damaged in ["", "{}", "[]", r#"{"version":2,"subjects":{},"tokens":{}}"#, r#"{"version":1,"subjects":[]}"#]
        {
            assert!(again.restore(160, damaged.as_bytes()).is_err(), "{damaged}");
        }
    }
}
