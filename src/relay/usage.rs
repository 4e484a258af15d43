//! What a subject uses at this moment.

use std::net::SocketAddr;
use std::time::Duration;

use super::Relay;
use super::event::Traffic;
use super::types::{RelayId, Transport};
use crate::time::Mono;

/// One relayed address of a live allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub relay: RelayId,
    /// How its client reaches us.
    pub transport: Transport,
    /// What peers see.
    pub relayed: SocketAddr,
    pub traffic: Traffic,
    /// Live permissions and channels of the allocation, both families together.
    pub permissions: usize,
    pub channels: usize,
    pub age: Duration,
    /// How long it lives unless it is refreshed.
    pub expires_in: Duration,
}

impl Relay {
    /// The live allocations of `subject`, one entry for each relayed address, `limit` at most.
    pub fn usage(&mut self, now: Mono, subject: &str, limit: usize) -> Vec<Usage> {
        let mut found = Vec::new();
        for allocation in self.table.each_live().filter(|allocation| *allocation.owner.subject == *subject) {
            let (permissions, channels) = allocation.in_use(now);
            for (family, relayed) in allocation.families().filter(|(_, relayed)| relayed.expires > now) {
                if found.len() == limit {
                    return found;
                }
                found.push(Usage {
                    relay: allocation.id(family),
                    transport: allocation.tuple.transport,
                    relayed: relayed.advertised,
                    traffic: relayed.traffic,
                    permissions,
                    channels,
                    age: now - allocation.granted.at,
                    expires_in: relayed.expires - now,
                });
            }
        }
        found
    }
}
