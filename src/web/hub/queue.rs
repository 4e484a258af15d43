//! What waits for one client, and what waits for all of them together.
//!
//! A queue belongs to the hub's task, which fills it, and to the connection's task, which empties it. What the
//! connection has taken counts until it is written, so that no byte is held uncounted.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::signaling::{Delivery, LinkId};

/// Messages that wait for one client. A streamer that comes back is told of its viewers one by one.
const QUEUE_MESSAGES: usize = 1024;

/// What a connection takes at a time: beyond it, it writes before it takes more.
const BATCH_BYTES: usize = 64 << 10;

/// An emptied queue gives back the room of a burst beyond so many messages.
const KEPT_CAPACITY: usize = 32;

/// The messages that wait for one client.
pub(super) struct Queue {
    state: Mutex<State>,
    /// Something was pushed, or nothing more will be.
    news: Notify,
    /// The connection ends at once, whatever it is doing.
    cut: Notify,
    max_bytes: usize,
    /// Bytes of all queues.
    total: Arc<AtomicUsize>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(LinkId, Delivery)>,
    /// Bytes in `waiting`.
    bytes: usize,
    /// Bytes that were taken and are not written yet.
    in_hand: usize,
    is_closed: bool,
}

impl Queue {
    pub(super) fn new(max_bytes: usize, total: &Arc<AtomicUsize>) -> Self {
        Self { state: Mutex::default(), news: Notify::new(), cut: Notify::new(), max_bytes, total: Arc::clone(total) }
    }

    /// False when the client reads too slowly: nothing was taken in.
    pub(super) fn push(&self, link: LinkId, delivery: Delivery) -> bool {
        let size = delivery.event.size();
        let mut state = self.lock();
        if state.is_closed || state.waiting.len() >= QUEUE_MESSAGES || state.held() + size > self.max_bytes {
            return false;
        }
        state.waiting.push_back((link, delivery));
        state.bytes += size;
        self.total.fetch_add(size, Ordering::Relaxed);
        self.news.notify_one();
        true
    }

    /// Nothing more comes. What waits is still taken, or dropped when it is of no use any more.
    pub(super) fn close(&self, is_useful: bool) {
        let mut state = self.lock();
        state.is_closed = true;
        if !is_useful {
            self.total.fetch_sub(state.bytes, Ordering::Relaxed);
            (state.waiting, state.bytes) = (VecDeque::new(), 0);
        }
        self.news.notify_one();
    }

    /// Ends the connection without a word: what it holds is needed.
    pub(super) fn cut(&self) {
        let mut state = self.lock();
        self.total.fetch_sub(state.held(), Ordering::Relaxed);
        *state = State { is_closed: true, ..State::default() };
        self.cut.notify_one();
    }

    /// Completes when the connection is to end at once.
    pub(super) async fn is_cut(&self) {
        self.cut.notified().await;
    }

    /// Bytes that wait or are being written.
    pub(super) fn held(&self) -> usize {
        self.lock().held()
    }

    /// The next message. What was taken before is taken as written. `None`: nothing more comes.
    pub(super) async fn take(&self) -> Option<(LinkId, Delivery)> {
        self.release();
        loop {
            {
                let mut state = self.lock();
                if let Some(next) = state.pop() {
                    return Some(next);
                }
                if state.is_closed {
                    return None;
                }
            }
            self.news.notified().await;
        }
    }

    /// One more message of the same batch, when there is one and the batch has room for it.
    pub(super) fn take_more(&self) -> Option<(LinkId, Delivery)> {
        let mut state = self.lock();
        if state.in_hand >= BATCH_BYTES { None } else { state.pop() }
    }

    fn release(&self) {
        let mut state = self.lock();
        self.total.fetch_sub(std::mem::take(&mut state.in_hand), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is complete before anything that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let held = self.lock().held();
        self.total.fetch_sub(held, Ordering::Relaxed);
    }
}

impl State {
    fn held(&self) -> usize {
        self.bytes + self.in_hand
    }

    fn pop(&mut self) -> Option<(LinkId, Delivery)> {
        let next = self.waiting.pop_front()?;
        let size = next.1.event.size();
        self.bytes -= size;
        self.in_hand += size;
        if self.waiting.is_empty() && self.waiting.capacity() > KEPT_CAPACITY {
            self.waiting = VecDeque::new();
        }
        Some(next)
    }
}
