//! Bodies and answers of the API: JSON in and out, refusals with a stable code.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::http::{Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::policy::refusal;
use crate::web::Connection;
use crate::web::access::AccessError;
use crate::web::desk::text;

/// Largest body of a request, in bytes; the largest that makes sense has some 2,200 (a token to revoke).
pub(super) const MAX_BODY: usize = 16 * 1024;
/// How long a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a request gets no other answer.
pub(super) type Refused = Box<Response<Body>>;

/// A refusal as JSON.
pub(super) fn refuse(status: StatusCode, code: &str, message: &str) -> Refused {
    Box::new(refusal(status, code, message))
}

/// A caller without access: 403 for origins, 401 for the rest.
pub(super) fn refuse_access(error: AccessError) -> Refused {
    if error == AccessError::Origin {
        return refuse(StatusCode::FORBIDDEN, error.code(), &error.to_string());
    }
    unauthorized(error.code(), &error.to_string())
}

/// 401 with the challenge of RFC 6750 section 3.
pub(super) fn unauthorized(code: &str, message: &str) -> Refused {
    let mut response = refuse(StatusCode::UNAUTHORIZED, code, message);
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// 429: the same may be asked again in a second.
pub(super) fn too_many(message: &str) -> Refused {
    let mut response = refuse(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", message);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// The Host header names neither us nor the address that the connection came to.
pub(super) fn unknown_host(error: crate::web::ice::UnknownHost) -> Refused {
    refuse(StatusCode::MISDIRECTED_REQUEST, "unknown-host", &error.to_string())
}

/// The path is there, the method is not; `Allow` says which are.
pub(super) async fn method_not_allowed() -> Response<Body> {
    refusal(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Allow says which methods this path has")
}

/// Where a request came from. The front sets it on every one.
pub(super) fn connection(request: &Request<Body>) -> Result<Connection, Refused> {
    let unknown = || refuse(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the connection is unknown");
    request.extensions().get::<Connection>().cloned().ok_or_else(unknown)
}

/// The token of `Authorization: Bearer` (RFC 6750 section 2.1).
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = text(headers, header::AUTHORIZATION)?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Reads a JSON body of at most [`MAX_BODY`] bytes.
pub(super) async fn read<T: DeserializeOwned>(request: Request<Body>) -> Result<T, Refused> {
    let content_type = text(request.headers(), header::CONTENT_TYPE).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        let message = "send the body as Content-Type: application/json";
        return Err(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", message));
    }
    serde_json::from_slice(&read_bytes(request, MAX_BODY).await?).map_err(|error| {
        let code = if error.is_data() { "bad-request" } else { "bad-json" };
        refuse(StatusCode::BAD_REQUEST, code, &error.to_string())
    })
}

/// Reads a body of at most `max` bytes.
pub(super) async fn read_bytes(request: Request<Body>, max: usize) -> Result<Bytes, Refused> {
    let body = tokio::time::timeout(BODY_TIMEOUT, Limited::new(request.into_body(), max).collect()).await;
    let body = body.map_err(|_| refuse(StatusCode::REQUEST_TIMEOUT, "timeout", "the body took too long"))?;
    let body = body.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
        Some(_) => refuse(StatusCode::PAYLOAD_TOO_LARGE, "too-large", &format!("a body has at most {max} bytes")),
        None => refuse(StatusCode::BAD_REQUEST, "bad-body", "the body did not come whole"),
    })?;
    Ok(body.to_bytes())
}

/// A JSON answer that nobody keeps.
pub(super) fn json(status: StatusCode, value: &impl serde::Serialize) -> Response<Body> {
    let Ok(body) = serde_json::to_string(value) else {
        return refusal(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the answer cannot be written as JSON");
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
