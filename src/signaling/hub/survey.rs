//! Who is where, for whoever administers the server.

use super::{Hub, PeerInfo};
use crate::signaling::peer::Peer;
use crate::signaling::{PeerId, RoomKey};

/// A part of the peers and rooms, and how many there are.
#[derive(Debug, Default)]
pub struct Survey {
    /// Who came last stands first.
    pub peers: Vec<(PeerId, PeerInfo)>,
    /// The largest first.
    pub rooms: Vec<RoomInfo>,
    /// All that were found, those left out included.
    pub peers_found: usize,
    pub rooms_found: usize,
}

/// What is known of one room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomInfo {
    pub key: RoomKey,
    pub members: usize,
    pub locked: bool,
}

impl Hub {
    /// The peers and rooms whose id, name or room holds `text` (in lower case, empty for all), `limit` of each at most.
    pub fn survey(&self, text: &str, limit: usize) -> Survey {
        let holds = |part: &str| part.to_lowercase().contains(text);
        let is_asked = |peer: &Peer| {
            text.is_empty()
                || holds(peer.id.as_str())
                || peer.name.as_deref().is_some_and(holds)
                || holds(&peer.room.to_string())
        };
        let mut peers: Vec<&Peer> = self.peers.values().filter(|peer| is_asked(peer)).collect();
        peers.sort_unstable_by_key(|peer| std::cmp::Reverse(peer.order));
        let is_listed = |key: &RoomKey| *key != RoomKey::Direct && (text.is_empty() || holds(&key.to_string()));
        let rooms = self.rooms.iter().filter(|(key, _)| is_listed(key));
        let mut rooms: Vec<RoomInfo> = rooms
            .map(|(key, room)| RoomInfo { key: key.clone(), members: room.members.len(), locked: room.locked })
            .collect();
        rooms.sort_unstable_by(|one, other| {
            other.members.cmp(&one.members).then_with(|| one.key.to_string().cmp(&other.key.to_string()))
        });
        let (peers_found, rooms_found) = (peers.len(), rooms.len());
        rooms.truncate(limit);
        let told = peers.into_iter().take(limit).map(|peer| (peer.id.clone(), peer.info()));
        Survey { peers: told.collect(), rooms, peers_found, rooms_found }
    }
}
