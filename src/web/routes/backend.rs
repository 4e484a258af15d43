//! For back ends, with an API key or the admin token: tokens, TURN credentials, and taking both back.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::http::{Request, Response, StatusCode};
use serde::{Deserialize, Serialize};

use super::api::Shared;
use super::cors::check_origin;
use super::reply::{
    Refused, bearer, connection, json, read, refuse, refuse_access, too_many, unauthorized, unknown_host,
};
use crate::clock;
use crate::credentials::token::{DEFAULT_TTL, Invite, LONGEST_TTL, MAX_TTL, MIN_TTL, Role, TokenError, is_room_name};
use crate::web::access::account;
use crate::web::desk::{host, text};
use crate::web::gate::Caller;
use crate::web::ice::{Asker, IceServer};
use crate::web::{Connection, Web};

/// How long an answer waits for what was revoked to be on the disk.
pub(super) const KEPT: Duration = Duration::from_secs(2);

/// Who asks, by an API key or the admin token; within its rate.
pub(super) fn identify(web: &Web, connection: &Connection, request: &Request<Body>) -> Result<Caller, Refused> {
    check_origin(web, connection, request).map_err(refuse_access)?;
    let now = clock::now().mono;
    let Some(secret) = bearer(request.headers()) else {
        return Err(unauthorized("key-missing", "send an API key as Authorization: Bearer"));
    };
    let Some(caller) = web.live.get().gate.identify(secret) else {
        web.figures.count_refusal("key-invalid");
        if !web.live.get().gate.forgives(connection.client.ip(), now) {
            return Err(too_many("too many wrong keys from there: wait a second"));
        }
        return Err(unauthorized("key-invalid", "this is neither an API key nor the admin token of this server"));
    };
    if web.live.get().gate.admits(&caller, now) {
        Ok(caller)
    } else {
        Err(too_many("this key asks too often: wait a second"))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenWish {
    room: String,
    #[serde(default = "member")]
    role: Role,
    name: Option<String>,
    ttl: Option<u64>,
}

fn member() -> Role {
    Role::Member
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TokenMinted {
    token: String,
    jti: String,
    room: String,
    role: Role,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    expires_at: u64,
}

/// `POST /api/tokens`: an invite.
pub(super) async fn tokens(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response<Body> {
    let answer = async {
        let connection = connection(&request)?;
        let caller = identify(&shared.web, &connection, &request)?;
        let wish: TokenWish = read(request).await?;
        let key = match &caller {
            Caller::Key(id) => Some(&**id),
            Caller::Admin => None,
        };
        let TokenWish { room, role, name, ttl } = &wish;
        let ttl = Some(ttl.unwrap_or(DEFAULT_TTL));
        let invite = Invite { room, role: *role, name: name.as_deref(), ttl, not_after: None };
        let minted = shared.web.live.get().tokens.invite(key, &invite, clock::now().unix);
        let minted = minted.map_err(|error| refuse(StatusCode::BAD_REQUEST, "bad-request", &error.to_string()))?;
        let claims = minted.claims;
        tracing::info!(key = caller.key(), room = claims.room, role = role.as_str(), "token minted");
        let minted = TokenMinted {
            token: minted.token,
            jti: claims.jti,
            room: claims.room,
            role: claims.role,
            name: claims.name,
            expires_at: claims.exp,
        };
        Ok(json(StatusCode::CREATED, &minted))
    };
    answer.await.unwrap_or_else(|refused: Refused| *refused)
}

/// `GET /metrics`: the figures of the server, for the administrator.
pub(super) async fn metrics(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response<Body> {
    let web = &shared.web;
    match connection(&request).and_then(|connection| identify(web, &connection, &request)) {
        Ok(Caller::Admin) => crate::web::metrics::answer(web).await,
        Ok(Caller::Key(_)) => *refuse(StatusCode::FORBIDDEN, "admin-only", "metrics need the admin token"),
        Err(refused) => *refused,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CredentialWish {
    name: String,
    ttl: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CredentialMinted {
    subject: String,
    username: String,
    password: String,
    ttl: u64,
    expires_at: u64,
    uris: Vec<String>,
    ice_servers: Vec<IceServer>,
}

/// `POST /api/credentials`: a TURN credential of `a.<key>.<name>`.
pub(super) async fn credentials(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response<Body> {
    let answer = async {
        let web = &shared.web;
        let connection = connection(&request)?;
        let caller = identify(web, &connection, &request)?;
        let (host, user_agent) = (host(&request).map(str::to_owned), agent(&request));
        let wish: CredentialWish = read(request).await?;
        let ttl = wish.ttl.unwrap_or_else(|| web.config().credential_ttl.as_secs().min(MAX_TTL));
        if !(MIN_TTL..=MAX_TTL).contains(&ttl) {
            let message = format!("a lifetime is {MIN_TTL} to {MAX_TTL} seconds");
            return Err(refuse(StatusCode::BAD_REQUEST, "bad-request", &message));
        }
        let subject = subject_of(web, &caller, &wish.name)?;
        let asker =
            Asker { connection: &connection, host: host.as_deref(), user_agent: user_agent.as_deref(), all: false };
        let relaying = web.relaying(&asker, &subject, ttl).map_err(unknown_host)?;
        tracing::info!(subject, ttl, "credential minted");
        let credential = relaying.credential.clone();
        let minted = CredentialMinted {
            subject,
            username: credential.username,
            password: credential.password,
            ttl,
            expires_at: credential.expires,
            uris: relaying.turn.clone(),
            ice_servers: crate::web::ice::IceConfig::from(relaying).ice_servers,
        };
        Ok(json(StatusCode::CREATED, &minted))
    };
    answer.await.unwrap_or_else(|refused: Refused| *refused)
}

/// The subject of what `caller` calls `name`, while it is not revoked.
pub(super) fn subject_of(web: &Web, caller: &Caller, name: &str) -> Result<String, Refused> {
    if !is_room_name(name) {
        let message = "a name is 1 to 64 of A-Z a-z 0-9 . _ ~ -";
        return Err(refuse(StatusCode::BAD_REQUEST, "bad-request", message));
    }
    let subject = format!("a.{}.{name}", caller.key());
    if web.net.revoked().is_subject_revoked(clock::now().unix, &subject) {
        let message =
            "this subject was revoked: give another name, or wait until the last of its credentials has expired";
        return Err(refuse(StatusCode::CONFLICT, "subject-revoked", message));
    }
    Ok(subject)
}

fn agent(request: &Request<Body>) -> Option<String> {
    text(request.headers(), header::USER_AGENT).map(str::to_owned)
}

/// What is to be taken back: exactly one of them.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum RevokeWish {
    /// A whole token.
    Token(String),
    /// The id of a token.
    Jti(String),
    /// A TURN subject.
    Subject(String),
}

#[derive(Serialize)]
struct Revoked {
    /// What is refused from now on, until then (unix seconds).
    revoked: String,
    until: u64,
    /// It is on the disk, and holds after a restart as well.
    kept: bool,
}

/// `POST /api/revoke`: takes a token or the credentials of a subject back.
pub(super) async fn revoke(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response<Body> {
    let answer = async {
        let web = &shared.web;
        let caller = identify(web, &connection(&request)?, &request)?;
        let now = clock::now().unix;
        let (revoked, until) = match read(request).await? {
            RevokeWish::Subject(subject) => {
                revoke_subject(web, &caller, &subject, now + MAX_TTL.max(web.live.get().longest_ttl.as_secs()))?
            }
            RevokeWish::Token(token) => {
                let (account, until) = account_of(web, &caller, &token, now)?;
                web.revoke_token(&account, until).await;
                (format!("t.{account}.*"), until)
            }
            RevokeWish::Jti(jti) => {
                let (key, longest) = match &caller {
                    Caller::Key(id) => (Some(&**id), MAX_TTL),
                    Caller::Admin => (None, LONGEST_TTL),
                };
                let account = account(&jti, key);
                web.revoke_token(&account, now + longest).await;
                (format!("t.{account}.*"), now + longest)
            }
        };
        tracing::info!(key = caller.key(), subject = revoked, "revoked");
        let kept = web.revocations_are_kept(KEPT).await;
        Ok(json(StatusCode::OK, &Revoked { revoked, until, kept }))
    };
    answer.await.unwrap_or_else(|refused: Refused| *refused)
}

pub(super) fn revoke_subject(web: &Web, caller: &Caller, subject: &str, until: u64) -> Result<(String, u64), Refused> {
    let own = format!("a.{}.", caller.key());
    let names_own = || subject.strip_prefix(&own).is_some_and(|name| name == "*" || is_room_name(name));
    if *caller != Caller::Admin && !names_own() {
        let message = format!("an API key may revoke the subjects of its own credentials, {own}NAME and {own}*");
        return Err(refuse(StatusCode::FORBIDDEN, "not-yours", &message));
    }
    if subject.is_empty() || subject.len() > crate::credentials::turn::MAX_USERNAME {
        return Err(refuse(StatusCode::BAD_REQUEST, "bad-request", "a subject has 1 to 508 bytes"));
    }
    web.net.revoke(subject, until);
    Ok((subject.to_owned(), until))
}

/// The account and the end of a token that `caller` may revoke.
fn account_of(web: &Web, caller: &Caller, token: &str, now: u64) -> Result<(String, u64), Refused> {
    let verified = match web.live.get().tokens.verify_with_key(token, now) {
        Ok(verified) => verified,
        Err(error @ (TokenError::Invalid | TokenError::Expired | TokenError::Revoked)) => {
            return Err(refuse(StatusCode::BAD_REQUEST, "bad-request", &error.to_string()));
        }
    };
    let is_own = matches!(caller, Caller::Key(id) if verified.key.as_ref() == Some(id));
    if !is_own && *caller != Caller::Admin {
        return Err(refuse(StatusCode::FORBIDDEN, "not-yours", "an API key may revoke its own tokens"));
    }
    Ok((account(&verified.claims.jti, verified.key.as_deref()), verified.claims.exp))
}
