//! The bounded queue into a shard or a stream task: packets handed over from other relayed addresses, and orders.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::task::AtomicWaker;

use tokio::sync::mpsc;

use super::sys::WakeUp;
use super::tcp::News;
use crate::credentials::turn::covers;
use crate::relay::{self, RelayId, Usage};

/// Packets waiting in one mailbox; more are dropped and counted. A turn takes all of them, so this many is a burst.
const MAX_PACKETS: usize = 4_096;
/// Payload bytes waiting in one mailbox.
const MAX_BYTES: usize = 4 << 20;

/// What the owner of a mailbox must do.
#[derive(Clone, Debug)]
pub(super) enum Order {
    /// End the allocations of this subject, or of all that it covers.
    Revoke(Arc<Revocation>),
    /// Tell what these subjects use.
    Report { query: Arc<Query>, reply: mpsc::Sender<Usage> },
    /// Go on with these settings.
    Reconfigure(Arc<relay::Shared>),
    /// Say that you are alive.
    Answer(mpsc::Sender<()>),
    /// What became of a link of a TCP allocation.
    Link(News),
    /// End every allocation and stop.
    Stop,
}

/// Whose allocations are asked about.
#[derive(Debug)]
pub enum Query {
    /// This subject's.
    Subject(String),
    /// Everybody's.
    All,
    /// These, and those whose subject holds the text, in lower case.
    Matching { subjects: HashSet<String>, text: String },
}

impl Query {
    /// Whether `subject` is asked about.
    pub(super) fn wants(&self, subject: &str) -> bool {
        match self {
            Self::Subject(wanted) => wanted == subject,
            Self::All => true,
            Self::Matching { subjects, text } => {
                subjects.contains(subject) || subject.to_ascii_lowercase().contains(text)
            }
        }
    }
}

/// Whose allocations end.
#[derive(Debug)]
pub(super) struct Revocation {
    pub subject: String,
    /// The signaling room it was in, for the log; empty where there is none.
    pub room: String,
}

impl Revocation {
    /// What stands with the log lines of the allocations that end by it.
    pub(super) fn span(&self) -> tracing::Span {
        let peer = self.subject.strip_prefix("p.").unwrap_or_default();
        tracing::info_span!("revoked", room = self.room, peer)
    }
}

/// A packet that one relayed address sends to another of this process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handover {
    /// The receiving relayed address.
    pub relay: RelayId,
    /// The sender's relayed address, as advertised.
    pub from: SocketAddr,
    pub start: usize,
    pub len: usize,
}

/// Packets one behind the other in one buffer.
#[derive(Debug, Default)]
pub(super) struct Packets {
    pub bytes: Vec<u8>,
    pub items: Vec<Handover>,
}

impl Packets {
    /// Appends a packet; false when a limit is reached.
    pub(super) fn push(&mut self, relay: RelayId, from: SocketAddr, payload: &[u8]) -> bool {
        if self.items.len() >= MAX_PACKETS || self.bytes.len() + payload.len() > MAX_BYTES {
            return false;
        }
        self.items.push(Handover { relay, from, start: self.bytes.len(), len: payload.len() });
        self.bytes.extend_from_slice(payload);
        true
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.items.clear();
    }
}

/// How the owner is told that something came.
pub(super) enum Bell {
    /// A shard waits in its readiness loop.
    Thread(WakeUp),
    /// A stream task waits in the runtime.
    Task(AtomicWaker),
}

#[derive(Default)]
struct Inbox {
    packets: Packets,
    orders: Vec<Order>,
    closed: bool,
}

/// The mailbox of one shard or stream.
pub(super) struct Mailbox {
    inbox: Mutex<Inbox>,
    /// Set while the inbox holds something, so that looking at an empty one takes no lock.
    filled: AtomicBool,
    bell: Bell,
    /// The subject of a stream's one client, once it has asked for an allocation.
    subject: Mutex<Option<Arc<str>>>,
}

impl Mailbox {
    pub(super) fn new(bell: Bell) -> Self {
        Self { inbox: Mutex::default(), filled: AtomicBool::new(false), bell, subject: Mutex::default() }
    }

    /// Says whose allocation its owner may hold from now on. To be called before the revocations are asked: then either
    /// the order finds the subject here, or the owner finds it revoked.
    pub(super) fn belongs_to(&self, subject: &Arc<str>) {
        *self.subject.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(subject));
    }

    /// Whether a stream may hold an allocation of a subject that `pattern` covers.
    pub(super) fn concerns(&self, pattern: &str) -> bool {
        let subject = self.subject.lock().unwrap_or_else(PoisonError::into_inner);
        subject.as_ref().is_some_and(|subject| covers(pattern, subject))
    }

    /// Whether a stream may hold an allocation that is asked about.
    pub(super) fn is_asked(&self, query: &Query) -> bool {
        let subject = self.subject.lock().unwrap_or_else(PoisonError::into_inner);
        subject.as_ref().is_some_and(|subject| query.wants(subject))
    }

    pub(super) fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Gives an order. Orders are few (a revocation, the stop) and never dropped.
    pub(super) fn order(&self, order: Order) {
        let mut inbox = self.lock();
        if !inbox.closed {
            inbox.orders.push(order);
            self.ring();
        }
    }

    /// Moves `packets` over and leaves it empty. Returns how many found no room.
    pub(super) fn deliver(&self, packets: &mut Packets) -> usize {
        let mut inbox = self.lock();
        if inbox.closed {
            packets.clear();
            return 0;
        }
        let was_empty = inbox.packets.items.is_empty();
        let mut refused = 0;
        if was_empty {
            std::mem::swap(&mut inbox.packets, packets);
        } else {
            for item in &packets.items {
                let payload = packets.bytes.get(item.start..item.start + item.len).unwrap_or_default();
                if !inbox.packets.push(item.relay, item.from, payload) {
                    refused += 1;
                }
            }
        }
        if was_empty {
            self.ring();
        }
        drop(inbox);
        packets.clear();
        refused
    }

    /// Takes what is there: packets by exchange for the (cleared) `packets`, orders by appending.
    pub(super) fn collect(&self, packets: &mut Packets, orders: &mut Vec<Order>) {
        packets.clear();
        if !self.filled.swap(false, Ordering::AcqRel) {
            return;
        }
        let mut inbox = self.lock();
        std::mem::swap(&mut inbox.packets, packets);
        orders.append(&mut inbox.orders);
    }

    /// Takes nothing more: its owner is gone.
    pub(super) fn close(&self) {
        let mut inbox = self.lock();
        *inbox = Inbox { closed: true, ..Inbox::default() };
    }

    fn ring(&self) {
        self.filled.store(true, Ordering::Release);
        match &self.bell {
            Bell::Thread(wake_up) => wake_up.wake(),
            Bell::Task(waker) => waker.wake(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        // Nothing panics while it is held, and a half-done append would lose packets at worst.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
