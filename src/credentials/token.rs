//! Access tokens: JWT HS256 (algorithm pinned), DESIGN section 5.

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

/// Why a token was refused; `code` of an error reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the token is not one of this server")]
    Invalid,
    #[error("the token has expired")]
    Expired,
}

/// Mints and verifies tokens with the state directory's `token-key`.
pub struct Tokens {
    /// Names the key in the header, so that later keys can stand beside it.
    kid: String,
    signing: EncodingKey,
    verifying: DecodingKey,
    validation: Validation,
}

impl Tokens {
    /// `key`: at least 32 random bytes.
    pub fn new(key: Vec<u8>) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        // Expiry is checked against the time we are told, without leeway; the crate would read the clock.
        validation.validate_exp = false;
        validation.leeway = 0;
        Self {
            kid: key_id(&key),
            signing: EncodingKey::from_secret(&key),
            verifying: DecodingKey::from_secret(&key),
            validation,
        }
    }

    /// Signs `claims`.
    pub fn mint(&self, claims: &Claims) -> String {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(self.kid.clone());
        jsonwebtoken::encode(&header, claims, &self.signing).expect("plain claims serialize and HMAC takes any key")
    }

    /// Checks signature, algorithm, key name and expiry at `now` (unix seconds).
    pub fn verify(&self, token: &str, now: u64) -> Result<Claims, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Invalid);
        }
        let data = jsonwebtoken::decode::<Claims>(token, &self.verifying, &self.validation)
            .map_err(|_| TokenError::Invalid)?;
        if data.header.kid.as_deref() != Some(self.kid.as_str()) {
            return Err(TokenError::Invalid);
        }
        if now >= data.claims.exp { Err(TokenError::Expired) } else { Ok(data.claims) }
    }
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
        let sign = |header: &Header| jsonwebtoken::encode(header, &claims, &tokens.signing).expect("signs");
        let mut header = Header::new(Algorithm::HS256);
        assert_eq!(tokens.verify(&sign(&header), NOW), Err(TokenError::Invalid), "no kid");
        header.kid = Some("other".into());
        assert_eq!(tokens.verify(&sign(&header), NOW), Err(TokenError::Invalid), "another kid");
        header.kid = Some(tokens.kid.clone());
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
        header.kid = Some(tokens.kid.clone());
        let claims = Claims::new("*", Role::Host, None, NOW, 60);
        let token = jsonwebtoken::encode(&header, &More { claims: &claims, nbf: NOW + 30 }, &tokens.signing);
        assert_eq!(tokens.verify(&token.expect("signs"), NOW), Err(TokenError::Invalid));
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
