//! Getting into a room: as somebody new, or again by a session.

use super::{Hub, Output, Timer};
use crate::signaling::peer::{Peer, Session};
use crate::signaling::{
    Delivery, Event, Fault, Join, Joined, LeaveReason, LinkId, Notice, PeerId, Resume, Role, RoomKey,
};

/// What became of a wish to take up a session.
enum TakenUp {
    /// The session goes on.
    Goes,
    /// Its peer left, and its place in the room is free for this one.
    InItsPlace,
    /// There is none, or it was in another room.
    No,
}

/// Why a peer does not get in.
enum Refusal {
    No(Fault),
    /// `holder` has the only place of this kind. It gives way if it is dead.
    Held {
        holder: PeerId,
        fault: Fault,
    },
}

impl Hub {
    pub(super) fn join(&mut self, link: LinkId, mut join: Join) {
        self.withdraw(link);
        if let Some(before) = self.links.get(&link).cloned() {
            self.remove(&before, LeaveReason::Left);
        }
        let resume = join.session.as_mut().and_then(|session| session.resume.take());
        let mut has_place = false;
        if let Some(resume) = resume {
            match self.take_up(link, &mut join, &resume) {
                TakenUp::Goes => return,
                TakenUp::InItsPlace => has_place = true,
                TakenUp::No => {}
            }
        }
        let room = join.room.clone();
        self.try_enter(link, join, has_place);
        if has_place && self.rooms.get(&room).is_some_and(|room| room.members.is_empty()) {
            self.end_room(&room);
        }
    }

    /// Lets a peer in, or says why not. `has_place`: it takes the place of a peer that just left for it.
    pub(super) fn try_enter(&mut self, link: LinkId, join: Join, has_place: bool) {
        if self.is_draining && !has_place {
            return self.shut_out(link, Fault::Shutdown);
        }
        let admitted = match self.admit(&join, has_place) {
            Err(Refusal::No(Fault::RoomFull)) if self.make_room(&join.room) => self.admit(&join, has_place),
            other => other,
        };
        match admitted {
            Ok(()) => self.enter(link, join),
            Err(Refusal::No(fault)) => self.shut_out(link, fault),
            Err(Refusal::Held { holder, fault }) => self.challenge(&holder, link, join, fault),
        }
    }

    /// Whether the session goes on over `link`. When it is known but cannot go on (the page was loaded again, wants
    /// another room, or missed more than is kept), the old peer leaves first, so that the new one finds its place free.
    ///
    /// The secret proves what the token proved when the session began: whoever shows it for the same room needs no
    /// valid token any more, and keeps role and name.
    fn take_up(&mut self, link: LinkId, join: &mut Join, resume: &Resume) -> TakenUp {
        let Some(id) = self.sessions.get(&resume.secret).cloned() else { return TakenUp::No };
        let Some(peer) = self.peers.get(&id) else { return TakenUp::No };
        let same_room = peer.room == join.room;
        if join.refused.is_some() {
            if !same_room {
                return TakenUp::No;
            }
            join.refused = None;
            join.role = peer.role;
            join.name = peer.name.clone();
            join.pass = peer.pass.clone();
        }
        let same_page = peer.instance == join.instance && peer.role == join.role;
        let position = resume.seq.filter(|&seq| {
            seq <= peer.seq && peer.session.as_ref().is_some_and(|session| session.reaches_back_to(seq))
        });
        let old_link = peer.link;
        if let Some(old) = old_link {
            self.shut_out(old, Fault::Replaced);
        }
        let Some(seq) = position.filter(|_| same_page && same_room) else {
            let reason = match (same_room, same_page) {
                (false, _) => LeaveReason::Left,
                (true, false) => LeaveReason::Reload,
                (true, true) => LeaveReason::Lost,
            };
            // The room does not end in between: it would lose its lock.
            self.keeps = same_room.then(|| join.room.clone());
            self.remove(&id, reason);
            self.keeps = None;
            return if same_room { TakenUp::InItsPlace } else { TakenUp::No };
        };
        if let Some(old) = old_link {
            self.links.remove(&old);
        }
        // Who comes by another dialect knows of its session from now on, and is given credentials.
        let is_unaware = join.session.as_ref().is_some_and(|request| request.unaware);
        if let Some(session) = self.peers.get_mut(&id).and_then(|peer| peer.session.as_mut()) {
            session.unaware &= is_unaware;
        }
        self.attach_again(link, &id, seq);
        TakenUp::Goes
    }

    pub(super) fn attach_again(&mut self, link: LinkId, id: &PeerId, seq: u64) {
        self.links.insert(link, id.clone());
        let Some(peer) = self.peers.get_mut(id) else { return };
        peer.link = Some(link);
        let room = peer.room.clone();
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
            self.lost -= 1;
            if let (Some(room), Some(peer)) = (self.rooms.get_mut(&room), self.peers.get(id)) {
                room.arrive(peer);
            }
            self.timers.remove(&(expires, Timer::Expiry(id.clone())));
            self.tell_others(id, || Event::PeerBack(id.clone()));
            self.count_viewers(&room, None);
        }
    }

    fn admit(&self, join: &Join, has_place: bool) -> Result<(), Refusal> {
        if let Some(fault) = join.refused {
            return Err(Refusal::No(fault));
        }
        if self.peers.contains_key(&join.peer) {
            return Err(Refusal::No(Fault::BadMessage));
        }
        let Some(room) = self.rooms.get(&join.room) else {
            let full = join.room != RoomKey::Direct && self.rooms.len() >= self.limits.rooms;
            return if full { Err(Refusal::No(Fault::RoomsFull)) } else { Ok(()) };
        };
        let no = |fault| Err(Refusal::No(fault));
        match join.room {
            RoomKey::Call(_) | RoomKey::Stream(_) if !has_place && room.bars(join) => no(Fault::Kicked),
            RoomKey::Call(_) if !has_place && room.locked && join.role != Role::Host => no(Fault::RoomLocked),
            RoomKey::Call(_) if room.members.len() >= self.limits.peers_per_room => no(Fault::RoomFull),
            RoomKey::Direct if room.members.len() >= self.limits.direct_sockets => no(Fault::RoomFull),
            RoomKey::Stream(_) => {
                if let Some((holder, fault)) = room.holder(join) {
                    return Err(Refusal::Held { holder, fault });
                }
                if join.role == Role::Streamer {
                    return Ok(());
                }
                if room.locked && !has_place {
                    return no(Fault::RoomLocked);
                }
                if room.viewers() >= self.limits.viewers_per_stream { no(Fault::RoomFull) } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }

    fn enter(&mut self, link: LinkId, join: Join) {
        let id = join.peer;
        self.next_order += 1;
        let session = join.session.map(|request| Session::new(request.secret, request.unaware, 1));
        if let Some(session) = &session {
            self.sessions.insert(session.secret.clone(), id.clone());
        }
        let notice =
            Notice::Joined { room: join.room.clone(), peer: id.clone(), role: join.role, name: join.name.clone() };
        let peer = Peer {
            id: id.clone(),
            room: join.room,
            role: join.role,
            name: join.name,
            instance: join.instance,
            alias: join.alias,
            pass: join.pass,
            order: self.next_order,
            link: Some(link),
            expires: None,
            answered: None,
            seq: 1,
            session,
            pair: None,
            offered_to_all: false,
        };
        let room = peer.room.clone();
        self.rooms.entry(room.clone()).or_default().add(&peer);
        self.peers.insert(id.clone(), peer);
        self.links.insert(link, id.clone());
        self.outputs.push_back(Output::Notice(notice));
        if let Some(joined) = self.joined(&id, false) {
            let delivery = Delivery { seq: 1, event: Event::Joined(Box::new(joined)) };
            self.outputs.push_back(Output::Deliver { link, delivery });
        }
        for other in self.seen_from(&id) {
            let (Some(me), Some(viewer)) = (self.peers.get(&id), self.peers.get(&other)) else { continue };
            let view = Box::new(me.seen_by(viewer));
            self.deliver(&other, Event::PeerJoined(view));
        }
        self.count_viewers(&room, Some(&id));
    }

    pub(super) fn joined(&self, id: &PeerId, resumed: bool) -> Option<Joined> {
        let me = self.peers.get(id)?;
        let room = self.rooms.get(&me.room)?;
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
            locked: room.locked,
            viewers: room.watching,
            peers,
        })
    }
}
