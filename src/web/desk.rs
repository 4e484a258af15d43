//! What the shell does for the dialects: tokens, ICE configuration, randomness.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, Request, header};

use super::access::AccessError;
use super::{Connection, Web};
use crate::clock;
use crate::credentials::token::{Claims, MAX_TOKEN, TokenError};
use crate::signaling::dialect::{Ice, Invitation, Permit, Services};
use crate::signaling::{Fault, Invite, Pass, PeerId, Random};

/// Seconds that a host's invite is good for unless it says otherwise, as those of `relais invite`.
const INVITE_TTL: u64 = 24 * 3600;

/// The shortest and the longest that a host may ask for.
const SHORTEST_INVITE: u64 = 60;
const LONGEST_INVITE: u64 = 30 * 24 * 3600;

/// What is kept of a client's name for itself, in characters: browsers' have some 150.
const MAX_USER_AGENT: usize = 512;

/// One client, as the request that opened its connection showed it.
pub(super) struct Desk {
    web: Arc<Web>,
    connection: Connection,
    host: Option<String>,
    user_agent: Option<String>,
    /// The account of the token that let the client in last.
    token: Mutex<Option<Arc<str>>>,
}

impl Desk {
    pub(super) fn new<B>(web: Arc<Web>, connection: Connection, request: &Request<B>) -> Self {
        let host = host(request).map(str::to_owned);
        let user_agent = text(request.headers(), header::USER_AGENT);
        let user_agent = user_agent.map(|agent| agent.chars().take(MAX_USER_AGENT).collect());
        Self { web, connection, host, user_agent, token: Mutex::default() }
    }

    /// How long a lost connection may come back.
    pub(super) fn resume(&self) -> Duration {
        self.web.config().resume
    }
}

impl Random for Desk {
    fn fill(&self, bytes: &mut [u8]) {
        SystemRandom.fill(bytes);
    }
}

/// The operating system's randomness.
pub(super) struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) {
        // Without randomness every id could be guessed: then rather no answer.
        aws_lc_rs::rand::fill(bytes).expect("the system gives random bytes");
    }
}

impl Services for Desk {
    fn authorize(&self, token: Option<&str>) -> Result<Permit, Fault> {
        let grant = self.web.authorize(&self.connection, token).map_err(|error| match error {
            AccessError::TokenMissing => Fault::TokenMissing,
            AccessError::Token(TokenError::Invalid) => Fault::TokenInvalid,
            AccessError::Token(TokenError::Revoked) => Fault::TokenRevoked,
            AccessError::Token(TokenError::Expired) => Fault::TokenExpired,
            AccessError::Origin => Fault::OriginRefused,
        })?;
        let token = grant.claims.as_ref().map(|_| grant.account.as_str().into());
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Option::clone(&token);
        let pass = grant.claims.map_or_else(Pass::default, |claims| Pass {
            token,
            expires: Some(claims.exp),
            one_room: claims.room != "*",
        });
        Ok(Permit { room: grant.room, role: grant.role, name: grant.name, pass })
    }

    fn ice(&self, peer: &PeerId) -> Result<Ice, Fault> {
        // It may have been revoked after it let this client in, and before the hub heard of either.
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if token.is_some_and(|token| self.web.net.revoked().is_token_revoked(clock::now().unix, &token)) {
            return Err(Fault::TokenRevoked);
        }
        let subject = format!("p.{peer}");
        // A client that reads slowly may ask on after it was removed: a credential made now would outlive the removal.
        if self.web.net.revoked().is_subject_revoked(clock::now().unix, &subject) {
            return Err(Fault::Kicked);
        }
        let (host, user_agent) = (self.host.as_deref(), self.user_agent.as_deref());
        let config =
            self.web.ice_config(&self.connection, host, user_agent, &subject, false).map_err(|_| Fault::UnknownHost)?;
        let json = serde_json::value::to_raw_value(&config).map_err(|_| Fault::UnknownHost)?;
        Ok(Ice { json: json.into(), ttl: config.ttl })
    }

    fn invite(&self, room: &str, invite: &Invite, until: Option<u64>) -> Result<Invitation, Fault> {
        let now = clock::now().unix;
        let ttl = invite.ttl.unwrap_or(INVITE_TTL).clamp(SHORTEST_INVITE, LONGEST_INVITE);
        let mut claims = Claims::new(room, invite.role, invite.name.clone(), now, ttl);
        claims.exp = claims.exp.min(until.unwrap_or(u64::MAX));
        if claims.exp <= now {
            return Err(Fault::TokenExpired);
        }
        Ok(Invitation { token: self.web.live.get().tokens.mint(&claims), expires_at: claims.exp })
    }
}

/// The text of a header that occurs.
pub(super) fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// The Host of a request: the header, or the authority of an absolute target (RFC 9112 section 3.2.2).
pub(super) fn host<B>(request: &Request<B>) -> Option<&str> {
    request.uri().authority().map(|authority| authority.as_str()).or_else(|| text(request.headers(), header::HOST))
}

/// The token in a request's query. One that is too long to be any is cut, since the connection keeps it.
pub(super) fn query_token<B>(request: &Request<B>) -> Option<String> {
    query(request, "token").map(|token| token.chars().take(MAX_TOKEN + 1).collect())
}

/// The first value of `key` in a request's query. An unreadable query has none.
pub(super) fn query<B>(request: &Request<B>, key: &str) -> Option<String> {
    let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(request.uri()).ok()?;
    pairs.0.into_iter().find(|(name, _)| name == key).map(|(_, value)| value)
}
