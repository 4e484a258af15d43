//! The API: `/api/ice`, `/ca.crt`, `/healthz`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::http::{Request, Response, StatusCode};

use super::policy::refusal;
use crate::credentials::token::random_bytes;
use crate::web::access::{AccessError, hex};
use crate::web::desk::{host, text};
use crate::web::host::Origin;
use crate::web::tls::Tls;
use crate::web::{Connection, Web};

/// What the API's handlers share.
pub(super) struct Shared {
    pub(super) web: Arc<Web>,
    pub(super) tls: Arc<Tls>,
}

/// `GET /api/ice`: the ICE configuration with a fresh credential (DESIGN section 7).
pub(super) async fn ice(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response<Body> {
    let Some(connection) = request.extensions().get::<Connection>().cloned() else {
        return refusal(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the connection is unknown");
    };
    if let Err(error) = check_origin(&shared.web, &connection, &request) {
        return refused(error);
    }
    let mut response = ice_response(&shared.web, &connection, &request);
    allow_origin(&mut response, &request);
    response
}

fn ice_response(web: &Web, connection: &Connection, request: &Request<Body>) -> Response<Body> {
    let grant = match web.authorize(connection, bearer(request.headers())) {
        Ok(grant) => grant,
        Err(error) => return refused(error),
    };
    // The random part tells credentials of one token apart.
    let subject = format!("t.{}.{}", grant.account, hex(&random_bytes::<8>()));
    let all = request.uri().query().is_some_and(|query| query.split('&').any(|pair| pair == "all=1"));
    let agent = text(request.headers(), header::USER_AGENT);
    match web.ice_config(connection, host(request), agent, &subject, all) {
        Ok(config) => json(&config),
        Err(error) => refusal(StatusCode::MISDIRECTED_REQUEST, "unknown-host", &error.to_string()),
    }
}

/// `OPTIONS` of the API: which origins and headers may be used (Fetch, section "CORS protocol").
pub(super) async fn preflight(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response<Body> {
    let connection = request.extensions().get::<Connection>();
    let is_allowed = connection.is_some_and(|connection| check_origin(&shared.web, connection, &request).is_ok());
    if !is_allowed {
        return refused(AccessError::Origin);
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    allow_origin(&mut response, &request);
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, OPTIONS"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("authorization, content-type"));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
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

fn check_origin(web: &Web, connection: &Connection, request: &Request<Body>) -> Result<(), AccessError> {
    web.check_origin(connection, text(request.headers(), header::ORIGIN), host(request))
}

/// Lets a page of another (allowed) origin read the answer.
fn allow_origin(response: &mut Response<Body>, request: &Request<Body>) {
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Origin"));
    let Some(origin) = request.headers().get(header::ORIGIN) else { return };
    let parsed = origin.to_str().ok().and_then(Origin::parse);
    let is_same = parsed.zip(host(request)).is_some_and(|(origin, host)| origin.is_same_as_host(host));
    if !is_same {
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
}

fn refused(error: AccessError) -> Response<Body> {
    let status = if error == AccessError::Origin { StatusCode::FORBIDDEN } else { StatusCode::UNAUTHORIZED };
    let mut response = refusal(status, error.code(), &error.to_string());
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// The token of `Authorization: Bearer` (RFC 6750 section 2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = text(headers, header::AUTHORIZATION)?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn json(value: &impl serde::Serialize) -> Response<Body> {
    let Ok(body) = serde_json::to_string(value) else {
        return refusal(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the answer cannot be written as JSON");
    };
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
