//! Engine.IO's HTTP long polling: GET, POST and OPTIONS on `/socket.io/`.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::desk::{host, query};
use super::socketio::{EngineError, Entry, Held, Mount, Reply, RequestToSession};
use super::{Connection, Web};
use crate::signaling::Fault;
use crate::signaling::dialect::socketio::Protocol;

/// What a client is told when it sends more than fits.
const TOO_LARGE: &str = "the payload is too large\n";

/// A body comes within this time, or its session ends.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Answers every request to `mount` that is no upgrade.
pub(super) async fn handle<P: Protocol + Send + 'static>(
    mount: Arc<Mount<P>>,
    connection: Connection,
    request: Request<Body>,
) -> Response<Body> {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let web = Arc::clone(mount.web());
    let allowed = web.check_origin(&connection, origin.as_ref().and_then(|value| value.to_str().ok()), host(&request));
    if allowed.is_err() {
        return bad_request(EngineError::Forbidden);
    }
    let with_credentials = origin.as_ref().is_some_and(|origin| is_listed(&web, origin));
    let mut response = if request.method() == Method::OPTIONS {
        preflight()
    } else {
        answer(&mount, connection, request).await.unwrap_or_else(bad_request)
    };
    add_cors(&mut response, origin, with_credentials);
    response
}

/// An Engine.IO error as the stock server words it.
pub(super) fn bad_request(error: EngineError) -> Response<Body> {
    let text = format!(r#"{{"code":{},"message":"{error}"}}"#, error.code());
    respond(error.status(), "application/json", text)
}

async fn answer<P: Protocol + Send + 'static>(
    mount: &Arc<Mount<P>>,
    connection: Connection,
    request: Request<Body>,
) -> Result<Response<Body>, EngineError> {
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
        let entry = mount.start_polling(connection, &request).await?;
        return poll(&entry).await;
    };
    let entry = mount.entry(&sid).ok_or(EngineError::UnknownSession)?;
    match *request.method() {
        Method::GET => poll(&entry).await,
        Method::POST => {
            let (held, limit) = (mount.held(), mount.max_payload());
            post(&entry, request.into_body(), held, limit).await
        }
        _ => Err(EngineError::BadRequest),
    }
}

/// Waits until there is something for the client.
async fn poll(entry: &Entry) -> Result<Response<Body>, EngineError> {
    let (reply, body) = oneshot::channel();
    let payload = ask(entry, RequestToSession::Poll(reply), body).await?;
    Ok(respond(StatusCode::OK, "text/plain; charset=UTF-8", payload))
}

async fn post(entry: &Entry, body: Body, held: Held, limit: usize) -> Result<Response<Body>, EngineError> {
    let Some(_posting) = entry.begin_post() else {
        entry.end(Fault::BadMessage).await;
        return Err(EngineError::BadRequest);
    };
    let payload = match timeout(BODY_TIMEOUT, collect(body, held, limit)).await {
        Ok(Ok(payload)) => payload,
        Ok(Err(Fault::TooLarge)) => {
            entry.end(Fault::TooLarge).await;
            return Ok(respond(StatusCode::PAYLOAD_TOO_LARGE, "text/plain; charset=UTF-8", TOO_LARGE.to_owned()));
        }
        Ok(Err(_)) | Err(_) => {
            entry.end(Fault::BadMessage).await;
            return Err(EngineError::BadRequest);
        }
    };
    let (reply, done) = oneshot::channel();
    ask(entry, RequestToSession::Post { payload, reply }, done).await?;
    Ok(respond(StatusCode::OK, "text/html", "ok".to_owned()))
}

/// Reads a body of at most `limit` bytes, which counts as held while it comes.
async fn collect(mut body: Body, mut held: Held, limit: usize) -> Result<String, Fault> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Fault::BadMessage)?.into_data() else { continue };
        let length = bytes.len() + data.len();
        if length > limit || !held.set(length) {
            return Err(Fault::TooLarge);
        }
        bytes.extend_from_slice(&data);
    }
    String::from_utf8(bytes).map_err(|_| Fault::BadMessage)
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
    web.config().origins.iter().any(|listed| listed.trim_end_matches('/').eq_ignore_ascii_case(origin))
}
