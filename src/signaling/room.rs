//! A room: who is in it, oldest first, who is told of whom, and who is not let in.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use super::peer::Peer;
use super::{Fault, Join, PeerId, Role, RoomKey};
use crate::time::Mono;

/// Kicked tokens and pages that one room remembers; beyond it the oldest may come back.
const MAX_BARRED: usize = 256;

/// The members of one room, call, stream or the by-id sockets.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// By the order of joining.
    pub(super) members: BTreeMap<u64, PeerId>,
    /// The one who streams, in a stream.
    pub(super) streamer: Option<PeerId>,
    /// Who bears which id in a stream, by [`super::Alias::key`].
    aliases: HashMap<Arc<str>, PeerId>,
    /// Nobody new gets in but hosts.
    pub(super) locked: bool,
    /// Who was kicked, the oldest first.
    barred: VecDeque<Bar>,
    /// How many viewers are connected.
    pub(super) watching: usize,
    /// The number of viewers that the room was last told, and when.
    pub(super) viewers_told: usize,
    pub(super) viewers_at: Option<Mono>,
    /// When it is to be told again.
    pub(super) viewers_due: Option<Mono>,
}

/// What a kicked peer is known by when it comes again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Bar {
    /// The id of its token.
    Token(Arc<str>),
    /// The `instance` of its page.
    Page(String),
}

impl Room {
    pub(super) fn add(&mut self, peer: &Peer) {
        self.members.insert(peer.order, peer.id.clone());
        self.arrive(peer);
        if matches!(peer.room, RoomKey::Stream(_)) && peer.role == Role::Streamer {
            self.streamer = Some(peer.id.clone());
        }
        if let Some(alias) = &peer.alias {
            self.aliases.insert(alias.key().clone(), peer.id.clone());
        }
    }

    /// A connected member: a new one, or one that came back.
    pub(super) fn arrive(&mut self, peer: &Peer) {
        self.watching += usize::from(peer.role == Role::Viewer);
    }

    /// The connection of a member was lost.
    pub(super) fn lose(&mut self, peer: &Peer) {
        self.watching -= usize::from(peer.role == Role::Viewer);
    }

    pub(super) fn remove(&mut self, peer: &Peer) {
        self.members.remove(&peer.order);
        if peer.link.is_some() {
            self.lose(peer);
        }
        if self.streamer.as_ref() == Some(&peer.id) {
            self.streamer = None;
        }
        if let Some(alias) = &peer.alias
            && self.aliases.get(alias.key()) == Some(&peer.id)
        {
            self.aliases.remove(alias.key());
        }
    }

    pub(super) fn viewers(&self) -> usize {
        self.members.len() - usize::from(self.streamer.is_some())
    }

    /// Who has the place that only one can have in a stream: the streamer's, or that of a `viewerId`.
    pub(super) fn holder(&self, join: &Join) -> Option<(PeerId, Fault)> {
        if join.role == Role::Streamer
            && let Some(streamer) = &self.streamer
        {
            return Some((streamer.clone(), Fault::StreamTaken));
        }
        let bearer = join.alias.as_ref().and_then(|alias| self.aliases.get(alias.key()))?;
        Some((bearer.clone(), Fault::ViewerTaken))
    }

    pub(super) fn bar(&mut self, bar: Bar) {
        if self.barred.contains(&bar) {
            return;
        }
        if self.barred.len() >= MAX_BARRED {
            self.barred.pop_front();
        }
        self.barred.push_back(bar);
    }

    pub(super) fn bars(&self, join: &Join) -> bool {
        self.barred.iter().any(|bar| match bar {
            Bar::Token(token) => join.pass.token.as_ref() == Some(token),
            Bar::Page(instance) => join.instance.as_ref() == Some(instance),
        })
    }
}

impl RoomKey {
    /// Whether peers of these roles are told of each other here. Viewers never see one another.
    pub(super) fn sees(&self, one: Role, other: Role) -> bool {
        match self {
            Self::Call(_) | Self::Stream(_) => !(one == Role::Viewer && other == Role::Viewer),
            Self::Direct => false,
        }
    }

    /// Whether peers of these roles may send to each other here.
    pub(super) fn carries(&self, one: Role, other: Role) -> bool {
        *self == Self::Direct || self.sees(one, other)
    }
}
