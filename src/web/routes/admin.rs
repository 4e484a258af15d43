//! `/api/admin/…`: the session of an administrator, what `/admin` shows, and what it does. The admin token is exchanged
//! for a cookie once; everything else goes by the cookie, and changes need a request of our own page.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Method, Request, Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::api::Shared;
use super::backend::{KEPT, revoke_subject};
use super::reply::{Refused, connection, json as answer_json, read, refuse, too_many};
use crate::clock;
use crate::credentials::token::{LONGEST_TTL, MAX_TTL};
use crate::signaling::{PeerId, RoomKey};
use crate::web::admin::sessions::{LOGIN_ATTEMPTS, LOGIN_WINDOW, LONGEST};
use crate::web::desk::{host, text};
use crate::web::gate::Caller;
use crate::web::host::Origin;
use crate::web::{Connection, Web};

/// The cookie over TLS: browsers keep it to this very host.
const COOKIE: &str = "__Host-relais-admin";
/// The cookie over plain HTTP on this machine, where browsers take neither that prefix nor `Secure` for granted.
const PLAIN_COOKIE: &str = "relais-admin";
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The id of the session that a request shows, of a page of ours: 401 when it is none, or none any more.
pub(super) fn session(web: &Web, request: &Request<Body>) -> Result<String, Refused> {
    let connection = connection(request)?;
    check_own_page(request)?;
    let id = cookie(request.headers(), cookie_name(&connection));
    let is_open = |id: &&str| web.admin.sessions.is_open(id, &web.live.get().gate.admin(), clock::now().mono);
    match id {
        None => Err(refuse(StatusCode::UNAUTHORIZED, "session-missing", "log in at /admin")),
        Some(id) => id_if(id, is_open(&id)),
    }
}

fn id_if(id: &str, is_open: bool) -> Result<String, Refused> {
    let over = || refuse(StatusCode::UNAUTHORIZED, "session-over", "the session is over: log in again");
    is_open.then(|| id.to_owned()).ok_or_else(over)
}

/// Refuses what another origin sends or frames; a change must say that it comes from here, as browsers let no page fake.
fn check_own_page(request: &Request<Body>) -> Result<(), Refused> {
    let is_change = !matches!(*request.method(), Method::GET | Method::HEAD);
    let site = text(request.headers(), FETCH_SITE);
    let origin = text(request.headers(), header::ORIGIN);
    let is_own_site = site.is_none_or(|site| site == "same-origin" || (site == "none" && !is_change));
    let is_own_origin = origin.is_none_or(|origin| {
        Origin::parse(origin).zip(host(request)).is_some_and(|(origin, host)| origin.is_same_as_host(host))
    });
    let says_nothing = is_change && site.is_none() && origin.is_none();
    if is_own_site && is_own_origin && !says_nothing {
        return Ok(());
    }
    Err(refuse(StatusCode::FORBIDDEN, "origin-refused", "this is for the page /admin of this server alone"))
}

fn cookie_name(connection: &Connection) -> &'static str {
    if connection.secure { COOKIE } else { PLAIN_COOKIE }
}

fn cookie<'r>(headers: &'r HeaderMap, name: &str) -> Option<&'r str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value)
}

fn set_cookie(response: &mut Response<Body>, connection: &Connection, id: &str, seconds: u64) {
    let secure = if connection.secure { "; Secure" } else { "" };
    let name = cookie_name(connection);
    let cookie = format!("{name}={id}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
}

/// `GET /api/admin/session`: whether the page is logged in. That it is not is no error: every visit begins so.
pub(super) async fn show(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response<Body> {
    match session(&shared.web, &request) {
        Ok(_) => answer_json(StatusCode::OK, &json!({ "open": true })),
        Err(refused) if refused.status() == StatusCode::UNAUTHORIZED => {
            answer_json(StatusCode::OK, &json!({ "open": false }))
        }
        Err(refused) => *refused,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    token: String,
}

/// `POST /api/admin/session`: the admin token for a session.
pub(super) async fn log_in(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response<Body> {
    let answer = async {
        let web = &shared.web;
        let connection = connection(&request)?;
        check_own_page(&request)?;
        if !connection.secure && !connection.loopback_listener {
            let message = "the admin token travels over HTTPS only; a proxy that speaks it must be listed as trust_proxy \
                and send X-Forwarded-Proto";
            return Err(refuse(StatusCode::FORBIDDEN, "https-only", message));
        }
        let client = connection.client.ip();
        if !web.admin.sessions.may_try(client, clock::now().mono) {
            web.figures.count_refusal("login-refused");
            let seconds = LOGIN_WINDOW.as_secs();
            let message = format!("more than {LOGIN_ATTEMPTS} attempts from your network: wait {seconds} seconds");
            let mut refused = too_many(&message);
            refused.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            return Err(refused);
        }
        let Login { token } = read(request).await?;
        let live = web.live.get();
        if live.gate.identify(token.trim()) != Some(Caller::Admin) {
            web.figures.count_refusal("login-refused");
            let message = "this is not the admin token of this server";
            return Err(refuse(StatusCode::UNAUTHORIZED, "login-refused", message));
        }
        let id = web.admin.sessions.open(client, live.gate.admin(), clock::now().mono);
        tracing::info!("an administrator logged in");
        let mut response = answer_json(StatusCode::CREATED, &json!({ "open": true }));
        set_cookie(&mut response, &connection, &id, LONGEST.as_secs());
        Ok(response)
    };
    answer.await.unwrap_or_else(|refused: Refused| *refused)
}

/// `DELETE /api/admin/session`: logs out, and says nothing to who is not logged in.
pub(super) async fn log_out(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response<Body> {
    let answer = || {
        let connection = connection(&request)?;
        check_own_page(&request)?;
        if let Some(id) = cookie(request.headers(), cookie_name(&connection)) {
            shared.web.admin.sessions.close(id);
        }
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        set_cookie(&mut response, &connection, "", 0);
        Ok(response)
    };
    answer().unwrap_or_else(|refused: Refused| *refused)
}

/// Reads what is to be done, by who is logged in.
async fn wish<T: serde::de::DeserializeOwned>(web: &Web, request: Request<Body>) -> Result<T, Refused> {
    session(web, &request)?;
    read(request).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KickWish {
    peer: String,
}

/// `POST /api/admin/kick`: removes a peer from its room, and ends what it has at the relay.
pub(super) async fn kick(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response<Body> {
    let answer = async {
        let KickWish { peer } = wish(&shared.web, request).await?;
        if !shared.web.hub.kick(PeerId::from(peer.as_str())).await {
            return Err(refuse(StatusCode::NOT_FOUND, "unknown-peer", "this peer is not here any more"));
        }
        tracing::info!(peer, "kicked by the administrator");
        Ok(answer_json(StatusCode::OK, &json!({ "kicked": peer })))
    };
    answer.await.unwrap_or_else(|refused: Refused| *refused)
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum RevokeWish {
    /// A TURN subject.
    Subject(String),
    /// The id of a token, as the table shows it.
    Token(String),
}

#[derive(Serialize)]
struct Revoked {
    revoked: String,
    /// Unix seconds.
    until: u64,
    /// It is on the disk, and holds after a restart as well.
    kept: bool,
}

/// `POST /api/admin/revoke`: takes the credentials of a subject back, or a token with all that came by it.
pub(super) async fn revoke(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response<Body> {
    let answer = async {
        let web = &shared.web;
        let wish = wish(web, request).await?;
        let now = clock::now().unix;
        let (revoked, until) = match wish {
            RevokeWish::Subject(subject) => {
                let longest = MAX_TTL.max(web.live.get().longest_ttl.as_secs());
                revoke_subject(web, &Caller::Admin, &subject, now + longest)?
            }
            RevokeWish::Token(account) => {
                let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_~.".contains(&byte);
                if !(1..=128).contains(&account.len()) || !account.bytes().all(is_plain) {
                    return Err(refuse(StatusCode::BAD_REQUEST, "bad-request", "this is not the id of a token"));
                }
                web.revoke_token(&account, now + LONGEST_TTL).await;
                (format!("t.{account}.*"), now + LONGEST_TTL)
            }
        };
        tracing::info!(subject = revoked, "revoked by the administrator");
        let kept = web.revocations_are_kept(KEPT).await;
        Ok(answer_json(StatusCode::OK, &Revoked { revoked, until, kept }))
    };
    answer.await.unwrap_or_else(|refused: Refused| *refused)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoomWish {
    kind: Kind,
    name: String,
    action: Action,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Call,
    Live,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Action {
    Lock,
    Unlock,
    Close,
}

/// `POST /api/admin/room`: locks a call or stream, unlocks it, or ends it for everybody.
pub(super) async fn room(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response<Body> {
    let answer = async {
        let RoomWish { kind, name, action } = wish(&shared.web, request).await?;
        let hub = &shared.web.hub;
        let key = match kind {
            Kind::Call => RoomKey::Call(name.as_str().into()),
            Kind::Live => RoomKey::Stream(name.as_str().into()),
        };
        let is_done = match action {
            Action::Lock => hub.lock_room(key, true).await,
            Action::Unlock => hub.lock_room(key, false).await,
            Action::Close => hub.close_room(key).await,
        };
        if !is_done {
            return Err(refuse(StatusCode::NOT_FOUND, "unknown-room", "there is no such room any more"));
        }
        tracing::info!(room = name, ?kind, ?action, "done by the administrator");
        Ok(answer_json(StatusCode::OK, &json!({ "room": name })))
    };
    answer.await.unwrap_or_else(|refused: Refused| *refused)
}
