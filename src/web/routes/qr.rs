//! `POST /api/qr`: the QR code of a link, for pages to show. Posted, so that no link with its token is in an address, a
//! history or a log.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{self, HeaderValue};
use axum::http::{Request, Response, StatusCode};

use super::api::Shared;
use super::cors::check_origin;
use super::reply::{Refused, connection, read_bytes, refuse, refuse_access, too_many};
use crate::clock;
use crate::qr::{MAX_TEXT, svg};

/// Answers with the picture of the text in the body.
pub(super) async fn draw(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response<Body> {
    let answer = async {
        let web = &shared.web;
        let connection = connection(&request)?;
        check_origin(web, &connection, &request).map_err(refuse_access)?;
        if !web.live.get().gate.draws(connection.client.ip(), clock::now().mono) {
            return Err(too_many("too many codes for your network: wait a second"));
        }
        let body = read_bytes(request, MAX_TEXT).await?;
        let picture = std::str::from_utf8(&body).ok().and_then(svg);
        let message = format!("send 1 to {MAX_TEXT} bytes of text in UTF-8");
        let picture = picture.ok_or_else(|| refuse(StatusCode::BAD_REQUEST, "bad-request", &message))?;
        let mut response = Response::new(Body::from(picture));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("image/svg+xml"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    };
    answer.await.unwrap_or_else(|refused: Refused| *refused)
}
