//! Access tokens: JWT HS256 (algorithm pinned), DESIGN section 5.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Longest token that is looked at, in bytes: ours have about 250, and whatever is longer costs no decoding.
pub const MAX_TOKEN: usize = 2048;

/// What a token lets its bearer do in its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Host,
    Member,
    Streamer,
    Viewer,
}

impl Role {
    /// The word used in tokens, messages and options.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Member => "member",
            Self::Streamer => "streamer",
            Self::Viewer => "viewer",
        }
    }
}

/// The claims of an access token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Token id: quotas and revocation count by it.
    pub jti: String,
    /// The room it opens, `*` for any.
    pub room: String,
    pub role: Role,
    /// Display name set by whoever minted the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub iat: u64,
    pub exp: u64,
}

impl Claims {
    /// Claims with a fresh random id, valid for `ttl` seconds from `now` (unix seconds).
    pub fn new(room: &str, role: Role, name: Option<String>, now: u64, ttl: u64) -> Self {
        Self { jti: random_id(), room: room.into(), role, name, iat: now, exp: now.saturating_add(ttl) }
    }
}

/// Least and greatest lifetime of an invite that somebody else asks us for, in seconds; back ends that mint their own
/// keep to the greatest one as well. Revoked tokens are remembered until they would have expired.
pub const MIN_TTL: u64 = 60;
pub const MAX_TTL: u64 = 30 * 24 * 3600;
/// Lifetime of an invite that asks for none, in seconds.
pub const DEFAULT_TTL: u64 = 24 * 3600;
/// The longest lifetime that the command line gives, in seconds: ten years.
pub const LONGEST_TTL: u64 = 10 * 365 * 24 * 3600;

/// Longest room and display name, in characters.
const MAX_NAME: usize = 64;
/// How far the clock of a back end that mints its own tokens may be ahead of ours, in seconds.
const CLOCK_SKEW: u64 = 60;

/// Why a token was refused; `code` of an error reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the token is not one of this server")]
    Invalid,
    #[error("the token has expired")]
    Expired,
    #[error("the token was revoked")]
    Revoked,
}

/// Why an invite was not minted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InviteError {
    #[error("a room is * for any, or 1 to 64 of A-Z a-z 0-9 . _ ~ -")]
    Room,
    #[error("a name has 1 to 64 characters, none of them a control character")]
    Name,
    #[error("a lifetime is 60 seconds to 30 days (2592000 seconds)")]
    Ttl,
}

/// An invite that somebody asks for.
#[derive(Clone, Copy, Debug)]
pub struct Invite<'a> {
    /// The room it opens, `*` for any.
    pub room: &'a str,
    pub role: Role,
    pub name: Option<&'a str>,
    /// Seconds, [`DEFAULT_TTL`] when left out.
    pub ttl: Option<u64>,
    /// It is cut to end then (unix seconds), as an invite of a host does with the host's own token.
    pub not_after: Option<u64>,
}

/// A minted token and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Minted {
    pub token: String,
    pub claims: Claims,
}

/// A token that was found good, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    pub claims: Claims,
    /// The API key that signed it; `None`: this server.
    pub key: Option<Arc<str>>,
}

/// Mints and verifies tokens with the state directory's `token-key` and with the API keys of the configuration.
pub struct Tokens {
    own: Key,
    /// Those of back ends, by the name of the key.
    foreign: Vec<Key>,
    validation: Validation,
}

struct Key {
    /// Names the key in the header (`kid`).
    id: Arc<str>,
    signing: EncodingKey,
    verifying: DecodingKey,
}

impl Key {
    fn new(id: &str, secret: &[u8]) -> Self {
        let (signing, verifying) = (EncodingKey::from_secret(secret), DecodingKey::from_secret(secret));
        Self { id: id.into(), signing, verifying }
    }
}

impl Tokens {
    /// `key`: at least 32 random bytes.
    pub fn new(key: Vec<u8>) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        // Expiry is checked against the time we are told, without leeway; the crate would read the clock.
        validation.validate_exp = false;
        validation.leeway = 0;
        Self { own: Key::new(&key_id(&key), &key), foreign: Vec::new(), validation }
    }

    /// Takes tokens signed with these API keys (name and secret) too.
    pub fn with_api_keys<'a>(mut self, keys: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        self.foreign = keys.into_iter().map(|(id, secret)| Key::new(id, secret.as_bytes())).collect();
        self
    }

    /// Signs `claims` with our own key.
    pub fn mint(&self, claims: &Claims) -> String {
        sign(&self.own, claims)
    }

    /// Mints an invite, signed with the API key called `key`, or with our own: so that whoever asked for it can take
    /// it back, and it ends with its key.
    pub fn invite(&self, key: Option<&str>, invite: &Invite<'_>, now: u64) -> Result<Minted, InviteError> {
        if invite.room != "*" && !is_room_name(invite.room) {
            return Err(InviteError::Room);
        }
        if invite.name.is_some_and(|name| !is_display_name(name)) {
            return Err(InviteError::Name);
        }
        let ttl = invite.ttl.unwrap_or(DEFAULT_TTL);
        if !(MIN_TTL..=MAX_TTL).contains(&ttl) {
            return Err(InviteError::Ttl);
        }
        let mut claims = Claims::new(invite.room, invite.role, invite.name.map(str::to_owned), now, ttl);
        claims.exp = claims.exp.min(invite.not_after.unwrap_or(u64::MAX));
        let signer = key.and_then(|key| self.foreign.iter().find(|foreign| *foreign.id == *key)).unwrap_or(&self.own);
        Ok(Minted { token: sign(signer, &claims), claims })
    }

    /// Checks signature, algorithm, key name and expiry at `now` (unix seconds).
    pub fn verify(&self, token: &str, now: u64) -> Result<Claims, TokenError> {
        self.verify_with_key(token, now).map(|verified| verified.claims)
    }

    /// The same, and tells whose token it is.
    pub fn verify_with_key(&self, token: &str, now: u64) -> Result<Verified, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Invalid);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Invalid)?;
        let kid = header.kid.as_deref().ok_or(TokenError::Invalid)?;
        let own = Some(&self.own).filter(|own| *own.id == *kid);
        let key = own.or_else(|| self.foreign.iter().find(|foreign| *foreign.id == *kid)).ok_or(TokenError::Invalid)?;
        let data = jsonwebtoken::decode::<Claims>(token, &key.verifying, &self.validation);
        let claims = data.map_err(|_| TokenError::Invalid)?.claims;
        if own.is_none() && !is_well_made(&claims, now) {
            return Err(TokenError::Invalid);
        }
        if now >= claims.exp {
            return Err(TokenError::Expired);
        }
        Ok(Verified { claims, key: own.is_none().then(|| Arc::clone(&key.id)) })
    }
}

fn sign(key: &Key, claims: &Claims) -> String {
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some(key.id.to_string());
    jsonwebtoken::encode(&header, claims, &key.signing).expect("plain claims serialize and HMAC takes any key")
}

/// What we would not mint we do not take from a back end: names without end, lifetimes beyond what revocations are
/// remembered for, times to come.
fn is_well_made(claims: &Claims, now: u64) -> bool {
    let fits = |text: &str| (1..=MAX_NAME).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    let lifetime = claims.exp.checked_sub(claims.iat);
    fits(&claims.room)
        && claims.name.as_deref().is_none_or(is_display_name)
        && !claims.jti.is_empty()
        && lifetime.is_some_and(|lifetime| lifetime <= MAX_TTL)
        && claims.iat <= now.saturating_add(CLOCK_SKEW)
}

/// 1 to 64 of `A-Z a-z 0-9 . _ ~ -`: a room, or a name in a TURN subject.
pub fn is_room_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(fits)
}

/// 1 to 64 characters, none of them a control character.
pub fn is_display_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

/// A random id of 128 bits in the alphabet of URLs, 22 characters.
pub fn random_id() -> String {
    URL_SAFE_NO_PAD.encode(random_bytes::<16>())
}

/// `N` bytes from the system's generator.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has random numbers");
    bytes
}

/// The public name of a key: tells keys apart and says nothing about them.
fn key_id(key: &[u8]) -> String {
    let digest = Sha256::new().chain_update(b"relais token key id\0").chain_update(key).finalize();
    digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_763_690_000;

    #[test]
    fn a_minted_token_is_verified_until_its_last_second() {
        let tokens = tokens(1);
        let claims = Claims::new("blue-fox", Role::Host, Some("Ada".into()), NOW, 60);
        let token = tokens.mint(&claims);
        assert_eq!(tokens.verify(&token, NOW), Ok(claims.clone()));
        assert_eq!(tokens.verify(&token, NOW + 59), Ok(claims));
        assert_eq!(tokens.verify(&token, NOW + 60), Err(TokenError::Expired));
        assert_eq!(tokens.verify(&token, u64::MAX), Err(TokenError::Expired));
    }

    #[test]
    fn a_lifetime_without_end_does_not_overflow() {
        assert_eq!(Claims::new("*", Role::Member, None, NOW, u64::MAX).exp, u64::MAX);
    }

    #[test]
    fn tokens_of_another_key_are_refused() {
        let token = tokens(2).mint(&Claims::new("*", Role::Member, None, NOW, 60));
        assert_eq!(tokens(1).verify(&token, NOW), Err(TokenError::Invalid));
    }

    #[test]
    fn changed_tokens_are_refused() {
        let tokens = tokens(1);
        let token = tokens.mint(&Claims::new("a", Role::Member, None, NOW, 60));
        for place in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("ASCII");
            let verdict = tokens.verify(&changed, NOW);
            assert!(verdict.is_err(), "byte {place} changed: {verdict:?}");
        }
        for text in ["", ".", "..", "a.b.c", &"x".repeat(MAX_TOKEN + 1)] {
            assert_eq!(tokens.verify(text, NOW), Err(TokenError::Invalid), "{text:?}");
        }
    }

    #[test]
    fn only_hs256_with_our_key_name_is_taken() {
        let tokens = tokens(1);
        let claims = Claims::new("*", Role::Host, None, NOW, 60);
        let sign = |header: &Header| jsonwebtoken::encode(header, &claims, &tokens.own.signing).expect("signs");
        let mut header = Header::new(Algorithm::HS256);
        assert_eq!(tokens.verify(&sign(&header), NOW), Err(TokenError::Invalid), "no kid");
        header.kid = Some("other".into());
        assert_eq!(tokens.verify(&sign(&header), NOW), Err(TokenError::Invalid), "another kid");
        header.kid = Some(tokens.own.id.to_string());
        assert!(tokens.verify(&sign(&header), NOW).is_ok());
        header.alg = Algorithm::HS512;
        assert_eq!(tokens.verify(&sign(&header), NOW), Err(TokenError::Invalid), "another algorithm");
    }

    #[test]
    fn an_unsigned_token_is_refused() {
        let part = |json: &str| URL_SAFE_NO_PAD.encode(json);
        let header = part(&format!(r#"{{"alg":"none","typ":"JWT","kid":"{}"}}"#, key_id(&[1; 32])));
        let claims = part(r#"{"jti":"a","room":"*","role":"host","iat":1,"exp":99999999999}"#);
        assert_eq!(tokens(1).verify(&format!("{header}.{claims}."), NOW), Err(TokenError::Invalid));
    }

    #[test]
    fn a_claim_we_do_not_know_is_refused() {
        #[derive(Serialize)]
        struct More<'a> {
            #[serde(flatten)]
            claims: &'a Claims,
            nbf: u64,
        }
        let tokens = tokens(1);
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(tokens.own.id.to_string());
        let claims = Claims::new("*", Role::Host, None, NOW, 60);
        let token = jsonwebtoken::encode(&header, &More { claims: &claims, nbf: NOW + 30 }, &tokens.own.signing);
        assert_eq!(tokens.verify(&token.expect("signs"), NOW), Err(TokenError::Invalid));
    }

    #[test]
    fn tokens_of_a_back_end_are_taken_under_its_name() {
        let secret = "a secret of thirty-two characters";
        let tokens = tokens(1).with_api_keys([("shop", secret), ("blog", "another secret, of another back end")]);
        let sign = |kid: &str, secret: &str, claims: &Claims| {
            let mut header = Header::new(Algorithm::HS256);
            header.kid = Some(kid.into());
            jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(secret.as_bytes())).expect("signs")
        };
        let claims = Claims { jti: "order-7".into(), ..Claims::new("blue", Role::Host, Some("Ada".into()), NOW, 60) };
        let verified = tokens.verify_with_key(&sign("shop", secret, &claims), NOW).expect("good");
        assert_eq!((&verified.claims, verified.key.as_deref()), (&claims, Some("shop")));
        for (kid, secret) in [("blog", secret), ("nobody", secret), (&*tokens.own.id, secret), ("shop", "guessed")] {
            assert_eq!(tokens.verify(&sign(kid, secret, &claims), NOW), Err(TokenError::Invalid), "{kid} {secret}");
        }
        type Change = fn(&mut Claims);
        let changes: [(Change, Option<TokenError>); 8] = [
            (|claims| claims.exp = NOW, Some(TokenError::Expired)),
            (|claims| claims.exp = NOW + MAX_TTL, None),
            (|claims| claims.exp = NOW + MAX_TTL + 1, Some(TokenError::Invalid)),
            (|claims| claims.iat = NOW + 59, None),
            (|claims| claims.iat = NOW + 61, Some(TokenError::Invalid)),
            (|claims| claims.room = "x".repeat(65), Some(TokenError::Invalid)),
            (|claims| claims.name = Some("\u{7}".into()), Some(TokenError::Invalid)),
            (|claims| claims.jti = String::new(), Some(TokenError::Invalid)),
        ];
        for (number, (change, expected)) in changes.into_iter().enumerate() {
            let mut changed = claims.clone();
            change(&mut changed);
            assert_eq!(tokens.verify(&sign("shop", secret, &changed), NOW).err(), expected, "change {number}");
        }
    }

    #[test]
    fn invites_keep_to_their_bounds() {
        let tokens = tokens(1).with_api_keys([("shop", "a secret of thirty-two characters")]);
        let plain = Invite { room: "blue", role: Role::Member, name: None, ttl: None, not_after: None };
        let minted = tokens.invite(None, &plain, NOW).expect("minted");
        assert_eq!(minted.claims.exp, NOW + DEFAULT_TTL);
        let verified = tokens.verify_with_key(&minted.token, NOW).expect("good");
        assert_eq!((&verified.claims, verified.key), (&minted.claims, None));
        let of_shop = tokens.invite(Some("shop"), &plain, NOW).expect("minted");
        assert_eq!(tokens.verify_with_key(&of_shop.token, NOW).expect("good").key.as_deref(), Some("shop"));
        let cut = tokens.invite(None, &Invite { not_after: Some(NOW + 5), ..plain }, NOW).expect("minted");
        assert_eq!(cut.claims.exp, NOW + 5);
        let long = "x".repeat(65);
        for (invite, expected) in [
            (Invite { room: "", ..plain }, InviteError::Room),
            (Invite { room: "a b", ..plain }, InviteError::Room),
            (Invite { room: &long, ..plain }, InviteError::Room),
            (Invite { name: Some(""), ..plain }, InviteError::Name),
            (Invite { name: Some(&long), ..plain }, InviteError::Name),
            (Invite { ttl: Some(MIN_TTL - 1), ..plain }, InviteError::Ttl),
            (Invite { ttl: Some(MAX_TTL + 1), ..plain }, InviteError::Ttl),
        ] {
            assert_eq!(tokens.invite(None, &invite, NOW), Err(expected));
        }
        assert!(tokens.invite(None, &Invite { room: "*", ttl: Some(MAX_TTL), ..plain }, NOW).is_ok());
    }

    #[test]
    fn ids_are_long_and_differ() {
        let ids: std::collections::HashSet<String> = (0..100).map(|_| random_id()).collect();
        assert_eq!(ids.len(), 100);
        assert!(ids.iter().all(|id| id.len() == 22));
    }

    fn tokens(seed: u8) -> Tokens {
        Tokens::new(vec![seed; 32])
    }
}
