//! The links of one TCP allocation.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::Waiting;
use crate::relay::types::Family;
use crate::time::Mono;

/// How far a link has come.
pub(in crate::relay) enum Stage {
    /// The peer has yet to answer; the Connect waits for it.
    Connecting { until: Mono, request: Box<Waiting> },
    /// The peer's side is there; its ConnectionBind has yet to come.
    Pending { until: Mono },
    /// Both sides are there.
    Bound,
}

pub(in crate::relay) struct Link {
    pub(in crate::relay) peer: SocketAddr,
    pub(in crate::relay) stage: Stage,
}

impl Link {
    fn due(&self) -> Option<Mono> {
        match &self.stage {
            Stage::Connecting { until, .. } | Stage::Pending { until } => Some(*until),
            Stage::Bound => None,
        }
    }
}

/// Links by number. There are few, so that looking at each is cheap.
#[derive(Default)]
pub(in crate::relay) struct Links {
    links: BTreeMap<u32, Link>,
    next: u32,
}

impl Links {
    pub(in crate::relay) fn len(&self) -> usize {
        self.links.len()
    }

    /// Adds a link and returns its number. An allocation lives for years before the numbers are used up, and none is
    /// handed out that is still there.
    pub(super) fn add(&mut self, peer: SocketAddr, stage: Stage) -> u32 {
        while self.links.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.links.insert(number, Link { peer, stage });
        number
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Link> {
        self.links.get_mut(&number)
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<Link> {
        self.links.remove(&number)
    }

    /// Whether a connection with `peer` is on its way or there.
    pub(super) fn has_peer(&self, peer: SocketAddr) -> bool {
        self.links.values().any(|link| link.peer == peer)
    }

    /// When the first link's time is over.
    pub(in crate::relay) fn due(&self) -> Option<Mono> {
        self.links.values().filter_map(Link::due).min()
    }

    /// Takes out the links whose time is over.
    pub(super) fn take_due(&mut self, now: Mono) -> Vec<(u32, Link)> {
        self.take(|link| link.due().is_some_and(|due| due <= now))
    }

    /// Takes out the links whose peer is no longer `allowed`.
    pub(super) fn take_denied(&mut self, is_allowed: impl Fn(SocketAddr) -> bool) -> Vec<(u32, Link)> {
        self.take(|link| !is_allowed(link.peer))
    }

    /// Takes out the links of one relayed address.
    pub(super) fn take_family(&mut self, family: Family) -> Vec<(u32, Link)> {
        self.take(|link| Family::of(link.peer.ip()) == family)
    }

    fn take(&mut self, is_taken: impl Fn(&Link) -> bool) -> Vec<(u32, Link)> {
        let numbers: Vec<u32> =
            self.links.iter().filter(|(_, link)| is_taken(link)).map(|(number, _)| *number).collect();
        numbers.into_iter().filter_map(|number| Some((number, self.links.remove(&number)?))).collect()
    }
}
