//! How much may be relayed: a rate per allocation and one in all, each way for itself. Media beyond it is dropped and
//! counted; requests and their replies are not counted here, so that a client over its rate keeps its allocation.

use std::sync::atomic::{AtomicU64, Ordering};

use super::bucket::{Bucket, Rate};
use super::budget::PACKET_HEADERS;
use super::event::DropReason;
use super::settings::Limits;
use crate::time::Mono;

/// The largest UDP datagram: a bucket that held less would never let it through.
const LARGEST: u64 = 65_535;

/// Which way a packet goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    ToPeer,
    ToClient,
}

/// The buckets of one allocation, by way.
pub(super) type Meters = [Bucket; 2];

/// The rates, and the buckets that all cores of the process draw from.
pub(super) struct Bandwidth {
    each: Option<Rate>,
    total: Option<Rate>,
    full_at: [AtomicU64; 2],
}

impl Bandwidth {
    pub(super) fn new(limits: &Limits) -> Self {
        let rate = |per_second: u64| Rate { per_second, burst: per_second.max(LARGEST) };
        let (each, total) = (limits.bandwidth.map(rate), limits.total_bandwidth.map(rate));
        Self { each, total, full_at: Default::default() }
    }

    /// Lets a packet with `len` payload bytes through, or not. The allocation's rate comes first, so that what it drops
    /// costs the others nothing.
    pub(super) fn admit(&self, meters: &mut Meters, way: Way, len: usize, now: Mono) -> Result<(), DropReason> {
        let tokens = (len + PACKET_HEADERS) as u64;
        let is_within = self.each.is_none_or(|rate| meters[way as usize].take(rate, now, tokens))
            && self.total.is_none_or(|rate| take(&self.full_at[way as usize], rate, now, tokens));
        if is_within { Ok(()) } else { Err(DropReason::Bandwidth) }
    }
}

impl Bandwidth {
    /// Counts `len` bytes of a stream, which are never dropped: the moment from when more may be carried. `own` is the
    /// allocation's bucket, `way` which of ours.
    pub(super) fn owe(&self, own: &AtomicU64, way: usize, len: usize, now: Mono) -> Mono {
        let each = self.each.map_or(now, |rate| owe(own, rate, now, len));
        let total = self.total.map_or(now, |rate| owe(&self.full_at[way], rate, now, len));
        each.max(total)
    }
}

fn owe(full_at: &AtomicU64, rate: Rate, now: Mono, len: usize) -> Mono {
    let mut settled = now;
    let step = |full_at| {
        let (after, at) = rate.owe(full_at, now, len as u64);
        settled = at.max(now);
        Some(after)
    };
    // It always has an answer, so that it never fails.
    let _ = full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step);
    settled
}

fn take(full_at: &AtomicU64, rate: Rate, now: Mono, tokens: u64) -> bool {
    let step = |full_at| rate.take(full_at, now, tokens);
    full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_waits_for_the_slower_of_both_rates() {
        let limits = |bandwidth, total_bandwidth| Limits { bandwidth, total_bandwidth, ..Limits::default() };
        let owed = |limits: Limits, len| Bandwidth::new(&limits).owe(&AtomicU64::new(0), 0, len, Mono(5000));
        assert_eq!(owed(limits(None, None), 10_000_000), Mono(5000));
        assert_eq!(owed(limits(Some(100_000), None), 100_000), Mono(5000), "the burst of a second");
        assert_eq!(owed(limits(Some(100_000), None), 150_000), Mono(5500));
        assert_eq!(owed(limits(None, Some(200_000)), 400_000), Mono(6000));
        assert_eq!(owed(limits(Some(100_000), Some(200_000)), 400_000), Mono(8000));
    }
}
