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
const MOST: usize = 8;
/// Places for lanes: one more, since a new one is there before it takes the place of another.
pub(super) const SLOTS: usize = MOST + 1;
/// What is measured over, in milliseconds.
const WINDOW: u64 = 100;
/// Datagrams from clients in a second from which on a shard is busy: a tenth to a fifth of what a core carries. Tests
/// come to it sooner, so that lanes open on any machine.
const BUSY: u64 = if cfg!(test) { 2_000 } else { 100_000 };
/// A client with more than one part in so many of the datagrams sends much.
const LARGE: u64 = 4;
/// Batches that a guess needs.
const ENOUGH: usize = 24;
/// Senders told apart in a window; who sends much is among the first.
const SENDERS: usize = 4_096;
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
    /// Datagrams in the window that runs.
    given: u64,
    waits: u8,
}

/// The lanes of a shard, and who sends how much.
#[derive(Default)]
pub(super) struct Lanes {
    slots: [Option<Lane>; SLOTS],
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

    /// Notes that a lane gave `datagrams` in `messages`.
    pub(super) fn used(&mut self, slot: usize, messages: u64, datagrams: u64, now: Mono) {
        if let Some(Some(lane)) = self.slots.get_mut(slot) {
            (lane.share, lane.last) = (Share::after(messages, datagrams), now);
            lane.given += datagrams;
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

    /// Ends the window: who `has_allocation`, sent much in it to which listener, and has no lane; and the lane to close for
    /// it where none is free, the one that gave least.
    pub(super) fn heavy(
        &mut self,
        now: Mono,
        has_allocation: impl Fn(&FiveTuple) -> bool,
    ) -> Option<(usize, FiveTuple, Option<usize>)> {
        let given = self.slots.each_mut().map(|slot| slot.as_mut().map(|lane| std::mem::take(&mut lane.given)));
        let (of, tuple, sent) = self.watch.end(now, has_allocation)?;
        let lanes = self.slots.iter().flatten();
        if lanes.clone().any(|lane| lane.tuple == tuple) {
            return None;
        }
        if lanes.count() < MOST {
            return Some((of, tuple, None));
        }
        // Who has a lane keeps it unless the newcomer sends twice as much.
        let given = given.into_iter().enumerate().filter_map(|(slot, given)| Some((slot, given?)));
        let (slot, least) = given.min_by_key(|(_, given)| *given)?;
        (sent > 2 * least).then_some((of, tuple, Some(slot)))
    }

    /// Slots of lanes to close: silent ones, and those whose client `has_allocation` no more.
    pub(super) fn idle(&self, now: Mono, has_allocation: impl Fn(&FiveTuple) -> bool) -> [bool; SLOTS] {
        self.slots.each_ref().map(|slot| {
            let lane = slot.as_ref();
            lane.is_some_and(|lane| (now - lane.last).as_millis() as u64 >= SILENCE || !has_allocation(&lane.tuple))
        })
    }

    /// Puts a lane into a free slot and returns its number.
    pub(super) fn insert(&mut self, socket: Listener, of: usize, tuple: FiveTuple, now: Mono) -> Option<usize> {
        let slot = self.slots.iter().position(Option::is_none)?;
        self.slots[slot] =
            Some(Lane { socket, tuple, of, share: Share::default(), last: now, given: 0, waits: PATIENCE });
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
        if self.seen.len() < SENDERS || self.seen.contains_key(&sender) {
            *self.seen.entry(sender).or_default() += datagrams;
        }
    }

    /// Starts the next window, and says who of those that count sent most in the last one, and how much, if that was much.
    fn end(&mut self, now: Mono, counts: impl Fn(&FiveTuple) -> bool) -> Option<(usize, FiveTuple, u64)> {
        let passed = ((now - self.since).as_millis() as u64).max(1);
        let is_busy = self.total * 1_000 / passed >= BUSY && self.batches >= ENOUGH;
        let is_heavy = |(sender, datagrams): &(&(usize, FiveTuple), &u64)| {
            is_busy && **datagrams * LARGE > self.total && counts(&sender.1)
        };
        let most = self.seen.iter().filter(is_heavy).max_by_key(|(_, datagrams)| **datagrams);
        let heavy = most.map(|((of, tuple), datagrams)| (*of, *tuple, *datagrams));
        self.since = now;
        (self.total, self.batches) = (0, 0);
        self.seen.clear();
        heavy
    }
}

/// Opens a socket beside `listener` that takes what comes from the client of `tuple`, and hands it out with whether it is
/// connected as it should be. Between bind and connect it may take what comes from others, which is there to be read.
///
/// Where several shards share the port, the program that spreads clients passes it over; it is no use there when the client
/// speaks to another address than a route to it would start from. Where there is one shard, both sockets allow the port to be
/// shared, by sockets of our user, for that moment: a listener of somebody else's, which was passed to us, stays alone.
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
    socket.set_reuse_port(true)?;
    if listener.spread == Spread::Alone {
        let first = SockRef::from(&listener.socket);
        first.set_reuse_port(true)?;
        let bound = socket.bind(&address.into());
        first.set_reuse_port(false)?;
        bound?;
    } else {
        socket.bind(&address.into())?;
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
        watch.end(Mono(WINDOW), |_| true).map(|(_, tuple, _)| tuple.client.port())
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
    fn a_stranger_hides_no_client() {
        let mut watch = Watch::default();
        (0..100).for_each(|batch| watch.saw((0, client(batch % 5 / 2)), BUSY));
        assert_eq!(watch.end(Mono(WINDOW), |tuple| tuple.client.port() != 0), Some((0, client(1), 40 * BUSY)));
    }

    #[test]
    fn each_window_is_judged_by_itself() {
        let mut watch = Watch::default();
        (0..100).for_each(|_| watch.saw((0, client(1)), BUSY));
        assert!(watch.end(Mono(WINDOW), |_| true).is_some());
        assert_eq!(watch.end(Mono(2 * WINDOW), |_| true), None);
        (0..100).for_each(|_| watch.saw((0, client(1)), BUSY));
        assert_eq!(watch.end(Mono(600_000), |_| true), None, "a hundred seconds' worth in ten minutes");
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
        lanes.used(3, 1, 1, Mono(5_000));
        let idle = |lanes: &Lanes, now| lanes.idle(Mono(now), |tuple| tuple.client.port() != 6);
        assert_eq!(idle(&lanes, 1_000 + SILENCE - 1), std::array::from_fn(|slot| slot == 6), "no allocation");
        assert_eq!(idle(&lanes, 1_000 + SILENCE), std::array::from_fn(|slot| slot != 3 && slot < MOST));
        lanes.remove(2);
        assert_eq!(lanes.insert(listener(), 0, client(99), Mono(1_000)), Some(2));
    }

    #[test]
    fn a_newcomer_gets_a_free_lane_or_that_of_who_gives_least() {
        let mut lanes = Lanes::default();
        let heavy = |lanes: &mut Lanes, port: u16| {
            let since = lanes.watch.since.0;
            (0..100).for_each(|_| lanes.saw(0, client(port), BUSY, 1));
            lanes.heavy(Mono(since + WINDOW), |_| true).map(|(_, tuple, instead)| (tuple.client.port(), instead))
        };
        for port in 0..MOST as u16 {
            assert_eq!(heavy(&mut lanes, port), Some((port, None)));
            lanes.insert(listener(), 0, client(port), Mono(0));
        }
        assert_eq!(heavy(&mut lanes, 3), None, "it has one");
        (0..MOST).filter(|slot| *slot != 5).for_each(|slot| lanes.used(slot, 1, 10, Mono(0)));
        assert_eq!(heavy(&mut lanes, 99), Some((99, Some(5))));
        (0..MOST).filter(|slot| *slot != 2).for_each(|slot| lanes.used(slot, 1, 10, Mono(0)));
        assert_eq!(heavy(&mut lanes, 99), Some((99, Some(2))), "each window is counted by itself");
        (0..MOST).for_each(|slot| lanes.used(slot, 1, 60 * BUSY, Mono(0)));
        assert_eq!(heavy(&mut lanes, 99), None, "it sends no more than they");
    }

    #[test]
    fn who_is_watched_is_bounded() {
        let mut watch = Watch::default();
        let mut sender = client(1);
        for number in 0..3 * SENDERS as u32 {
            sender.client.set_ip(std::net::Ipv4Addr::from(number).into());
            watch.saw((0, sender), 1);
            watch.saw((0, client(1)), BUSY);
        }
        assert_eq!(watch.seen.len(), SENDERS);
        assert_eq!(watch.end(Mono(WINDOW), |_| true).map(|(_, tuple, _)| tuple), Some(client(1)));
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
