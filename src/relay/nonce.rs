//! Stateless nonces (RFC 8489 section 9.2): the time of issue and a MAC over it and the client's address and port, so
//! that an unauthenticated request leaves nothing behind. Where security features are announced, the nonce cookie and
//! the features stand before them, and the MAC covers the features: nobody can take one away.

use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Length of a nonce that announces nothing, all of it printable: one byte more would cost the cookie's nonce four of
/// padding, and a browser's first Allocate, of 28 bytes, a 401 of more than twice its size.
const BODY: usize = 15;

/// RFC 8489 section 9.2: how a nonce begins that announces security features.
const COOKIE: &[u8; 9] = b"obMatJos2";

/// Features behind the cookie: 24 bits in base64.
const FEATURES: usize = 4;

/// Length of the longest nonce.
pub(super) const NONCE: usize = COOKIE.len() + FEATURES + BODY;

/// How long a nonce is good for an Allocate: libwebrtc loses the candidate on a 438 to an Allocate.
pub(super) const ALLOCATE_AGE: u64 = 24 * 3600;

/// How long it is good for every other request (RFC 8656 section 5 suggests an hour at most).
pub(super) const REQUEST_AGE: u64 = 3600;

const TIME: usize = 4;
const TAG: usize = 7;
const TOKEN: usize = 8;

/// Security features of RFC 8489 section 18.1, counted from the leftmost bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Features {
    /// Bit 0: PASSWORD-ALGORITHMS came with the nonce.
    pub(super) password_algorithms: bool,
    /// Bit 1: USERHASH is known for every user.
    pub(super) username_anonymity: bool,
}

impl Features {
    /// In base64, as they stand in the nonce; `None` when there are none.
    fn code(self) -> Option<&'static [u8; FEATURES]> {
        match (self.password_algorithms, self.username_anonymity) {
            (false, false) => None,
            (true, false) => Some(b"gAAA"),
            (false, true) => Some(b"QAAA"),
            (true, true) => Some(b"wAAA"),
        }
    }

    fn of_code(code: &[u8]) -> Option<Self> {
        let sets = [(true, false), (false, true), (true, true)];
        let sets =
            sets.map(|(password_algorithms, username_anonymity)| Self { password_algorithms, username_anonymity });
        sets.into_iter().find(|set| set.code().is_some_and(|known| known == code))
    }
}

/// The text of a nonce.
pub(super) struct Nonce {
    text: [u8; NONCE],
    start: usize,
}

impl Deref for Nonce {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.text.get(self.start..).unwrap_or_default()
    }
}

/// Mints with the first key, accepts all.
pub(super) struct Nonces {
    keys: Vec<Hmac<Sha256>>,
}

impl Nonces {
    /// `secrets`: the current one first. An empty one is left out: with it anybody could make nonces. Without any, no
    /// nonce is accepted.
    pub(super) fn new(secrets: &[Vec<u8>]) -> Self {
        let secrets = secrets.iter().filter(|secret| !secret.is_empty());
        Self { keys: secrets.filter_map(|secret| Hmac::new_from_slice(secret).ok()).collect() }
    }

    /// A nonce for `client` at `unix` seconds that announces `features`.
    pub(super) fn mint(&self, unix: u64, client: SocketAddr, features: Features) -> Nonce {
        let time = (unix as u32).to_be_bytes();
        let mut raw = [0; TIME + TAG];
        raw[..TIME].copy_from_slice(&time);
        if let Some(key) = self.keys.first() {
            raw[TIME..].copy_from_slice(&tag(key, time, client, features));
        }
        let mut text = [0; NONCE];
        let (prefix, body) = text.split_at_mut(COOKIE.len() + FEATURES);
        // Eleven bytes are fifteen characters, so the slice cannot be too short.
        let _ = URL_SAFE_NO_PAD.encode_slice(raw, body);
        let Some(code) = features.code() else { return Nonce { text, start: NONCE - BODY } };
        prefix[..COOKIE.len()].copy_from_slice(COOKIE);
        prefix[COOKIE.len()..].copy_from_slice(code);
        Nonce { text, start: 0 }
    }

    /// What `nonce` announces, when we made it for `client` at most `max_age` seconds ago. A clock set back by less is
    /// forgiven.
    pub(super) fn verify(&self, nonce: &[u8], unix: u64, client: SocketAddr, max_age: u64) -> Option<Features> {
        let (features, body) = match nonce.strip_prefix(COOKIE).and_then(|rest| rest.split_at_checked(FEATURES)) {
            Some((code, body)) if body.len() == BODY => (Features::of_code(code)?, body),
            Some(_) | None => (Features::default(), nonce),
        };
        let mut raw = [0; TIME + TAG];
        if body.len() != BODY || URL_SAFE_NO_PAD.decode_slice(body, &mut raw) != Ok(TIME + TAG) {
            return None;
        }
        let [t0, t1, t2, t3, tag @ ..] = raw;
        let time = [t0, t1, t2, t3];
        let distance = u64::from((unix as u32).wrapping_sub(u32::from_be_bytes(time)).cast_signed().unsigned_abs());
        let is_ours = |key| signed(key, time, client, features).verify_truncated_left(&tag).is_ok();
        (distance <= max_age && self.keys.iter().any(is_ours)).then_some(features)
    }

    /// A secret for the table of the budget, the same in every core.
    pub(super) fn budget_key(&self) -> [u64; 2] {
        let Some(key) = self.keys.first() else { return [0; 2] };
        let mac = key.clone().chain_update(b"budget").finalize().into_bytes();
        let half = |at: usize| mac[at..at + 8].iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        [half(0), half(8)]
    }

    /// An unpredictable reservation token. `counter` and `seed` must not repeat.
    pub(super) fn reservation_token(&self, seed: u64, counter: u64) -> [u8; TOKEN] {
        let mut token = [0; TOKEN];
        if let Some(key) = self.keys.first() {
            let mac = key.clone().chain_update(b"reservation").chain_update(seed.to_be_bytes());
            let mac = mac.chain_update(counter.to_be_bytes()).finalize().into_bytes();
            token.copy_from_slice(&mac[..TOKEN]);
        }
        token
    }
}

fn signed(key: &Hmac<Sha256>, time: [u8; TIME], client: SocketAddr, features: Features) -> Hmac<Sha256> {
    let mut mac = key.clone();
    mac.update(b"nonce");
    mac.update(&time);
    mac.update(&client.port().to_be_bytes());
    match client.ip() {
        IpAddr::V4(ip) => mac.update(&ip.octets()),
        IpAddr::V6(ip) => mac.update(&ip.octets()),
    }
    mac.update(features.code().map_or(&[], |code| code));
    mac
}

fn tag(key: &Hmac<Sha256>, time: [u8; TIME], client: SocketAddr, features: Features) -> [u8; TAG] {
    let mut tag = [0; TAG];
    tag.copy_from_slice(&signed(key, time, client, features).finalize().into_bytes()[..TAG]);
    tag
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn client() -> SocketAddr {
        "192.0.2.7:4000".parse().unwrap()
    }

    fn sets() -> [Features; 4] {
        [(false, false), (true, false), (false, true), (true, true)]
            .map(|(password_algorithms, username_anonymity)| Features { password_algorithms, username_anonymity })
    }

    #[test]
    fn good_until_its_age_and_for_its_client_only() {
        let nonces = Nonces::new(&[b"one".to_vec()]);
        for features in sets() {
            let nonce = nonces.mint(NOW, client(), features);
            let verify = |unix, max_age| nonces.verify(&nonce, unix, client(), max_age);
            assert!(nonce.iter().all(u8::is_ascii_graphic));
            assert_eq!(verify(NOW, 0), Some(features));
            assert_eq!(verify(NOW + 3600, 3600), Some(features));
            assert_eq!(verify(NOW + 3601, 3600), None);
            assert_eq!(verify(NOW - 3600, 3600), Some(features), "the clock was set back");
            assert_eq!(verify(NOW - 3601, 3600), None);
            for other in ["192.0.2.7:4001", "192.0.2.8:4000", "[2001:db8::1]:4000"] {
                assert_eq!(nonces.verify(&nonce, NOW, other.parse().unwrap(), 3600), None, "{other}");
            }
        }
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let nonces = Nonces::new(&[b"one".to_vec()]);
        for features in sets() {
            let nonce = nonces.mint(NOW, client(), features);
            for at in 0..nonce.len() {
                let mut forged = nonce.to_vec();
                forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
                assert_eq!(nonces.verify(&forged, NOW, client(), 24 * 3600), None, "byte {at}");
                assert_eq!(nonces.verify(&nonce[..at], NOW, client(), 24 * 3600), None, "{at} bytes");
                assert_eq!(nonces.verify(&nonce[at + 1..], NOW, client(), 24 * 3600), None, "from {at}");
            }
        }
        assert_eq!(nonces.verify(b"not//base64!!!!!", NOW, client(), 3600), None);
    }

    #[test]
    fn no_feature_can_be_taken_away_or_put_in() {
        let nonces = Nonces::new(&[b"one".to_vec()]);
        for (made, claimed) in sets().into_iter().flat_map(|made| sets().map(|claimed| (made, claimed))) {
            let body = nonces.mint(NOW, client(), made);
            let body = &body[body.len() - BODY..];
            let forged = match claimed.code() {
                None => body.to_vec(),
                Some(code) => [COOKIE, &code[..], body].concat(),
            };
            let accepted = (made == claimed).then_some(claimed);
            assert_eq!(nonces.verify(&forged, NOW, client(), 3600), accepted, "{made:?} as {claimed:?}");
        }
    }

    #[test]
    fn features_are_counted_from_the_left() {
        let bits = |set: Features| URL_SAFE_NO_PAD.decode(set.code().unwrap()).unwrap();
        assert_eq!(bits(sets()[1]), [0x80, 0, 0]);
        assert_eq!(bits(sets()[2]), [0x40, 0, 0]);
        assert_eq!(bits(sets()[3]), [0xc0, 0, 0]);
    }

    #[test]
    fn the_previous_key_is_accepted_and_an_older_one_is_not() {
        let old = Nonces::new(&[b"one".to_vec()]).mint(NOW, client(), Features::default());
        assert!(Nonces::new(&[b"two".to_vec(), b"one".to_vec()]).verify(&old, NOW, client(), 1).is_some());
        assert!(Nonces::new(&[b"three".to_vec(), b"two".to_vec()]).verify(&old, NOW, client(), 1).is_none());
    }

    #[test]
    fn an_empty_secret_makes_no_key() {
        for none in [Nonces::new(&[]), Nonces::new(&[Vec::new()])] {
            let nonce = none.mint(NOW, client(), Features::default());
            assert_eq!(none.verify(&nonce, NOW, client(), 3600), None);
        }
        let one = Nonces::new(&[Vec::new(), b"one".to_vec()]);
        assert!(one.verify(&one.mint(NOW, client(), Features::default()), NOW, client(), 1).is_some());
    }

    #[test]
    fn the_key_of_the_budget_is_that_of_the_current_secret() {
        let key = |secrets: &[&[u8]]| {
            Nonces::new(&secrets.iter().map(|secret| secret.to_vec()).collect::<Vec<_>>()).budget_key()
        };
        let mac = Hmac::<Sha256>::new_from_slice(b"one").unwrap().chain_update(b"budget").finalize().into_bytes();
        let whole = key(&[b"one", b"two"]).map(u64::to_be_bytes).concat();
        assert_eq!(whole, mac[..16]);
        assert_eq!(key(&[]), [0; 2]);
    }

    #[test]
    fn tokens_differ() {
        let nonces = Nonces::new(&[b"one".to_vec()]);
        assert_ne!(nonces.reservation_token(1, 1), nonces.reservation_token(1, 2));
        assert_ne!(nonces.reservation_token(1, 1), nonces.reservation_token(2, 1));
    }
}
