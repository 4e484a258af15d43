//! What the packet path counts: one set per shard and one for all streams, summed when somebody asks.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter written by few and read by anybody.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Declares the counters once, as atomics ([`Counters`]) and as plain numbers ([`Totals`]).
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The counters of one shard, or of all streams together.
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $($(#[$doc])* pub(super) $name: Counter,)*
        }

        /// The sums of all counters since the start.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Totals {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// Adds these counters to `totals`.
            pub(super) fn add_to(&self, totals: &mut Totals) {
                $(totals.$name += self.$name.get();)*
            }
        }
    };
}

counters! {
    /// Batches received, one system call each.
    receive_calls,
    /// Datagrams received from clients and peers.
    received,
    /// Receive calls that failed; the socket is read again at the next turn.
    receive_errors,
    /// Batches sent, one system call each.
    send_calls,
    /// Datagrams queued for sending.
    sent,
    /// Messages dropped because the socket's send buffer was full.
    send_full,
    /// Messages the kernel refused to send.
    send_errors,
    /// GSO messages sent once more in single datagrams.
    gso_fallbacks,
    /// Packets handed over in the process from one relayed address to another.
    hairpins,
    /// Such packets dropped because the receiver's queue was full.
    hairpin_full,
    /// Packets to an address of ours where no relayed address is live, dropped.
    hairpin_unknown,
    /// Bytes of TCP allocations' data connections, to peers.
    tcp_to_peer_bytes,
    /// The same to clients.
    tcp_to_client_bytes,
    /// Media frames dropped because a TCP or TLS client did not read.
    stream_backlog,
}
