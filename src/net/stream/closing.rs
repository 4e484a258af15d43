//! When a stream client's task sleeps, and how its connection ends.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::{Client, IDLE};
use crate::time::{Mono, Now};

/// Bytes a client may still send while its connection closes.
const DISCARD: usize = 1 << 20;

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Says goodbye, and reads on until the client has done so too: closing with unread input would make the kernel
    /// reset the connection, and the last replies with it.
    pub(super) fn shut_down(&mut self, cx: &mut Context<'_>, now: Now, scratch: &mut [u8]) -> Poll<()> {
        if !self.shut && Pin::new(&mut self.stream).poll_shutdown(cx).is_pending() {
            return self.wait(cx, now);
        }
        self.shut = true;
        while self.discarded < DISCARD {
            let mut buffer = ReadBuf::new(scratch);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => self.discarded += buffer.filled().len(),
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return self.wait(cx, now),
            }
        }
        Poll::Ready(())
    }

    /// Arms the timer for what is due next. Ready when the time to close is over.
    pub(super) fn wait(&mut self, cx: &mut Context<'_>, now: Now) -> Poll<()> {
        let idle = (self.relay.allocations() == 0).then(|| self.heard + IDLE);
        let due = match self.closing {
            Some(until) => Some(until),
            None => self.relay.poll_timeout().into_iter().chain(idle).min(),
        };
        let Some(due) = due else { return Poll::Pending };
        if self.closing.is_some_and(|until| until <= now.mono) {
            return Poll::Ready(());
        }
        if due != self.timer_due {
            self.timer_due = due;
            self.timer.as_mut().reset(Instant::now() + (due - now.mono));
        }
        if self.timer.as_mut().poll(cx).is_ready() {
            // It is looked at in the next turn; a timer that has fired must be armed again.
            self.timer_due = Mono(u64::MAX);
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}
