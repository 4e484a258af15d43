//! Bytes between a client data connection and its peer data connection, both ways, as they are (RFC 6062 section 5.4).
//!
//! Each way reads only when the other side has taken everything: what a slow reader leaves stays in the kernel's buffers
//! and holds the sender back. The buffer of a turn is borrowed, so that an idle connection has none; what the other side
//! did not take at once is kept, one read at most.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::registry::Joined;
use crate::clock;
use crate::net::Shared;
use crate::net::counters::Counters;
use crate::relay;
use crate::relay::tcp::{Meter, Way};

/// Bytes of one read, and so the most that one way of a connection keeps.
const CHUNK: usize = 32 << 10;
/// Reads of one turn before the runtime's other tasks have theirs.
const READS: usize = 8;
/// How long what one side still sends is read and thrown away after the other has gone and all was said: closing with
/// unread input would make the kernel reset the connection, and the last bytes with it.
const LINGER: Duration = Duration::from_secs(3);

/// Joins `client` (with the bytes `first` that were read from it already) and the peer until both have said all, one is
/// lost, or the owner ends it.
pub(in crate::net) async fn join<S>(shared: &Arc<Shared>, client: &mut S, first: Vec<u8>, mut joined: Joined)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let shared_now = Arc::clone(shared);
    let mut to_peer = Half::new(Way::ToPeer, first);
    let mut to_client = Half::new(Way::ToClient, Vec::new());
    let mut lingering = None;
    let meter = Arc::clone(&joined.meter);
    let outcome = poll_fn(|cx| {
        if Pin::new(&mut joined.end).poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::from(io::ErrorKind::ConnectionAborted)));
        }
        let mut worker = shared_now.workers.borrow();
        worker.size_input(0);
        let mut turn = Turn {
            shared: &shared_now,
            relay: shared_now.current.get(),
            meter: &meter,
            scratch: &mut worker.input[..CHUNK],
        };
        to_peer.turn(cx, client, &mut joined.peer, &mut turn)?;
        to_client.turn(cx, &mut joined.peer, client, &mut turn)?;
        match (to_peer.is_over, to_client.is_over) {
            (true, true) => Poll::Ready(Ok(())),
            // One way is over, and of the other way the receiver is gone.
            (true, false) if to_client.is_lost => linger(cx, &mut lingering).map(Ok),
            (false, true) if to_peer.is_lost => linger(cx, &mut lingering).map(Ok),
            _ => Poll::Pending,
        }
    })
    .await;
    if let Err(error) = outcome {
        tracing::debug!(%error, "data connection ended");
        // An end in the middle must not look like an end of file.
        reset(client);
        reset(&joined.peer);
    }
}

fn linger(cx: &mut Context<'_>, lingering: &mut Option<Pin<Box<Sleep>>>) -> Poll<()> {
    lingering.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER))).as_mut().poll(cx)
}

/// Lets the kernel reset the connection when it is closed. Over TLS the missing close_notify says the same.
fn reset<S: 'static>(stream: &S) {
    if let Some(stream) = (stream as &dyn Any).downcast_ref::<TcpStream>() {
        let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
    }
}

/// What a turn works with.
struct Turn<'a> {
    shared: &'a Arc<Shared>,
    /// The settings in force, looked up once per turn.
    relay: Arc<relay::Shared>,
    meter: &'a Meter,
    scratch: &'a mut [u8],
}

/// One way.
struct Half {
    way: Way,
    /// What the receiver has not taken yet, from `start` on.
    rest: Vec<u8>,
    start: usize,
    /// Set while the rate has nothing left.
    pause: Option<Pin<Box<Sleep>>>,
    /// The sender has said all.
    ended: bool,
    /// The receiver is gone: what still comes is thrown away.
    is_lost: bool,
    unflushed: bool,
    /// Everything has been passed on, the end as well.
    is_over: bool,
}

impl Half {
    fn new(way: Way, first: Vec<u8>) -> Self {
        Self { way, rest: first, start: 0, pause: None, ended: false, is_lost: false, unflushed: false, is_over: false }
    }

    /// Moves what can be moved. An error is the sender's: it is lost in the middle of what it said.
    fn turn<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W, turn: &mut Turn<'_>) -> io::Result<()>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        if self.is_over {
            return Ok(());
        }
        let mut reads = 0;
        while !self.ended {
            if self.write(cx, to).is_pending() || self.is_paused(cx) {
                break;
            }
            if reads == READS {
                cx.waker().wake_by_ref();
                break;
            }
            reads += 1;
            let mut buffer = ReadBuf::new(turn.scratch);
            let Poll::Ready(read) = Pin::new(&mut *from).poll_read(cx, &mut buffer) else { break };
            match read {
                // Many close TLS without saying so.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                read => read?,
            }
            let bytes = buffer.filled();
            if bytes.is_empty() {
                self.ended = true;
            } else if !self.is_lost {
                self.count(turn.shared, &turn.relay, turn.meter, bytes.len());
                self.pass(cx, to, bytes);
            }
        }
        self.finish(cx, to);
        Ok(())
    }

    /// Writes what the receiver takes at once and keeps the rest.
    fn pass<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, to: &mut W, bytes: &[u8]) {
        let mut written = 0;
        while written < bytes.len() {
            match Pin::new(&mut *to).poll_write(cx, &bytes[written..]) {
                Poll::Ready(Ok(count)) if count > 0 => {
                    written += count;
                    self.unflushed = true;
                }
                Poll::Ready(_) => return self.lose(),
                Poll::Pending => break,
            }
        }
        self.rest.extend_from_slice(bytes.get(written..).unwrap_or_default());
    }

    /// Writes what is kept; ready when nothing is.
    fn write<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, to: &mut W) -> Poll<()> {
        while let Some(rest) = self.rest.get(self.start..).filter(|rest| !rest.is_empty()) {
            match Pin::new(&mut *to).poll_write(cx, rest) {
                Poll::Ready(Ok(count)) if count > 0 => {
                    self.start += count;
                    self.unflushed = true;
                }
                Poll::Ready(_) => {
                    self.lose();
                    return Poll::Ready(());
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        // Given back: an idle connection keeps none.
        (self.rest, self.start) = (Vec::new(), 0);
        Poll::Ready(())
    }

    /// Flushes, and passes the end on when it has come (a half-close: the other way goes on).
    fn finish<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, to: &mut W) {
        if self.is_lost {
            self.is_over |= self.ended;
            return;
        }
        if self.write(cx, to).is_pending() {
            return;
        }
        let done = if self.ended {
            Pin::new(to).poll_shutdown(cx)
        } else if self.unflushed {
            Pin::new(to).poll_flush(cx)
        } else {
            return;
        };
        match done {
            Poll::Ready(Ok(())) => {
                self.unflushed = false;
                self.is_over = self.ended;
            }
            Poll::Ready(Err(_)) => {
                self.lose();
                self.is_over = self.ended;
            }
            Poll::Pending => {}
        }
    }

    fn lose(&mut self) {
        self.is_lost = true;
        (self.rest, self.start) = (Vec::new(), 0);
    }

    fn count(&mut self, shared: &Shared, relay: &relay::Shared, meter: &Meter, len: usize) {
        let counters: &Counters = &shared.stream_counters;
        match self.way {
            Way::ToPeer => counters.tcp_to_peer_bytes.add(len as u64),
            Way::ToClient => counters.tcp_to_client_bytes.add(len as u64),
        }
        let now = clock::now().mono;
        let settled = meter.count(relay, self.way, len, now);
        if settled > now {
            self.pause = Some(Box::pin(tokio::time::sleep_until(Instant::now() + (settled - now))));
        }
    }

    fn is_paused(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(pause) = &mut self.pause else { return false };
        if pause.as_mut().poll(cx).is_pending() {
            return true;
        }
        self.pause = None;
        false
    }
}
