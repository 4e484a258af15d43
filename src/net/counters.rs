//! What the packet path counts: one set per shard and one for all streams, summed when somebody asks.

use std::sync::atomic::{AtomicU64, Ordering};

use super::outcomes::Outcomes;
use crate::relay::{Exposure, Relay, Traffic};

/// A counter written by few and read by anybody.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Declares the counters once, as atomics ([`Counters`]) and as plain numbers ([`Totals`]).
macro_rules! counters {
    ($(#[doc = $doc:literal] $name:ident,)*) => {
        /// The counters of one shard, or of all streams together.
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(#[doc = $doc] pub(super) $name: Counter,)*
            pub(super) outcomes: Outcomes,
        }

        /// The sums of all counters since the start.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Totals {
            $(#[doc = $doc] pub $name: u64,)*
        }

        impl Counters {
            /// Adds these counters to `totals`.
            pub(super) fn add_to(&self, totals: &mut Totals) {
                $(totals.$name += self.$name.get();)*
            }
        }

        impl Totals {
            /// Each with its name and what it counts.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$((stringify!($name), $doc.trim_ascii(), self.$name),)*].into_iter()
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
    /// Clients that got a socket of their own because they sent much.
    lanes,
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
    /// ICMP errors told to clients.
    icmp_errors,
    /// Packets relayed from clients to peers.
    to_peer_packets,
    /// Payload bytes relayed from clients to peers.
    to_peer_bytes,
    /// Packets relayed from peers to clients.
    to_client_packets,
    /// Payload bytes relayed from peers to clients.
    to_client_bytes,
    /// Replies over UDP to sources that had proven nothing.
    stranger_replies,
    /// Bytes of the requests so answered, as whole IPv4 packets.
    stranger_received_bytes,
    /// Bytes of those replies, as whole IPv4 packets.
    stranger_sent_bytes,
    /// Requests signed with a wrong credential, or with one whose time is over.
    wrong_credentials,
}

/// What of a core's own sums its owner has added to the counters: done once per turn, so that a packet costs the core
/// plain additions and the counters nothing.
#[derive(Debug, Default)]
pub(super) struct Published {
    traffic: Traffic,
    exposure: Exposure,
    wrong_credentials: u64,
}

impl Published {
    /// Adds what `relay` has done since the last time.
    pub(super) fn publish(&mut self, relay: &Relay, counters: &Counters) {
        let (traffic, exposure) = (relay.traffic(), relay.exposure());
        if traffic != self.traffic {
            counters.to_peer_packets.add(traffic.to_peer_packets - self.traffic.to_peer_packets);
            counters.to_peer_bytes.add(traffic.to_peer_bytes - self.traffic.to_peer_bytes);
            counters.to_client_packets.add(traffic.to_client_packets - self.traffic.to_client_packets);
            counters.to_client_bytes.add(traffic.to_client_bytes - self.traffic.to_client_bytes);
            self.traffic = traffic;
        }
        if exposure != self.exposure {
            counters.stranger_replies.add(exposure.replies - self.exposure.replies);
            counters.stranger_received_bytes.add(exposure.received - self.exposure.received);
            counters.stranger_sent_bytes.add(exposure.sent - self.exposure.sent);
            self.exposure = exposure;
        }
        let wrong_credentials = relay.wrong_credentials();
        if wrong_credentials != self.wrong_credentials {
            counters.wrong_credentials.add(wrong_credentials - self.wrong_credentials);
            self.wrong_credentials = wrong_credentials;
        }
    }
}
