//! What a Socket.IO application is to [`super::Sockets`]: something with namespaces that answers events.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::Services;
use crate::signaling::{Command, Delivery, Fault};

/// What the namespaces of one connection do. A namespace's place in [`Self::namespaces`] is its slot.
pub trait Application {
    /// Their names, at most [`super::limits::MAX_NAMESPACES`].
    fn namespaces(&self) -> &'static [&'static str];

    /// A client asks for a namespace: sooner or later answered by [`Action::Accept`] or [`Action::Refuse`].
    fn handle_connect(&mut self, slot: u8, connect: &Connect<'_>, services: &dyn Services) -> Vec<Action>;

    /// A client emits.
    fn handle_event(&mut self, slot: u8, name: &str, event: &Arguments<'_>) -> Vec<Action>;

    /// A client acknowledges what [`Emit::ask`] asked.
    fn handle_answer(&mut self, slot: u8, id: u64, answer: &Arguments<'_>) -> Vec<Action>;

    /// A client leaves a namespace.
    fn handle_disconnect(&mut self, slot: u8) -> Vec<Action>;

    /// Something from the hub.
    fn handle_delivery(&mut self, slot: u8, delivery: Delivery) -> Vec<Action>;

    /// The connection ends for this reason.
    fn handle_fault(&mut self, slot: u8, fault: Fault) -> Vec<Action>;

    /// True when something would wait for the client if its connection were lost.
    fn can_come_back(&self) -> bool;
}

/// A client's wish to be in a namespace.
#[derive(Debug)]
pub struct Connect<'a> {
    /// What the page set as `auth`: an object.
    pub auth: Option<&'a str>,
    /// The private session id and the offset of a client that has been here before.
    pub recovery: Option<(String, String)>,
}

/// The arguments of an event or of an acknowledgement.
#[derive(Debug)]
pub struct Arguments<'a> {
    pub values: Vec<&'a RawValue>,
    /// Placeholders in the values stand for these.
    pub attachments: Vec<Bytes>,
    /// An event that wants an acknowledgement has this id.
    pub ack: Option<u64>,
}

/// What an application wants done in the namespace at hand.
#[derive(Debug)]
pub enum Action {
    Command(Command),
    /// The client is in. `pid`: the private id to come back with.
    Accept {
        sid: String,
        pid: Option<String>,
    },
    /// The client is not let in. `data`: JSON.
    Refuse {
        message: String,
        data: Option<String>,
    },
    Emit(Emit),
    /// Acknowledge the event with this id. `values`: JSON texts, separated by commas.
    Ack {
        id: u64,
        values: String,
        attachments: Vec<Bytes>,
    },
    /// Put the client out of the namespace.
    Disconnect,
    /// End the connection, for this reason if there is one to tell.
    Close(Option<Fault>),
}

/// An event for the client.
#[derive(Debug, Default)]
pub struct Emit {
    pub name: Cow<'static, str>,
    /// JSON texts, separated by commas.
    pub values: String,
    pub attachments: Vec<Bytes>,
    /// Where a client that loses its connection after this event goes on.
    pub offset: Option<String>,
    /// Asks for an acknowledgement under this id.
    pub ask: Option<u64>,
}
