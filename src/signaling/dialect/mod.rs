//! How each kind of client speaks to the same hub. A dialect belongs to one connection.

pub mod live;
pub mod native;
pub mod socketio;
#[cfg(test)]
mod testing;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{Body, Command, Delivery, Fault, Invite, Pass, PeerId, Random, Role};
use crate::time::Mono;

/// What the shell does for a dialect: it knows the tokens, the ICE configuration and where randomness comes from.
pub trait Services: Random {
    /// Checks an access token.
    fn authorize(&self, token: Option<&str>) -> Result<Permit, Fault>;

    /// The ICE configuration with fresh credentials for `peer`.
    fn ice(&self, peer: &PeerId) -> Result<Ice, Fault>;

    /// An access token for `room` as `invite` wishes it, which does not outlive `until` (unix seconds).
    fn invite(&self, room: &str, invite: &Invite, until: Option<u64>) -> Result<Invitation, Fault>;
}

/// An access token made for a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    pub token: String,
    /// Unix seconds.
    pub expires_at: u64,
}

/// What an accepted client may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    /// `None`: any room.
    pub room: Option<String>,
    pub role: Role,
    /// Set by whoever minted the token; wins over what the client calls itself.
    pub name: Option<String>,
    pub pass: Pass,
}

impl Permit {
    /// What somebody may do who only has a session to show.
    pub(super) fn nothing() -> Self {
        Self { room: None, role: Role::Viewer, name: None, pass: Pass::default() }
    }

    pub(super) fn opens(&self, room: &str) -> bool {
        self.room.as_deref().is_none_or(|own| own == room)
    }
}

/// An ICE configuration, ready to be sent.
#[derive(Clone, Debug)]
pub struct Ice {
    pub json: Body,
    /// Seconds until its credential expires.
    pub ttl: u64,
}

/// What a WebSocket dialect wants done.
#[derive(Debug)]
pub enum Output {
    /// Send a text frame.
    Text(String),
    /// Pass this to the hub.
    Command(Command),
    /// Ping the client at once; when anything comes from it, pass [`Command::Alive`] to the hub.
    Ping,
    /// Close the WebSocket with this code (RFC 6455 section 7.4.1); nothing follows.
    Close(u16),
}

/// A client of one WebSocket connection with text frames.
pub trait Dialect {
    /// A text frame from the client.
    fn handle_text(&mut self, now: Mono, text: &str, services: &dyn Services);

    /// Something from the hub.
    fn handle_delivery(&mut self, now: Mono, delivery: Delivery, services: &dyn Services);

    /// The shell ends the connection for this reason: the client is told.
    fn handle_fault(&mut self, fault: Fault);

    fn handle_timeout(&mut self, now: Mono);

    fn poll_timeout(&self) -> Option<Mono>;

    fn poll_output(&mut self) -> Option<Output>;
}

/// Complaints in a row after which a client is not worth talking to.
pub(super) const MAX_COMPLAINTS: u32 = 10;

/// Tells "absent" from `null`, which serde's `Option` does not.
pub(super) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Copies opaque JSON out of a message.
pub(super) fn body(raw: &RawValue) -> Body {
    raw.to_owned().into()
}

/// Why a message could not be read.
pub(super) fn parse_fault(error: &serde_json::Error) -> Fault {
    if error.is_data() { Fault::BadMessage } else { Fault::BadJson }
}

/// Serializes a message of our own making. Our messages have text keys and no failing parts.
pub(super) fn to_json<T: serde::Serialize>(message: &T) -> String {
    serde_json::to_string(message).unwrap_or_default()
}
