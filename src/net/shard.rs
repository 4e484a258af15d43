//! One UDP thread: its listening sockets, its relay sockets, its `Relay`, one readiness loop. Nothing is shared on the
//! packet path.
//!
//! A turn: wait, take the mail, receive one bounded batch per ready socket and as much from clients as from peers where
//! both have more, run what is due, send everything, and only then re-use the receive buffers that the sent packets lie in.
//! At middling rates the thread rests for a moment in between ([`super::pace`]).

mod receive;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread;

use super::counters::{Counters, Published};
use super::forward::{self, Forwarder};
use super::lanes::Lanes;
use super::listener::Listener;
use super::mailbox::{Bell, Mailbox, Order, Packets};
use super::pace::Pace;
use super::relay_socket::{self, RelaySocket, RelaySockets};
use super::sys::{self, Poller};
use super::udp::{Arena, Failed, Path, Payload, Region};
use super::{Shared, addresses};
use crate::clock;
use crate::relay::{FiveTuple, OpenError, OpenRelay, Output, Relay, RelayId};
use crate::time::Now;

/// Receive buffers of a shard: what can arrive in one turn before a flush (4 MiB of address space, touched as needed).
const BUFFERS: usize = 64;
/// Wake up this often while port reservations wait to expire, in milliseconds.
const RESERVATION_TICK: i32 = 1_000;

/// Socket numbers of listeners, and behind them of lanes, have this bit; relay sockets are numbered from 0.
const LISTENER: u32 = 1 << 31;
const MAIL: u64 = u64::MAX;

/// One UDP thread's state.
pub(super) struct Shard {
    shared: Arc<Shared>,
    counters: Arc<Counters>,
    relay: Relay,
    published: Published,
    listeners: Vec<Listener>,
    lanes: Lanes,
    sockets: RelaySockets<OwnedFd>,
    mailbox: Arc<Mailbox>,
    forwarder: Forwarder,
    poller: Poller,
    inbox: Packets,
    opening: VecDeque<OpenRelay>,
    /// Closed at the next flush: queued packets still name their numbers.
    closing: Vec<RelayId>,
    /// Listeners and lanes, and relay sockets, that had more waiting than their share of the turn.
    behind: (Vec<bool>, VecDeque<u32>),
    /// Counts turns, so that not always the same relay socket is the first to go on.
    turns: usize,
}

impl Shard {
    /// Watches the listeners and the mailbox, whose bell must be one for threads.
    pub(super) fn new(
        shared: Arc<Shared>,
        counters: Arc<Counters>,
        listeners: Vec<Listener>,
        mailbox: Arc<Mailbox>,
    ) -> io::Result<Self> {
        let poller = Poller::new()?;
        for (index, listener) in listeners.iter().enumerate() {
            poller.add(listener.socket.as_fd(), u64::from(LISTENER | index as u32))?;
        }
        if let Bell::Thread(wake_up) = mailbox.bell() {
            poller.add(wake_up.as_fd(), MAIL)?;
        }
        Ok(Self {
            relay: Relay::new(shared.current.get(), addresses::random_seed()),
            published: Published::default(),
            forwarder: Forwarder::new(Arc::clone(&shared.directory), shared.gso),
            shared,
            counters,
            listeners,
            lanes: Lanes::default(),
            sockets: RelaySockets::default(),
            mailbox,
            poller,
            inbox: Packets::default(),
            opening: VecDeque::new(),
            closing: Vec::new(),
            behind: (Vec::new(), VecDeque::new()),
            turns: 0,
        })
    }

    /// Runs until ordered to stop.
    pub(super) fn run(mut self) {
        let mut arena = Arena::new(BUFFERS);
        let mut ready = Vec::new();
        let mut orders = Vec::new();
        let (mut pace, clock) = (Pace::default(), clock::stopwatch());
        sys::sleep_precisely();
        loop {
            let timeout = self.timeout(clock::now());
            if let Err(error) = self.poller.wait(timeout, &mut ready)
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "waiting for sockets failed");
            }
            let now = clock::now();
            if ready.iter().any(|ready| ready.token == MAIL) {
                self.take_mail(now, &arena, &mut orders);
            }
            if orders.drain(..).any(|order| self.obey(now, &order)) {
                break;
            }
            let taken = self.serve(now, &ready, &mut arena);
            if self.lanes.is_due(now.mono) {
                self.mind_lanes(now, &mut arena);
            }
            if self.relay.poll_timeout().is_some_and(|due| due <= now.mono) {
                self.relay.handle_timeout(now);
                self.drain(now);
            }
            self.shared.grants.forget(now);
            self.flush(&arena);
            arena.reset();
            self.published.publish(&self.relay, &self.counters);
            let rest = pace.after_turn(taken.messages, clock.elapsed().as_nanos() as u64);
            if let Some(rest) = rest.filter(|_| !taken.has_more) {
                thread::sleep(rest);
            }
        }
        self.mailbox.close();
        self.relay.close(clock::now());
        self.drain(clock::now());
        self.flush(&arena);
        self.published.publish(&self.relay, &self.counters);
    }

    /// Milliseconds until something is due; -1 for never.
    fn timeout(&self, now: Now) -> i32 {
        let due = self.relay.poll_timeout().map(|due| (due - now.mono).as_millis().min(60_000) as i32);
        let tick = self.shared.grants.has_reservations().then_some(RESERVATION_TICK);
        due.into_iter().chain(tick).min().unwrap_or(-1)
    }

    fn handle_client(&mut self, now: Now, tuple: &FiveTuple, input: &[u8], start: usize, len: usize) {
        let Some(datagram) = input.get(start..start + len) else { return };
        let to = self.relay.handle_client(now, tuple, datagram);
        self.drain(now);
        let Some(to) = to else { return };
        let Some(bytes) = datagram.get(to.start..to.start + to.len) else { return };
        let payload = Payload { region: Region::Input, start: start + to.start, len: to.len };
        let local = self.forwarder.send_to_peer(&to, (payload, bytes), &self.sockets, &self.mailbox, &self.counters);
        if let Some((relay, from)) = local {
            self.handle_peer(now, relay, from, payload);
        }
    }

    /// Tells clients what ICMP said about packets of theirs.
    fn receive_errors(&mut self, now: Now, number: u32, whole: Option<SocketAddr>) {
        let Some(socket) = self.sockets.get(number) else { return };
        let id = socket.id;
        let relay = &mut self.relay;
        let told = &self.counters.icmp_errors;
        forward::take_errors(socket.socket.as_fd(), id.family, whole, |peer, error| {
            told.add(1);
            relay.handle_peer_icmp(now, id, peer, error);
        });
        self.drain(now);
    }

    fn handle_peer(&mut self, now: Now, relay: RelayId, from: SocketAddr, payload: Payload) {
        let to = self.relay.handle_peer(now, relay, from, payload.len);
        self.drain(now);
        if let Some(to) = to
            && let Some(path) = path_to(&self.listeners, &to.tuple)
        {
            self.forwarder.queue.push(path, to.head(), payload, to.padding);
        }
    }

    /// Takes packets that other owners handed over, and orders.
    fn take_mail(&mut self, now: Now, arena: &Arena, orders: &mut Vec<Order>) {
        if let Bell::Thread(wake_up) = self.mailbox.bell() {
            wake_up.clear();
        }
        self.mailbox.collect(&mut self.inbox, orders);
        for index in 0..self.inbox.items.len() {
            let Some(item) = self.inbox.items.get(index).copied() else { return };
            let payload = Payload { region: Region::Inbox, start: item.start, len: item.len };
            self.handle_peer(now, item.relay, item.from, payload);
            if self.forwarder.queue.is_full() {
                self.flush(arena);
            }
        }
    }

    /// Carries out an order; true when it is to stop.
    fn obey(&mut self, now: Now, order: &Order) -> bool {
        match order {
            Order::Revoke(revocation) => {
                let _span = revocation.span().entered();
                self.relay.revoke(now, &revocation.subject);
                self.drain(now);
                false
            }
            Order::Report { query, reply } => {
                for usage in self.relay.usage(now.mono, |subject| query.wants(subject), reply.capacity()) {
                    let _ = reply.try_send(usage);
                }
                false
            }
            Order::Reconfigure(relay) => {
                self.relay.set_shared(Arc::clone(relay));
                self.drain(now);
                false
            }
            Order::Answer(reply) => {
                let _ = reply.try_send(());
                false
            }
            // No client over UDP has a TCP allocation.
            Order::Link(_) => false,
            Order::Stop => true,
        }
    }

    /// Carries out what the core asks for, until it asks nothing more.
    fn drain(&mut self, now: Now) {
        loop {
            while let Some(output) = self.relay.poll_output() {
                match output {
                    Output::ToClient { tuple, bytes } => {
                        if let Some(path) = path_to(&self.listeners, &tuple) {
                            self.forwarder.queue.push_copy(path, &bytes);
                        }
                    }
                    Output::OpenRelay(open) => self.opening.push_back(open),
                    Output::CloseRelay(id) => self.closing.push(id),
                    // No client over UDP has a TCP allocation.
                    Output::Tcp(_) => {}
                    Output::Event(event) => self.shared.tell(&event, &self.counters),
                }
            }
            let Some(open) = self.opening.pop_front() else { return };
            let outcome = self.open(now, &open);
            self.relay.relay_opened(now, open.relay, outcome);
        }
    }

    fn open(&mut self, now: Now, open: &OpenRelay) -> Result<SocketAddr, OpenError> {
        let granted = self.shared.grants.open(now, open, self.sockets.charge_of_other_family(open.relay))?;
        let (bound, advertised) = (granted.bound, granted.advertised);
        let listing = self.shared.directory.list(bound, advertised, open.relay, Arc::clone(&self.mailbox));
        let relay = RelaySocket::new(open.relay, granted.socket, advertised, listing, granted.lease);
        let number = self.sockets.insert(relay);
        if let Some(socket) = self.sockets.descriptor(number) {
            relay_socket::share_memory(socket, number);
        }
        let watched = self.sockets.descriptor(number).map(|socket| self.poller.add(socket, u64::from(number)));
        if let Some(Err(error)) = watched {
            tracing::warn!(%error, "a relay socket could not be watched");
            self.closing.push(open.relay);
            return Err(OpenError::Capacity);
        }
        Ok(bound)
    }

    /// Flushes when the next batch might not find room.
    fn make_room(&mut self, arena: &mut Arena) {
        if arena.is_full() || self.forwarder.queue.is_full() {
            self.flush(arena);
            arena.reset();
        }
    }

    /// Sends what is queued, then closes what is to be closed.
    fn flush(&mut self, arena: &Arena) {
        self.send(arena);
        let mut is_told = false;
        while let Some(Failed { socket, whole }) = self.forwarder.queue.take_failed() {
            if socket & LISTENER == 0 {
                self.receive_errors(clock::now(), socket, whole);
                is_told = true;
            }
        }
        if is_told {
            self.send(arena);
        }
        self.forwarder.deliver(&self.counters);
        for id in self.closing.drain(..) {
            self.sockets.remove(id);
        }
    }

    fn send(&mut self, arena: &Arena) {
        let (listeners, sockets) = (&self.listeners, &self.sockets);
        let descriptor = |number: u32| {
            if number & LISTENER == 0 {
                return sockets.descriptor(number);
            }
            listeners.get((number & !LISTENER) as usize).map(|listener| listener.socket.as_fd())
        };
        self.forwarder.queue.flush(arena.bytes(), &self.inbox.bytes, descriptor, &self.counters);
    }
}

/// How to answer the client of `tuple`: by the listener it came to, from the address it asked.
fn path_to(listeners: &[Listener], tuple: &FiveTuple) -> Option<Path> {
    let index = listeners.iter().position(|listener| {
        listener.address == tuple.server
            || (listener.wildcard
                && listener.address.port() == tuple.server.port()
                && listener.address.is_ipv4() == tuple.server.is_ipv4())
    })?;
    let source = listeners.get(index).filter(|listener| listener.wildcard).map(|_| tuple.server.ip());
    Some(Path { socket: LISTENER | index as u32, to: tuple.client, source })
}
