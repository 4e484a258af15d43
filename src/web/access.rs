//! Who may do what: tokens and origins (DESIGN section 5).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::host::{Host, Origin, client_prefix};
use super::{Bound, Connection, Web};
use crate::clock;
use crate::config::{Access, Config};
use crate::credentials::token::{Claims, Role, TokenError, Verified};
use crate::net::Revocations;
use crate::signaling::{Fault, Pass};

/// Longest token id that is used as it stands in TURN usernames, which browsers limit to 508 bytes.
const MAX_PLAIN_ACCOUNT: usize = 64;

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
    /// Stable machine code: `token-missing`, `token-invalid`, `token-expired`, `token-revoked`, `origin-refused`.
    pub fn code(self) -> &'static str {
        match self {
            Self::TokenMissing => "token-missing",
            Self::Token(TokenError::Invalid) => "token-invalid",
            Self::Token(TokenError::Expired) => "token-expired",
            Self::Token(TokenError::Revoked) => "token-revoked",
            Self::Origin => "origin-refused",
        }
    }
}

impl Web {
    /// Checks the token (bearer, query, first message or Socket.IO `auth`) of a caller on `connection`.
    pub fn authorize(&self, connection: &Connection, token: Option<&str>) -> Result<Grant, AccessError> {
        // Invite set by hand holds on loopback, too: a proxy there may not tell that it is one.
        let live = self.live.get();
        let is_exempt = connection.loopback_listener && live.config.access != Some(Access::Invite);
        let is_open = live.access == Access::Open || is_exempt;
        match token.filter(|token| !token.is_empty()).map(|token| self.verify(token)) {
            Some(Ok(verified)) => Ok(Grant::of_token(verified)),
            // An old link still opens a server that asks for none.
            Some(Err(_)) | None if is_open => Ok(Grant::of_open(connection)),
            Some(Err(error)) => Err(self.refused(error.into())),
            None => Err(self.refused(AccessError::TokenMissing)),
        }
    }

    /// Counts a refusal.
    fn refused(&self, error: AccessError) -> AccessError {
        self.figures.count_refusal(error.code());
        error
    }

    /// Checks a token: ours or one of a back end's, good still, and not revoked.
    pub fn verify(&self, token: &str) -> Result<Verified, TokenError> {
        let now = clock::now().unix;
        let verified = self.live.get().tokens.verify_with_key(token, now)?;
        let is_revoked =
            self.net.revoked().is_token_revoked(now, &account(&verified.claims.jti, verified.key.as_deref()));
        if is_revoked { Err(TokenError::Revoked) } else { Ok(verified) }
    }

    /// Takes a token back until `until` (unix seconds), the last second that it could be good for: it opens nothing any
    /// more, whoever came by it goes, and so do all credentials fetched with it.
    pub async fn revoke_token(&self, account: &str, until: u64) {
        let now = clock::now().unix;
        self.net.revoked().revoke_token(now, account, until);
        self.net.revoke(&format!("t.{account}.*"), now + self.live.get().longest_ttl.as_secs());
        self.hub.token_revoked(account.to_owned()).await;
    }

    /// Waits until what was revoked so far is on the disk; false when that takes longer than `patience`.
    pub async fn revocations_are_kept(&self, patience: Duration) -> bool {
        let change = *self.net.revoked().changes().borrow();
        let mut kept = self.kept.clone();
        let waiting = kept.wait_for(|kept| *kept >= change);
        tokio::time::timeout(patience, waiting).await.is_ok_and(|kept| kept.is_ok())
    }

    /// Checks the `Origin` header of a WebSocket upgrade, a polling request or an API call. No header: allowed.
    pub fn check_origin(
        &self,
        connection: &Connection,
        origin: Option<&str>,
        host: Option<&str>,
    ) -> Result<(), AccessError> {
        let Some(origin) = origin else { return Ok(()) };
        let parsed = Origin::parse(origin);
        let is_same = || parsed.as_ref().zip(host).is_some_and(|(origin, host)| origin.is_same_as_host(host));
        let is_listed = || self.config().origins.iter().any(|listed| is_listed_origin(listed, origin, parsed.as_ref()));
        let is_local = || {
            connection.loopback_listener
                && (origin == "null" || parsed.as_ref().is_some_and(|origin| origin.host.is_loopback()))
        };
        if is_same() || is_listed() || is_local() { Ok(()) } else { Err(self.refused(AccessError::Origin)) }
    }
}

/// The access mode in force: as configured, else open only when every listener is bound to a literal loopback address.
pub fn access_mode(config: &Config, bound: &Bound) -> Access {
    let is_loopback = |address: &SocketAddr| address.ip().is_loopback();
    config.access.unwrap_or_else(|| {
        let mut all = bound.udp.iter().chain(&bound.tcp).chain(&bound.http);
        if all.all(is_loopback) { Access::Open } else { Access::Invite }
    })
}

/// Why a pass that was good when it was shown opens no room any more; where access is open it needs not be good.
pub fn spent_pass(is_open: Arc<AtomicBool>, revoked: Arc<Revocations>) -> impl Fn(&Pass) -> Option<Fault> + Send {
    move |pass| {
        let now = clock::now().unix;
        if is_open.load(Ordering::Relaxed) {
            None
        } else if pass.token.as_deref().is_some_and(|token| revoked.is_token_revoked(now, token)) {
            Some(Fault::TokenRevoked)
        } else {
            pass.expires.filter(|expires| *expires <= now).map(|_| Fault::TokenExpired)
        }
    }
}

impl Grant {
    fn of_token(verified: Verified) -> Self {
        let Verified { claims, key } = verified;
        Self {
            room: (claims.room != "*").then(|| claims.room.clone()),
            role: claims.role,
            name: claims.name.clone(),
            account: account(&claims.jti, key.as_deref()),
            claims: Some(claims),
        }
    }

    fn of_open(connection: &Connection) -> Self {
        let account = format!("open-{}", client_prefix(connection.client.ip()));
        Self { room: None, role: Role::Member, name: None, account, claims: None }
    }
}

/// A token id as part of a TURN subject: one that an application chose freely is replaced by its hash, so that it
/// can neither imitate another subject nor make the username too long.
/// A back end's tokens bear the name of its key, so that no two of them are mistaken for each other.
pub(crate) fn account(jti: &str, key: Option<&str>) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let id = if (1..=MAX_PLAIN_ACCOUNT).contains(&jti.len()) && jti.bytes().all(is_plain) {
        jti.to_owned()
    } else {
        hex(&Sha256::digest(jti.as_bytes())[..16])
    };
    key.map_or_else(|| id.clone(), |key| format!("{key}~{id}"))
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_listed_origin(listed: &str, origin: &str, parsed: Option<&Origin>) -> bool {
    let is_equal = || Origin::parse(listed).is_some_and(|listed| Some(&listed) == parsed);
    listed == "*" || listed.eq_ignore_ascii_case(origin) || is_equal()
}

impl Web {
    /// The host a browser reached us by, when it is one we answer for: our domain, a public address, a name of our
    /// certificate or of this machine, `localhost`, or the address the connection came to (DESIGN section 7).
    pub fn known_host(&self, connection: &Connection, host_header: Option<&str>) -> Option<Host> {
        let Some(header) = host_header else { return Some(Host::Ip(connection.server.ip())) };
        let (host, _) = Host::parse_authority(header)?;
        let is_ours = match &host {
            Host::Ip(ip) => {
                *ip == connection.server.ip()
                    || self.config().public_ips.iter().any(|public| public.public == *ip)
                    || (ip.is_loopback() && connection.server.ip().is_loopback())
            }
            Host::Name(name) => {
                host.is_localhost_name()
                    || self.config().domain.as_deref().is_some_and(|domain| domain.eq_ignore_ascii_case(name))
            }
        };
        (is_ours || self.identity.covers(&host)).then_some(host)
    }
}
