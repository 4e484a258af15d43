//! The hot loop: sends what is due, whatever has come back, and takes what comes. One thread, which spins while something
//! is due soon.

use std::collections::HashSet;
use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::beat::{self, Beat, Step};
use super::drops;
use super::figures::{Figures, WayFigures};
use super::link::{Link, SCRATCH};
use super::outbox::Outbox;
use super::packet::{Framing, Incoming, STAMP, Stamp, Way, open};
use super::process::Process;
use super::setup::{Field, Lane, Plan, Via};
use super::upkeep::{self, Upkeep};
use crate::clock;
use crate::net::sys::{DATAGRAM, Poller, RECEIVE_BATCH, Ready, Received, Receiver};

/// Distance of two receive buffers: off an exact power of two, so that they do not fall on the same cache lines.
const STRIDE: usize = DATAGRAM + 320;
/// Tokens of peer sockets have this bit.
const PEER: u64 = 1 << 32;
/// Bursts sent before what came in is looked at.
const BURSTS_PER_TURN: usize = 32;
/// When the next packet is due later than this, the loop sleeps instead of spinning.
const SPIN: u64 = 2_000_000;
/// How long late packets are waited for at the end of a step when none comes.
const DRAIN: u64 = 200_000_000;
/// The same when they come one after the other.
const LONGEST_DRAIN: u64 = 1_500_000_000;
/// A generator that is behind by this share of the step, at its end, was the limit.
const BEHIND: u64 = 20;
/// The same of one whose own sockets dropped this share of what was due: half of what a search allows.
const MISSED: f64 = 0.000_5;

/// What a step counts.
#[derive(Default)]
struct Counts {
    from: u64,
    until: u64,
    figures: Figures,
    per_flow: [Vec<u32>; 2],
    offered_per_flow: [Vec<u32>; 2],
    /// The flow that counts apart, both ways.
    hot: Option<u32>,
}

impl Counts {
    fn is_counted(&self, due: u64) -> bool {
        (self.from..self.until).contains(&due)
    }

    /// Where packets of a flow count.
    fn place(&mut self, way: Way, flow: u32) -> &mut WayFigures {
        if self.hot == Some(flow) {
            return self.figures.hot.get_or_insert_default();
        }
        &mut self.figures.ways[way as usize]
    }

    fn take(&mut self, payload: &[u8], now: u64) {
        let Some(stamp) = Stamp::read(payload).filter(|stamp| self.is_counted(stamp.due)) else { return };
        if let Some(count) = self.per_flow[stamp.way as usize].get_mut(stamp.flow as usize) {
            *count += 1;
        }
        let place = self.place(stamp.way, stamp.flow);
        place.delivered += 1;
        place.latency.add(now.saturating_sub(stamp.due));
    }

    fn delivered(&self) -> u64 {
        self.figures.delivered()
    }

    fn wanted(&self) -> u64 {
        self.figures.ways.iter().chain(&self.figures.hot).map(|way| way.offered - way.unsent).sum()
    }
}

/// The generator with its clients and peers.
pub struct Engine {
    field: Field,
    /// The first of clients and peers that are read.
    first: usize,
    framing: Framing,
    size: usize,
    poller: Poller,
    ready: Vec<Ready>,
    receiver: Receiver,
    received: Vec<Received>,
    arena: Vec<u8>,
    scratch: Vec<u8>,
    outbox: Outbox,
    start: Instant,
    upkeep: Upkeep,
    counts: Counts,
    /// Streams with something to write.
    behind: Vec<usize>,
    answers: Vec<(usize, Vec<u8>)>,
}

impl Engine {
    /// Takes over what was set up.
    pub fn new(plan: &Plan, field: Field) -> io::Result<Self> {
        let poller = Poller::new()?;
        let first = usize::from(plan.deaf);
        for (index, link) in field.links.iter().enumerate().skip(first) {
            poller.add(link.descriptor(), index as u64)?;
        }
        for (index, peer) in field.peers.iter().enumerate().skip(first) {
            poller.add(peer.as_fd(), PEER | index as u64)?;
        }
        Ok(Self {
            field,
            first,
            framing: plan.framing,
            size: plan.size.max(STAMP),
            poller,
            ready: Vec::new(),
            receiver: Receiver::new(),
            received: Vec::new(),
            arena: vec![0; STRIDE * RECEIVE_BATCH],
            scratch: vec![0; SCRATCH],
            outbox: Outbox::new(plan.gso),
            start: clock::stopwatch(),
            upkeep: Upkeep::default(),
            counts: Counts::default(),
            behind: Vec::new(),
            answers: Vec::new(),
        })
    }

    /// Clients and peers again, when the load is over.
    pub fn into_field(self) -> Field {
        self.field
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// Runs one step; `progress` hears every second how long it has run, and what has come.
    pub fn run(
        &mut self,
        step: &Step,
        process: Option<&Process>,
        mut progress: impl FnMut(Duration, u64),
    ) -> io::Result<Figures> {
        let ports = self.ports();
        let dropped = drops::dropped(&ports);
        let begin = self.now() + 1_000_000;
        let from = begin + step.warm.as_nanos() as u64;
        let until = from + step.time.as_nanos() as u64;
        self.prepare(step, from, until);
        let mut beats = beat::of(step, begin);
        let mut cpu = None;
        let mut next_second = from;
        loop {
            let now = self.now();
            if now >= next_second {
                // The first time it is the start of what counts.
                if cpu.is_none() {
                    cpu = process.and_then(Process::cpu).or(Some(0));
                }
                progress(Duration::from_nanos(now.saturating_sub(from)), self.counts.delivered());
                next_second += 1_000_000_000;
            }
            let mut next = until;
            for beat in &mut beats {
                self.send_due(beat, now, until);
                next = next.min(beat.due());
            }
            self.maintain(now);
            let wait = if next > now + SPIN { ((next - now - SPIN / 2) / 1_000_000) as i32 } else { 0 };
            self.receive(wait)?;
            if now >= until {
                break;
            }
        }
        self.count_unsent(&beats, until);
        self.drain(until)?;
        let mut figures = self.finish(step);
        if let (Some(process), Some(before)) = (process, cpu) {
            figures.cpu = process.cpu().map(|after| after.saturating_sub(before));
            figures.memory = process.memory();
        }
        figures.missed = drops::dropped(&ports).saturating_sub(dropped);
        let offered: u64 = figures.ways.iter().chain(&figures.hot).map(|way| way.offered).sum();
        figures.limited_by_generator |= figures.missed as f64 > offered as f64 * MISSED;
        Ok(figures)
    }

    /// Of all UDP sockets that are read.
    fn ports(&self) -> HashSet<u16> {
        let links =
            self.field.links.iter().skip(self.first).filter(|link| matches!(link, Link::Udp(_))).map(Link::local_addr);
        let peers = self.field.peers.iter().skip(self.first).map(UdpSocket::local_addr);
        links.chain(peers).flatten().map(|address| address.port()).collect()
    }

    fn prepare(&mut self, step: &Step, from: u64, until: u64) {
        let flows = self.field.flows.len();
        let zeros = || [vec![0; flows], vec![0; flows]];
        self.counts = Counts { from, until, per_flow: zeros(), offered_per_flow: zeros(), ..Counts::default() };
        self.counts.hot = (step.hot > 0.0).then_some(0);
    }

    /// Sends what is due of one way, up to a share of the turn.
    fn send_due(&mut self, beat: &mut Beat, now: u64, until: u64) {
        for _ in 0..BURSTS_PER_TURN {
            let due = beat.due();
            if due > now || due >= until {
                break;
            }
            let flow = beat.flow(self.field.flows.len());
            beat.count += 1;
            if self.counts.is_counted(due) {
                self.counts.place(beat.way, flow as u32).offered += beat.burst as u64;
                if let Some(count) = self.counts.offered_per_flow[beat.way as usize].get_mut(flow) {
                    *count += beat.burst as u32;
                }
                self.counts.figures.late.add(now - due);
            }
            let stamp = Stamp { way: beat.way, flow: flow as u32, due };
            self.send(stamp, beat.burst);
        }
        self.flush();
    }

    fn send(&mut self, stamp: Stamp, burst: usize) {
        let Some(Lane { via, to, envelope }) = self.field.lane(flow_of(stamp), stamp.way) else { return };
        let (via, to) = (*via, *to);
        if self.outbox.via() != Some(via) || self.outbox.is_full(burst) {
            // Borrowed again behind the flush: a flush changes counts alone, but the compiler cannot know.
            let envelope = envelope.clone();
            self.flush();
            return self.outbox.push((via, to), &envelope, (stamp, self.size), burst);
        }
        self.outbox.push((via, to), envelope, (stamp, self.size), burst);
    }

    /// Sends what the outbox holds.
    fn flush(&mut self) {
        let Some(via) = self.outbox.via() else { return };
        let unsent = match via {
            Via::Peer(index) => match self.field.peers.get(index) {
                Some(peer) => self.outbox.send(peer.as_fd()),
                None => 0,
            },
            Via::Link(index) => match self.field.links.get_mut(index) {
                Some(Link::Udp(socket)) => self.outbox.send(socket.as_fd()),
                Some(Link::Stream(stream)) => {
                    let unsent = if stream.send(self.outbox.bytes()) { 0 } else { self.outbox.packets() };
                    if stream.is_behind() && !self.behind.contains(&index) {
                        self.behind.push(index);
                    }
                    unsent
                }
                None => 0,
            },
        };
        if unsent > 0
            && let Some(stamp) = self.outbox.last()
            && self.counts.is_counted(stamp.due)
        {
            self.counts.place(stamp.way, stamp.flow).unsent += unsent as u64;
        }
        self.outbox.clear();
    }

    /// Writes on, and refreshes what lives long.
    fn maintain(&mut self, now: u64) {
        let links = &mut self.field.links;
        self.behind.retain(|index| {
            let Some(Link::Stream(stream)) = links.get_mut(*index) else { return false };
            stream.flush();
            stream.is_behind()
        });
        let about = (self.framing, &self.field.reaches[..]);
        self.upkeep.tick(now, &mut self.field.sessions, about, |index, request| {
            if let Some(link) = links.get_mut(index) {
                upkeep::send(link, request);
            }
        });
        for (index, answer) in self.answers.drain(..) {
            let about = (self.field.sessions.get_mut(index), self.field.reaches.get(index), links.get_mut(index));
            let (Some(session), Some(peer), Some(link)) = about else { continue };
            for request in upkeep::answered(session, &answer, self.framing, *peer) {
                upkeep::send(link, &request);
            }
        }
    }

    /// Takes one batch from everything that has something, waiting up to `wait` milliseconds.
    fn receive(&mut self, wait: i32) -> io::Result<()> {
        let mut ready = std::mem::take(&mut self.ready);
        if let Err(error) = self.poller.wait(wait, &mut ready)
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(error);
        }
        for &Ready { token, .. } in &ready {
            let index = (token & !PEER) as usize;
            if token & PEER != 0 {
                if let Some(peer) = self.field.peers.get(index) {
                    let bytes = (&mut self.receiver, &mut self.arena[..], &mut self.received);
                    take_datagrams(peer.as_fd(), bytes, |bytes, now| self.counts.take(bytes, now), self.start);
                }
                continue;
            }
            match self.field.links.get_mut(index) {
                Some(Link::Udp(socket)) => {
                    let (counts, answers) = (&mut self.counts, &mut self.answers);
                    let bytes = (&mut self.receiver, &mut self.arena[..], &mut self.received);
                    let take = |bytes: &[u8], now| take_frame(counts, answers, index, bytes, now);
                    take_datagrams(socket.as_fd(), bytes, take, self.start);
                }
                Some(Link::Stream(stream)) => {
                    let (counts, answers) = (&mut self.counts, &mut self.answers);
                    let mut now = None;
                    let start = self.start;
                    let read = stream.receive(&mut self.scratch, |frame| {
                        let now = *now.get_or_insert_with(|| start.elapsed().as_nanos() as u64);
                        take_frame(counts, answers, index, frame, now);
                    });
                    if let Err(error) = read
                        && error.kind() != io::ErrorKind::WouldBlock
                    {
                        return Err(io::Error::new(error.kind(), format!("client {index}: {error}")));
                    }
                }
                None => {}
            }
        }
        self.ready = ready;
        Ok(())
    }

    /// What was due and never sent, since the generator was too slow.
    fn count_unsent(&mut self, beats: &[Beat], until: u64) {
        for beat in beats {
            let behind = until.saturating_sub(beat.due());
            if behind > (until - self.counts.from) / BEHIND {
                self.counts.figures.limited_by_generator = true;
            }
        }
    }

    /// Waits for what is still on its way.
    fn drain(&mut self, until: u64) -> io::Result<()> {
        let (mut seen, mut since) = (self.counts.delivered(), self.now());
        loop {
            self.maintain(since);
            self.receive(1)?;
            let now = self.now();
            let delivered = self.counts.delivered();
            if delivered != seen {
                (seen, since) = (delivered, now);
            }
            if delivered >= self.counts.wanted() || now > since + DRAIN || now > until + LONGEST_DRAIN {
                return Ok(());
            }
        }
    }

    fn finish(&mut self, step: &Step) -> Figures {
        let counts = std::mem::take(&mut self.counts);
        let mut figures = counts.figures;
        figures.rate = step.rate;
        figures.time = step.time;
        figures.size = self.size;
        for (way, (got, offered)) in counts.per_flow.iter().zip(&counts.offered_per_flow).enumerate() {
            let losses = got.iter().zip(offered).enumerate().filter(|(flow, (_, offered))| {
                let is_hot = counts.hot == Some(*flow as u32);
                **offered > 0 && !is_hot
            });
            let losses = losses.map(|(_, (got, offered))| 1.0 - (f64::from(*got) / f64::from(*offered)).min(1.0));
            let (least, most) = losses.fold((1.0, 0.0), |(least, most), loss| (loss.min(least), loss.max(most)));
            figures.ways[way].spread = if least > most { (0.0, 0.0) } else { (least, most) };
        }
        figures
    }
}

fn flow_of(stamp: Stamp) -> usize {
    stamp.flow as usize
}

fn take_frame(counts: &mut Counts, answers: &mut Vec<(usize, Vec<u8>)>, index: usize, bytes: &[u8], now: u64) {
    match open(bytes) {
        Incoming::Payload(payload) => counts.take(payload, now),
        Incoming::Answer(answer) => answers.push((index, answer.to_vec())),
        Incoming::Other => {}
    }
}

/// Takes one batch of datagrams; the moment is the same for all of a batch.
fn take_datagrams(
    socket: BorrowedFd<'_>,
    (receiver, arena, received): (&mut Receiver, &mut [u8], &mut Vec<Received>),
    mut take: impl FnMut(&[u8], u64),
    start: Instant,
) {
    received.clear();
    // An error may be an ICMP one about a packet sent before.
    if receiver.receive(socket, arena, STRIDE, received).is_err() {
        return;
    }
    let now = start.elapsed().as_nanos() as u64;
    for message in received.iter() {
        let bytes = arena.get(message.buffer * STRIDE..).unwrap_or_default();
        for datagram in bytes.get(..message.len).unwrap_or_default().chunks(message.segment.max(1)) {
            take(datagram, now);
        }
    }
}
