//! Relay to relay: a packet for one of our own live relayed addresses is handed to its owner, not to the kernel.
//!
//! The directory of live addresses is asked once per address; what it said is cached by each shard and each worker
//! thread. A live entry stays good until its relay closes (it carries the flag itself), "nobody there" until the directory
//! changes. So a packet costs one hash look-up and no lock.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use rustc_hash::FxHashMap;

use super::counters::Counters;
use super::mailbox::{Mailbox, Packets};
use crate::relay::RelayId;

/// Addresses remembered per cache: a client can ask for any port of ours, so the memory needs a bound.
const CACHED: usize = 8_192;

/// A live relayed address and who owns it.
pub(super) struct Entry {
    pub relay: RelayId,
    pub mailbox: Arc<Mailbox>,
    live: AtomicBool,
}

/// Every live relayed address of the process, under its bound and its advertised form.
#[derive(Default)]
pub(super) struct Directory {
    entries: RwLock<FxHashMap<SocketAddr, Arc<Entry>>>,
    version: AtomicU64,
}

impl Directory {
    /// Lists `bound` and `advertised` until the listing is dropped.
    pub(super) fn list(
        self: &Arc<Self>,
        bound: SocketAddr,
        advertised: SocketAddr,
        relay: RelayId,
        mailbox: Arc<Mailbox>,
    ) -> Listing {
        let entry = Arc::new(Entry { relay, mailbox, live: AtomicBool::new(true) });
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.insert(bound, Arc::clone(&entry));
        entries.insert(advertised, Arc::clone(&entry));
        drop(entries);
        self.version.fetch_add(1, Ordering::Release);
        Listing { directory: Arc::clone(self), bound, advertised, entry }
    }

    fn find(&self, address: &SocketAddr) -> Option<Arc<Entry>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).get(address).cloned()
    }
}

/// Keeps a relayed address in the directory.
pub(super) struct Listing {
    directory: Arc<Directory>,
    bound: SocketAddr,
    advertised: SocketAddr,
    entry: Arc<Entry>,
}

impl Drop for Listing {
    fn drop(&mut self) {
        self.entry.live.store(false, Ordering::Release);
        let mut entries = self.directory.entries.write().unwrap_or_else(PoisonError::into_inner);
        for address in [&self.bound, &self.advertised] {
            // Two bound addresses can share an advertised one: only our own entry goes.
            if entries.get(address).is_some_and(|entry| Arc::ptr_eq(entry, &self.entry)) {
                entries.remove(address);
            }
        }
        drop(entries);
        self.directory.version.fetch_add(1, Ordering::Release);
    }
}

/// What one thread remembers of the directory.
pub(super) struct Cache {
    directory: Arc<Directory>,
    found: FxHashMap<SocketAddr, Arc<Entry>>,
    missing: FxHashMap<SocketAddr, u64>,
}

impl Cache {
    pub(super) fn new(directory: Arc<Directory>) -> Self {
        Self { directory, found: FxHashMap::default(), missing: FxHashMap::default() }
    }

    /// The live relayed address at `address`, if there is one.
    pub(super) fn resolve(&mut self, address: SocketAddr) -> Option<Arc<Entry>> {
        match self.found.get(&address) {
            Some(entry) if entry.live.load(Ordering::Acquire) => return Some(Arc::clone(entry)),
            Some(_) => drop(self.found.remove(&address)),
            None => {}
        }
        let version = self.directory.version.load(Ordering::Acquire);
        if self.missing.get(&address) == Some(&version) {
            return None;
        }
        if self.found.len() + self.missing.len() >= CACHED {
            self.found.clear();
            self.missing.clear();
        }
        match self.directory.find(&address) {
            Some(entry) => {
                self.missing.remove(&address);
                self.found.insert(address, Arc::clone(&entry));
                Some(entry)
            }
            None => {
                self.missing.insert(address, version);
                None
            }
        }
    }
}

/// Packets for other owners, collected during a turn so that each owner is locked and woken once.
#[derive(Default)]
pub(super) struct Outbox {
    parcels: Vec<(Arc<Mailbox>, Packets)>,
}

/// Owners served in one turn before the outbox is delivered early.
const PARCELS: usize = 64;

impl Outbox {
    /// Adds a packet for the relayed address of `entry`.
    pub(super) fn push(&mut self, entry: &Entry, from: SocketAddr, payload: &[u8], counters: &Counters) {
        let known = self.parcels.iter_mut().find(|(mailbox, _)| Arc::ptr_eq(mailbox, &entry.mailbox));
        let packets = match known {
            Some((_, packets)) => packets,
            None => {
                if self.parcels.len() >= PARCELS {
                    self.deliver(counters);
                    self.parcels.clear();
                }
                self.parcels.push((Arc::clone(&entry.mailbox), Packets::default()));
                let Some((_, packets)) = self.parcels.last_mut() else { return };
                packets
            }
        };
        if packets.push(entry.relay, from, payload) {
            counters.hairpins.add(1);
        } else {
            counters.hairpin_full.add(1);
        }
    }

    /// Hands every packet to its owner's mailbox.
    pub(super) fn deliver(&mut self, counters: &Counters) {
        for (mailbox, packets) in &mut self.parcels {
            if !packets.items.is_empty() {
                counters.hairpin_full.add(mailbox.deliver(packets) as u64);
            }
        }
        // Buffers of the owners served are kept for the next turn; those of streams long gone are not.
        if self.parcels.len() > PARCELS / 2 {
            self.parcels.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::mailbox::Bell;
    use crate::relay::Family;

    fn mailbox() -> Arc<Mailbox> {
        Arc::new(Mailbox::new(Bell::Task(futures_util::task::AtomicWaker::new())))
    }

    fn id(slot: u32) -> RelayId {
        RelayId { slot, generation: 1, family: Family::V4 }
    }

    #[test]
    fn caches_follow_the_directory() {
        let directory = Arc::<Directory>::default();
        let mut cache = Cache::new(Arc::clone(&directory));
        let bound: SocketAddr = "10.0.0.1:50000".parse().unwrap();
        let advertised: SocketAddr = "203.0.113.7:50000".parse().unwrap();
        assert!(cache.resolve(bound).is_none());
        let listing = directory.list(bound, advertised, id(1), mailbox());
        for address in [bound, advertised, bound] {
            assert_eq!(cache.resolve(address).unwrap().relay, id(1));
        }
        drop(listing);
        assert!(cache.resolve(bound).is_none() && cache.resolve(advertised).is_none());
        let _next = directory.list(bound, advertised, id(2), mailbox());
        assert_eq!(cache.resolve(advertised).unwrap().relay, id(2));
    }

    #[test]
    fn a_late_drop_leaves_the_successor_listed() {
        let directory = Arc::<Directory>::default();
        let address: SocketAddr = "10.0.0.1:50000".parse().unwrap();
        let first = directory.list(address, address, id(1), mailbox());
        let _second = directory.list(address, address, id(2), mailbox());
        drop(first);
        assert_eq!(Cache::new(directory).resolve(address).unwrap().relay, id(2));
    }

    #[test]
    fn a_full_mailbox_refuses_and_counts() {
        let (counters, mailbox) = (Counters::default(), mailbox());
        let directory = Arc::<Directory>::default();
        let address: SocketAddr = "10.0.0.1:50000".parse().unwrap();
        let _listing = directory.list(address, address, id(1), Arc::clone(&mailbox));
        let entry = Cache::new(directory).resolve(address).unwrap();
        let mut outbox = Outbox::default();
        for _ in 0..5_000 {
            outbox.push(&entry, address, b"payload", &counters);
        }
        outbox.deliver(&counters);
        outbox.push(&entry, address, b"one more", &counters);
        outbox.deliver(&counters);
        let mut totals = Default::default();
        counters.add_to(&mut totals);
        assert_eq!(totals.hairpin_full, 5_000 - 4_096 + 1);
        let (mut packets, mut orders) = (Packets::default(), Vec::new());
        mailbox.collect(&mut packets, &mut orders);
        assert_eq!((packets.items.len(), orders.len()), (4_096, 0));
        assert_eq!(&packets.bytes[packets.items[4_095].start..], b"payload");
        mailbox.collect(&mut packets, &mut orders);
        assert!(packets.items.is_empty());
    }
}
