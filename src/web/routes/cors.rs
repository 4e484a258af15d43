//! Pages of other origins (Fetch, section "CORS protocol").

use axum::body::Body;
use axum::http::header::{self, HeaderValue};
use axum::http::{Method, Request, Response, StatusCode};

use crate::web::access::AccessError;
use crate::web::desk::{host, text};
use crate::web::host::Origin;
use crate::web::{Connection, Web};

/// Refuses origins that are not allowed.
pub(super) fn check_origin(web: &Web, connection: &Connection, request: &Request<Body>) -> Result<(), AccessError> {
    web.check_origin(connection, text(request.headers(), header::ORIGIN), host(request))
}

/// What browsers ask before a request with a bearer. It carries none itself.
pub(super) fn is_preflight(request: &Request<Body>) -> bool {
    *request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ORIGIN)
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to a preflight of an allowed origin.
pub(super) fn preflight_answer(request: &Request<Body>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    allow_origin(&mut response, request);
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, OPTIONS"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("authorization, content-type"));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

/// Lets a page of another (allowed) origin read the answer.
pub(super) fn allow_origin(response: &mut Response<Body>, request: &Request<Body>) {
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Origin"));
    let Some(origin) = request.headers().get(header::ORIGIN) else { return };
    let parsed = origin.to_str().ok().and_then(Origin::parse);
    let is_same = parsed.zip(host(request)).is_some_and(|(origin, host)| origin.is_same_as_host(host));
    if !is_same {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("link, retry-after"));
    }
}
