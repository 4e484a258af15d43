//! TURN credentials: `expiry:subject` with base64 HMAC-SHA1 of it (draft-uberti-behave-turn-rest), and static users.

use std::ops::Deref;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha1::Sha1;
use sha2::Sha256;

/// What a long-term key is hashed with: the password algorithms of RFC 8489 section 18.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Md5,
    Sha256,
}

/// A long-term credential key: the hash of username ":" realm ":" password, RFC 8489 section 9.2.2 and 18.5.1.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LongTermKey {
    algorithm: Algorithm,
    bytes: [u8; 32],
}

impl LongTermKey {
    /// What it was made with.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Deref for LongTermKey {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self.algorithm {
            Algorithm::Md5 => &self.bytes[..16],
            Algorithm::Sha256 => &self.bytes,
        }
    }
}

/// Longest username we mint or accept: Chromium's limit (RFC 8489 section 14.3 allows 508).
pub const MAX_USERNAME: usize = 508;

/// What a browser needs to authenticate at the relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnCredential {
    /// `expiry:subject`, expiry in unix seconds.
    pub username: String,
    /// base64 of HMAC-SHA1(secret, username).
    pub password: String,
    /// When the username's time is over, in unix seconds.
    pub expires: u64,
}

/// Mints the credential of `subject`, valid until `expires` (unix seconds).
pub fn mint(secret: &[u8], subject: &str, expires: u64) -> TurnCredential {
    let username = format!("{expires}:{subject}");
    let password = password(secret, &username);
    TurnCredential { username, password, expires }
}

/// The password that belongs to `username` under `secret`.
pub fn password(secret: &[u8], username: &str) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(username.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

/// Splits a time-limited username into its expiry (unix seconds) and its subject. `None` when it is not of that form.
pub fn parse_username(username: &str) -> Option<(u64, &str)> {
    let (expires, subject) = username.split_once(':').unwrap_or((username, ""));
    let is_decimal = !expires.is_empty() && expires.len() <= 12 && expires.bytes().all(|byte| byte.is_ascii_digit());
    if !is_decimal {
        return None;
    }
    Some((expires.parse().ok()?, subject))
}

/// Whether `pattern` names `subject`: the same, or, ending with `.*`, the beginning of it.
pub fn covers(pattern: &str, subject: &str) -> bool {
    let beginning = || pattern.strip_suffix('*').filter(|beginning| beginning.ends_with('.'));
    pattern == subject || beginning().is_some_and(|beginning| subject.starts_with(beginning))
}

/// What names all credentials of the account that `subject` belongs to: `t.<token>.*` or `a.<key>.*`. `None` for
/// subjects that stand for themselves alone.
pub fn account_pattern(subject: &str) -> Option<String> {
    let rest = subject.strip_prefix("t.").or_else(|| subject.strip_prefix("a."))?;
    let (account, _) = rest.split_once('.')?;
    Some(format!("{}.{account}.*", &subject[..1]))
}

/// The key both sides derive for MESSAGE-INTEGRITY where no password algorithm is named: MD5.
pub fn long_term_key(username: &str, realm: &str, password: &str) -> LongTermKey {
    long_term_key_with(Algorithm::Md5, username, realm, password)
}

/// The key both sides derive with `algorithm`. Names and passwords count byte by byte: they are ours, or the operator's
/// and then prepared by OpaqueString (RFC 8265) when the configuration was read.
pub fn long_term_key_with(algorithm: Algorithm, username: &str, realm: &str, password: &str) -> LongTermKey {
    let parts = [username, ":", realm, ":", password];
    let mut bytes = [0; 32];
    match algorithm {
        Algorithm::Md5 => bytes[..16].copy_from_slice(&digest::<Md5>(&parts)),
        Algorithm::Sha256 => bytes.copy_from_slice(&digest::<Sha256>(&parts)),
    }
    LongTermKey { algorithm, bytes }
}

/// USERHASH: SHA-256(username ":" realm), RFC 8489 section 14.4.
pub fn userhash(username: &str, realm: &str) -> [u8; 32] {
    digest::<Sha256>(&[username, ":", realm]).into()
}

fn digest<D: Digest>(parts: &[&str]) -> md5::digest::Output<D> {
    let mut hash = D::new();
    for part in parts {
        hash.update(part.as_bytes());
    }
    hash.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_pair_of_the_rest_draft_form() {
        // Computed with `printf 1433895918:peer | openssl dgst -sha1 -hmac my_secret -binary | base64`.
        let credential = mint(b"my_secret", "peer", 1_433_895_918);
        assert_eq!(credential.username, "1433895918:peer");
        assert_eq!(credential.password, KNOWN_PASSWORD);
    }

    #[test]
    fn username_forms() {
        assert_eq!(parse_username("12:p.a:b"), Some((12, "p.a:b")));
        assert_eq!(parse_username("12"), Some((12, "")));
        assert_eq!(parse_username("alice"), None);
        assert_eq!(parse_username(":x"), None);
        assert_eq!(parse_username("+12:x"), None);
        assert_eq!(parse_username("99999999999999999999:x"), None);
    }

    #[test]
    fn patterns_of_subjects() {
        assert!(covers("p.a", "p.a") && !covers("p.a", "p.ab") && !covers("p.a", "p.a.b"));
        assert!(covers("t.x.*", "t.x.1") && covers("t.x.*", "t.x.*") && !covers("t.x.*", "t.xy.1"));
        assert!(!covers("*", "p.a") && !covers("t.x*", "t.xy") && !covers("", "p.a"));
        assert_eq!(account_pattern("t.x.1.2").as_deref(), Some("t.x.*"));
        assert_eq!(account_pattern("a.shop.ada.b").as_deref(), Some("a.shop.*"));
        for alone in ["p.a.b", "t.x", "u.a.b", "c.a.b", "", "t."] {
            assert_eq!(account_pattern(alone), None, "{alone}");
        }
    }

    #[test]
    fn long_term_key_of_rfc_8489_section_9_2_2() {
        let expected = [0x84, 0x93, 0xfb, 0xc5, 0x3b, 0xa5, 0x82, 0xfb, 0x4c, 0x04, 0x4c, 0x45, 0x6b, 0xdc, 0x40, 0xeb];
        assert_eq!(*long_term_key("user", "realm", "pass"), expected);
    }

    const KNOWN_PASSWORD: &str = "jpQ8e9OL2UWBwIYWCBweiIMtAe0=";
}
