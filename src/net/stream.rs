//! A TCP or TLS client: one task with a `Relay` of its own.
//!
//! The task is one poll function that looks at everything the client has (its stream, its relay sockets, its mailbox,
//! its timer), with bounded work per turn. Buffers belong to a worker borrowed for the turn, so that an idle connection
//! holds no more than its own state.

mod closing;
mod tcp;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::backlog::{Backlog, Cut};
use super::counters::Published;
use super::mailbox::{Bell, Mailbox, Order};
use super::relay_socket::{RelaySocket, RelaySockets};
use super::tcp::{Joined, Owner, join};
use super::udp::{Failed, Payload, Region};
use super::worker::{Out, Worker};
use super::{Shared, addresses, forward, sys};
use crate::clock;
use crate::relay::framing;
use crate::relay::{FiveTuple, OpenError, OpenRelay, Output, Relay, RelayId, Transport};
use crate::time::{Mono, Now};

/// A client without an allocation may stay silent this long.
const IDLE: Duration = Duration::from_secs(30);
/// How long a closing connection may take to accept what it is still owed.
const LINGER: Duration = Duration::from_secs(3);
/// Batches received from one relay socket before the rest of the connection has its turn.
const RELAY_BATCHES: usize = 4;
/// Bytes read in one turn from a client without an allocation: a flood of small requests must not hold up the runtime's
/// thread for the others.
const UNPROVEN_INPUT: usize = 4 << 10;
/// Bytes of an unfinished frame that are kept for a client without an allocation: no request is as large, and strangers
/// must not fill memory with frames that never end.
const UNPROVEN_FRAME: usize = 4 << 10;
/// A buffer for a partial frame larger than this is given back once it is empty.
const KEPT_PARTIAL: usize = 2_048;

/// Serves STUN/TURN on `stream` until either side ends it.
pub(super) async fn serve<S>(shared: Arc<Shared>, stream: S, tuple: FiveTuple, first: &[u8])
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let mailbox = Arc::new(Mailbox::new(Bell::Task(futures_util::task::AtomicWaker::new())));
    let Some(registration) = shared.register(&mailbox) else { return };
    let now = clock::now();
    let mut client = Client {
        relay: Relay::new(shared.current.get(), addresses::random_seed()),
        published: Published::default(),
        shared,
        stream,
        tuple,
        sockets: RelaySockets::default(),
        mailbox,
        partial: first.to_vec(),
        fresh: !first.is_empty(),
        backlog: Backlog::new(if tuple.transport == Transport::Tls { Cut::Frames } else { Cut::Anywhere }),
        timer: Box::pin(tokio::time::sleep(IDLE)),
        timer_due: now.mono + IDLE,
        heard: now.mono,
        closing: None,
        opening: VecDeque::new(),
        released: Vec::new(),
        tcp: None,
        joined: None,
        again: false,
        shut: false,
        discarded: 0,
    };
    poll_fn(|cx| client.poll(cx)).await;
    if let Some(joined) = client.joined.take() {
        // From here on its owner's orders count.
        drop(registration);
        client.mailbox.close();
        let (shared, first) = (Arc::clone(&client.shared), std::mem::take(&mut client.partial));
        join(&shared, &mut client.stream, first, *joined).await;
    }
}

struct Client<S> {
    shared: Arc<Shared>,
    stream: S,
    tuple: FiveTuple,
    relay: Relay,
    published: Published,
    sockets: RelaySockets<AsyncFd<OwnedFd>>,
    mailbox: Arc<Mailbox>,
    /// The start of a frame whose rest has not come yet.
    partial: Vec<u8>,
    /// `partial` holds bytes that nobody has looked at.
    fresh: bool,
    backlog: Backlog,
    timer: Pin<Box<Sleep>>,
    timer_due: Mono,
    /// When the client last sent a whole frame: bytes alone, one now and then, keep nothing open.
    heard: Mono,
    /// The connection takes no more input and ends when its last replies are written, at that moment at the latest.
    closing: Option<Mono>,
    opening: VecDeque<OpenRelay>,
    /// Closed after the next flush: queued packets still name their numbers.
    released: Vec<RelayId>,
    /// The TCP allocation, if that is what the client has.
    tcp: Option<Box<Owner>>,
    /// The client's ConnectionBind has succeeded: once what is owed is written, the connection is the peer's.
    joined: Option<Box<Joined>>,
    /// Something has begun that wants to be looked at in another turn.
    again: bool,
    /// Our side of the stream is shut down.
    shut: bool,
    discarded: usize,
}

impl<S> Drop for Client<S> {
    fn drop(&mut self) {
        // Also when the task is dropped in the middle: ports and quota must come back, and the log must say so.
        self.mailbox.close();
        self.relay.close(clock::now());
        while let Some(output) = self.relay.poll_output() {
            if let Output::Event(event) = output {
                self.shared.tell(&self.account(event), &self.shared.stream_counters);
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let shared = Arc::clone(&self.shared);
        let mut worker = shared.workers.borrow();
        let ended = self.turn(cx, &mut worker);
        self.published.publish(&self.relay, &shared.stream_counters);
        ended
    }

    fn turn(&mut self, cx: &mut Context<'_>, worker: &mut Worker) -> Poll<()> {
        let now = clock::now();
        if let Bell::Task(waker) = self.mailbox.bell() {
            waker.register(cx.waker());
        }
        self.take_mail(now, worker);
        let mut more = false;
        if self.closing.is_none() && self.joined.is_none() {
            more |= self.read(cx, now, worker);
        }
        if self.closing.is_none() {
            more |= self.receive_peers(cx, now, worker);
            more |= self.poll_tcp(cx, now, &mut worker.out);
        }
        self.tick(now, &mut worker.out);
        self.release();
        worker.out.forwarder.deliver(&self.shared.stream_counters);
        let written = self.backlog.write(cx, &mut self.stream, &mut worker.out.frames, &mut worker.gather, now.mono);
        if let Err(error) = written {
            tracing::debug!(client = %self.tuple.client, %error, "stream client lost");
            self.joined = None;
            return Poll::Ready(());
        }
        self.shared.stream_counters.stream_backlog.add(std::mem::take(&mut self.backlog.dropped));
        if self.closing.is_some() && self.backlog.is_empty() {
            return self.shut_down(cx, now, &mut worker.input);
        }
        if self.joined.is_some() && self.backlog.is_empty() {
            return Poll::Ready(());
        }
        if more || std::mem::take(&mut self.again) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.wait(cx, now)
    }

    /// Takes packets that other owners handed over, and orders.
    fn take_mail(&mut self, now: Now, worker: &mut Worker) {
        let mut inbox = std::mem::take(&mut worker.inbox);
        let mut orders = Vec::new();
        self.mailbox.collect(&mut inbox, &mut orders);
        for item in &inbox.items {
            let payload = inbox.bytes.get(item.start..item.start + item.len).unwrap_or_default();
            self.handle_peer(now, item.relay, item.from, payload, &mut worker.out);
        }
        worker.inbox = inbox;
        for order in orders {
            let _span = match order {
                Order::Revoke(revocation) => {
                    self.relay.revoke(now, &revocation.subject);
                    Some(revocation.span().entered())
                }
                Order::Link(news) => {
                    self.hear(news);
                    None
                }
                Order::Report { query, reply } => {
                    for usage in self.usage(now, &query, reply.capacity()) {
                        let _ = reply.try_send(usage);
                    }
                    None
                }
                Order::Reconfigure(relay) => {
                    self.relay.set_shared(relay);
                    None
                }
                // The watchdog asks threads.
                Order::Answer(_) => None,
                Order::Stop => {
                    self.close(now, &mut worker.out);
                    None
                }
            };
            self.drain(now, &mut worker.out);
        }
    }

    /// Reads what has come and handles every whole frame. True when more may be waiting.
    fn read(&mut self, cx: &mut Context<'_>, now: Now, worker: &mut Worker) -> bool {
        worker.size_input(self.partial.len());
        let Worker { input, out, .. } = worker;
        let mut len = self.partial.len();
        input[..len].copy_from_slice(&self.partial);
        let limit = if self.relay.allocations() > 0 { input.len() } else { input.len().min(len + UNPROVEN_INPUT) };
        let mut progress = std::mem::take(&mut self.fresh);
        let mut ended = false;
        let mut pending = false;
        while len < limit && !ended && !pending {
            let mut buffer = ReadBuf::new(&mut input[len..limit]);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    len += buffer.filled().len();
                    progress = true;
                }
                Poll::Ready(_) => ended = true,
                Poll::Pending => pending = true,
            }
        }
        if progress {
            let used = self.handle_frames(now, &input[..len], out);
            if used > 0 {
                self.heard = now.mono;
            }
            self.partial.clear();
            self.partial.extend_from_slice(&input[used..len]);
            if self.partial.is_empty() && self.partial.capacity() > KEPT_PARTIAL {
                self.partial = Vec::new();
            }
        }
        if ended {
            self.close(now, out);
        }
        !pending && !ended
    }

    /// Handles the frames at the start of `input` and returns how many bytes they take.
    fn handle_frames(&mut self, now: Now, input: &[u8], out: &mut Out) -> usize {
        let mut start = 0;
        while let Some(rest) = input.get(start..).filter(|rest| !rest.is_empty()) {
            let (frame, advance) = match framing::next_frame(rest) {
                Ok(Some((frame, advance))) if advance <= rest.len() && advance > 0 => (frame, advance),
                Ok(_) if rest.len() > UNPROVEN_FRAME && self.relay.allocations() == 0 => {
                    tracing::debug!(client = %self.tuple.client, "stream client without an allocation sent a large frame");
                    self.close(now, out);
                    start = input.len();
                    break;
                }
                Ok(_) => break,
                Err(error) => {
                    tracing::debug!(client = %self.tuple.client, %error, "stream client sent garbage");
                    self.close(now, out);
                    start = input.len();
                    break;
                }
            };
            self.handle_client(now, input, start, frame, out);
            start += advance;
            if self.joined.is_some() {
                // What follows is the peer's.
                break;
            }
            if out.forwarder.queue.is_full() {
                self.flush(now, input, out);
            }
        }
        self.flush(now, input, out);
        start
    }

    fn handle_client(&mut self, now: Now, input: &[u8], start: usize, len: usize, out: &mut Out) {
        let Some(frame) = input.get(start..start + len) else { return };
        let to = self.relay.handle_client(now, &self.tuple, frame);
        self.drain(now, out);
        let Some(to) = to else { return };
        let Some(bytes) = frame.get(to.start..to.start + to.len) else { return };
        let payload = Payload { region: Region::Input, start: start + to.start, len: to.len };
        let counters = &self.shared.stream_counters;
        let local = out.forwarder.send_to_peer(&to, (payload, bytes), &self.sockets, &self.mailbox, counters);
        if let Some((relay, from)) = local {
            self.handle_peer(now, relay, from, bytes, out);
        }
    }

    /// Receives from the relay sockets. True when more may be waiting.
    fn receive_peers(&mut self, cx: &mut Context<'_>, now: Now, worker: &mut Worker) -> bool {
        let mut more = false;
        for number in 0..self.sockets.end() {
            more |= self.receive_peer(cx, now, number, worker);
        }
        more
    }

    fn receive_peer(&mut self, cx: &mut Context<'_>, now: Now, number: u32, worker: &mut Worker) -> bool {
        let mut batches = 0;
        while batches < RELAY_BATCHES {
            let Some(relay) = self.sockets.get(number) else { return false };
            let id = relay.id;
            let Poll::Ready(Ok(mut guard)) = relay.socket.poll_read_ready(cx) else { return false };
            let Worker { arena, out, .. } = &mut *worker;
            match guard.try_io(|socket| arena.receive(socket.as_fd())) {
                Ok(Ok(_)) => {
                    batches += 1;
                    self.shared.stream_counters.receive_calls.add(1);
                    for datagram in arena.datagrams() {
                        self.shared.stream_counters.received.add(1);
                        let payload = arena.bytes().get(datagram.start..datagram.start + datagram.len);
                        self.handle_peer(now, id, datagram.from, payload.unwrap_or_default(), out);
                    }
                }
                Ok(Err(_)) => {
                    // An error never ends the loop; it may be an ICMP one, about a packet sent before.
                    batches += 1;
                    self.shared.stream_counters.receive_errors.add(1);
                    self.receive_errors(now, number, None, out);
                }
                // Not readable after all: poll again, which remembers this task.
                Err(_) => {}
            }
            arena.reset();
        }
        true
    }

    /// Tells the client what ICMP said about packets of its own.
    fn receive_errors(&mut self, now: Now, number: u32, whole: Option<SocketAddr>, out: &mut Out) {
        let Some(socket) = self.sockets.get(number) else { return };
        let id = socket.id;
        let relay = &mut self.relay;
        let told = &self.shared.stream_counters.icmp_errors;
        forward::take_errors(socket.socket.as_fd(), id.family, whole, |peer, error| {
            told.add(1);
            relay.handle_peer_icmp(now, id, peer, error);
        });
        self.drain(now, out);
    }

    fn handle_peer(&mut self, now: Now, relay: RelayId, from: SocketAddr, payload: &[u8], out: &mut Out) {
        let to = self.relay.handle_peer(now, relay, from, payload.len());
        if let Some(to) = to {
            out.frames.push_media(to.head(), payload, to.padding);
        }
        self.drain(now, out);
    }

    /// Runs what is due.
    fn tick(&mut self, now: Now, out: &mut Out) {
        if self.relay.poll_timeout().is_some_and(|due| due <= now.mono) {
            self.relay.handle_timeout(now);
            self.drain(now, out);
        }
        if self.closing.is_none() && self.relay.allocations() == 0 && now.mono >= self.heard + IDLE {
            self.close(now, out);
        }
    }

    /// Ends the allocation and takes no more input; what is owed to the client is still written.
    fn close(&mut self, now: Now, out: &mut Out) {
        if self.closing.is_none() {
            self.closing = Some(now.mono + LINGER);
            self.joined = None;
            self.relay.close(now);
            self.drain(now, out);
        }
    }

    /// Carries out what the core asks for, until it asks nothing more.
    fn drain(&mut self, now: Now, out: &mut Out) {
        loop {
            while let Some(output) = self.relay.poll_output() {
                match output {
                    Output::ToClient { bytes, .. } => out.frames.push_control(&bytes),
                    Output::OpenRelay(open) => self.opening.push_back(open),
                    Output::CloseRelay(id) => self.released.push(id),
                    Output::Tcp(output) => self.obey_tcp(now, output),
                    Output::Event(event) => self.shared.tell(&self.account(event), &self.shared.stream_counters),
                }
            }
            let Some(open) = self.opening.pop_front() else { return };
            let outcome = self.open(now, &open);
            self.relay.relay_opened(now, open.relay, outcome);
        }
    }

    fn open(&mut self, now: Now, open: &OpenRelay) -> Result<SocketAddr, OpenError> {
        self.mailbox.belongs_to(&open.subject);
        if open.tcp {
            return self.open_tcp(now, open);
        }
        let granted = self.shared.grants.open(now, open, self.sockets.charge_of_other_family(open.relay))?;
        let (bound, advertised) = (granted.bound, granted.advertised);
        let socket = sys::watch_input(granted.socket).map_err(|error| {
            tracing::warn!(%error, "a relay socket could not be watched");
            OpenError::Capacity
        })?;
        let listing = self.shared.directory.list(bound, advertised, open.relay, Arc::clone(&self.mailbox));
        self.sockets.insert(RelaySocket::new(open.relay, socket, advertised, listing, granted.lease));
        Ok(bound)
    }

    /// Sends what is queued, then closes what is to be closed.
    fn flush(&mut self, now: Now, input: &[u8], out: &mut Out) {
        let sockets = &self.sockets;
        let descriptor = |number: u32| sockets.descriptor(number);
        out.forwarder.queue.flush(input, &[], descriptor, &self.shared.stream_counters);
        while let Some(Failed { socket, whole }) = out.forwarder.queue.take_failed() {
            self.receive_errors(now, socket, whole, out);
        }
        self.release();
    }

    fn release(&mut self) {
        for id in self.released.drain(..) {
            self.sockets.remove(id);
            if self.tcp.as_mut().is_some_and(|tcp| tcp.close_relay(id)) {
                self.tcp = None;
            }
        }
    }
}
