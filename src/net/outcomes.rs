//! What became of requests and packets, counted by cause, and the snapshot of all that is counted.

use super::counters::{Counter, Totals};
use crate::relay::{DropReason, EndReason, Event, Family, Transport};

/// Error codes that we send (RFC 8489 section 14.8, RFC 8656 section 19, RFC 6062 section 6.2); others count as 0.
const CODES: [u16; 15] = [0, 400, 401, 403, 420, 437, 438, 440, 441, 442, 443, 446, 447, 486, 508];

/// Methods by their number (RFC 8656 section 17, RFC 6062 section 6.1); others are "other".
const METHODS: [(u16, &str); 8] = [
    (0, "other"),
    (0x001, "binding"),
    (0x003, "allocate"),
    (0x004, "refresh"),
    (0x008, "create_permission"),
    (0x009, "channel_bind"),
    (0x00a, "connect"),
    (0x00b, "connection_bind"),
];

/// The counters by cause of one shard, or of all streams.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    created: [[Counter; 2]; Transport::ALL.len()],
    ended: [[Counter; EndReason::ALL.len()]; Transport::ALL.len()],
    refused: [[[Counter; CODES.len()]; METHODS.len()]; Transport::ALL.len()],
    dropped: [Counter; DropReason::ALL.len()],
    denied: Counter,
}

impl Outcomes {
    /// Counts an event of a core.
    pub(super) fn note(&self, event: &Event) {
        match event {
            Event::Created { relay, tuple, .. } => {
                self.created[tuple.transport as usize][relay.family as usize].add(1);
            }
            Event::Deleted { tuple, reason, .. } => self.ended[tuple.transport as usize][*reason as usize].add(1),
            Event::Refused { tuple, method, code } => {
                let method = METHODS.iter().position(|(number, _)| number == method).unwrap_or(0);
                let code = CODES.iter().position(|known| known == code).unwrap_or(0);
                self.refused[tuple.transport as usize][method][code].add(1);
            }
            Event::Dropped(reason) => self.dropped[*reason as usize].add(1),
            Event::PermissionDenied { .. } => self.denied.add(1),
            Event::Refreshed { .. } => {}
        }
    }

    /// Adds these counters to `snapshot`.
    pub(super) fn add_to(&self, snapshot: &mut Snapshot) {
        for transport in Transport::ALL {
            for family in [Family::V4, Family::V6] {
                let count = self.created[transport as usize][family as usize].get();
                add(&mut snapshot.created, (transport, family), count);
            }
            for reason in EndReason::ALL {
                add(&mut snapshot.ended, (transport, reason), self.ended[transport as usize][reason as usize].get());
            }
            for (methods, (_, method)) in self.refused[transport as usize].iter().zip(METHODS) {
                for (count, code) in methods.iter().zip(CODES) {
                    let count = count.get();
                    if count > 0 {
                        add(&mut snapshot.refused, (transport, method, code), count);
                    }
                }
            }
        }
        for (count, reason) in self.dropped.iter().zip(DropReason::ALL) {
            add(&mut snapshot.dropped, reason, count.get());
        }
        snapshot.denied += self.denied.get();
    }
}

fn add<K: PartialEq>(counts: &mut Vec<(K, u64)>, key: K, count: u64) {
    match counts.iter_mut().find(|(known, _)| *known == key) {
        Some((_, sum)) => *sum += count,
        None => counts.push((key, count)),
    }
}

/// Everything that the relay has counted since the start: summed when asked for, without a lock on the packet path. The
/// parts are read one after the other, so two of them may be a packet apart.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Allocations that live now; one of two families counts once.
    pub allocations: usize,
    pub totals: Totals,
    /// Relayed addresses made, by transport of the client and family.
    pub created: Vec<((Transport, Family), u64)>,
    /// Relayed addresses that ended, by transport and cause.
    pub ended: Vec<((Transport, EndReason), u64)>,
    /// Requests refused, by transport, method and error code; those that never happened are left out.
    pub refused: Vec<((Transport, &'static str, u16), u64)>,
    /// Packets and requests without an answer, by cause.
    pub dropped: Vec<(DropReason, u64)>,
    /// Permissions and channels refused by the peer policy.
    pub denied: u64,
}

impl Snapshot {
    /// Bytes sent to sources that had proven nothing for each byte received from them, in whole IPv4 packets: how much
    /// a forger of source addresses gains. 0 before the first such reply.
    pub fn amplification(&self) -> f64 {
        let totals = &self.totals;
        if totals.stranger_received_bytes == 0 {
            return 0.0;
        }
        totals.stranger_sent_bytes as f64 / totals.stranger_received_bytes as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::FiveTuple;

    #[test]
    fn indexes_are_the_numbers_of_their_kinds() {
        assert!(Transport::ALL.iter().enumerate().all(|(index, one)| *one as usize == index));
        assert!(EndReason::ALL.iter().enumerate().all(|(index, one)| *one as usize == index));
        assert!(DropReason::ALL.iter().enumerate().all(|(index, one)| *one as usize == index));
    }

    #[test]
    fn sets_are_summed_by_cause() {
        let sets = [Outcomes::default(), Outcomes::default()];
        let address = "192.0.2.1:1".parse().expect("literal");
        let tuple = FiveTuple { client: address, server: address, transport: Transport::Tls };
        for (method, code) in [(3, 401), (3, 401), (3, 486), (1, 420), (0x777, 999)] {
            sets.iter().for_each(|set| set.note(&Event::Refused { tuple, method, code }));
        }
        sets[0].note(&Event::Dropped(DropReason::Budget));
        let mut snapshot = Snapshot::default();
        sets.iter().for_each(|set| set.add_to(&mut snapshot));
        let refused = |method, code| {
            let key = (Transport::Tls, method, code);
            snapshot.refused.iter().find(|(known, _)| *known == key).map_or(0, |(_, count)| *count)
        };
        assert_eq!([refused("allocate", 401), refused("allocate", 486), refused("binding", 420)], [4, 2, 2]);
        assert_eq!((refused("other", 0), snapshot.refused.len()), (2, 4));
        assert!(snapshot.dropped.contains(&(DropReason::Budget, 1)));
    }
}
