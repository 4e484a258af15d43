//! What waits for one client, between the hub's task and the connection's: bounded in messages and bytes, and without
//! memory of its own while nothing waits, which is nearly always. (A channel of the runtime's keeps a block of 32 places
//! for each connection: 2 KiB.)

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use crate::signaling::{Delivery, LinkId};

/// The hub's end. When it is dropped, the client is let go: the receiver still gets what waits, then `None`.
pub(super) struct Sender {
    shared: Arc<Mutex<Waiting>>,
    max_messages: usize,
    max_bytes: usize,
}

/// The connection's end.
pub(super) struct Receiver {
    shared: Arc<Mutex<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    deliveries: VecDeque<(LinkId, Delivery)>,
    bytes: usize,
    /// One of the two ends is gone.
    closed: bool,
    /// The receiver, when it waits.
    waker: Option<Waker>,
}

/// A queue for at most so many messages and bytes.
pub(super) fn queue(max_messages: usize, max_bytes: usize) -> (Sender, Receiver) {
    let shared = Arc::<Mutex<Waiting>>::default();
    (Sender { shared: Arc::clone(&shared), max_messages, max_bytes }, Receiver { shared })
}

impl Sender {
    /// False when it does not fit, or nobody is there to take it.
    pub(super) fn push(&self, link: LinkId, delivery: Delivery) -> bool {
        let size = delivery.event.size();
        let mut waiting = lock(&self.shared);
        if waiting.closed || waiting.deliveries.len() >= self.max_messages || waiting.bytes + size > self.max_bytes {
            return false;
        }
        waiting.bytes += size;
        waiting.deliveries.push_back((link, delivery));
        let waker = waiting.waker.take();
        drop(waiting);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let mut waiting = lock(&self.shared);
        waiting.closed = true;
        if let Some(waker) = waiting.waker.take() {
            waker.wake();
        }
    }
}

impl Receiver {
    /// The next delivery; `None` when the hub has let go of this client. Nothing is lost when the future is dropped.
    pub(super) async fn receive(&mut self) -> Option<(LinkId, Delivery)> {
        poll_fn(|cx| {
            let mut waiting = lock(&self.shared);
            if let Some(next) = waiting.pop() {
                return Poll::Ready(Some(next));
            }
            if waiting.closed {
                return Poll::Ready(None);
            }
            waiting.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// The same without waiting.
    pub(super) fn try_receive(&mut self) -> Option<(LinkId, Delivery)> {
        lock(&self.shared).pop()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut waiting = lock(&self.shared);
        waiting.closed = true;
        waiting.deliveries = VecDeque::new();
    }
}

impl Waiting {
    fn pop(&mut self) -> Option<(LinkId, Delivery)> {
        let (link, delivery) = self.deliveries.pop_front()?;
        self.bytes -= delivery.event.size();
        if self.deliveries.is_empty() {
            self.deliveries = VecDeque::new();
        }
        Some((link, delivery))
    }
}

fn lock(shared: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::Context;

    use super::*;
    use crate::signaling::{Event, Fault};

    const LINK: LinkId = LinkId { connection: 1, slot: 0 };

    fn delivery(seq: u64) -> Delivery {
        Delivery { seq, event: Event::Complaint(Fault::UnknownPeer) }
    }

    #[tokio::test]
    async fn first_in_first_out_and_what_waits_outlives_the_sender() {
        let (sender, mut receiver) = queue(10, 10_000);
        for seq in 0..3 {
            assert!(sender.push(LINK, delivery(seq)));
        }
        drop(sender);
        for seq in 0..3 {
            assert_eq!(receiver.receive().await.expect("a delivery").1.seq, seq);
        }
        assert!(receiver.receive().await.is_none());
        assert!(receiver.try_receive().is_none());
    }

    #[test]
    fn bounded_in_messages_and_in_bytes() {
        let size = delivery(0).event.size();
        let (sender, mut receiver) = queue(2, 10 * size);
        assert!(sender.push(LINK, delivery(0)) && sender.push(LINK, delivery(1)));
        assert!(!sender.push(LINK, delivery(2)), "too many");
        assert!(receiver.try_receive().is_some());
        assert!(sender.push(LINK, delivery(2)), "there is room again");

        let (sender, mut receiver) = queue(10, 2 * size);
        assert!(sender.push(LINK, delivery(0)) && sender.push(LINK, delivery(1)));
        assert!(!sender.push(LINK, delivery(2)), "too large");
        assert!(receiver.try_receive().is_some());
        assert!(sender.push(LINK, delivery(2)), "there is room again");
        drop(receiver);
        assert!(!sender.push(LINK, delivery(3)), "nobody is there");
    }

    #[tokio::test]
    async fn whoever_waits_is_woken_by_a_message_and_by_the_end() {
        let (sender, mut receiver) = queue(10, 10_000);
        let waiting = tokio::spawn(async move {
            let first = receiver.receive().await.map(|(_, delivery)| delivery.seq);
            (first, receiver.receive().await.is_none())
        });
        tokio::task::yield_now().await;
        assert!(sender.push(LINK, delivery(7)));
        tokio::task::yield_now().await;
        drop(sender);
        assert_eq!(waiting.await.expect("no panic"), (Some(7), true));
    }

    #[test]
    fn an_empty_queue_holds_no_memory() {
        let (sender, mut receiver) = queue(10, 10_000);
        assert!(sender.push(LINK, delivery(0)));
        assert!(receiver.try_receive().is_some());
        assert_eq!(lock(&receiver.shared).deliveries.capacity(), 0);
        let mut waiting = pin!(receiver.receive());
        assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert!(sender.push(LINK, delivery(1)));
        assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
    }
}
