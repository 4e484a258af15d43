//! The hub: owns all rooms and peers, and carries messages between those who may talk to each other.

mod carry;
mod challenge;
mod enter;
mod hosting;
mod resume;
mod survey;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::peer::Peer;
use super::room::Room;
use super::{Command, Delivery, Event, Fault, HubLimits, LeaveReason, LinkId, Notice, PeerId, Role, RoomKey, Secret};
use crate::time::Mono;
use challenge::Challenges;
pub use survey::{RoomInfo, Survey};

/// What the hub wants done.
#[derive(Debug)]
pub enum Output {
    /// Hand this to the client behind `link`.
    Deliver { link: LinkId, delivery: Delivery },
    /// Something happened in the rooms.
    Notice(Notice),
}

/// How much is going on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Call rooms.
    pub rooms: usize,
    pub streams: usize,
    /// Everybody in call rooms, streams and by-id sockets.
    pub peers: usize,
    /// Of those, the ones whose connection was lost.
    pub lost: usize,
    /// Bytes kept for sessions that may come back.
    pub kept: usize,
}

/// What is known of one peer, for whoever administers the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    pub room: RoomKey,
    pub role: Role,
    pub name: Option<String>,
    /// The id of the token it came with.
    pub token: Option<Arc<str>>,
    pub connected: bool,
}

/// What is due at some time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// A lost peer is given up.
    Expiry(PeerId),
    /// A peer was asked whether it is alive, and did not answer.
    Challenge(PeerId),
    /// The number of viewers may be told again.
    Viewers(RoomKey),
}

/// All rooms, and the peers in them.
pub struct Hub {
    limits: HubLimits,
    rooms: HashMap<RoomKey, Room>,
    peers: HashMap<PeerId, Peer>,
    links: HashMap<LinkId, PeerId>,
    sessions: HashMap<Secret, PeerId>,
    challenges: Challenges,
    timers: BTreeSet<(Mono, Timer)>,
    outputs: VecDeque<Output>,
    /// The time of the input that is being handled.
    now: Mono,
    next_order: u64,
    /// A room that does not end although its last peer leaves: another takes its place.
    keeps: Option<RoomKey>,
    /// Bytes kept for sessions that may come back.
    kept: usize,
    /// Peers whose connection was lost.
    lost: usize,
    /// The server will stop soon: nobody comes in.
    is_draining: bool,
}

impl Hub {
    pub fn new(limits: HubLimits) -> Self {
        Self {
            limits,
            rooms: HashMap::new(),
            peers: HashMap::new(),
            links: HashMap::new(),
            sessions: HashMap::new(),
            challenges: Challenges::default(),
            timers: BTreeSet::new(),
            outputs: VecDeque::new(),
            now: Mono(0),
            next_order: 0,
            keeps: None,
            kept: 0,
            lost: 0,
            is_draining: false,
        }
    }

    /// A client's command. One from a link that is in no room, other than a join, comes from a client that was just
    /// shut out; it is ignored.
    pub fn handle_command(&mut self, now: Mono, link: LinkId, command: Command) {
        self.handle_timeout(now);
        let command = match command {
            Command::Join(join) => return self.join(link, *join),
            Command::Resume(resume) => return self.resume(link, &resume),
            other => other,
        };
        let Some(me) = self.links.get(&link).cloned() else {
            return self.withdraw(link);
        };
        match command {
            Command::Join(_) | Command::Resume(_) => {}
            Command::Send { to, kind, body } => self.send(&me, to, kind, body),
            Command::Ice => self.deliver(&me, Event::Ice),
            Command::Complain(fault) => self.deliver(&me, Event::Complaint(fault)),
            Command::Kick(_) | Command::Lock(_) | Command::Close | Command::Invite(_) => self.host(&me, command),
            Command::Alive => self.answered(&me),
            Command::Leave => self.remove(&me, LeaveReason::Left),
        }
    }

    /// The connection behind `link` broke, or reads too slowly.
    pub fn handle_lost(&mut self, now: Mono, link: LinkId) {
        self.handle_timeout(now);
        self.withdraw(link);
        let Some(id) = self.links.remove(&link) else { return };
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.link = None;
        if let Some(room) = self.rooms.get_mut(&peer.room) {
            room.lose(peer);
        }
        if peer.session.is_none() || self.limits.resume.is_zero() {
            return self.remove(&id, LeaveReason::Lost);
        }
        let expires = now + self.limits.resume;
        peer.expires = Some(expires);
        let room = peer.room.clone();
        self.lost += 1;
        self.timers.insert((expires, Timer::Expiry(id.clone())));
        self.tell_others(&id, || Event::PeerLost(id.clone()));
        self.count_viewers(&room, None);
    }

    /// Takes other limits into use. Who is in a room stays there; deadlines that run keep their time.
    pub fn set_limits(&mut self, limits: HubLimits) {
        self.limits = limits;
    }

    /// The server will stop, in `seconds` at most: everybody is told, and nobody comes into a room any more. Who was
    /// in one and lost the connection comes back.
    pub fn handle_drain(&mut self, seconds: u64) {
        self.is_draining = true;
        self.tell_connected(|| Event::Draining { seconds });
    }

    /// The server stops: everybody is told.
    pub fn handle_shutdown(&mut self) {
        self.tell_connected(|| Event::Closing);
    }

    fn tell_connected(&mut self, event: impl Fn() -> Event) {
        let mut connected: Vec<PeerId> = self.links.values().cloned().collect();
        connected.sort_unstable();
        for peer in connected {
            self.deliver(&peer, event());
        }
    }

    /// Does what is due: lost peers are given up, silent ones give way, numbers of viewers are told.
    pub fn handle_timeout(&mut self, now: Mono) {
        self.now = now.max(self.now);
        while self.timers.first().is_some_and(|(due, _)| *due <= now) {
            match self.timers.pop_first() {
                Some((_, Timer::Expiry(peer))) => self.remove(&peer, LeaveReason::Lost),
                Some((_, Timer::Challenge(holder))) => self.give_way(&holder),
                Some((_, Timer::Viewers(room))) => self.tell_viewers(&room, None),
                None => {}
            }
        }
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Mono> {
        self.timers.first().map(|(due, _)| *due)
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub fn stats(&self) -> Stats {
        Stats {
            rooms: self.rooms.keys().filter(|key| matches!(key, RoomKey::Call(_))).count(),
            streams: self.rooms.keys().filter(|key| matches!(key, RoomKey::Stream(_))).count(),
            peers: self.peers.len(),
            lost: self.lost,
            kept: self.kept,
        }
    }

    /// What is known of `peer`; `None` when there is nobody of that id.
    pub fn peer(&self, peer: &PeerId) -> Option<PeerInfo> {
        self.peers.get(peer).map(Peer::info)
    }

    /// The room and the id of whoever is behind `link`.
    pub fn place_of(&self, link: LinkId) -> Option<(&RoomKey, &PeerId)> {
        let peer = self.peers.get(self.links.get(&link)?)?;
        Some((&peer.room, &peer.id))
    }

    fn remove(&mut self, id: &PeerId, reason: LeaveReason) {
        self.remove_with_token(id, reason, None);
    }

    /// Takes a peer out of its room and tells the others; `spent`: its token, when that goes with it.
    fn remove_with_token(&mut self, id: &PeerId, reason: LeaveReason, spent: Option<Arc<str>>) {
        self.tell_others(id, || Event::PeerLeft { peer: id.clone(), reason });
        let Some(peer) = self.peers.remove(id) else { return };
        if let Some(link) = peer.link {
            self.links.remove(&link);
        }
        if let Some(expires) = peer.expires {
            self.lost -= 1;
            self.timers.remove(&(expires, Timer::Expiry(id.clone())));
        }
        let has_credentials = peer.session.as_ref().is_some_and(|session| !session.unaware);
        if let Some(session) = &peer.session {
            self.kept -= session.bytes();
            self.sessions.remove(&session.secret);
        }
        let room = peer.room.clone();
        let left = Notice::Left { room: room.clone(), peer: id.clone(), reason, has_credentials, spent };
        self.outputs.push_back(Output::Notice(left));
        if let Some(members) = self.rooms.get_mut(&room) {
            members.remove(&peer);
            if members.members.is_empty() && self.keeps.as_ref() != Some(&room) {
                self.end_room(&room);
            }
        }
        self.count_viewers(&room, None);
        self.free(id);
    }

    fn take_room(&mut self, key: &RoomKey) -> Option<Room> {
        let room = self.rooms.remove(key)?;
        if let Some(due) = room.viewers_due {
            self.timers.remove(&(due, Timer::Viewers(key.clone())));
        }
        Some(room)
    }

    fn end_room(&mut self, key: &RoomKey) {
        self.take_room(key);
        self.outputs.push_back(Output::Notice(Notice::RoomClosed { room: key.clone() }));
    }

    /// Tells a room how many viewers are connected, when that has changed: at once or, since a crowd comes and goes in
    /// bursts, a while after it was last told. `joined` has the number from the answer to its join.
    fn count_viewers(&mut self, key: &RoomKey, joined: Option<&PeerId>) {
        let Some(room) = self.rooms.get_mut(key) else { return };
        if *key == RoomKey::Direct || room.viewers_due.is_some() || room.watching == room.viewers_told {
            return;
        }
        match room.viewers_at.map(|at| at + self.limits.viewers_interval).filter(|&at| at > self.now) {
            Some(at) => {
                room.viewers_due = Some(at);
                self.timers.insert((at, Timer::Viewers(key.clone())));
            }
            None => self.tell_viewers(key, joined),
        }
    }

    /// Whoever joined meanwhile knows a number that nobody else was told: so all are told, even the same as before.
    fn tell_viewers(&mut self, key: &RoomKey, joined: Option<&PeerId>) {
        let Some(room) = self.rooms.get_mut(key) else { return };
        let count = room.watching;
        (room.viewers_told, room.viewers_at, room.viewers_due) = (count, Some(self.now), None);
        let members: Vec<PeerId> = room.members.values().filter(|member| Some(*member) != joined).cloned().collect();
        for member in members {
            match key {
                RoomKey::Stream(_) => self.mention(&member, Event::Viewers(count)),
                _ => self.deliver(&member, Event::Viewers(count)),
            }
        }
    }

    /// The others in the room that `me` is told of, oldest first.
    fn seen_from(&self, me: &PeerId) -> Vec<PeerId> {
        let Some(peer) = self.peers.get(me) else { return Vec::new() };
        let Some(room) = self.rooms.get(&peer.room) else { return Vec::new() };
        // Two rooms can be large, and there the answer is known without asking everybody.
        match peer.room {
            RoomKey::Direct => return Vec::new(),
            RoomKey::Stream(_) if peer.role == Role::Viewer => return room.streamer.iter().cloned().collect(),
            _ => {}
        }
        let sees = |other: &&PeerId| {
            *other != me && self.peers.get(*other).is_some_and(|other| peer.room.sees(peer.role, other.role))
        };
        room.members.values().filter(sees).cloned().collect()
    }

    fn tell_others(&mut self, me: &PeerId, event: impl Fn() -> Event) {
        for other in self.seen_from(me) {
            self.deliver(&other, event());
        }
    }

    /// Ends what the hub has to do with `link`: it is told why, outside the count.
    fn shut_out(&mut self, link: LinkId, fault: Fault) {
        let delivery = Delivery { seq: 0, event: Event::Closed(fault) };
        self.outputs.push_back(Output::Deliver { link, delivery });
    }

    /// Numbers an event, keeps it for a resume, and hands it out when there is a connection.
    fn deliver(&mut self, to: &PeerId, event: Event) {
        let Some(peer) = self.peers.get_mut(to) else { return };
        peer.seq += 1;
        let delivery = Delivery { seq: peer.seq, event };
        if let Some(session) = &mut peer.session {
            let others = self.kept - session.bytes();
            session.keep(delivery.clone(), &self.limits, others);
            self.kept = others + session.bytes();
        }
        if let Some(link) = peer.link {
            self.outputs.push_back(Output::Deliver { link, delivery });
        }
    }

    /// Tells what is true at the moment and told anew to who comes back: outside the count, so that nothing is kept of
    /// it for thousands of viewers. Clients without a session do not know it.
    fn mention(&mut self, to: &PeerId, event: Event) {
        let Some(Peer { link: Some(link), session: Some(_), .. }) = self.peers.get(to) else { return };
        self.outputs.push_back(Output::Deliver { link: *link, delivery: Delivery { seq: 0, event } });
    }

    fn with_peer(&mut self, id: &PeerId, change: impl FnOnce(&mut Peer)) {
        if let Some(peer) = self.peers.get_mut(id) {
            change(peer);
        }
    }
}
