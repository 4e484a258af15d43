//! What happens in the rooms and at the relay: leaving revokes, and the webhook's receiver is told.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;

use crate::clock;
use crate::net::{Ended, Net};
use crate::signaling::Notice;
use crate::time::Mono;
use crate::webhooks::Webhooks;

/// How long it is remembered in which room somebody was who left: allocations end within a second, those of clients
/// that are still being asked somewhat later.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Watches on behalf of one server.
#[derive(Clone)]
pub(super) struct Watch {
    net: Net,
    webhooks: Webhooks,
    /// Lifetime of the credentials given to peers, in seconds.
    ttl: Arc<AtomicU64>,
    rooms: Arc<Mutex<Rooms>>,
}

/// The rooms of peers, by the peer's id. It holds nobody that the hub does not hold, and those who just left.
#[derive(Default)]
struct Rooms {
    of: HashMap<String, String>,
    /// Who left, and when they are forgotten.
    leaving: VecDeque<(Mono, String)>,
}

impl Rooms {
    fn forget(&mut self, now: Mono) {
        while self.leaving.front().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, peer)) = self.leaving.pop_front() {
                self.of.remove(&peer);
            }
        }
    }
}

impl Watch {
    /// Starts listening to the end of allocations.
    pub(super) fn start(net: Net, webhooks: Webhooks, ttl: Duration) -> Self {
        let ended = net.ended();
        let watch = Self { net, webhooks, ttl: Arc::new(AtomicU64::new(ttl.as_secs())), rooms: Arc::default() };
        tokio::spawn(watch.clone().follow(ended));
        watch
    }

    /// Credentials given to peers live so long from now on. What was given out before may live longer than that: a
    /// shorter time is not taken.
    pub(super) fn set_ttl(&self, ttl: Duration) {
        self.ttl.fetch_max(ttl.as_secs(), Ordering::Relaxed);
    }

    /// Something happened in the rooms.
    pub(super) fn notice(&self, notice: &Notice) {
        let now = clock::now();
        match notice {
            Notice::Joined { room, peer, role, name } => {
                let mut rooms = self.lock();
                rooms.forget(now.mono);
                rooms.of.insert(peer.to_string(), room.to_string());
                drop(rooms);
                let data = json!({ "room": room.to_string(), "peer": peer, "role": role, "name": name });
                self.webhooks.tell("peer.joined", data);
            }
            Notice::Left { room, peer, reason, has_credentials, spent } => {
                let until = now.unix + self.ttl.load(Ordering::Relaxed);
                if *has_credentials {
                    self.net.revoke_of_room(&format!("p.{peer}"), until, &room.to_string());
                }
                if let Some(token) = spent {
                    self.net.revoke_of_room(&format!("t.{token}.*"), until, &room.to_string());
                }
                self.lock().leaving.push_back((now.mono + REMEMBERED, peer.to_string()));
                let data = json!({ "room": room.to_string(), "peer": peer, "reason": reason.as_str() });
                self.webhooks.tell("peer.left", data);
            }
            // Nothing ends with it, and who is in the room was told.
            Notice::Locked { .. } => {}
            Notice::RoomClosed { room } => self.webhooks.tell("room.closed", json!({ "room": room.to_string() })),
        }
    }

    /// Tells of allocations that ended, until the relay is gone.
    async fn follow(self, mut ended: mpsc::Receiver<Ended>) {
        while let Some(ended) = ended.recv().await {
            if !self.webhooks.is_on() {
                continue;
            }
            let peer = ended.subject.strip_prefix("p.");
            let room = peer.and_then(|peer| self.lock().of.get(peer).cloned());
            let traffic = ended.traffic;
            let data = json!({
                "subject": &*ended.subject,
                "room": room,
                "peer": peer,
                "transport": ended.transport.name(),
                "family": if ended.family == crate::relay::Family::V4 { "ipv4" } else { "ipv6" },
                "port": ended.port,
                "reason": ended.reason.name(),
                "toPeer": { "bytes": traffic.to_peer_bytes, "packets": traffic.to_peer_packets },
                "toClient": { "bytes": traffic.to_client_bytes, "packets": traffic.to_client_packets },
            });
            self.webhooks.tell("allocation.ended", data);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Rooms> {
        // Nothing panics while it is held.
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_left_is_forgotten_after_a_while() {
        let mut rooms = Rooms::default();
        for peer in ["a", "b"] {
            rooms.of.insert(peer.into(), "blue".into());
        }
        rooms.leaving.push_back((Mono(60_000), "a".into()));
        rooms.forget(Mono(59_999));
        assert_eq!(rooms.of.len(), 2);
        rooms.forget(Mono(60_000));
        assert_eq!((rooms.of.len(), rooms.leaving.len()), (1, 0));
    }
}
