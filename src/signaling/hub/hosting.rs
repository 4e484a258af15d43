//! What hosts may do with their room, and administrators with every room.

use std::sync::Arc;

use super::{Hub, Output};
use crate::signaling::peer::Peer;
use crate::signaling::room::Bar;
use crate::signaling::{Command, Event, Fault, LeaveReason, Notice, PeerId, Role, RoomKey};
use crate::time::Mono;

impl Hub {
    /// Removes a peer, as a host of its room could. False: there is nobody of that id.
    pub fn handle_kick(&mut self, now: Mono, peer: &PeerId) -> bool {
        self.handle_timeout(now);
        let is_here = self.peers.contains_key(peer);
        self.kick(peer, None);
        is_here
    }

    /// Locks a room or stream or unlocks it; `by` is who its members are told. False: there is none of that name.
    pub fn handle_lock(&mut self, now: Mono, room: &RoomKey, locked: bool, by: &PeerId) -> bool {
        self.handle_timeout(now);
        let is_here = *room != RoomKey::Direct && self.rooms.contains_key(room);
        if is_here {
            self.lock(room, locked, by);
        }
        is_here
    }

    /// Ends a room with everybody in it. False: there is none of that name.
    pub fn handle_close(&mut self, now: Mono, room: &RoomKey) -> bool {
        self.handle_timeout(now);
        let is_here = self.rooms.contains_key(room);
        self.close(room);
        is_here
    }

    /// The token of this id was revoked: whoever came in by it goes, and nobody waits for a place by it.
    pub fn handle_revoked(&mut self, now: Mono, token: &str) {
        self.handle_timeout(now);
        for link in self.challenges.by_token(token) {
            self.withdraw(link);
            self.shut_out(link, Fault::TokenRevoked);
        }
        let bears = |peer: &&Peer| peer.pass.token.as_deref() == Some(token);
        let mut bearers: Vec<PeerId> = self.peers.values().filter(bears).map(|peer| peer.id.clone()).collect();
        bearers.sort_unstable();
        for bearer in bearers {
            self.expel(&bearer, Fault::TokenRevoked, LeaveReason::Revoked);
        }
    }

    /// A command that only hosts may give, and of a stream its streamer: it invites viewers, removes them and locks the
    /// stream. Its end is the streamer's leaving.
    pub(super) fn host(&mut self, me: &PeerId, command: Command) {
        let Some(peer) = self.peers.get(me) else { return };
        let is_of_streamers = match &command {
            Command::Kick(_) | Command::Lock(_) => true,
            Command::Invite(invite) => invite.role == Role::Viewer,
            _ => false,
        };
        let may = match peer.room {
            RoomKey::Call(_) => peer.role == Role::Host,
            RoomKey::Stream(_) => peer.role == Role::Streamer && is_of_streamers,
            RoomKey::Direct => false,
        };
        if !may {
            return self.deliver(me, Event::Complaint(Fault::NotHost));
        }
        let (room, until) = (peer.room.clone(), peer.pass.expires);
        match command {
            Command::Kick(other) => {
                if other == *me || self.peers.get(&other).is_none_or(|other| other.room != room) {
                    return self.deliver(me, Event::Complaint(Fault::UnknownPeer));
                }
                self.kick(&other, Some(me));
            }
            Command::Lock(locked) => self.lock(&room, locked, me),
            Command::Close => self.close(&room),
            Command::Invite(invite) => self.deliver(me, Event::Invite { invite, until }),
            _ => {}
        }
    }

    /// `by`: the host, whose own token stays good. That of a stream's viewer still opens the stream: its link is given to
    /// many.
    fn kick(&mut self, id: &PeerId, by: Option<&PeerId>) {
        let Some(peer) = self.peers.get(id) else { return };
        let own = by.and_then(|by| self.peers.get(by)).and_then(|by| by.pass.token.clone());
        let (room, opens_no_other) = (peer.room.clone(), peer.pass.one_room);
        let token = peer.pass.token.clone().filter(|token| Some(token) != own.as_ref());
        let barred = token.clone().filter(|_| matches!(room, RoomKey::Call(_)));
        let bar = barred.map(Bar::Token).or_else(|| peer.instance.clone().map(Bar::Page));
        if let (Some(bar), Some(room)) = (bar, self.rooms.get_mut(&room)) {
            room.bar(bar);
        }
        if let Some(link) = peer.link {
            self.shut_out(link, Fault::Kicked);
        }
        // Shared in this room, where the host sees who else came by it. A stream of the room's name does not count: one
        // more connection there would be enough to keep what was given out for the token.
        let is_shared = |token: &Arc<str>| {
            let mut others = self.peers.values().filter(|other| other.id != *id && other.room == room);
            others.any(|other| other.pass.token.as_ref() == Some(token))
        };
        let spent = token.filter(|token| opens_no_other && !is_shared(token));
        self.remove_with_token(id, LeaveReason::Kicked, spent);
    }

    fn lock(&mut self, key: &RoomKey, locked: bool, by: &PeerId) {
        let Some(room) = self.rooms.get_mut(key) else { return };
        let locked_before = std::mem::replace(&mut room.locked, locked);
        let members: Vec<PeerId> = room.members.values().cloned().collect();
        for member in members {
            self.deliver(&member, Event::Lock { locked, by: by.clone() });
        }
        if locked != locked_before {
            self.outputs.push_back(Output::Notice(Notice::Locked { room: key.clone(), by: by.clone(), locked }));
        }
    }

    fn close(&mut self, key: &RoomKey) {
        // Without its room nobody is told how the others go.
        let Some(room) = self.take_room(key) else { return };
        for member in room.members.values() {
            self.expel(member, Fault::RoomClosed, LeaveReason::Closed);
        }
        self.outputs.push_back(Output::Notice(Notice::RoomClosed { room: key.clone() }));
    }

    fn expel(&mut self, id: &PeerId, fault: Fault, reason: LeaveReason) {
        if let Some(link) = self.peers.get(id).and_then(|peer| peer.link) {
            self.shut_out(link, fault);
        }
        self.remove(id, reason);
    }
}
