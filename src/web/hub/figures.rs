//! What the hub counts since the start: messages by dialect, and connections that it refused or let go.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    Native,
    Live,
    SocketIo,
}

impl Speech {
    pub const ALL: [Self; 3] = [Self::Native, Self::Live, Self::SocketIo];

    /// As a label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Live => "live",
            Self::SocketIo => "socketio",
        }
    }
}

/// Why a connection was refused or ended by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drop {
    /// There was no place for it.
    Refused,
    /// It read too slowly.
    Slow,
    /// What waited for it was needed by others.
    Cut,
}

impl Drop {
    pub const ALL: [Self; 3] = [Self::Refused, Self::Slow, Self::Cut];

    /// As a label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Slow => "slow",
            Self::Cut => "cut",
        }
    }
}

/// The counters.
#[derive(Debug, Default)]
pub struct Figures {
    received: [AtomicU64; Speech::ALL.len()],
    sent: [AtomicU64; Speech::ALL.len()],
    drops: [AtomicU64; Drop::ALL.len()],
}

impl Figures {
    /// A message of a client, for the hub.
    pub(super) fn count_received(&self, speech: Speech) {
        self.received[speech as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A message of the hub, for a client.
    pub(super) fn count_sent(&self, speech: Speech) {
        self.sent[speech as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_drop(&self, drop: Drop) {
        self.drops[drop as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Messages from clients of `speech`, and to them.
    pub fn messages(&self, speech: Speech) -> (u64, u64) {
        let get = |counts: &[AtomicU64]| counts[speech as usize].load(Ordering::Relaxed);
        (get(&self.received), get(&self.sent))
    }

    pub fn drops(&self, drop: Drop) -> u64 {
        self.drops[drop as usize].load(Ordering::Relaxed)
    }
}
