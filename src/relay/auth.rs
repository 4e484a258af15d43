//! The long-term credential mechanism (RFC 8489 section 9.2.4): who sent this request?

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::nonce::{ALLOCATE_AGE, Nonces, REQUEST_AGE};
use super::response::ErrorCode;
use super::settings::Settings;
use super::stun::{Integrity, Message, attr, method};
use super::types::FiveTuple;
use crate::credentials::turn::{self, LongTermKey, MAX_USERNAME};
use crate::time::Now;

/// Static users, secrets and nonce keys, compiled once.
pub(super) struct Keychain {
    realm: String,
    secrets: Vec<Vec<u8>>,
    users: FxHashMap<String, LongTermKey>,
    strict_expiry: bool,
    pub(super) nonces: Nonces,
}

/// Whom a request counts for (DESIGN section 5), without the ephemeral part of the username.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject<'m> {
    /// The part of a time-limited username behind the expiry.
    Timed(&'m str),
    /// The name of a static user; its subject is `u.<name>`.
    Static(&'m str),
}

impl Subject<'_> {
    pub(super) fn is(&self, subject: &str) -> bool {
        match self {
            Self::Timed(own) => *own == subject,
            Self::Static(name) => subject.strip_prefix("u.") == Some(name),
        }
    }

    pub(super) fn to_arc(self) -> Arc<str> {
        match self {
            Self::Timed(own) => own.into(),
            Self::Static(name) => format!("u.{name}").into(),
        }
    }
}

/// A request whose integrity was right.
#[derive(Clone, Copy)]
pub(super) struct Identity<'m> {
    pub(super) username: &'m str,
    pub(super) subject: Subject<'m>,
    pub(super) key: LongTermKey,
    pub(super) integrity: Integrity,
}

/// The last good username and key on this 5-tuple: with it a later request costs one HMAC.
#[derive(Clone, Copy)]
pub(super) struct Known<'k> {
    pub(super) username: &'k str,
    pub(super) key: &'k LongTermKey,
}

impl Keychain {
    pub(super) fn new(settings: &Settings) -> Self {
        let key = |name: &str, password: &str| turn::long_term_key(name, &settings.realm, password);
        Self {
            realm: settings.realm.clone(),
            secrets: settings.turn_secrets.clone(),
            users: settings.users.iter().map(|user| (user.name.clone(), key(&user.name, &user.password))).collect(),
            strict_expiry: settings.strict_expiry,
            nonces: Nonces::new(&settings.nonce_secrets),
        }
    }

    pub(super) fn realm(&self) -> &str {
        &self.realm
    }

    /// The checks of RFC 8489 section 9.2.4. The error is what to answer, without integrity.
    pub(super) fn authenticate<'m>(
        &self,
        now: Now,
        tuple: &FiveTuple,
        message: &Message<'m>,
        known: Option<Known<'_>>,
    ) -> Result<Identity<'m>, ErrorCode> {
        // 1. No integrity: 401 with realm and nonce.
        let integrity = message.integrity().ok_or(ErrorCode::Unauthenticated)?;
        // 2. Integrity without USERNAME, REALM or NONCE: 400.
        let username = message.get(attr::USERNAME).ok_or(ErrorCode::BadRequest)?;
        message.get(attr::REALM).ok_or(ErrorCode::BadRequest)?;
        let nonce = message.get(attr::NONCE).ok_or(ErrorCode::BadRequest)?;
        // 3. A nonce that is not ours, not this client's or too old: 438.
        let max_age = if message.method == method::ALLOCATE { ALLOCATE_AGE } else { REQUEST_AGE };
        if !self.nonces.verify(nonce, now.unix, tuple.client, max_age) {
            return Err(ErrorCode::StaleNonce);
        }
        // 4. A username we cannot know, or an integrity made with another key: 401.
        let username = std::str::from_utf8(username).ok().filter(|name| name.len() <= MAX_USERNAME);
        let username = username.ok_or(ErrorCode::Unauthenticated)?;
        let (subject, expires) = self.subject(username).ok_or(ErrorCode::Unauthenticated)?;
        let key = self.find_key(message, username, subject, known).ok_or(ErrorCode::Unauthenticated)?;
        // 5. Its time is over: no new allocation. A live one may go on, or long calls would die with their credential.
        let is_over = expires.is_some_and(|expires| now.unix >= expires);
        if is_over && (self.strict_expiry || message.method == method::ALLOCATE) {
            return Err(ErrorCode::Unauthenticated);
        }
        Ok(Identity { username, subject, key, integrity })
    }

    /// Static users by their exact name, everybody else by `expiry:subject`; with the expiry of the latter.
    fn subject<'m>(&self, username: &'m str) -> Option<(Subject<'m>, Option<u64>)> {
        if self.users.contains_key(username) {
            return Some((Subject::Static(username), None));
        }
        let (expires, subject) = turn::parse_username(username)?;
        Some((Subject::Timed(subject), Some(expires)))
    }

    fn find_key(
        &self,
        message: &Message<'_>,
        username: &str,
        subject: Subject<'_>,
        known: Option<Known<'_>>,
    ) -> Option<LongTermKey> {
        if let Some(known) = known.filter(|known| known.username == username && message.is_signed_with(known.key)) {
            return Some(*known.key);
        }
        match subject {
            Subject::Static(name) => self.users.get(name).copied().filter(|key| message.is_signed_with(key)),
            Subject::Timed(_) => self
                .secrets
                .iter()
                .map(|secret| turn::long_term_key(username, &self.realm, &turn::password(secret, username)))
                .find(|key| message.is_signed_with(key)),
        }
    }
}
