//! Access tokens: JWT HS256 (algorithm pinned), DESIGN section 5.

use serde::{Deserialize, Serialize};

/// What a token lets its bearer do in its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Host,
    Member,
    Streamer,
    Viewer,
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
    key: Vec<u8>,
}

impl Tokens {
    /// `key`: at least 32 random bytes.
    pub fn new(key: Vec<u8>) -> Self {
        Self { key }
    }

    /// Signs `claims`.
    pub fn mint(&self, claims: &Claims) -> String {
        let _ = (&self.key, claims);
        todo!("W1")
    }

    /// Checks signature, algorithm and expiry at `now` (unix seconds).
    pub fn verify(&self, token: &str, now: u64) -> Result<Claims, TokenError> {
        let _ = (token, now);
        todo!("W1")
    }
}
