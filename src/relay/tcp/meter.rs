//! What the data connections of one allocation carry, and how fast they may. A stream cannot lose bytes as media can: who
//! is over the rate waits.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::relay::Shared;
use crate::relay::event::Traffic;
use crate::time::Mono;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    ToPeer,
    ToClient,
}

/// Shared by the data connections of one allocation.
#[derive(Debug, Default)]
pub struct Meter {
    full_at: [AtomicU64; 2],
    bytes: [AtomicU64; 2],
}

impl Meter {
    /// Counts `len` bytes that were carried. The moment from when more may be: the rates of the allocation and of the
    /// server are those of datagrams, each way for itself.
    pub fn count(&self, shared: &Shared, way: Way, len: usize, now: Mono) -> Mono {
        self.bytes[way as usize].fetch_add(len as u64, Ordering::Relaxed);
        shared.bandwidth.owe(&self.full_at[way as usize], way as usize, len, now)
    }

    /// Adds what was counted since [`Meter::settle`] to `traffic`.
    pub fn add_to(&self, traffic: &mut Traffic) {
        traffic.to_peer_bytes += self.bytes[Way::ToPeer as usize].load(Ordering::Relaxed);
        traffic.to_client_bytes += self.bytes[Way::ToClient as usize].load(Ordering::Relaxed);
    }

    /// As [`Meter::add_to`], for the last time: of an allocation's two relayed addresses the first to end has it all.
    pub fn settle(&self, traffic: &mut Traffic) {
        traffic.to_peer_bytes += self.bytes[Way::ToPeer as usize].swap(0, Ordering::Relaxed);
        traffic.to_client_bytes += self.bytes[Way::ToClient as usize].swap(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::{Limits, Settings};

    #[test]
    fn what_is_carried_is_counted_once_and_keeps_to_the_rate() {
        let limits = Limits { bandwidth: Some(100_000), ..Limits::default() };
        let shared = Shared::new(Settings { limits, ..crate::relay::tests::settings() });
        let meter = Meter::default();
        assert_eq!(meter.count(&shared, Way::ToPeer, 100_000, Mono(5000)), Mono(5000));
        assert_eq!(meter.count(&shared, Way::ToPeer, 50_000, Mono(5000)), Mono(5500));
        assert_eq!(meter.count(&shared, Way::ToClient, 7, Mono(5000)), Mono(5000), "each way for itself");
        let before = Traffic { to_peer_bytes: 3, to_client_bytes: 2, ..Traffic::default() };
        let after = Traffic { to_peer_bytes: 150_003, to_client_bytes: 9, ..Traffic::default() };
        let (mut seen, mut settled) = (before, before);
        meter.add_to(&mut seen);
        meter.settle(&mut settled);
        assert_eq!((seen, settled), (after, after));
        meter.add_to(&mut settled);
        meter.settle(&mut settled);
        assert_eq!(settled, after, "it is settled");
    }
}
