//! `GET /api/peers/{id}`: what a peer of a room uses of the relay at this moment.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Request, Response, StatusCode};
use serde::Serialize;

use super::api::Shared;
use super::cors::{allow_origin, check_origin};
use super::reply::{Refused, bearer, connection, json, refuse, refuse_access, too_many, unauthorized};
use crate::clock;
use crate::credentials::token::Role;
use crate::relay::Usage;
use crate::signaling::{PeerId, RoomKey};
use crate::web::Web;
use crate::web::access::{AccessError, account};
use crate::web::gate::Caller;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Peer {
    peer: String,
    room: String,
    name: Option<String>,
    role: Role,
    /// Its signaling connection stands; `false` while it may come back.
    connected: bool,
    allocations: Vec<Allocation>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Allocation {
    /// How the peer reaches us.
    transport: &'static str,
    relayed: SocketAddr,
    to_peer: Count,
    to_client: Count,
    permissions: usize,
    channels: usize,
    /// Seconds.
    age: u64,
    expires_in: u64,
}

#[derive(Serialize)]
struct Count {
    bytes: u64,
    packets: u64,
}

impl From<Usage> for Allocation {
    fn from(usage: Usage) -> Self {
        let traffic = usage.traffic;
        Self {
            transport: usage.transport.name(),
            relayed: usage.relayed,
            to_peer: Count { bytes: traffic.to_peer_bytes, packets: traffic.to_peer_packets },
            to_client: Count { bytes: traffic.to_client_bytes, packets: traffic.to_client_packets },
            permissions: usage.permissions,
            channels: usage.channels,
            age: usage.age.as_secs(),
            expires_in: usage.expires_in.as_secs(),
        }
    }
}

/// Whom the bearer may ask about: everybody, or who is in the room that it hosts.
enum Scope {
    All,
    Room(String),
}

/// For a host of the peer's room, or the administrator.
pub(super) async fn usage(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    request: Request<Body>,
) -> Response<Body> {
    let checked = connection(&request)
        .and_then(|connection| check_origin(&shared.web, &connection, &request).map_err(refuse_access));
    if let Err(refused) = checked {
        return *refused;
    }
    let answered = match scope(&shared.web, &request) {
        Ok(scope) => answer(&shared.web, &id, scope).await,
        Err(refused) => Err(refused),
    };
    let mut response = answered.unwrap_or_else(|refused| *refused);
    allow_origin(&mut response, &request);
    response
}

async fn answer(web: &Web, id: &str, scope: Scope) -> Result<Response<Body>, Refused> {
    let peer = PeerId::from(id);
    let found = web.hub.peer(peer.clone()).await.filter(|found| match (&scope, &found.room) {
        (Scope::All, _) => true,
        (Scope::Room(own), RoomKey::Call(room)) => **own == **room,
        (Scope::Room(_), RoomKey::Stream(_) | RoomKey::Direct) => false,
    });
    // Who may not ask about a peer does not learn whether it is there.
    let nobody = || refuse(StatusCode::NOT_FOUND, "unknown-peer", "there is no such peer in a room of yours");
    let found = found.ok_or_else(nobody)?;
    let usage = web.net.usage(&format!("p.{peer}")).await;
    let told = Peer {
        peer: peer.to_string(),
        room: found.room.to_string(),
        name: found.name,
        role: found.role,
        connected: found.connected,
        allocations: usage.into_iter().map(Allocation::from).collect(),
    };
    Ok(json(StatusCode::OK, &told))
}

fn scope(web: &Web, request: &Request<Body>) -> Result<Scope, Refused> {
    let client = connection(request)?.client.ip();
    let Some(bearer) = bearer(request.headers()) else { return Err(refuse_access(AccessError::TokenMissing)) };
    match web.live.get().gate.identify(bearer) {
        Some(Caller::Admin) => return Ok(Scope::All),
        Some(Caller::Key(_)) => return Err(not_host()),
        None => {}
    }
    let verified = web.verify(bearer).map_err(|error| {
        if !web.live.get().gate.forgives(client, clock::now().mono) {
            return too_many("too many wrong tokens from there: wait a second");
        }
        let error = AccessError::Token(error);
        unauthorized(error.code(), &error.to_string())
    })?;
    let may_ask = || {
        let account = account(&verified.claims.jti, verified.key.as_deref());
        if web.live.get().gate.answers(account, clock::now().mono) {
            Ok(())
        } else {
            Err(too_many("ask less often: wait a second"))
        }
    };
    match (verified.claims.role, verified.claims.room.as_str()) {
        (Role::Host, "*") => may_ask().map(|()| Scope::All),
        (Role::Host, room) => may_ask().map(|()| Scope::Room(room.to_owned())),
        (Role::Member | Role::Streamer | Role::Viewer, _) => Err(not_host()),
    }
}

fn not_host() -> Refused {
    refuse(StatusCode::FORBIDDEN, "not-host", "only a host of the room and the administrator may ask this")
}
