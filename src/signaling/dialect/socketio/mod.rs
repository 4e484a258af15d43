//! Socket.IO 5 over Engine.IO 4, as the stock JavaScript client speaks it.
//!
//! [`Engine`] carries messages over long polling or WebSocket and moves from the one to the other; [`Session`] reads
//! Socket.IO packets out of them and runs the two namespaces: `/webrtc` (`rooms.rs`) and the main one (`direct.rs`).
//! The public socket id of each is random and has nothing to do with the Engine.IO session id, which is a secret.

mod direct;
mod engine;
pub mod packet;
mod rooms;
mod session;

use serde_json::value::RawValue;

use crate::signaling::{Command, Fault, Kind, PeerId, Random, Secret};

pub use engine::{BadRequest, Engine, Frame, Message, Signal, Transport};
pub use session::{Output, Session, Terms};

/// A new Engine.IO session id. Who knows it speaks for the session, so it is as long as a secret.
pub fn session_id<R: Random + ?Sized>(random: &R) -> String {
    Secret::random(random).as_str().to_owned()
}

/// What a namespace answers to an event.
#[derive(Debug)]
pub(in crate::signaling) enum Action {
    Command(Command),
    /// Emit this event, with its arguments as JSON texts.
    Emit(&'static str, String),
    /// Answer an acknowledgement with this JSON text, or nothing: the one kept under that id, else the present
    /// event's, if it asked for one.
    Ack(Option<u64>, Option<String>),
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

impl<'a> Argument<'a> {
    fn body(&self, kind: Kind) -> Option<&'a RawValue> {
        match kind {
            Kind::Offer => self.offer,
            Kind::Answer => self.answer,
            Kind::Candidate => self.candidate,
            Kind::Bye => None,
        }
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
    fn new(from: &'a PeerId, kind: Kind, body: Option<&'a RawValue>, room: Option<&'a str>) -> Self {
        let of = |wanted: Kind| if kind == wanted { body } else { None };
        Self { offer: of(Kind::Offer), answer: of(Kind::Answer), candidate: of(Kind::Candidate), room, from }
    }
}
