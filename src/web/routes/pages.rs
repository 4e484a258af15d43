//! Pages and their files: `/`, `/call/{room}`, `/live/{stream}` and its studio, everything under `static/`, and the Socket.IO client.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Method, Request, Response, StatusCode};

use super::policy::{OperatorsOwn, refusal};
use crate::web::Web;
use crate::web::assets::{Asset, Assets, read_inside};
use crate::web::compressed::{accepts_gzip, etag_of_gzip};
use crate::web::desk::text;

/// What pages are served from.
pub(super) struct Pages {
    pub(super) web: Arc<Web>,
    pub(super) assets: Assets,
}

/// Files that a Socket.IO server serves beside its endpoint.
const SOCKETIO_FILES: [&str; 6] = [
    "socket.io.js",
    "socket.io.js.map",
    "socket.io.min.js",
    "socket.io.min.js.map",
    "socket.io.esm.min.js",
    "socket.io.esm.min.js.map",
];

/// `GET /`.
pub(super) async fn home(State(pages): State<Arc<Pages>>, headers: HeaderMap) -> Response<Body> {
    pages.serve("index.html", &headers).await
}

/// `GET /call/{room}`: one page for every room; its script reads the room from the address.
pub(super) async fn call(
    State(pages): State<Arc<Pages>>,
    Path(room): Path<String>,
    headers: HeaderMap,
) -> Response<Body> {
    pages.serve_room("call.html", &room, &headers).await
}

/// `GET /live/{stream}`: the page of those who watch.
pub(super) async fn live(
    State(pages): State<Arc<Pages>>,
    Path(stream): Path<String>,
    headers: HeaderMap,
) -> Response<Body> {
    pages.serve_room("live.html", &stream, &headers).await
}

/// `GET /live/{stream}/studio`: the page of the one who streams.
pub(super) async fn studio(
    State(pages): State<Arc<Pages>>,
    Path(stream): Path<String>,
    headers: HeaderMap,
) -> Response<Body> {
    pages.serve_room("studio.html", &stream, &headers).await
}

/// Any other path: a file of `static/`, or a page by its name without `.html`.
pub(super) async fn file(State(pages): State<Arc<Pages>>, request: Request<Body>) -> Response<Body> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED, "method", "only GET and HEAD are possible here");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET,HEAD"));
        return response;
    }
    match decode(request.uri().path()) {
        Some(path) => {
            let mut response = pages.serve(&path, request.headers()).await;
            share_script(&path, &mut response);
            response
        }
        None => refusal(StatusCode::BAD_REQUEST, "bad-path", "the path is not valid UTF-8 in percent encoding"),
    }
}

/// `GET /socket.io/socket.io.js` and its like, from `--socketio-client-dir`.
pub(super) async fn socketio_client(
    State(pages): State<Arc<Pages>>,
    Path(file): Path<String>,
    headers: HeaderMap,
) -> Response<Body> {
    if !SOCKETIO_FILES.contains(&file.as_str()) {
        return not_found();
    }
    let Some(dir) = pages.web.config().socketio_client_dir.clone() else {
        let message = "the Socket.IO client is not part of this server: start it with --socketio-client-dir DIR, the \
            dist directory of the npm package socket.io-client, or load it in the page from elsewhere";
        return refusal(StatusCode::NOT_FOUND, "no-socketio-client", message);
    };
    let name = file.clone();
    let read = tokio::task::spawn_blocking(move || read_inside(&dir, &name)).await.ok().flatten();
    let Some(content) = read else {
        let message = format!("--socketio-client-dir holds no {file}");
        return refusal(StatusCode::NOT_FOUND, "no-socketio-client", &message);
    };
    let content_type =
        if file.ends_with(".map") { "application/json" } else { "application/javascript; charset=utf-8" };
    respond(Asset::of_operator(content, content_type), &headers)
}

impl Pages {
    /// A page that serves every room: its script reads the name from the address.
    async fn serve_room(&self, page: &str, room: &str, headers: &HeaderMap) -> Response<Body> {
        if !is_room(room) {
            let message = "a room or stream is 1 to 64 characters of A-Z a-z 0-9 . _ ~ -";
            return refusal(StatusCode::NOT_FOUND, "bad-room", message);
        }
        self.serve(page, headers).await
    }

    async fn serve(&self, path: &str, headers: &HeaderMap) -> Response<Body> {
        let (assets, path) = (self.assets.clone(), path.to_owned());
        let find = move || assets.get(&path).or_else(|| assets.get(&format!("{path}.html")));
        match tokio::task::spawn_blocking(find).await.ok().flatten() {
            Some(asset) => respond(asset, headers),
            None => not_found(),
        }
    }
}

/// Lets pages of any origin use the scripts that are made for them (Fetch, "CORS protocol"; modules need it, and so do
/// pages with `Cross-Origin-Embedder-Policy`).
fn share_script(path: &str, response: &mut Response<Body>) {
    if matches!(path, "relais.js" | "ice.js") || (path.starts_with("relais/") && path.ends_with(".js")) {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        let policy = HeaderName::from_static("cross-origin-resource-policy");
        headers.insert(policy, HeaderValue::from_static("cross-origin"));
    }
}

/// The whole file, as gzip to whoever takes it, or 304 when the client has that already.
fn respond(asset: Asset, request: &HeaderMap) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    if asset.is_overlay {
        response.extensions_mut().insert(OperatorsOwn);
    }
    let headers = response.headers_mut();
    if asset.gzip.is_some() {
        headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    let (content, etag, is_gzip) = match asset.gzip.filter(|_| accepts_gzip(request)) {
        Some(gzip) => (gzip, etag_of_gzip(&asset.etag), true),
        None => (asset.content, asset.etag, false),
    };
    let is_known = text(request, header::IF_NONE_MATCH).is_some_and(|known| matches_etag(known, &etag));
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(header::ETAG, etag);
    }
    // Asked for again each time, answered by 304 mostly: a new version of the server shows at once.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    if is_gzip {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if let Ok(content_type) = HeaderValue::from_str(&asset.content_type) {
        headers.insert(header::CONTENT_TYPE, content_type);
    }
    *response.body_mut() = Body::from(content);
    response
}

/// RFC 9110 section 13.1.2, weak comparison.
fn matches_etag(known: &str, etag: &str) -> bool {
    known.trim() == "*" || known.split(',').any(|one| one.trim().trim_start_matches("W/") == etag)
}

fn not_found() -> Response<Body> {
    refusal(StatusCode::NOT_FOUND, "not-found", "there is nothing at this address")
}

/// PROTOCOL.md: what a room may be called.
fn is_room(room: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
    (1..=64).contains(&room.len()) && room.bytes().all(is_allowed)
}

/// The path without its leading slash, percent-decoded.
fn decode(path: &str) -> Option<String> {
    let mut bytes = path.strip_prefix('/').unwrap_or(path).bytes();
    let mut decoded = Vec::with_capacity(path.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
        decoded.push((high * 16 + low) as u8);
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_decoded_once() {
        assert_eq!(decode("/a%20b").as_deref(), Some("a b"));
        assert_eq!(decode("/%252e%252e/x").as_deref(), Some("%2e%2e/x"));
        assert_eq!(decode("/%2e%2e%2fx").as_deref(), Some("../x"));
        assert_eq!(decode("/%"), None);
        assert_eq!(decode("/%zz"), None);
        assert_eq!(decode("/%ff"), None);
    }

    #[test]
    fn entity_tags() {
        assert!(matches_etag("\"a\"", "\"a\""));
        assert!(matches_etag("W/\"a\"", "\"a\""));
        assert!(matches_etag("\"x\", \"a\"", "\"a\""));
        assert!(matches_etag("*", "\"a\""));
        assert!(!matches_etag("\"b\"", "\"a\""));
    }

    #[test]
    fn rooms() {
        assert!(is_room("blue-fox-42") && is_room("a.b_c~d"));
        assert!(!is_room("") && !is_room("a b") && !is_room("é") && !is_room(&"x".repeat(65)));
    }
}
