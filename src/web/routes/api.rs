//! What pages ask: `/api/ice`, `/api/turn`, `/ca.crt`, `/healthz`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{self, HeaderValue};
use axum::http::{Request, Response, StatusCode};
use serde::Serialize;

use super::backend::subject_of;
use super::cors::{allow_origin, check_origin, is_preflight, preflight_answer};
use super::policy::refusal;
use super::reply::{Refused, bearer, connection, json, refuse, refuse_access, too_many, unknown_host};
use crate::clock;
use crate::credentials::token::random_bytes;
use crate::credentials::turn::TurnCredential;
use crate::web::access::hex;
use crate::web::desk::{host, query, text};
use crate::web::diagnosis::Diagnosed;
use crate::web::ice::{Asker, IceConfig, Relaying};
use crate::web::tls::Tls;
use crate::web::{Connection, Web};

/// What the API's handlers share.
pub(super) struct Shared {
    pub(super) web: Arc<Web>,
    pub(super) tls: Arc<Tls>,
}

/// `GET /api/ice`: the ICE configuration with a fresh credential (DESIGN section 7).
pub(super) async fn ice(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response<Body> {
    with_origin(&shared.web, &request, || {
        let ice = IceConfig::from(relaying(&shared.web, &request)?);
        if !wants_all(&request) {
            return Ok(json(StatusCode::OK, &ice));
        }
        let connection = connection(&request)?;
        let server = shared.web.facts(&asker(&connection, &request));
        Ok(json(StatusCode::OK, &Diagnosed { ice, server }))
    })
}

/// `OPTIONS /api/ice`: the answer to a preflight, else the same configuration as `Link` headers (RFC 9725 section 4.6).
pub(super) async fn ice_links(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response<Body> {
    with_origin(&shared.web, &request, || {
        let mut response = preflight_answer(&request);
        if is_preflight(&request) {
            return Ok(response);
        }
        let relaying = relaying(&shared.web, &request)?;
        let TurnCredential { username, password, .. } = &relaying.credential;
        let credential = format!("; username=\"{username}\"; credential=\"{password}\"; credential-type=\"password\"");
        let stun = relaying.stun.iter().map(|url| (url, ""));
        for (url, credential) in stun.chain(relaying.turn.iter().map(|url| (url, credential.as_str()))) {
            let link = HeaderValue::from_str(&format!("<{url}>; rel=\"ice-server\"{credential}"));
            // URLs, names and base64 are all visible ASCII.
            if let Ok(link) = link {
                response.headers_mut().append(header::LINK, link);
            }
        }
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS"));
        Ok(response)
    })
}

/// `OPTIONS` of the rest of what pages may ask.
pub(super) async fn preflight(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response<Body> {
    with_origin(&shared.web, &request, || Ok(preflight_answer(&request)))
}

/// The answer of the REST draft (draft-uberti-behave-turn-rest section 2.2).
#[derive(Serialize)]
struct Rest {
    username: String,
    password: String,
    ttl: u64,
    uris: Vec<String>,
}

/// `GET /api/turn?service=turn`: the TURN part of the configuration in the form of the REST draft.
pub(super) async fn turn(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response<Body> {
    with_origin(&shared.web, &request, || {
        if query(&request, "service").as_deref() != Some("turn") {
            return Err(refuse(StatusCode::BAD_REQUEST, "bad-request", "ask with ?service=turn"));
        }
        let Relaying { credential, ttl, turn: uris, .. } = relaying(&shared.web, &request)?;
        let TurnCredential { username, password, .. } = credential;
        Ok(json(StatusCode::OK, &Rest { username, password, ttl, uris }))
    })
}

/// A fresh credential for whoever asks: with a token `t.<token>.<random>`, with an API key and `?username=` the key's
/// own `a.<key>.<username>`.
fn relaying(web: &Web, request: &Request<Body>) -> Result<Relaying, Refused> {
    let connection = connection(request)?;
    let bearer = bearer(request.headers());
    let subject = match bearer.and_then(|bearer| web.live.get().gate.identify(bearer)) {
        Some(caller) => {
            if !web.live.get().gate.admits(&caller, clock::now().mono) {
                return Err(too_many("this key asks too often: wait a second"));
            }
            let name = query(request, "username").unwrap_or_else(|| hex(&random_bytes::<8>()));
            subject_of(web, &caller, &name)?
        }
        None => {
            let grant = web.authorize(&connection, bearer).map_err(refuse_access)?;
            // The random part tells credentials of one token apart.
            format!("t.{}.{}", grant.account, hex(&random_bytes::<8>()))
        }
    };
    let ttl = web.config().credential_ttl.as_secs();
    web.relaying(&asker(&connection, request), &subject, ttl).map_err(unknown_host)
}

fn asker<'a>(connection: &'a Connection, request: &'a Request<Body>) -> Asker<'a> {
    let user_agent = text(request.headers(), header::USER_AGENT);
    Asker { connection, host: host(request), user_agent, all: wants_all(request) }
}

/// The page that asks tests its way here.
fn wants_all(request: &Request<Body>) -> bool {
    query(request, "all").as_deref() == Some("1")
}

/// Answers pages of allowed origins, refusals included, so that they can read them.
pub(super) fn with_origin(
    web: &Web,
    request: &Request<Body>,
    answer: impl FnOnce() -> Result<Response<Body>, Refused>,
) -> Response<Body> {
    let checked =
        connection(request).and_then(|connection| check_origin(web, &connection, request).map_err(refuse_access));
    if let Err(refused) = checked {
        return *refused;
    }
    let mut response = answer().unwrap_or_else(|refused| *refused);
    allow_origin(&mut response, request);
    response
}

/// `GET /ca.crt`: the local CA, for devices that are to trust it.
pub(super) async fn authority(State(shared): State<Arc<Shared>>) -> Response<Body> {
    let Some(pem) = shared.tls.authority_pem() else {
        let message = "this server uses a certificate of its operator's, there is no local CA to install";
        return refusal(StatusCode::NOT_FOUND, "no-local-ca", message);
    };
    let mut response = Response::new(Body::from(pem.to_owned()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-x509-ca-cert"));
    let name = HeaderValue::from_static("attachment; filename=\"relais-ca.crt\"");
    headers.insert(header::CONTENT_DISPOSITION, name);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// `GET /.well-known/acme-challenge/{token}`: the answer to a check of the ACME authority (RFC 8555 section 8.3).
pub(super) async fn challenge(State(shared): State<Arc<Shared>>, Path(token): Path<String>) -> Response<Body> {
    let Some(answer) = shared.tls.acme.as_ref().and_then(|acme| acme.challenges.file(&token)) else {
        return refusal(StatusCode::NOT_FOUND, "not-found", "no check with this token is under way");
    };
    let mut response = Response::new(Body::from(answer));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response
}

/// `GET /healthz`: the server serves.
pub(super) async fn health() -> Response<Body> {
    let mut response = Response::new(Body::from("ok\n"));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
