//! WebSocket connections: native on `/api/ws`, Engine.IO on `/socket.io/`, live on any other path.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, Response};

use super::{Connection, Web};

/// Answers a WebSocket upgrade: checks origin and limits, replies 101 and spawns the connection's task; a request
/// that is no valid upgrade gets 400 or 426. `routes.rs` calls this for every request with `Upgrade: websocket`.
pub async fn upgrade(web: Arc<Web>, connection: Connection, request: Request<Body>) -> Response<Body> {
    let _ = (web, connection, request);
    todo!("S")
}
