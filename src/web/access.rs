//! Who may do what: tokens and origins (DESIGN section 5).

use super::{Connection, Web};
use crate::credentials::token::{Claims, Role, TokenError};

/// What an accepted caller may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// `None`: any room.
    pub room: Option<String>,
    pub role: Role,
    pub name: Option<String>,
    /// What quotas count: the token id, or the client's prefix in open mode.
    pub account: String,
    /// The token, when one was shown.
    pub claims: Option<Claims>,
}

/// Why a caller was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    #[error("this server asks for an invitation: open the link you were given")]
    TokenMissing,
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("this origin is not allowed: add it with --origin")]
    Origin,
}

impl AccessError {
    /// Stable machine code: `token-missing`, `token-invalid`, `token-expired`, `origin-refused`.
    pub fn code(self) -> &'static str {
        match self {
            Self::TokenMissing => "token-missing",
            Self::Token(TokenError::Invalid) => "token-invalid",
            Self::Token(TokenError::Expired) => "token-expired",
            Self::Origin => "origin-refused",
        }
    }
}

impl Web {
    /// Checks the token (bearer, query, first message or Socket.IO `auth`) of a caller on `connection`.
    pub fn authorize(&self, connection: &Connection, token: Option<&str>) -> Result<Grant, AccessError> {
        let _ = (connection, token);
        todo!("W2")
    }

    /// Checks the `Origin` header of a WebSocket upgrade, a polling request or an API call. No header: allowed.
    pub fn check_origin(
        &self,
        connection: &Connection,
        origin: Option<&str>,
        host: Option<&str>,
    ) -> Result<(), AccessError> {
        let _ = (connection, origin, host);
        todo!("W2")
    }
}
