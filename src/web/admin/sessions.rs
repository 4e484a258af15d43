//! Who is logged in at `/admin`, and how often a log-in may be tried.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::credentials::token::random_bytes;
use crate::time::Mono;
use crate::web::host::client_prefix;

/// Sessions at a time; a further one takes the place of the one that was used least lately.
pub const MAX_SESSIONS: usize = 16;
/// A session that asks nothing, and watches nothing, is over after this.
pub const IDLE: Duration = Duration::from_secs(30 * 60);
/// Every session is over after this.
pub const LONGEST: Duration = Duration::from_secs(12 * 3600);
/// Wrong tokens from one client prefix within [`LOGIN_WINDOW`]; after them not even the right one is taken.
pub const LOGIN_ATTEMPTS: u32 = 10;
/// How long wrong tokens are remembered.
pub const LOGIN_WINDOW: Duration = Duration::from_secs(60);
/// Client prefixes whose wrong tokens are counted; beyond it counting begins anew.
const COUNTED: usize = 4096;

/// All sessions. They are kept in memory alone: a restart ends them.
#[derive(Default)]
pub struct Sessions {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    sessions: Vec<Session>,
    attempts: HashMap<String, Attempts>,
}

struct Session {
    /// The hash of its id: whoever reads the memory of a core dump finds nothing to come in by.
    hash: [u8; 32],
    /// The hash of the admin token that opened it: another token ends it.
    token: [u8; 32],
    opened: Mono,
    used: Mono,
}

impl Session {
    fn is_over(&self, now: Mono, token: &[u8; 32]) -> bool {
        now - self.opened >= LONGEST || now - self.used >= IDLE || self.token != *token
    }
}

struct Attempts {
    since: Mono,
    count: u32,
}

impl Sessions {
    /// Counts an attempt to log in from `client`; false when there were too many.
    pub fn may_try(&self, client: IpAddr, now: Mono) -> bool {
        let attempts = &mut self.lock().attempts;
        let prefix = client_prefix(client);
        if attempts.len() >= COUNTED && !attempts.contains_key(&prefix) {
            attempts.retain(|_, attempts| now - attempts.since < LOGIN_WINDOW);
            if attempts.len() >= COUNTED {
                attempts.clear();
            }
        }
        let made = attempts.entry(prefix).or_insert(Attempts { since: now, count: 0 });
        if now - made.since >= LOGIN_WINDOW {
            *made = Attempts { since: now, count: 0 };
        }
        made.count = made.count.saturating_add(1);
        made.count <= LOGIN_ATTEMPTS
    }

    /// Opens a session for `client`, who showed the admin token with the hash `token`; gives its id.
    pub fn open(&self, client: IpAddr, token: [u8; 32], now: Mono) -> String {
        let mut inner = self.lock();
        inner.attempts.remove(&client_prefix(client));
        inner.sessions.retain(|session| !session.is_over(now, &token));
        if inner.sessions.len() >= MAX_SESSIONS {
            let least = inner.sessions.iter().enumerate().min_by_key(|(_, session)| session.used);
            if let Some(index) = least.map(|(index, _)| index) {
                inner.sessions.swap_remove(index);
            }
        }
        let id = URL_SAFE_NO_PAD.encode(random_bytes::<32>());
        inner.sessions.push(Session { hash: hash(&id), token, opened: now, used: now });
        id
    }

    /// Uses the session `id`: true while it is one, and the admin token is the one that opened it. It is found by the
    /// hash of its id, so that the time this takes tells nothing of the id.
    pub fn is_open(&self, id: &str, token: &[u8; 32], now: Mono) -> bool {
        let mut inner = self.lock();
        inner.sessions.retain(|session| !session.is_over(now, token));
        let wanted = hash(id);
        let found = inner.sessions.iter_mut().find(|session| session.hash == wanted);
        found.map(|session| session.used = now).is_some()
    }

    /// Ends the session `id`.
    pub fn close(&self, id: &str) {
        let wanted = hash(id);
        self.lock().sessions.retain(|session| session.hash != wanted);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it is held.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hash(id: &str) -> [u8; 32] {
    Sha256::digest(id.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: [u8; 32] = [7; 32];

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    fn at(duration: Duration) -> Mono {
        Mono(0) + duration
    }

    #[test]
    fn a_session_is_over_when_it_rests_and_at_the_latest_after_a_while() {
        let sessions = Sessions::default();
        let id = sessions.open(ip("192.0.2.1"), TOKEN, Mono(0));
        assert!(sessions.is_open(&id, &TOKEN, at(IDLE / 2)) && !sessions.is_open("other", &TOKEN, at(IDLE / 2)));
        let resting = sessions.open(ip("192.0.2.1"), TOKEN, at(IDLE / 2));
        assert!(sessions.is_open(&id, &TOKEN, at(IDLE)));
        assert!(!sessions.is_open(&resting, &TOKEN, at(IDLE / 2 + IDLE)), "nobody used it");
        let mut now = at(IDLE);
        while now + IDLE / 2 < at(LONGEST) {
            now = now + IDLE / 2;
            assert!(sessions.is_open(&id, &TOKEN, now), "{now:?}");
        }
        assert!(!sessions.is_open(&id, &TOKEN, at(LONGEST)), "however much it is used");
    }

    #[test]
    fn leaving_and_another_token_end_a_session() {
        let sessions = Sessions::default();
        let (first, second) =
            (sessions.open(ip("192.0.2.1"), TOKEN, Mono(0)), sessions.open(ip("192.0.2.1"), TOKEN, Mono(0)));
        sessions.close(&first);
        assert!(!sessions.is_open(&first, &TOKEN, Mono(1)) && sessions.is_open(&second, &TOKEN, Mono(1)));
        assert!(!sessions.is_open(&second, &[8; 32], Mono(2)));
        assert!(!sessions.is_open(&second, &TOKEN, Mono(3)), "it does not come back");
    }

    #[test]
    fn the_session_used_least_lately_gives_way() {
        let sessions = Sessions::default();
        let ids: Vec<String> =
            (0..MAX_SESSIONS as u64).map(|second| sessions.open(ip("192.0.2.1"), TOKEN, Mono(second))).collect();
        assert!(sessions.is_open(&ids[0], &TOKEN, Mono(100)));
        let last = sessions.open(ip("192.0.2.1"), TOKEN, Mono(101));
        assert!(sessions.is_open(&ids[0], &TOKEN, Mono(102)) && sessions.is_open(&last, &TOKEN, Mono(102)));
        assert!(!sessions.is_open(&ids[1], &TOKEN, Mono(102)));
        assert_eq!(sessions.lock().sessions.len(), MAX_SESSIONS);
    }

    #[test]
    fn attempts_are_limited_by_prefix_in_bounded_memory() {
        let sessions = Sessions::default();
        let tried = (0..100).filter(|_| sessions.may_try(ip("192.0.2.1"), Mono(0))).count();
        assert_eq!(tried, LOGIN_ATTEMPTS as usize);
        assert!(!sessions.may_try(ip("192.0.2.200"), at(LOGIN_WINDOW / 2)), "the same network");
        assert!(sessions.may_try(ip("192.0.3.1"), Mono(0)), "another network");
        assert!(sessions.may_try(ip("192.0.2.1"), at(LOGIN_WINDOW)), "later");
        for number in 0..3 * COUNTED as u32 {
            sessions.may_try(IpAddr::from((number << 8).to_be_bytes()), at(LOGIN_WINDOW));
        }
        assert!(sessions.lock().attempts.len() <= COUNTED);
    }

    #[test]
    fn who_got_in_has_all_attempts_again() {
        let sessions = Sessions::default();
        for _ in 0..LOGIN_ATTEMPTS {
            assert!(sessions.may_try(ip("192.0.2.1"), Mono(0)));
        }
        sessions.open(ip("192.0.2.1"), TOKEN, Mono(0));
        assert!(sessions.may_try(ip("192.0.2.1"), Mono(0)));
    }
}
