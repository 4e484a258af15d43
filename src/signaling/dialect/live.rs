//! Streamer and viewer pages over a plain WebSocket.
//!
//! A page that knows nothing of us sends `streamer` or `viewer` and gets only messages it knows. One that puts
//! `stream` or `extras` in that first message also gets `viewerLeft`, `streamerLeft`, `viewerCount` and complaints.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Dialect, MAX_COMPLAINTS, Output, Services, body, parse_fault, present, to_json};
use crate::signaling::{
    Alias, Body, Command, Delivery, Event, Fault, Join, Kind, PeerId, PeerView, Rate, Role, RoomKey, To,
};
use crate::time::Mono;

/// Longest `viewerId`, as JSON.
const MAX_VIEWER_ID: usize = 128;

/// Longest stream name, in characters.
const MAX_STREAM: usize = 64;

/// How often a page may register at once; then once a second. Every viewer of a stream is told of its streamer, so one
/// that comes and goes all the time would keep the hub busy for ten thousand.
const REGISTRATIONS: u64 = 10;

/// Pages may ask for the camera before they say who they are, and people take their time.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(600);

/// The stream of pages that name none.
const DEFAULT_STREAM: &str = "default";

/// One live client.
pub struct Live {
    /// From the URL, when the messages name none.
    stream: Option<String>,
    token: Option<String>,
    state: State,
    registrations: Rate,
    extras: bool,
    complaints: u32,
    outputs: VecDeque<Output>,
}

enum State {
    Unregistered { until: Mono },
    Streamer(Viewers),
    Viewer { alias: Alias, streamer: Option<PeerId> },
    Closed,
}

/// The viewers that a streamer knows. The hub lets no two of them bear one id.
#[derive(Default)]
struct Viewers {
    by_key: HashMap<Arc<str>, PeerId>,
    aliases: HashMap<PeerId, Alias>,
}

impl Viewers {
    fn insert(&mut self, view: &PeerView) -> Option<Body> {
        let alias = view.alias.clone()?;
        let json = alias.json().clone();
        self.by_key.insert(alias.key().clone(), view.peer.clone());
        self.aliases.insert(view.peer.clone(), alias);
        Some(json)
    }

    fn remove(&mut self, peer: &PeerId) -> Option<Body> {
        let alias = self.aliases.remove(peer)?;
        self.by_key.remove(alias.key());
        Some(alias.json().clone())
    }

    fn alias(&self, peer: &PeerId) -> Option<Body> {
        self.aliases.get(peer).map(|alias| alias.json().clone())
    }

    fn find(&self, id: &RawValue) -> Option<PeerId> {
        self.by_key.get(Alias::parse(id)?.key()).cloned()
    }
}

#[derive(Deserialize)]
struct ClientMessage<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(default, rename = "viewerId", borrow, deserialize_with = "present")]
    viewer_id: Option<&'a RawValue>,
    #[serde(default, borrow)]
    stream: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    token: Option<Cow<'a, str>>,
    #[serde(default)]
    extras: bool,
    #[serde(default, borrow, deserialize_with = "present")]
    offer: Option<&'a RawValue>,
    #[serde(default, borrow, deserialize_with = "present")]
    answer: Option<&'a RawValue>,
    #[serde(default, borrow, deserialize_with = "present")]
    candidate: Option<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum ServerMessage<'a> {
    NewViewer { viewer_id: &'a RawValue },
    Offer { offer: Option<&'a RawValue>, viewer_id: &'a RawValue },
    Answer { answer: Option<&'a RawValue>, viewer_id: &'a RawValue },
    Candidate { candidate: Option<&'a RawValue>, target: &'static str, viewer_id: &'a RawValue },
    ViewerLeft { viewer_id: &'a RawValue },
    StreamerLeft,
    ViewerCount { count: usize },
    Pong,
    Error { code: &'static str, message: String },
}

impl Live {
    /// `stream` and `token`: from the query of the URL.
    pub fn new(now: Mono, stream: Option<String>, token: Option<String>) -> Self {
        // A longer name is refused when it is used, and until then it is kept.
        let stream = stream.map(|name| name.chars().take(MAX_STREAM + 1).collect());
        let state = State::Unregistered { until: now + REGISTER_TIMEOUT };
        let registrations = Rate::with_burst(1, REGISTRATIONS, now);
        Self { stream, token, state, registrations, extras: false, complaints: 0, outputs: VecDeque::new() }
    }

    fn read(&mut self, now: Mono, text: &str, services: &dyn Services) -> Result<(), Fault> {
        let message: ClientMessage<'_> = serde_json::from_str(text).map_err(|error| parse_fault(&error))?;
        match &*message.kind {
            "ping" => self.say(&ServerMessage::Pong),
            "streamer" | "viewer" if !self.registrations.take(now) => return Err(Fault::TooFast),
            "streamer" => self.register(&message, true, services)?,
            "viewer" => self.register(&message, false, services)?,
            "offer" => self.send(&message, Kind::Offer, message.offer)?,
            "answer" => self.send(&message, Kind::Answer, message.answer)?,
            "candidate" => self.send(&message, Kind::Candidate, message.candidate)?,
            _ => return Err(Fault::UnknownType),
        }
        Ok(())
    }

    fn register(&mut self, message: &ClientMessage<'_>, streams: bool, services: &dyn Services) -> Result<(), Fault> {
        let stream = message.stream.as_deref().or(self.stream.as_deref()).unwrap_or(DEFAULT_STREAM);
        if !is_stream_name(stream) {
            return Err(Fault::BadRoom);
        }
        let token = message.token.as_deref().or(self.token.as_deref()).filter(|token| !token.is_empty());
        let permit = services.authorize(token)?;
        if !permit.opens(stream) {
            return Err(Fault::WrongRoom);
        }
        if streams && permit.role == Role::Viewer {
            return Err(Fault::WrongRole);
        }
        let peer = PeerId::random(services);
        let alias = if streams { None } else { Some(viewer_alias(message.viewer_id, &peer)?) };
        let join = Join {
            room: RoomKey::Stream(stream.into()),
            peer,
            role: if streams { Role::Streamer } else { Role::Viewer },
            name: permit.name,
            instance: None,
            alias: alias.clone(),
            pass: permit.pass,
            refused: None,
            session: None,
        };
        self.extras = message.extras || message.stream.is_some();
        self.state = match alias {
            Some(alias) => State::Viewer { alias, streamer: None },
            None => State::Streamer(Viewers::default()),
        };
        // A page may register again: the hub then takes it out of its former place first.
        self.outputs.push_back(Output::Command(Command::Join(Box::new(join))));
        Ok(())
    }

    fn send(&mut self, message: &ClientMessage<'_>, kind: Kind, raw: Option<&RawValue>) -> Result<(), Fault> {
        let raw = raw.ok_or(Fault::BadMessage)?;
        let to = match &self.state {
            State::Streamer(viewers) => {
                let id = message.viewer_id.ok_or(Fault::BadMessage)?;
                To::Peer(viewers.find(id).ok_or(Fault::UnknownPeer)?)
            }
            // Whatever viewerId it wrote: a viewer speaks for itself only.
            State::Viewer { streamer: Some(streamer), .. } => To::Peer(streamer.clone()),
            State::Viewer { streamer: None, .. } => return Err(Fault::UnknownPeer),
            State::Unregistered { .. } | State::Closed => return Err(Fault::JoinFirst),
        };
        self.outputs.push_back(Output::Command(Command::Send { to, kind, body: Some(body(raw)) }));
        Ok(())
    }

    fn tell(&mut self, event: Event) -> Result<(), Fault> {
        match event {
            Event::Joined(joined) => {
                for view in &joined.peers {
                    self.meet(view);
                }
                self.count();
            }
            Event::PeerJoined(view) => {
                self.meet(&view);
                self.count();
            }
            Event::PeerLeft { peer, .. } => self.part(&peer),
            Event::Message { from, kind, body } => self.carry(&from, kind, body.as_deref()),
            Event::Complaint(fault) => self.complain(fault),
            Event::Closing => return Err(Fault::Shutdown),
            Event::Closed(fault) => return Err(fault),
            Event::Probe => self.outputs.push_back(Output::Ping),
            Event::Draining { .. }
            | Event::PeerLost(_)
            | Event::PeerBack(_)
            | Event::Ice
            | Event::Lock { .. }
            | Event::Viewers(_)
            | Event::Invite { .. } => {}
        }
        Ok(())
    }

    fn meet(&mut self, view: &PeerView) {
        match &mut self.state {
            State::Streamer(viewers) => {
                if let Some(alias) = viewers.insert(view) {
                    self.say(&ServerMessage::NewViewer { viewer_id: &alias });
                }
            }
            State::Viewer { streamer, .. } => *streamer = Some(view.peer.clone()),
            State::Unregistered { .. } | State::Closed => {}
        }
    }

    fn part(&mut self, peer: &PeerId) {
        match &mut self.state {
            State::Streamer(viewers) => {
                if let Some(alias) = viewers.remove(peer)
                    && self.extras
                {
                    self.say(&ServerMessage::ViewerLeft { viewer_id: &alias });
                }
                self.count();
            }
            State::Viewer { streamer, .. } if streamer.as_ref() == Some(peer) => {
                *streamer = None;
                if self.extras {
                    self.say(&ServerMessage::StreamerLeft);
                }
            }
            _ => {}
        }
    }

    fn carry(&mut self, from: &PeerId, kind: Kind, body: Option<&RawValue>) {
        let (viewer_id, target) = match &self.state {
            State::Streamer(viewers) => (viewers.alias(from), "streamer"),
            State::Viewer { alias, .. } => (Some(alias.json().clone()), "viewer"),
            State::Unregistered { .. } | State::Closed => (None, ""),
        };
        let Some(viewer_id) = viewer_id else { return };
        let viewer_id = &*viewer_id;
        match kind {
            Kind::Offer => self.say(&ServerMessage::Offer { offer: body, viewer_id }),
            Kind::Answer => self.say(&ServerMessage::Answer { answer: body, viewer_id }),
            Kind::Candidate => self.say(&ServerMessage::Candidate { candidate: body, target, viewer_id }),
            // Our own studio stops but stays: to a page that listens the stream is over, until the next offer.
            Kind::Bye if self.extras && target == "viewer" => self.say(&ServerMessage::StreamerLeft),
            Kind::Bye => {}
        }
    }

    fn count(&mut self) {
        if let State::Streamer(viewers) = &self.state
            && self.extras
        {
            let count = viewers.aliases.len();
            self.say(&ServerMessage::ViewerCount { count });
        }
    }

    fn complain(&mut self, fault: Fault) {
        if self.extras {
            self.say(&ServerMessage::Error { code: fault.code(), message: fault.to_string() });
        }
    }

    fn end(&mut self, fault: Fault) {
        if matches!(self.state, State::Closed) {
            return;
        }
        if fault != Fault::Shutdown {
            self.say(&ServerMessage::Error { code: fault.code(), message: fault.to_string() });
        }
        self.state = State::Closed;
        self.outputs.push_back(Output::Close(fault.close_code()));
    }

    fn say(&mut self, message: &ServerMessage<'_>) {
        self.outputs.push_back(Output::Text(to_json(message)));
    }
}

impl Dialect for Live {
    fn handle_text(&mut self, now: Mono, text: &str, services: &dyn Services) {
        if matches!(self.state, State::Closed) {
            return;
        }
        match self.read(now, text, services) {
            Ok(()) => self.complaints = 0,
            // Pages may speak before they register, or to a viewer that just left.
            Err(fault @ (Fault::JoinFirst | Fault::UnknownPeer)) => self.complain(fault),
            Err(fault) => {
                self.complaints += 1;
                if fault.is_fatal() || self.complaints >= MAX_COMPLAINTS {
                    self.end(fault);
                } else {
                    self.complain(fault);
                }
            }
        }
    }

    fn handle_delivery(&mut self, _now: Mono, delivery: Delivery, _services: &dyn Services) {
        if matches!(self.state, State::Closed) {
            return;
        }
        if let Err(fault) = self.tell(delivery.event) {
            self.end(fault);
        }
    }

    fn handle_fault(&mut self, fault: Fault) {
        self.end(fault);
    }

    fn handle_timeout(&mut self, now: Mono) {
        if self.poll_timeout().is_some_and(|due| due <= now) {
            self.end(Fault::JoinTimeout);
        }
    }

    fn poll_timeout(&self) -> Option<Mono> {
        if let State::Unregistered { until } = self.state { Some(until) } else { None }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}

/// A viewer's id as it wrote it. A viewer that gives none is called by its peer id.
pub(super) fn viewer_alias(raw: Option<&RawValue>, peer: &PeerId) -> Result<Alias, Fault> {
    let Some(raw) = raw.filter(|raw| raw.get() != "null") else {
        let own = serde_json::value::to_raw_value(peer).ok();
        return own.and_then(|own| Alias::parse(&own)).ok_or(Fault::BadMessage);
    };
    if raw.get().len() > MAX_VIEWER_ID {
        return Err(Fault::BadMessage);
    }
    Alias::parse(raw).ok_or(Fault::BadMessage)
}

fn is_stream_name(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= MAX_STREAM && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests;
