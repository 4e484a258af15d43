//! `GET /api/openapi.json`: the HTTP API, described for programs (OpenAPI 3.1).

use axum::body::Body;
use axum::http::Response;
use axum::http::header::{self, HeaderValue};

/// The description; `tests/http/openapi.rs` holds it against what the server does.
const DOCUMENT: &str = include_str!("openapi.json");

/// Anybody may read it, pages of other origins too.
pub(super) async fn document() -> Response<Body> {
    let mut response = Response::new(Body::from(DOCUMENT));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}
