//! Who holds an API key or the admin token, and how fast they may use them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use sha2::{Digest, Sha256};

use super::host::client_prefix;
use crate::config::ApiKey;
use crate::signaling::Rate;
use crate::time::Mono;

/// Tokens, credentials and revocations of one API key a second: each costs some ten microseconds, and a revocation a
/// place in a table.
pub const REQUESTS_PER_SECOND: u32 = 100;
/// Wrong bearers from one client prefix a second: enough for a back end that was given a wrong key to say so in its log.
pub const FAILURES_PER_SECOND: u32 = 10;
/// Questions of one host about the peers of its room a second: each is put to all shards, which look through all their
/// allocations.
pub const QUESTIONS_PER_SECOND: u32 = 20;
/// QR codes drawn for one client prefix a second: each costs up to a few milliseconds, and a page shows one at a time.
pub const CODES_PER_SECOND: u32 = 20;
/// Client prefixes whose wrong bearers are counted, and hosts whose questions are; beyond it counting begins anew.
const COUNTED: usize = 4096;

/// Who asks with a secret of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    Admin,
    /// The back end with the API key of this name.
    Key(Arc<str>),
}

impl Caller {
    /// The part of a subject that names the caller: `a.<key>.<name>`.
    pub fn key(&self) -> &str {
        match self {
            Self::Admin => "admin",
            Self::Key(id) => id,
        }
    }
}

/// The secrets, hashed, and the buckets.
pub struct Gate {
    /// All secrets; the admin token first.
    callers: Vec<([u8; 32], Caller)>,
    /// Shared by the gates before and after a reload: no key gets a new rate by it.
    buckets: Arc<Mutex<Buckets>>,
}

#[derive(Default)]
struct Buckets {
    by_key: HashMap<Arc<str>, Rate>,
    failures: HashMap<String, Rate>,
    questions: HashMap<String, Rate>,
    codes: HashMap<String, Rate>,
}

impl Gate {
    /// `admin_token`: the one of the state directory.
    pub fn new(keys: &[ApiKey], admin_token: &str) -> Self {
        Self::with_buckets(keys, admin_token, Arc::default())
    }

    /// The same gate for other keys; what was used up stays used up.
    pub fn with_keys(&self, keys: &[ApiKey], admin_token: &str) -> Self {
        Self::with_buckets(keys, admin_token, Arc::clone(&self.buckets))
    }

    fn with_buckets(keys: &[ApiKey], admin_token: &str, buckets: Arc<Mutex<Buckets>>) -> Self {
        let admin = (digest(admin_token), Caller::Admin);
        let keys = keys.iter().map(|key| (digest(&key.secret), Caller::Key(key.id.as_str().into())));
        Self { callers: std::iter::once(admin).chain(keys).collect(), buckets }
    }

    /// Whose secret `bearer` is. All are compared, in time that does not tell how much of one was right.
    pub fn identify(&self, bearer: &str) -> Option<Caller> {
        let asked = digest(bearer);
        let mut found = None;
        for (secret, caller) in &self.callers {
            if verify_slices_are_equal(secret, &asked).is_ok() {
                found = Some(caller);
            }
        }
        found.cloned()
    }

    /// The hash of the admin token in force.
    pub fn admin(&self) -> [u8; 32] {
        self.callers.first().map_or([0; 32], |(secret, _)| *secret)
    }

    /// Takes one of a key's requests; false when it has used up this second's. The administrator is not limited.
    pub fn admits(&self, caller: &Caller, now: Mono) -> bool {
        let Caller::Key(id) = caller else { return true };
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let rate = buckets.by_key.entry(Arc::clone(id)).or_insert_with(|| Rate::new(REQUESTS_PER_SECOND, now));
        rate.take(now)
    }

    /// Notes a wrong bearer from `client`; false when there are too many from there.
    pub fn forgives(&self, client: IpAddr, now: Mono) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        take(&mut buckets.failures, client_prefix(client), FAILURES_PER_SECOND, now)
    }

    /// Takes one of the questions of the host that came by this token; false when it has used up this second's.
    pub fn answers(&self, account: String, now: Mono) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        take(&mut buckets.questions, account, QUESTIONS_PER_SECOND, now)
    }

    /// Takes one of the QR codes that `client` may have; false when this second's are used up.
    pub fn draws(&self, client: IpAddr, now: Mono) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        take(&mut buckets.codes, client_prefix(client), CODES_PER_SECOND, now)
    }
}

fn take(counted: &mut HashMap<String, Rate>, who: String, per_second: u32, now: Mono) -> bool {
    if counted.len() >= COUNTED && !counted.contains_key(&who) {
        counted.clear();
    }
    counted.entry(who).or_insert_with(|| Rate::new(per_second, now)).take(now)
}

fn digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> Gate {
        let key = |id: &str, secret: &str| ApiKey { id: id.into(), secret: secret.into() };
        Gate::new(&[key("shop", "first secret"), key("blog", "second secret")], "admin token")
    }

    #[test]
    fn secrets_name_their_holders() {
        let gate = gate();
        assert_eq!(gate.identify("admin token"), Some(Caller::Admin));
        assert_eq!(gate.identify("second secret"), Some(Caller::Key("blog".into())));
        for wrong in ["", "admin toke", "admin token ", "shop", "first secreT"] {
            assert_eq!(gate.identify(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn each_key_has_its_own_rate_and_the_administrator_none() {
        let gate = gate();
        let key = |id: &str| Caller::Key(id.into());
        let admitted = |caller: &Caller| (0..1000).filter(|_| gate.admits(caller, Mono(5_000))).count();
        assert_eq!(admitted(&key("shop")), REQUESTS_PER_SECOND as usize);
        assert_eq!(admitted(&key("blog")), REQUESTS_PER_SECOND as usize);
        assert_eq!(admitted(&Caller::Admin), 1000);
        assert!(gate.admits(&key("shop"), Mono(5_010)));
    }

    #[test]
    fn wrong_bearers_are_counted_by_prefix_in_bounded_memory() {
        let gate = gate();
        let ip = |text: &str| text.parse::<IpAddr>().expect("address");
        assert_eq!((0..100).filter(|_| gate.forgives(ip("192.0.2.1"), Mono(0))).count(), FAILURES_PER_SECOND as usize);
        assert!(!gate.forgives(ip("192.0.2.9"), Mono(0)) && gate.forgives(ip("192.0.3.1"), Mono(0)));
        for number in 0..2 * COUNTED as u32 {
            gate.forgives(IpAddr::from((number << 8).to_be_bytes()), Mono(0));
        }
        assert!(gate.buckets.lock().expect("lock").failures.len() <= COUNTED);
    }

    #[test]
    fn each_host_may_ask_so_often() {
        let gate = gate();
        let answered = |host: &str| (0..1000).filter(|_| gate.answers(host.into(), Mono(0))).count();
        assert_eq!((answered("a"), answered("b")), (QUESTIONS_PER_SECOND as usize, QUESTIONS_PER_SECOND as usize));
        assert!(gate.answers("a".into(), Mono(50)));
    }
}
