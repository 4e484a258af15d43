//! The long-term credential mechanism (RFC 8489 section 9.2.4): who sent this request?

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::nonce::{ALLOCATE_AGE, Features, Nonces, REQUEST_AGE};
use super::response::{ALGORITHMS_OFFERED, ErrorCode, has_room_for_algorithms};
use super::settings::Settings;
use super::stun::{Integrity, Message, attr, method};
use super::types::FiveTuple;
use crate::config::StaticUser;
use crate::credentials::turn::{self, Algorithm, LongTermKey, MAX_USERNAME};
use crate::time::Now;

/// Static users, secrets and nonce keys, compiled once.
pub(super) struct Keychain {
    pub(super) realm: String,
    secrets: Vec<Vec<u8>>,
    /// The keys of each static user, by algorithm.
    users: FxHashMap<String, [LongTermKey; 2]>,
    /// Their names by USERHASH. The hash of a time-limited username cannot be known beforehand.
    userhashes: FxHashMap<[u8; 32], String>,
    strict_expiry: bool,
    pub(super) nonces: Nonces,
    /// What our nonces announce.
    pub(super) features: Features,
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
        let realm = settings.realm.clone();
        let key = |user: &StaticUser| {
            [Algorithm::Md5, Algorithm::Sha256]
                .map(|algorithm| turn::long_term_key_with(algorithm, &user.name, &realm, &user.password))
        };
        let users = settings.users.iter();
        Self {
            // An empty secret would let anybody make credentials.
            secrets: settings.turn_secrets.iter().filter(|secret| !secret.is_empty()).cloned().collect(),
            users: users.clone().map(|user| (user.name.clone(), key(user))).collect(),
            userhashes: users.map(|user| (turn::userhash(&user.name, &realm), user.name.clone())).collect(),
            strict_expiry: settings.strict_expiry,
            nonces: Nonces::new(&settings.nonce_secrets),
            features: Features {
                password_algorithms: settings.password_algorithms && has_room_for_algorithms(&realm),
                username_anonymity: settings.turn_secrets.is_empty() && !settings.users.is_empty(),
            },
            realm,
        }
    }

    /// The checks of RFC 8489 section 9.2.4. The error is what to answer, without integrity.
    pub(super) fn authenticate<'m>(
        &'m self,
        now: Now,
        tuple: &FiveTuple,
        message: &Message<'m>,
        known: Option<Known<'_>>,
    ) -> Result<Identity<'m>, ErrorCode> {
        // 1. No integrity: 401 with realm and nonce.
        let integrity = message.integrity().ok_or(ErrorCode::Unauthenticated)?;
        // 2. Integrity without one of USERNAME and USERHASH, REALM or NONCE: 400.
        let (username, userhash) = (message.get(attr::USERNAME), message.get(attr::USERHASH));
        if username.is_some() == userhash.is_some() {
            return Err(ErrorCode::BadRequest);
        }
        message.get(attr::REALM).ok_or(ErrorCode::BadRequest)?;
        let nonce = message.get(attr::NONCE).ok_or(ErrorCode::BadRequest)?;
        // 3. A nonce that is not ours, not this client's or too old: 438.
        let max_age = if message.method == method::ALLOCATE { ALLOCATE_AGE } else { REQUEST_AGE };
        let features = self.nonces.verify(nonce, now.unix, tuple.client, max_age).ok_or(ErrorCode::StaleNonce)?;
        // 4. Algorithms that are not those that came with the nonce, as after a bid-down: 400.
        let named = named_algorithm(message, features)?;
        // 5. A username we cannot know, or an integrity made with another key: 401.
        let username = self.username(username, userhash).ok_or(ErrorCode::Unauthenticated)?;
        let (subject, expires) = self.subject(username).ok_or(ErrorCode::Unauthenticated)?;
        let wanted = Wanted { username, subject, algorithm: named.unwrap_or(Algorithm::Md5) };
        let key = self.find_key(message, &wanted, known).ok_or(ErrorCode::Unauthenticated)?;
        // 6. Its time is over: no new allocation. A live one may go on, or long calls would die with their credential.
        let is_over = expires.is_some_and(|expires| now.unix >= expires);
        if is_over && (self.strict_expiry || message.method == method::ALLOCATE) {
            return Err(ErrorCode::Unauthenticated);
        }
        // Who names an algorithm is answered with MESSAGE-INTEGRITY-SHA256, everybody else as they asked.
        let integrity = if named.is_some() { Integrity::Sha256 } else { integrity };
        Ok(Identity { username, subject, key, integrity })
    }

    /// The name itself, or the static user's whose hash it is.
    fn username<'m>(&'m self, username: Option<&'m [u8]>, userhash: Option<&[u8]>) -> Option<&'m str> {
        match (username, userhash) {
            (Some(name), _) => std::str::from_utf8(name).ok().filter(|name| name.len() <= MAX_USERNAME),
            (None, hash) => self.userhashes.get(hash?).map(String::as_str),
        }
    }

    /// Static users by their exact name, everybody else by `expiry:subject`; with the expiry of the latter.
    fn subject<'m>(&self, username: &'m str) -> Option<(Subject<'m>, Option<u64>)> {
        if self.users.contains_key(username) {
            return Some((Subject::Static(username), None));
        }
        let (expires, subject) = turn::parse_username(username)?;
        Some((Subject::Timed(subject), Some(expires)))
    }

    fn find_key(&self, message: &Message<'_>, wanted: &Wanted<'_>, known: Option<Known<'_>>) -> Option<LongTermKey> {
        let Wanted { username, subject, algorithm } = *wanted;
        let is_wanted = |known: &Known<'_>| known.username == username && known.key.algorithm() == algorithm;
        if let Some(known) = known.filter(is_wanted).filter(|known| message.is_signed_with(known.key)) {
            return Some(*known.key);
        }
        match subject {
            Subject::Static(name) => {
                let mut keys = self.users.get(name)?.iter();
                keys.find(|key| key.algorithm() == algorithm && message.is_signed_with(key)).copied()
            }
            Subject::Timed(_) => self
                .secrets
                .iter()
                .map(|secret| turn::password(secret, username))
                .map(|password| turn::long_term_key_with(algorithm, username, &self.realm, &password))
                .find(|key| message.is_signed_with(key)),
        }
    }
}

/// Which key a request must have been signed with.
#[derive(Clone, Copy)]
struct Wanted<'w> {
    username: &'w str,
    subject: Subject<'w>,
    algorithm: Algorithm,
}

/// The PASSWORD-ALGORITHM of a request; `None` when it names none, which means MD5. It must come with the list that we
/// sent with the nonce, and be of that list (RFC 8489 section 9.2.4): otherwise somebody between us changed the list.
fn named_algorithm(message: &Message<'_>, features: Features) -> Result<Option<Algorithm>, ErrorCode> {
    match (message.get(attr::PASSWORD_ALGORITHMS), message.get(attr::PASSWORD_ALGORITHM)) {
        (None, None) => Ok(None),
        (Some(list), Some(chosen)) if features.password_algorithms && *list == ALGORITHMS_OFFERED => match chosen {
            [0, 1, 0, 0] => Ok(Some(Algorithm::Md5)),
            [0, 2, 0, 0] => Ok(Some(Algorithm::Sha256)),
            _ => Err(ErrorCode::BadRequest),
        },
        _ => Err(ErrorCode::BadRequest),
    }
}
