//! A hub on simulated time, and what its clients receive as readable lines.

use std::collections::BTreeMap;
use std::time::Duration;

use relais::signaling::{
    Alias, Body, Command, Delivery, Event, Fault, Hub, HubLimits, Join, Kind, LinkId, Notice, Output, Pass, PeerId,
    Resume, Role, RoomKey, SessionRequest, To,
};
use relais::time::Mono;
use serde_json::value::RawValue;

pub fn peer(id: &str) -> PeerId {
    PeerId::from(id)
}

pub fn call(room: &str) -> RoomKey {
    RoomKey::Call(room.into())
}

/// A join to be.
pub struct Wish {
    room: RoomKey,
    peer: String,
    role: Role,
    instance: String,
    alias: Option<Alias>,
    pass: Pass,
    refused: Option<Fault>,
    has_session: bool,
    resume: Option<Resume>,
}

#[allow(dead_code, reason = "not every test file uses every wish")]
impl Wish {
    pub fn call(room: &str, peer: &str) -> Self {
        Self {
            room: call(room),
            peer: peer.into(),
            role: Role::Member,
            instance: "page".into(),
            alias: None,
            pass: Pass::default(),
            refused: None,
            has_session: true,
            resume: None,
        }
    }

    pub fn stream(stream: &str, peer: &str, role: Role) -> Self {
        Self { room: RoomKey::Stream(stream.into()), role, has_session: false, ..Self::call("", peer) }
    }

    pub fn direct(peer: &str) -> Self {
        Self { room: RoomKey::Direct, has_session: false, ..Self::call("", peer) }
    }

    pub fn role(self, role: Role) -> Self {
        Self { role, ..self }
    }

    pub fn instance(self, instance: &str) -> Self {
        Self { instance: instance.into(), ..self }
    }

    /// The id of a viewer, as JSON.
    pub fn alias(self, json: &str) -> Self {
        let json = RawValue::from_string(json.to_owned()).expect("JSON");
        Self { alias: Some(Alias::parse(&json).expect("an id")), ..self }
    }

    pub fn token(self, id: &str) -> Self {
        Self { pass: Pass { token: Some(id.into()), expires: Some(1_000_000), one_room: true }, ..self }
    }

    /// Access said no.
    pub fn refused(self, fault: Fault) -> Self {
        Self { refused: Some(fault), ..self }
    }

    pub fn with_session(self) -> Self {
        Self { has_session: true, ..self }
    }

    pub fn without_session(self) -> Self {
        Self { has_session: false, ..self }
    }

    pub fn resume(self, secret: &str, seq: Option<u64>) -> Self {
        Self { resume: Some(Resume { secret: secret.into(), seq }), ..self }
    }
}

/// A hub, its time, and everything that its clients have received.
pub struct World {
    pub hub: Hub,
    pub now: Mono,
    pub received: Vec<(u64, Delivery)>,
    secrets: BTreeMap<u64, String>,
}

#[allow(dead_code, reason = "not every test file uses every verb")]
impl World {
    pub fn new(limits: HubLimits) -> Self {
        Self { hub: Hub::new(limits), now: Mono(1_000), received: Vec::new(), secrets: BTreeMap::new() }
    }

    pub fn join(&mut self, link: u64, wish: Wish) -> Vec<String> {
        let secret = format!("secret of {}", wish.peer);
        let session = wish.has_session.then(|| SessionRequest {
            secret: secret.as_str().into(),
            resume: wish.resume,
            unaware: false,
        });
        let join = Join {
            room: wish.room,
            peer: peer(&wish.peer),
            role: wish.role,
            name: None,
            instance: Some(wish.instance),
            alias: wish.alias,
            pass: wish.pass,
            refused: wish.refused,
            session,
        };
        self.command(link, Command::Join(Box::new(join)))
    }

    pub fn send(&mut self, link: u64, to: To, kind: Kind, body: &str) -> Vec<String> {
        let body: Body = RawValue::from_string(body.to_owned()).expect("JSON").into();
        self.command(link, Command::Send { to, kind, body: Some(body) })
    }

    pub fn leave(&mut self, link: u64) -> Vec<String> {
        let told = self.command(link, Command::Leave);
        told.into_iter().filter(|line| !line.starts_with("gone")).collect()
    }

    pub fn lose(&mut self, link: u64) -> Vec<String> {
        self.hub.handle_lost(self.now, LinkId { connection: link, slot: 0 });
        self.drain()
    }

    pub fn pass(&mut self, time: Duration) -> Vec<String> {
        self.now = self.now + time;
        self.hub.handle_timeout(self.now);
        self.drain()
    }

    /// The secret of the session on `link`, and the number of the last message that bore one.
    pub fn position(&self, link: u64) -> (String, u64) {
        let numbered = |(to, delivery): &&(u64, Delivery)| *to == link && delivery.seq > 0;
        let last = self.received.iter().rev().find(numbered).map_or(0, |(_, delivery)| delivery.seq);
        (self.secrets.get(&link).cloned().unwrap_or_default(), last)
    }

    /// What the hub wants, one line each, sorted by link; the order for each link is kept.
    pub fn drain(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(output) = self.hub.poll_output() {
            match output {
                Output::Deliver { link, delivery } => {
                    if let Event::Joined(joined) = &delivery.event {
                        let secret = joined.session.as_ref().map(|secret| secret.as_str().to_owned());
                        self.secrets.extend(secret.map(|secret| (link.connection, secret)));
                    }
                    lines.push((link.connection, format!("{} {}", link.connection, line(&delivery.event))));
                    self.received.push((link.connection, delivery));
                }
                Output::Notice(Notice::Left { peer, has_credentials: true, .. }) => {
                    lines.push((u64::MAX, format!("gone {peer}")));
                }
                Output::Notice(_) => {}
            }
        }
        lines.sort_by_key(|(link, _)| *link);
        lines.into_iter().map(|(_, line)| line).collect()
    }

    pub fn command(&mut self, link: u64, command: Command) -> Vec<String> {
        self.hub.handle_command(self.now, LinkId { connection: link, slot: 0 }, command);
        self.drain()
    }
}

fn line(event: &Event) -> String {
    let manners = |polite: bool| if polite { "polite" } else { "impolite" };
    match event {
        Event::Joined(joined) => {
            let found = joined.peers.iter().map(|view| {
                let connected = if view.connected { "connected" } else { "lost" };
                format!("{} {} {connected}", view.peer, manners(view.polite))
            });
            let found = found.collect::<Vec<_>>().join(", ");
            format!("joined {} {} [{found}]", joined.peer, if joined.resumed { "resumed" } else { "new" })
        }
        Event::PeerJoined(view) => format!("peer-joined {} {}", view.peer, manners(view.polite)),
        Event::PeerLost(peer) => format!("peer-lost {peer}"),
        Event::PeerBack(peer) => format!("peer-back {peer}"),
        Event::PeerLeft { peer, reason } => format!("peer-left {peer} {reason:?}"),
        Event::Message { from, kind, body } => {
            format!("from {from} {kind:?} {}", body.as_ref().map_or("null", |body| body.get()))
        }
        Event::Ice => "ice".into(),
        Event::Lock { locked, by } => format!("lock {locked} by {by}"),
        Event::Viewers(count) => format!("viewers {count}"),
        Event::Invite { invite, until } => format!("invite {:?} until {until:?}", invite.role),
        Event::Probe => "probe".into(),
        Event::Complaint(fault) => format!("complaint {fault:?}"),
        Event::Draining { seconds } => format!("draining {seconds}"),
        Event::Closing => "closing".into(),
        Event::Closed(fault) => format!("closed {fault:?}"),
    }
}
