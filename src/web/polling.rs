//! Engine.IO's HTTP long polling: GET, POST and OPTIONS on `/socket.io/`.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, Response};

use super::{Connection, Web};

/// Answers every non-upgrade request on `/socket.io` and `/socket.io/` that carries `EIO` in its query.
pub async fn handle(web: Arc<Web>, connection: Connection, request: Request<Body>) -> Response<Body> {
    let _ = (web, connection, request);
    todo!("S")
}
