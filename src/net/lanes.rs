//! Clients that send much. All clients over UDP share a listener, and with it one queue of the kernel: one that fills it
//! costs all others their packets. So a client that sends a large part of what a busy listener takes gets a lane: a socket
//! on the same address that is connected to it, which the kernel prefers for its packets. Same port, own queue.
//!
//! Who that is, is guessed from a message of each batch. A lane ends when its client is silent or has no allocation.

use std::io;
use std::os::fd::AsFd;

use rustc_hash::FxHashMap;
use socket2::SockRef;

use super::listener::{Listener, Spread};
use super::pace::Share;
use super::{relay_socket, sys};
use crate::relay::FiveTuple;
use crate::time::Mono;

/// Lanes of a shard: each is a descriptor and a receive buffer.
pub(super) const MOST: usize = 8;
/// What is measured over, in milliseconds.
const WINDOW: u64 = 100;
/// Datagrams from clients in a second from which on a shard is busy: a tenth to a fifth of what a core carries. Tests
/// come to it sooner, so that lanes open on any machine.
const BUSY: u64 = if cfg!(test) { 2_000 } else { 100_000 };
/// A client with more than one part in so many of the datagrams sends much.
const LARGE: u64 = 4;
/// Batches that a guess needs.
const ENOUGH: usize = 24;
/// A lane is closed after so many milliseconds of silence. What comes in the moment of closing is lost.
const SILENCE: u64 = 10_000;
/// Turns in which a new lane waits for what its client sent to the listener before, so that the order stays. More than it
/// takes to read a full queue.
const PATIENCE: u8 = 100;

/// A client's own socket.
pub(super) struct Lane {
    /// As the listener that the client speaks to, and bound to its address.
    pub socket: Listener,
    pub tuple: FiveTuple,
    /// The number of that listener.
    pub of: usize,
    /// What it gives in a turn.
    pub share: Share,
    last: Mono,
    waits: u8,
}

impl Lane {
    /// Whether it must not be read yet.
    pub(super) fn waits(&self) -> bool {
        self.waits > 0
    }
}

/// The lanes of a shard, and who sends how much.
#[derive(Default)]
pub(super) struct Lanes {
    slots: [Option<Lane>; MOST],
    watch: Watch,
}

impl Lanes {
    /// The lane in a slot.
    pub(super) fn get(&self, slot: usize) -> Option<&Lane> {
        self.slots.get(slot)?.as_ref()
    }

    /// Notes one message of `datagrams` among the `messages` that a listener's batch had.
    pub(super) fn saw(&mut self, of: usize, tuple: FiveTuple, datagrams: u64, messages: u64) {
        self.watch.saw((of, tuple), datagrams * messages);
    }

    /// Which message of a batch of so many to note; another one each time.
    pub(super) fn pick(&mut self, messages: usize) -> usize {
        self.watch.picked = self.watch.picked.wrapping_add(1);
        self.watch.picked % messages.max(1)
    }

    /// Notes that a lane gave something, and what it gives the next time.
    pub(super) fn used(&mut self, slot: usize, share: Share, now: Mono) {
        if let Some(Some(lane)) = self.slots.get_mut(slot) {
            (lane.share, lane.last) = (share, now);
        }
    }

    /// Whether the lane must wait for its listener; `is_empty`: the listener has nothing more that came before.
    pub(super) fn must_wait(&mut self, slot: usize, is_empty: bool) -> bool {
        let Some(Some(lane)) = self.slots.get_mut(slot) else { return false };
        lane.waits = if is_empty { 0 } else { lane.waits.saturating_sub(1) };
        lane.waits > 0
    }

    /// True when a window is over: then [`Lanes::heavy`] and [`Lanes::idle`] have something to say.
    pub(super) fn is_due(&self, now: Mono) -> bool {
        (now - self.watch.since).as_millis() as u64 >= WINDOW
    }

    /// Ends the window: who sent much in it, with the listener's number, and has no lane. None where no lane is free.
    pub(super) fn heavy(&mut self, now: Mono) -> Option<(usize, FiveTuple)> {
        let (of, tuple) = self.watch.end(now)?;
        let is_free = self.slots.iter().any(Option::is_none);
        let has_one = self.slots.iter().flatten().any(|lane| lane.tuple == tuple);
        (is_free && !has_one).then_some((of, tuple))
    }

    /// Slots of lanes to close: silent ones, and those whose client `has_allocation` no more.
    pub(super) fn idle(&self, now: Mono, has_allocation: impl Fn(&FiveTuple) -> bool) -> [bool; MOST] {
        self.slots.each_ref().map(|slot| {
            let lane = slot.as_ref();
            lane.is_some_and(|lane| (now - lane.last).as_millis() as u64 >= SILENCE || !has_allocation(&lane.tuple))
        })
    }

    /// Puts a lane into a free slot and returns its number.
    pub(super) fn insert(&mut self, socket: Listener, of: usize, tuple: FiveTuple, now: Mono) -> Option<usize> {
        let slot = self.slots.iter().position(Option::is_none)?;
        self.slots[slot] = Some(Lane { socket, tuple, of, share: Share::default(), last: now, waits: PATIENCE });
        Some(slot)
    }

    /// Closes a lane.
    pub(super) fn remove(&mut self, slot: usize) {
        if let Some(slot) = self.slots.get_mut(slot) {
            *slot = None;
        }
    }
}

/// Who sent how much in the window that runs.
#[derive(Default)]
struct Watch {
    since: Mono,
    total: u64,
    batches: usize,
    picked: usize,
    seen: FxHashMap<(usize, FiveTuple), u64>,
}

impl Watch {
    fn saw(&mut self, sender: (usize, FiveTuple), datagrams: u64) {
        self.total += datagrams;
        self.batches += 1;
        *self.seen.entry(sender).or_default() += datagrams;
    }

    /// Starts the next window, and says who sent most in the last one, if that was much.
    fn end(&mut self, now: Mono) -> Option<(usize, FiveTuple)> {
        let passed = ((now - self.since).as_millis() as u64).max(1);
        let is_busy = self.total * 1_000 / passed >= BUSY && self.batches >= ENOUGH;
        let most = self.seen.iter().max_by_key(|(_, datagrams)| **datagrams);
        let heavy =
            most.filter(|(_, datagrams)| is_busy && **datagrams * LARGE > self.total).map(|(sender, _)| *sender);
        self.since = now;
        (self.total, self.batches) = (0, 0);
        self.seen.clear();
        heavy
    }
}

/// Opens a socket beside `listener` that takes what comes from the client of `tuple`, and hands it out with whether it is
/// connected. Between bind and connect it may take what comes from others, which is there to be read.
///
/// Where several shards share the port, the program that spreads clients passes it over. Where there is one, both sockets
/// allow the port to be shared for that moment: the listener's port may belong to another user, who passed it.
pub(super) fn open(listener: &Listener, tuple: &FiveTuple) -> io::Result<(Listener, bool)> {
    let address = match listener.spread {
        Spread::Alone => tuple.server,
        Spread::ByProgram => listener.address,
        Spread::ByKernel => return Err(io::ErrorKind::Unsupported.into()),
    };
    let socket = relay_socket::open(address)?;
    if listener.wildcard {
        sys::enable_packet_info(socket.as_fd(), address.is_ipv6())?;
    }
    if listener.spread == Spread::ByProgram {
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
    } else {
        let first = SockRef::from(&listener.socket);
        socket.set_reuse_address(true)?;
        first.set_reuse_address(true)?;
        let bound = socket.bind(&address.into());
        first.set_reuse_address(false)?;
        bound?;
    }
    let is_connected = socket.connect(&tuple.client.into()).is_ok();
    let local = socket.local_addr().ok().and_then(|local| local.as_socket());
    let is_right = local.is_some_and(|local| local.ip() == tuple.server.ip());
    let lane = Listener { socket: socket.into(), ..*listener };
    Ok((lane, is_connected && is_right))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::Transport;

    fn client(port: u16) -> FiveTuple {
        let server = ([192, 0, 2, 1], 3478).into();
        FiveTuple { client: ([198, 51, 100, 7], port).into(), server, transport: Transport::Udp }
    }

    /// Who is found heavy in a window whose batches have these senders (port, datagrams) in turns.
    fn heavy(senders: &[(u16, u64)], batches: u64) -> Option<u16> {
        let mut watch = Watch::default();
        for batch in 0..batches {
            let (port, datagrams) = senders[batch as usize % senders.len()];
            watch.saw((0, client(port)), datagrams);
        }
        watch.end(Mono(WINDOW)).map(|(_, tuple)| tuple.client.port())
    }

    #[test]
    fn who_sends_most_of_much_is_heavy() {
        // What each of 100 batches must hold for a busy window.
        let busy = BUSY * WINDOW / 1_000 / 100;
        assert_eq!(heavy(&[(1, 3 * busy), (2, 1), (3, 1)], 100), Some(1));
        assert_eq!(heavy(&[(1, busy)], 100), Some(1));
        let equal = [1, 2, 3, 4].map(|port| (port, 3 * busy));
        assert_eq!(heavy(&equal, 100), None, "a quarter each is nobody's fault");
        assert_eq!(heavy(&[(1, busy)], 99), None, "the listener is not busy");
        assert_eq!(heavy(&[(1, 100 * busy)], ENOUGH as u64 - 1), None, "too few batches to tell");
        assert_eq!(heavy(&[], 0), None);
    }

    #[test]
    fn each_window_is_judged_by_itself() {
        let mut watch = Watch::default();
        (0..100).for_each(|_| watch.saw((0, client(1)), BUSY));
        assert!(watch.end(Mono(WINDOW)).is_some());
        assert_eq!(watch.end(Mono(2 * WINDOW)), None);
        (0..100).for_each(|_| watch.saw((0, client(1)), BUSY));
        assert_eq!(watch.end(Mono(600_000)), None, "a hundred seconds' worth in ten minutes");
        assert!(watch.seen.is_empty());
    }

    fn listener() -> Listener {
        let [listener] =
            <[_; 1]>::try_from(super::super::listener::bind_group(([127, 0, 0, 1], 0).into(), 1).expect("bound"))
                .unwrap_or_else(|_| unreachable!("one shard"));
        listener
    }

    #[test]
    fn lanes_are_few_and_end_in_silence() {
        let mut lanes = Lanes::default();
        for port in 0..MOST as u16 {
            assert_eq!(lanes.insert(listener(), 0, client(port), Mono(1_000)), Some(usize::from(port)));
        }
        assert_eq!(lanes.insert(listener(), 0, client(99), Mono(1_000)), None);
        lanes.used(3, Share::default(), Mono(5_000));
        let idle = |lanes: &Lanes, now| lanes.idle(Mono(now), |tuple| tuple.client.port() != 6);
        assert_eq!(idle(&lanes, 1_000 + SILENCE - 1), std::array::from_fn(|slot| slot == 6), "no allocation");
        assert_eq!(idle(&lanes, 1_000 + SILENCE), std::array::from_fn(|slot| slot != 3));
        lanes.remove(2);
        assert_eq!(lanes.insert(listener(), 0, client(99), Mono(1_000)), Some(2));
    }

    #[test]
    fn a_lane_waits_for_its_listener_but_not_for_ever() {
        let mut lanes = Lanes::default();
        let slot = lanes.insert(listener(), 0, client(1), Mono(0)).expect("a free slot");
        assert!(lanes.must_wait(slot, false) && lanes.must_wait(slot, false));
        assert!(!lanes.must_wait(slot, true) && !lanes.must_wait(slot, false), "once empty, never again");
        let slot = lanes.insert(listener(), 0, client(2), Mono(0)).expect("a free slot");
        let waited = (0..1_000).take_while(|_| lanes.must_wait(slot, false)).count();
        assert_eq!(waited, usize::from(PATIENCE) - 1);
    }
}
