//! One peer as the hub knows it, and what it keeps for a peer whose connection was lost.

use std::collections::VecDeque;

use super::limits::REPLAY_FLOOR;
use super::message::PeerView;
use super::{Alias, Delivery, HubLimits, LinkId, Pass, PeerId, PeerInfo, Role, RoomKey, Secret};
use crate::time::Mono;

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) id: PeerId,
    pub(super) room: RoomKey,
    pub(super) role: Role,
    pub(super) name: Option<String>,
    pub(super) instance: Option<String>,
    pub(super) alias: Option<Alias>,
    pub(super) pass: Pass,
    /// Grows with every join; whoever has the larger one came later.
    pub(super) order: u64,
    /// `None`: the connection was lost.
    pub(super) link: Option<LinkId>,
    /// When a lost peer is given up.
    pub(super) expires: Option<Mono>,
    /// When it last proved that it is alive, after a challenge.
    pub(super) answered: Option<Mono>,
    /// The number of the last message.
    pub(super) seq: u64,
    pub(super) session: Option<Session>,
    /// Whom messages without a `to` concern: the other side of the negotiation in progress.
    pub(super) pair: Option<PeerId>,
    /// Its last offer went to everybody: the first answer wins.
    pub(super) offered_to_all: bool,
}

impl Peer {
    /// What an administrator is told.
    pub(super) fn info(&self) -> PeerInfo {
        PeerInfo {
            room: self.room.clone(),
            role: self.role,
            name: self.name.clone(),
            token: self.pass.token.clone(),
            connected: self.link.is_some(),
        }
    }

    /// How `self` appears to `viewer`.
    pub(super) fn seen_by(&self, viewer: &Self) -> PeerView {
        PeerView {
            peer: self.id.clone(),
            name: self.name.clone(),
            role: self.role,
            instance: self.instance.clone(),
            polite: match self.room {
                // Who streams calls, as pages of the live dialect expect it.
                RoomKey::Stream(_) => viewer.role == Role::Streamer,
                RoomKey::Call(_) | RoomKey::Direct => viewer.order > self.order,
            },
            connected: self.link.is_some(),
            alias: self.alias.clone(),
        }
    }
}

/// The resumable side of a peer.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) secret: Secret,
    /// Of a page that does not know of it.
    pub(super) unaware: bool,
    /// The last messages, oldest first.
    replay: VecDeque<Delivery>,
    bytes: usize,
    /// Everything up to this number is no longer kept.
    dropped: u64,
}

impl Session {
    /// `seq`: the number of the `joined`, which is never replayed.
    pub(super) fn new(secret: Secret, unaware: bool, seq: u64) -> Self {
        Self { secret, unaware, replay: VecDeque::new(), bytes: 0, dropped: seq }
    }

    /// Bytes kept.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps a message; the oldest make room for it. `others`: bytes that all other sessions keep.
    pub(super) fn keep(&mut self, delivery: Delivery, limits: &HubLimits, others: usize) {
        self.bytes += delivery.event.size();
        self.replay.push_back(delivery);
        let left = limits.replay_total_bytes.saturating_sub(others).max(REPLAY_FLOOR);
        while self.replay.len() > limits.replay_messages || self.bytes > limits.replay_bytes.min(left) {
            let Some(oldest) = self.replay.pop_front() else { break };
            self.forget(&oldest);
        }
    }

    /// True when everything after `seq` is still here.
    pub(super) fn reaches_back_to(&self, seq: u64) -> bool {
        seq >= self.dropped
    }

    /// Forgets what the client has, and gives what it missed.
    pub(super) fn after(&mut self, seq: u64) -> Vec<Delivery> {
        while self.replay.front().is_some_and(|kept| kept.seq <= seq) {
            if let Some(known) = self.replay.pop_front() {
                self.forget(&known);
            }
        }
        self.replay.iter().cloned().collect()
    }

    fn forget(&mut self, delivery: &Delivery) {
        self.bytes = self.bytes.saturating_sub(delivery.event.size());
        self.dropped = self.dropped.max(delivery.seq);
    }
}
