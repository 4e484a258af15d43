//! A room: who is in it, oldest first, and who is told of whom.

use std::collections::BTreeMap;

use super::{PeerId, Role, RoomKey};

/// The members of one room, call, stream or the by-id sockets.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// By the order of joining.
    pub(super) members: BTreeMap<u64, PeerId>,
    /// The one who streams, in a stream.
    pub(super) streamer: Option<PeerId>,
}

impl Room {
    pub(super) fn remove(&mut self, order: u64, peer: &PeerId) {
        self.members.remove(&order);
        if self.streamer.as_ref() == Some(peer) {
            self.streamer = None;
        }
    }

    pub(super) fn viewers(&self) -> usize {
        self.members.len() - usize::from(self.streamer.is_some())
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
