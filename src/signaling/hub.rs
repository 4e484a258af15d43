//! The hub: owns all rooms and peers, and carries messages between those who may talk to each other.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::peer::{Peer, Session};
use super::room::Room;
use super::{
    Body, Command, Delivery, Event, Fault, HubLimits, Join, Joined, Kind, LeaveReason, LinkId, PeerId, Resume, Role,
    RoomKey, Secret, To,
};
use crate::time::Mono;

mod resume;

/// What the hub wants done.
#[derive(Debug)]
pub enum Output {
    /// Hand this to the client behind `link`.
    Deliver { link: LinkId, delivery: Delivery },
    /// A peer with a session is gone for good: its credentials end now.
    Gone { peer: PeerId },
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
}

/// All rooms, and the peers in them.
pub struct Hub {
    limits: HubLimits,
    rooms: HashMap<RoomKey, Room>,
    peers: HashMap<PeerId, Peer>,
    links: HashMap<LinkId, PeerId>,
    sessions: HashMap<Secret, PeerId>,
    /// Lost peers by the time they are given up.
    expiries: BTreeSet<(Mono, PeerId)>,
    outputs: VecDeque<Output>,
    next_order: u64,
    /// Bytes kept for sessions that may come back.
    kept: usize,
}

impl Hub {
    pub fn new(limits: HubLimits) -> Self {
        Self {
            limits,
            rooms: HashMap::new(),
            peers: HashMap::new(),
            links: HashMap::new(),
            sessions: HashMap::new(),
            expiries: BTreeSet::new(),
            outputs: VecDeque::new(),
            next_order: 0,
            kept: 0,
        }
    }

    /// A client's command. One from a link that is in no room, other than a join, comes from a client that was just
    /// shut out; it is ignored.
    pub fn handle_command(&mut self, now: Mono, link: LinkId, command: Command) {
        self.handle_timeout(now);
        if let Command::Join(join) = command {
            return self.join(link, *join);
        }
        if let Command::Resume(resume) = command {
            return self.resume(link, &resume);
        }
        let Some(me) = self.links.get(&link).cloned() else { return };
        match command {
            Command::Join(_) | Command::Resume(_) => {}
            Command::Send { to, kind, body } => self.send(&me, to, kind, body),
            Command::Ice => self.deliver(&me, Event::Ice),
            Command::Complain(fault) => self.deliver(&me, Event::Complaint(fault)),
            Command::Leave => self.remove(&me, LeaveReason::Left),
        }
    }

    /// The connection behind `link` broke, or reads too slowly.
    pub fn handle_lost(&mut self, now: Mono, link: LinkId) {
        self.handle_timeout(now);
        let Some(id) = self.links.remove(&link) else { return };
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.link = None;
        if peer.session.is_none() || self.limits.resume.is_zero() {
            return self.remove(&id, LeaveReason::Lost);
        }
        let expires = now + self.limits.resume;
        peer.expires = Some(expires);
        self.expiries.insert((expires, id.clone()));
        self.tell_others(&id, || Event::PeerLost(id.clone()));
    }

    /// The server stops: everybody is told.
    pub fn handle_shutdown(&mut self) {
        let mut connected: Vec<PeerId> = self.links.values().cloned().collect();
        connected.sort_unstable();
        for peer in connected {
            self.deliver(&peer, Event::Closing);
        }
    }

    /// Gives up the lost peers whose time is over.
    pub fn handle_timeout(&mut self, now: Mono) {
        while let Some((expires, peer)) = self.expiries.first().cloned() {
            if expires > now {
                break;
            }
            self.remove(&peer, LeaveReason::Lost);
            self.expiries.remove(&(expires, peer));
        }
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Mono> {
        self.expiries.first().map(|(expires, _)| *expires)
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub fn stats(&self) -> Stats {
        Stats {
            rooms: self.rooms.keys().filter(|key| matches!(key, RoomKey::Call(_))).count(),
            streams: self.rooms.keys().filter(|key| matches!(key, RoomKey::Stream(_))).count(),
            peers: self.peers.len(),
            lost: self.expiries.len(),
        }
    }

    fn join(&mut self, link: LinkId, mut join: Join) {
        if let Some(before) = self.links.get(&link).cloned() {
            self.remove(&before, LeaveReason::Left);
        }
        let resume = join.session.as_mut().and_then(|session| session.resume.take());
        if let Some(resume) = resume
            && self.take_up(link, &join, &resume)
        {
            return;
        }
        let admitted = match self.admit(&join) {
            Err(Fault::RoomFull) if self.make_room(&join.room) => self.admit(&join),
            result => result,
        };
        match admitted {
            Ok(()) => self.enter(link, join),
            Err(fault) => self.shut_out(link, fault),
        }
    }

    /// Says the last to a link.
    fn shut_out(&mut self, link: LinkId, fault: Fault) {
        self.outputs.push_back(Output::Deliver { link, delivery: Delivery { seq: 0, event: Event::Closed(fault) } });
    }

    /// True when the session goes on over `link`. When it is known but cannot go on (the page was loaded again, wants
    /// another room, or missed more than is kept), the old peer leaves first, so that the new one finds its place free.
    fn take_up(&mut self, link: LinkId, join: &Join, resume: &Resume) -> bool {
        let Some(id) = self.sessions.get(&resume.secret).cloned() else { return false };
        let Some(peer) = self.peers.get(&id) else { return false };
        let same_page = peer.instance == join.instance && peer.role == join.role;
        let position = resume.seq.filter(|&seq| {
            seq <= peer.seq && peer.session.as_ref().is_some_and(|session| session.reaches_back_to(seq))
        });
        let old_link = peer.link;
        if let Some(old) = old_link {
            self.outputs.push_back(Output::Deliver {
                link: old,
                delivery: Delivery { seq: 0, event: Event::Closed(Fault::Replaced) },
            });
        }
        let Some(seq) = position.filter(|_| same_page && peer.room == join.room) else {
            let reason = match (peer.room == join.room, same_page) {
                (false, _) => LeaveReason::Left,
                (true, false) => LeaveReason::Reload,
                (true, true) => LeaveReason::Lost,
            };
            self.remove(&id, reason);
            return false;
        };
        if let Some(old) = old_link {
            self.links.remove(&old);
        }
        self.attach_again(link, &id, seq);
        true
    }

    fn attach_again(&mut self, link: LinkId, id: &PeerId, seq: u64) {
        self.links.insert(link, id.clone());
        let Some(peer) = self.peers.get_mut(id) else { return };
        peer.link = Some(link);
        let before = peer.session.as_ref().map_or(0, Session::bytes);
        let missed = peer.session.as_mut().map(|session| session.after(seq)).unwrap_or_default();
        self.kept -= before - peer.session.as_ref().map_or(0, Session::bytes);
        let expires = peer.expires.take();
        let joined = self.joined(id, true);
        let first = joined.map(|joined| {
            let joined = Joined { missed: missed.len(), ..joined };
            Delivery { seq, event: Event::Joined(Box::new(joined)) }
        });
        for delivery in first.into_iter().chain(missed) {
            self.outputs.push_back(Output::Deliver { link, delivery });
        }
        if let Some(expires) = expires {
            self.expiries.remove(&(expires, id.clone()));
            self.tell_others(id, || Event::PeerBack(id.clone()));
        }
    }

    fn admit(&self, join: &Join) -> Result<(), Fault> {
        if self.peers.contains_key(&join.peer) {
            return Err(Fault::BadMessage);
        }
        let Some(room) = self.rooms.get(&join.room) else {
            let full = join.room != RoomKey::Direct && self.rooms.len() >= self.limits.rooms;
            return if full { Err(Fault::RoomsFull) } else { Ok(()) };
        };
        match join.room {
            RoomKey::Call(_) if room.members.len() >= self.limits.peers_per_room => Err(Fault::RoomFull),
            RoomKey::Direct if room.members.len() >= self.limits.direct_sockets => Err(Fault::RoomFull),
            RoomKey::Stream(_) if join.role == Role::Streamer && room.streamer.is_some() => Err(Fault::StreamTaken),
            RoomKey::Stream(_) if join.role != Role::Streamer && room.viewers() >= self.limits.viewers_per_stream => {
                Err(Fault::RoomFull)
            }
            _ => Ok(()),
        }
    }

    fn enter(&mut self, link: LinkId, join: Join) {
        let id = join.peer;
        self.next_order += 1;
        let room = self.rooms.entry(join.room.clone()).or_default();
        room.members.insert(self.next_order, id.clone());
        if matches!(join.room, RoomKey::Stream(_)) && join.role == Role::Streamer {
            room.streamer = Some(id.clone());
        }
        let session = join.session.map(|request| Session::new(request.secret, request.yields, 1));
        if let Some(session) = &session {
            self.sessions.insert(session.secret.clone(), id.clone());
        }
        let peer = Peer {
            id: id.clone(),
            room: join.room,
            role: join.role,
            name: join.name,
            instance: join.instance,
            alias: join.alias,
            order: self.next_order,
            link: Some(link),
            expires: None,
            seq: 1,
            session,
            pair: None,
            offered_to_all: false,
        };
        self.peers.insert(id.clone(), peer);
        self.links.insert(link, id.clone());
        if let Some(joined) = self.joined(&id, false) {
            let delivery = Delivery { seq: 1, event: Event::Joined(Box::new(joined)) };
            self.outputs.push_back(Output::Deliver { link, delivery });
        }
        for other in self.seen_from(&id) {
            let (Some(me), Some(viewer)) = (self.peers.get(&id), self.peers.get(&other)) else { continue };
            let view = Box::new(me.seen_by(viewer));
            self.deliver(&other, Event::PeerJoined(view));
        }
    }

    fn joined(&self, id: &PeerId, resumed: bool) -> Option<Joined> {
        let me = self.peers.get(id)?;
        let peers = self.seen_from(id).iter().filter_map(|other| Some(self.peers.get(other)?.seen_by(me))).collect();
        Some(Joined {
            room: me.room.clone(),
            peer: id.clone(),
            session: me.session.as_ref().map(|session| session.secret.clone()),
            resumed,
            missed: 0,
            role: me.role,
            name: me.name.clone(),
            limit: match me.room {
                RoomKey::Call(_) => self.limits.peers_per_room,
                RoomKey::Stream(_) => self.limits.viewers_per_stream + 1,
                RoomKey::Direct => self.limits.direct_sockets,
            },
            resume: self.limits.resume,
            peers,
        })
    }

    fn send(&mut self, me: &PeerId, to: To, kind: Kind, body: Option<Body>) {
        match to {
            To::Peer(other) => {
                if !self.may_send(me, &other) {
                    return self.deliver(me, Event::Complaint(Fault::UnknownPeer));
                }
                if kind == Kind::Offer {
                    self.with_peer(me, |peer| peer.offered_to_all = false);
                }
                self.carry(me, &other, kind, body);
            }
            To::Others => {
                let receivers = self.fitting(me, kind);
                if kind == Kind::Offer {
                    self.with_peer(me, |peer| {
                        peer.pair = None;
                        peer.offered_to_all = true;
                    });
                }
                for other in receivers {
                    self.carry(me, &other, kind, body.clone());
                }
            }
        }
    }

    fn may_send(&self, me: &PeerId, other: &PeerId) -> bool {
        let (Some(from), Some(to)) = (self.peers.get(me), self.peers.get(other)) else { return false };
        me != other && from.room == to.room && from.room.carries(from.role, to.role)
    }

    /// Who gets a message that names nobody.
    fn fitting(&self, me: &PeerId, kind: Kind) -> Vec<PeerId> {
        let pair = self.peers.get(me).and_then(|peer| peer.pair.clone());
        match (kind, pair) {
            (Kind::Answer | Kind::Candidate, Some(pair)) if self.may_send(me, &pair) => vec![pair],
            _ => self.seen_from(me),
        }
    }

    /// Hands a message over and remembers who is negotiating with whom.
    fn carry(&mut self, me: &PeerId, other: &PeerId, kind: Kind, body: Option<Body>) {
        let taken = |pair: &PeerId| pair != me && self.may_send(other, pair);
        let taken =
            self.peers.get(other).is_some_and(|peer| peer.offered_to_all && peer.pair.as_ref().is_some_and(taken));
        let Some(receiver) = self.peers.get_mut(other) else { return };
        match kind {
            Kind::Offer => receiver.pair = Some(me.clone()),
            Kind::Answer => {
                // Pages that offer to everybody have one connection: a second answer would break it.
                if taken {
                    let event = Event::Message { from: other.clone(), kind: Kind::Bye, body: None };
                    return self.deliver(me, event);
                }
                receiver.pair = Some(me.clone());
                self.with_peer(me, |peer| peer.pair = Some(other.clone()));
            }
            Kind::Bye => {
                if receiver.pair.as_ref() == Some(me) {
                    receiver.pair = None;
                }
            }
            Kind::Candidate => {}
        }
        self.deliver(other, Event::Message { from: me.clone(), kind, body });
    }

    fn remove(&mut self, id: &PeerId, reason: LeaveReason) {
        self.tell_others(id, || Event::PeerLeft { peer: id.clone(), reason });
        let Some(peer) = self.peers.remove(id) else { return };
        if let Some(room) = self.rooms.get_mut(&peer.room) {
            room.remove(peer.order, id);
            if room.members.is_empty() {
                self.rooms.remove(&peer.room);
            }
        }
        if let Some(link) = peer.link {
            self.links.remove(&link);
        }
        if let Some(expires) = peer.expires {
            self.expiries.remove(&(expires, id.clone()));
        }
        if let Some(session) = peer.session {
            self.kept -= session.bytes();
            self.sessions.remove(&session.secret);
            self.outputs.push_back(Output::Gone { peer: id.clone() });
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

    fn with_peer(&mut self, id: &PeerId, change: impl FnOnce(&mut Peer)) {
        if let Some(peer) = self.peers.get_mut(id) {
            change(peer);
        }
    }
}
