//! Engine.IO's HTTP long polling: GET, POST and OPTIONS on `/socket.io/`.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::desk::{host, query};
use super::socketio::{self, EngineError, Entry, Reply, RequestToSession};
use super::{Connection, Web};

/// What a client is told when it sends more than fits.
const TOO_LARGE: &str = "the payload is too large\n";

/// A body comes within this time, or its session ends.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Answers every non-upgrade request on `/socket.io` and `/socket.io/` that carries `EIO` in its query.
pub async fn handle(web: Arc<Web>, connection: Connection, request: Request<Body>) -> Response<Body> {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let allowed = web.check_origin(&connection, origin.as_ref().and_then(|value| value.to_str().ok()), host(&request));
    if allowed.is_err() {
        return bad_request(&EngineError::Forbidden);
    }
    let with_credentials = origin.as_ref().is_some_and(|origin| is_listed(&web, origin));
    let mut response = if request.method() == Method::OPTIONS {
        preflight()
    } else {
        answer(&web, connection, request).await.unwrap_or_else(|error| bad_request(&error))
    };
    add_cors(&mut response, origin, with_credentials);
    response
}

/// An Engine.IO error as the stock server words it.
pub(super) fn bad_request(error: &EngineError) -> Response<Body> {
    let text = format!(r#"{{"code":{},"message":"{error}"}}"#, error.code());
    respond(error.status(), "application/json", text)
}

async fn answer(web: &Arc<Web>, connection: Connection, request: Request<Body>) -> Result<Response<Body>, EngineError> {
    match query(&request, "transport").as_deref() {
        Some("polling") => {}
        // Only as an upgrade, and this is none.
        Some("websocket") => return Err(EngineError::BadRequest),
        _ => return Err(EngineError::UnknownTransport),
    }
    let is_get = request.method() == Method::GET;
    let Some(sid) = query(&request, "sid") else {
        if !is_get {
            return Err(EngineError::BadMethod);
        }
        if query(&request, "EIO").as_deref() != Some("4") {
            return Err(EngineError::UnsupportedVersion);
        }
        let entry = socketio::start_polling(web, connection, &request).await?;
        return poll(&entry).await;
    };
    let entry = web.hub.sessions().get(&sid).ok_or(EngineError::UnknownSession)?;
    match *request.method() {
        Method::GET => poll(&entry).await,
        Method::POST => post(&entry, request, web.config.limits.message_bytes).await,
        _ => Err(EngineError::BadRequest),
    }
}

/// Waits until there is something for the client.
async fn poll(entry: &Entry) -> Result<Response<Body>, EngineError> {
    let (reply, body) = oneshot::channel();
    let payload = ask(entry, RequestToSession::Poll(reply), body).await?;
    Ok(respond(StatusCode::OK, "text/plain; charset=UTF-8", payload))
}

async fn post(entry: &Entry, request: Request<Body>, limit: usize) -> Result<Response<Body>, EngineError> {
    let Some(_posting) = entry.begin_post() else {
        entry.end().await;
        return Err(EngineError::BadRequest);
    };
    let collected = timeout(BODY_TIMEOUT, Limited::new(request.into_body(), limit).collect()).await;
    let body = match collected.unwrap_or_else(|elapsed| Err(elapsed.into())) {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            entry.end().await;
            let is_too_large = error.is::<LengthLimitError>();
            let status = if is_too_large { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::BAD_REQUEST };
            return Ok(respond(status, "text/plain; charset=UTF-8", TOO_LARGE.to_owned()));
        }
    };
    let Ok(payload) = String::from_utf8(body.into()) else {
        entry.end().await;
        return Err(EngineError::BadRequest);
    };
    let (reply, done) = oneshot::channel();
    ask(entry, RequestToSession::Post { payload, reply }, done).await?;
    Ok(respond(StatusCode::OK, "text/html", "ok".to_owned()))
}

/// Puts a request to the session's task and waits for its answer.
async fn ask(entry: &Entry, request: RequestToSession, reply: oneshot::Receiver<Reply>) -> Result<String, EngineError> {
    entry.send(request).await.map_err(|()| EngineError::UnknownSession)?;
    match reply.await {
        Ok(answer) => answer.map_err(|_| EngineError::BadRequest),
        Err(_) => Err(EngineError::UnknownSession),
    }
}

fn respond(status: StatusCode, content_type: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn preflight() -> Response<Body> {
    let mut response = respond(StatusCode::NO_CONTENT, "text/plain; charset=UTF-8", String::new());
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, OPTIONS"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("content-type, authorization"));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

fn add_cors(response: &mut Response<Body>, origin: Option<HeaderValue>, with_credentials: bool) {
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    let Some(origin) = origin else { return };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    if with_credentials {
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
}

/// Named in `--origin`: a mere `*` does not let other sites use a visitor's cookies.
fn is_listed(web: &Web, origin: &HeaderValue) -> bool {
    let origin = origin.to_str().unwrap_or_default().trim_end_matches('/');
    web.config.origins.iter().any(|listed| listed.trim_end_matches('/').eq_ignore_ascii_case(origin))
}
