//! What a turn takes: a bounded batch of each ready socket, and as much from clients as from peers where both have more.

use std::io;
use std::os::fd::AsFd;

use super::{LISTENER, Shard};
use crate::net::counters::Counters;
use crate::net::lanes::{self, Lane};
use crate::net::listener::Listener;
use crate::net::pace::Share;
use crate::net::sys::{RECEIVE_BATCH, Ready};
use crate::net::udp::{Arena, Payload, Region};
use crate::relay::{FiveTuple, Transport};
use crate::time::Now;

/// Batches a listener may fill in one go: it carries all clients, a relay socket or a lane only one.
const LISTENER_BATCHES: usize = 4;
/// Relay sockets served before the listeners have another turn within the same wait.
const RELAYS_PER_TURN: usize = 16;

/// Datagrams read from a lane before it is closed: what came between bind and connect, and no more of a flood than the
/// others can wait for.
const LAST: u64 = 2_048;
/// A lane, being connected, tells of ICMP errors before it gives what came; anybody may send those. So many are passed over
/// in one go.
const ERRORS_PER_READ: usize = 3;

/// What a turn took: datagrams of either side, and the messages that they came in.
#[derive(Default)]
pub(super) struct Taken {
    from_clients: u64,
    from_peers: u64,
    pub messages: u64,
    /// A socket that has one batch in a turn had a whole one: more is waiting.
    pub has_more: bool,
}

impl Shard {
    /// One batch for every ready socket, the listeners in between, and then as much from clients as from peers.
    pub(super) fn serve(&mut self, now: Now, ready: &[Ready], arena: &mut Arena) -> Taken {
        let mut taken = Taken::default();
        let mut since_listeners = 0;
        self.behind.0.clear();
        self.behind.0.resize(self.listeners.len() + lanes::SLOTS, false);
        self.behind.1.clear();
        for &Ready { token, has_errors } in ready {
            let Ok(number) = u32::try_from(token) else { continue };
            if number & LISTENER != 0 {
                self.receive_ready(now, (number & !LISTENER) as usize, arena, &mut taken);
                continue;
            }
            if has_errors {
                self.receive_errors(now, number, None);
            }
            self.receive_peers(now, number, arena, &mut taken);
            since_listeners += 1;
            if since_listeners == RELAYS_PER_TURN {
                since_listeners = 0;
                for index in 0..self.listeners.len() {
                    self.receive_clients(now, index, arena, &mut taken);
                }
            }
        }
        self.balance(now, &mut taken, arena);
        taken
    }

    /// Takes from a listener, or from a lane when it may be read.
    fn receive_ready(&mut self, now: Now, index: usize, arena: &mut Arena, taken: &mut Taken) {
        if let Some(of) = self.lane(index).map(|lane| lane.of) {
            // All others first; and what the client itself sent before it had a lane.
            self.receive_clients(now, of, arena, taken);
            let is_behind = self.behind.0.get(of).is_some_and(|is_behind| *is_behind);
            if self.lanes.must_wait(index - self.listeners.len(), !is_behind) {
                return;
            }
        }
        self.receive_clients(now, index, arena, taken);
    }

    /// The lane that has this number among the sockets for clients: they are numbered behind the listeners.
    fn lane(&self, index: usize) -> Option<&Lane> {
        self.lanes.get(index.checked_sub(self.listeners.len())?)
    }

    fn client_socket(&self, index: usize) -> Option<&Listener> {
        self.listeners.get(index).or_else(|| self.lane(index).map(|lane| &lane.socket))
    }

    /// Clients share a listener, each peer has a relay socket: whichever side had more waiting goes on until both have had
    /// the same, so that in an overload both ways lose the same.
    fn balance(&mut self, now: Now, taken: &mut Taken, arena: &mut Arena) {
        while taken.from_peers > taken.from_clients
            && let Some(index) = self.behind.0.iter().position(|is_behind| *is_behind)
        {
            self.receive_clients(now, index, arena, taken);
        }
        self.turns = self.turns.wrapping_add(1);
        let first = self.turns % self.behind.1.len().max(1);
        self.behind.1.rotate_left(first);
        while taken.from_clients > taken.from_peers
            && let Some(number) = self.behind.1.pop_front()
        {
            self.receive_peers(now, number, arena, taken);
        }
    }

    /// Takes a few batches from a listener, or what a lane gives in a turn.
    fn receive_clients(&mut self, now: Now, index: usize, arena: &mut Arena, taken: &mut Taken) {
        let mut is_behind = false;
        if let Some(share) = self.lane(index).map(|lane| lane.share) {
            if let Some((messages, datagrams)) = self.receive_batch(now, index, share.messages(), arena, taken) {
                self.lanes.used(index - self.listeners.len(), messages, datagrams, now.mono);
                is_behind = messages == share.messages() as u64;
                taken.has_more |= is_behind;
            }
        } else {
            for _ in 0..LISTENER_BATCHES {
                let batch = self.receive_batch(now, index, RECEIVE_BATCH, arena, taken);
                is_behind = batch.is_some_and(|(messages, _)| messages == RECEIVE_BATCH as u64);
                if let Some((messages, _)) = batch {
                    self.note_sender(index, arena, messages);
                }
                if !is_behind {
                    break;
                }
            }
        }
        if let Some(behind) = self.behind.0.get_mut(index) {
            *behind = is_behind;
        }
    }

    /// Takes one batch that clients sent: how many messages, and how many datagrams were in them.
    fn receive_batch(
        &mut self,
        now: Now,
        index: usize,
        most: usize,
        arena: &mut Arena,
        taken: &mut Taken,
    ) -> Option<(u64, u64)> {
        self.make_room(arena);
        let mut messages = None;
        for _ in 0..=ERRORS_PER_READ {
            let received = arena.receive_most(self.client_socket(index)?.socket.as_fd(), most);
            messages = count_received(&received, &self.counters);
            if !received.is_err_and(|error| is_report(&error)) {
                break;
            }
        }
        let messages = messages? as u64;
        let mut datagrams = 0;
        for datagram in arena.datagrams() {
            datagrams += 1;
            let server = self.client_socket(index)?.server(datagram.to);
            let tuple = FiveTuple { client: datagram.from, server, transport: Transport::Udp };
            self.handle_client(now, &tuple, arena.bytes(), datagram.start, datagram.len);
        }
        self.counters.received.add(datagrams);
        taken.from_clients += datagrams;
        taken.messages += messages;
        Some((messages, datagrams))
    }

    /// Has one message of a listener's batch stand for all of them.
    fn note_sender(&mut self, index: usize, arena: &Arena, messages: u64) {
        let picked = self.lanes.pick(messages as usize);
        let (Some((client, to, datagrams)), Some(listener)) = (arena.message(picked), self.listeners.get(index)) else {
            return;
        };
        let tuple = FiveTuple { client, server: listener.server(to), transport: Transport::Udp };
        self.lanes.saw(index, tuple, datagrams, messages);
    }

    /// Gives who sends much a lane, and closes lanes that nobody uses.
    pub(super) fn mind_lanes(&mut self, now: Now, arena: &mut Arena) {
        let idle = self.lanes.idle(now.mono, |tuple| self.relay.has_allocation(tuple));
        for slot in (0..lanes::SLOTS).filter(|slot| idle[*slot]) {
            self.close_lane(now, slot, arena);
        }
        let heavy = self.lanes.heavy(now.mono, |tuple| self.relay.has_allocation(tuple));
        let Some((of, tuple, instead)) = heavy else { return };
        let Some(listener) = self.listeners.get(of) else { return };
        let (socket, is_connected) = match lanes::open(listener, &tuple) {
            Ok(opened) => opened,
            Err(error) => return tracing::debug!(%error, "no lane for a client that sends much"),
        };
        let Some(slot) = self.lanes.insert(socket, of, tuple, now.mono) else { return };
        let number = self.listeners.len() + slot;
        let watched = self
            .lanes
            .get(slot)
            .map(|lane| self.poller.add(lane.socket.socket.as_fd(), u64::from(LISTENER | number as u32)));
        if !is_connected || !matches!(watched, Some(Ok(()))) {
            return self.close_lane(now, slot, arena);
        }
        if let Some(slot) = instead {
            self.close_lane(now, slot, arena);
        }
        self.counters.lanes.add(1);
        tracing::debug!(client = %tuple.client, "a lane for a client that sends much");
    }

    /// Closes a lane after what it holds is read: a socket that could not be connected may hold anybody's packets.
    fn close_lane(&mut self, now: Now, slot: usize, arena: &mut Arena) {
        let index = self.listeners.len() + slot;
        let mut taken = Taken::default();
        while taken.from_clients < LAST && self.receive_batch(now, index, RECEIVE_BATCH, arena, &mut taken).is_some() {}
        self.lanes.remove(slot);
    }

    /// Takes a batch from a relay socket.
    fn receive_peers(&mut self, now: Now, number: u32, arena: &mut Arena, taken: &mut Taken) {
        self.make_room(arena);
        let Some(relay) = self.sockets.get(number) else { return };
        let (id, most) = (relay.id, relay.share.messages());
        let received = arena.receive_most(relay.socket.as_fd(), most);
        let Some(count) = count_received(&received, &self.counters) else { return };
        if count == most {
            taken.has_more = true;
            self.behind.1.push_back(number);
        }
        let mut datagrams = 0;
        for datagram in arena.datagrams() {
            datagrams += 1;
            let payload = Payload { region: Region::Input, start: datagram.start, len: datagram.len };
            self.handle_peer(now, id, datagram.from, payload);
        }
        let share = Share::after(count as u64, datagrams);
        if share.messages() != most {
            self.sockets.set_share(number, share);
        }
        self.counters.received.add(datagrams);
        taken.from_peers += datagrams;
        taken.messages += count as u64;
    }
}

/// Counts a receive call. `None`: nothing came. An error never ends the loop: the socket is read again when it is ready.
fn count_received(received: &io::Result<usize>, counters: &Counters) -> Option<usize> {
    match received {
        Ok(count) => {
            counters.receive_calls.add(1);
            Some(*count)
        }
        Err(error) => {
            if is_report(error) {
                counters.receive_errors.add(1);
            }
            None
        }
    }
}

/// Whether a receive call failed for another reason than that nothing is there.
fn is_report(error: &io::Error) -> bool {
    !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
