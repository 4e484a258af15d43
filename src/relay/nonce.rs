//! Stateless nonces (RFC 8489 section 9.2): the time of issue and a MAC over it and the client's address and port, so
//! that an unauthenticated request leaves nothing behind.

use std::net::{IpAddr, SocketAddr};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Length of a nonce in bytes, all of them printable.
pub(super) const NONCE: usize = 16;

/// How long a nonce is good for an Allocate: libwebrtc loses the candidate on a 438 to an Allocate.
pub(super) const ALLOCATE_AGE: u64 = 24 * 3600;

/// How long it is good for every other request (RFC 8656 section 5 suggests an hour at most).
pub(super) const REQUEST_AGE: u64 = 3600;

const TIME: usize = 4;
const TAG: usize = 8;

/// Mints with the first key, accepts all.
pub(super) struct Nonces {
    keys: Vec<Hmac<Sha256>>,
}

impl Nonces {
    /// `secrets`: the current one first. An empty list works, but then anybody can make nonces.
    pub(super) fn new(secrets: &[Vec<u8>]) -> Self {
        let secrets = if secrets.is_empty() { &[Vec::new()] } else { secrets };
        Self { keys: secrets.iter().filter_map(|secret| Hmac::new_from_slice(secret).ok()).collect() }
    }

    /// A nonce for `client` at `unix` seconds.
    pub(super) fn mint(&self, unix: u64, client: SocketAddr) -> [u8; NONCE] {
        let time = (unix as u32).to_be_bytes();
        let mut raw = [0; TIME + TAG];
        raw[..TIME].copy_from_slice(&time);
        if let Some(key) = self.keys.first() {
            raw[TIME..].copy_from_slice(&tag(key, time, client));
        }
        let mut nonce = [0; NONCE];
        // Twelve bytes are sixteen characters, so the slice cannot be too short.
        let _ = URL_SAFE_NO_PAD.encode_slice(raw, &mut nonce);
        nonce
    }

    /// Whether we made `nonce` for `client` at most `max_age` seconds ago. A clock set back by less is forgiven.
    pub(super) fn verify(&self, nonce: &[u8], unix: u64, client: SocketAddr, max_age: u64) -> bool {
        let mut raw = [0; TIME + TAG];
        if nonce.len() != NONCE || URL_SAFE_NO_PAD.decode_slice(nonce, &mut raw) != Ok(TIME + TAG) {
            return false;
        }
        let [t0, t1, t2, t3, tag @ ..] = raw;
        let time = [t0, t1, t2, t3];
        let distance = u64::from((unix as u32).wrapping_sub(u32::from_be_bytes(time)).cast_signed().unsigned_abs());
        distance <= max_age && self.keys.iter().any(|key| signed(key, time, client).verify_truncated_left(&tag).is_ok())
    }

    /// A secret for the table of the budget, the same in every core.
    pub(super) fn budget_key(&self) -> [u64; 2] {
        let Some(key) = self.keys.first() else { return [0; 2] };
        let mac = key.clone().chain_update(b"budget").finalize().into_bytes();
        let half = |at: usize| mac[at..at + 8].iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        [half(0), half(8)]
    }

    /// An unpredictable reservation token. `counter` and `seed` must not repeat.
    pub(super) fn reservation_token(&self, seed: u64, counter: u64) -> [u8; TAG] {
        let mut token = [0; TAG];
        if let Some(key) = self.keys.first() {
            let mac = key.clone().chain_update(b"reservation").chain_update(seed.to_be_bytes());
            let mac = mac.chain_update(counter.to_be_bytes()).finalize().into_bytes();
            token.copy_from_slice(&mac[..TAG]);
        }
        token
    }
}

fn signed(key: &Hmac<Sha256>, time: [u8; TIME], client: SocketAddr) -> Hmac<Sha256> {
    let mut mac = key.clone();
    mac.update(b"nonce");
    mac.update(&time);
    mac.update(&client.port().to_be_bytes());
    match client.ip() {
        IpAddr::V4(ip) => mac.update(&ip.octets()),
        IpAddr::V6(ip) => mac.update(&ip.octets()),
    }
    mac
}

fn tag(key: &Hmac<Sha256>, time: [u8; TIME], client: SocketAddr) -> [u8; TAG] {
    let mut tag = [0; TAG];
    tag.copy_from_slice(&signed(key, time, client).finalize().into_bytes()[..TAG]);
    tag
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn client() -> SocketAddr {
        "192.0.2.7:4000".parse().unwrap()
    }

    #[test]
    fn good_until_its_age_and_for_its_client_only() {
        let nonces = Nonces::new(&[b"one".to_vec()]);
        let nonce = nonces.mint(NOW, client());
        assert!(nonce.iter().all(u8::is_ascii_graphic));
        assert!(nonces.verify(&nonce, NOW, client(), 0));
        assert!(nonces.verify(&nonce, NOW + 3600, client(), 3600));
        assert!(!nonces.verify(&nonce, NOW + 3601, client(), 3600));
        assert!(nonces.verify(&nonce, NOW - 3600, client(), 3600), "the clock was set back");
        assert!(!nonces.verify(&nonce, NOW - 3601, client(), 3600));
        for other in ["192.0.2.7:4001", "192.0.2.8:4000", "[2001:db8::1]:4000"] {
            assert!(!nonces.verify(&nonce, NOW, other.parse().unwrap(), 3600), "{other}");
        }
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let nonces = Nonces::new(&[b"one".to_vec()]);
        let nonce = nonces.mint(NOW, client());
        for at in 0..nonce.len() {
            let mut forged = nonce;
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            assert!(!nonces.verify(&forged, NOW, client(), 24 * 3600), "byte {at}");
        }
        assert!(!nonces.verify(&nonce[..15], NOW, client(), 3600));
        assert!(!nonces.verify(b"", NOW, client(), 3600));
        assert!(!nonces.verify(b"not//base64!!!!!", NOW, client(), 3600));
    }

    #[test]
    fn the_previous_key_is_accepted_and_an_older_one_is_not() {
        let old = Nonces::new(&[b"one".to_vec()]).mint(NOW, client());
        assert!(Nonces::new(&[b"two".to_vec(), b"one".to_vec()]).verify(&old, NOW, client(), 1));
        assert!(!Nonces::new(&[b"three".to_vec(), b"two".to_vec()]).verify(&old, NOW, client(), 1));
    }

    #[test]
    fn tokens_differ() {
        let nonces = Nonces::new(&[b"one".to_vec()]);
        assert_ne!(nonces.reservation_token(1, 1), nonces.reservation_token(1, 2));
        assert_ne!(nonces.reservation_token(1, 1), nonces.reservation_token(2, 1));
    }
}
