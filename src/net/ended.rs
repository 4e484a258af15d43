//! Allocations that ended, for whoever wants to know: the log of rooms and the webhooks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc::{self, error::TrySendError};

use crate::relay::{EndReason, Event, Family, Traffic, Transport};

/// Ends that wait for the listener: as many as there can be allocations by default.
const QUEUE: usize = 10_000;

/// An allocation that ended, or one relayed address of it.
#[derive(Clone, Debug)]
pub struct Ended {
    pub subject: Arc<str>,
    /// How its client reached us.
    pub transport: Transport,
    pub family: Family,
    /// Port of the relayed address: names the allocation without naming anybody's address.
    pub port: u16,
    pub reason: EndReason,
    pub traffic: Traffic,
}

/// Where shards and streams drop what ended; never waits.
#[derive(Default)]
pub(super) struct Sink {
    listener: Mutex<Option<mpsc::Sender<Ended>>>,
    untold: AtomicU64,
}

impl Sink {
    pub(super) fn listen(&self) -> mpsc::Receiver<Ended> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }

    pub(super) fn tell(&self, event: &Event) {
        let Event::Deleted { relay, tuple, subject, relayed, reason, traffic } = event else { return };
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(listener) = listener.as_ref() else { return };
        let ended = Ended {
            subject: Arc::clone(subject),
            transport: tuple.transport,
            family: relay.family,
            port: relayed.port(),
            reason: *reason,
            traffic: *traffic,
        };
        if let Err(TrySendError::Full(_)) = listener.try_send(ended) {
            let untold = self.untold.fetch_add(1, Ordering::Relaxed) + 1;
            if untold.is_power_of_two() {
                tracing::warn!(untold, "allocations ended faster than their ends could be told");
            }
        }
    }
}
