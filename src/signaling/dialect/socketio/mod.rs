//! Socket.IO 5 over Engine.IO 4, as the stock JavaScript client speaks it, in four layers:
//!
//! * [`Engine`] carries messages over long polling or WebSocket and moves from the one to the other;
//! * a [`Protocol`] reads and writes these messages: [`Sockets`] is Socket.IO with its namespaces, acknowledgements and
//!   attachments; [`Session`] is an engine with a protocol;
//! * an [`Application`] answers the events of the namespaces: [`Pages`] is ours, with `/webrtc` (`rooms.rs`) and the main
//!   one (`direct.rs`).
//!
//! The public id of a socket is random and has nothing to do with the Engine.IO session id, which is a secret, nor with
//! the private id that it comes back with (`recovery.rs`).

mod application;
mod direct;
mod engine;
pub mod limits;
pub mod packet;
mod pages;
mod recovery;
mod rooms;
mod session;
mod sockets;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::signaling::{Body, Fault, Kind, PeerId, Random, Secret};

pub use super::Services;
pub use application::{Action, Application, Arguments, Connect, Emit};
pub use engine::{BadRequest, Engine, Frame, Message, Signal, Transport};
pub use pages::Pages;
pub use session::{Output, Protocol, Session, Step, Terms, Timing};
pub use sockets::Sockets;

/// A new Engine.IO session id. Who knows it speaks for the session, so it is as long as a secret.
pub fn session_id<R: Random + ?Sized>(random: &R) -> String {
    Secret::random(random).as_str().to_owned()
}

/// The error a page may listen for.
#[derive(serde::Serialize)]
struct WireError {
    code: &'static str,
    message: String,
}

impl From<Fault> for WireError {
    fn from(fault: Fault) -> Self {
        Self { code: fault.code(), message: fault.to_string() }
    }
}

/// The first argument of an event, with the fields of all events.
#[derive(Default, serde::Deserialize)]
struct Argument<'a> {
    #[serde(default, borrow)]
    room: Option<std::borrow::Cow<'a, str>>,
    #[serde(default, borrow)]
    to: Option<std::borrow::Cow<'a, str>>,
    #[serde(default, borrow)]
    name: Option<std::borrow::Cow<'a, str>>,
    #[serde(default, borrow, deserialize_with = "super::present")]
    offer: Option<&'a RawValue>,
    #[serde(default, borrow, deserialize_with = "super::present")]
    answer: Option<&'a RawValue>,
    #[serde(default, borrow, deserialize_with = "super::present")]
    candidate: Option<&'a RawValue>,
}

impl Argument<'_> {
    /// What is to be carried. All attachments of the event go with it, since its placeholders count them.
    fn body(&self, kind: Kind, attachments: &[Bytes]) -> Option<Body> {
        let raw = match kind {
            Kind::Offer => self.offer,
            Kind::Answer => self.answer,
            Kind::Candidate => self.candidate,
            Kind::Bye => None,
        };
        Some(Body::with_attachments(raw?.to_owned(), attachments.to_vec()))
    }
}

/// A message as a page gets it: the body under its event's name, and who sent it.
#[derive(serde::Serialize)]
struct Carried<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    offer: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    candidate: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<&'a str>,
    from: &'a PeerId,
}

impl<'a> Carried<'a> {
    fn new(from: &'a PeerId, kind: Kind, body: Option<&'a Body>, room: Option<&'a str>) -> Self {
        let of = |wanted: Kind| if kind == wanted { body.map(|body| &**body) } else { None };
        Self { offer: of(Kind::Offer), answer: of(Kind::Answer), candidate: of(Kind::Candidate), room, from }
    }
}

fn event(name: &'static str, values: String) -> Action {
    Action::Emit(Emit { name: name.into(), values, ..Emit::default() })
}

fn error_event(fault: Fault) -> Action {
    event("error", super::to_json(&WireError::from(fault)))
}

fn refusal(fault: Fault) -> Action {
    Action::Refuse { message: fault.to_string(), data: Some(super::to_json(&WireError::from(fault))) }
}

/// Answers an acknowledgement, if one was asked for.
fn ack(id: Option<u64>, values: String) -> Option<Action> {
    id.map(|id| Action::Ack { id, values, attachments: Vec::new() })
}
