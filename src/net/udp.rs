//! Batched UDP: where datagrams are received, and the queue that sorts what is sent into as few system calls as possible.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::{io, mem};

use rustc_hash::FxHashMap;

use super::counters::Counters;
use super::sys::{self, DATAGRAM, Outgoing, Piece, RECEIVE_BATCH, Received, Receiver, SEND_BATCH, Sender};

/// Distance of two receive buffers: the largest datagram and a bit, since buffers an exact power of two apart would all
/// fall on the same cache lines.
const STRIDE: usize = DATAGRAM + 320;

/// Most datagrams in one GSO message: the kernel's limit (`UDP_MAX_SEGMENTS` of the oldest kernels that know GSO).
const MAX_SEGMENTS: u32 = 64;
/// Most bytes in one GSO message: 65,535 less the headers of either family.
const MAX_GSO_BYTES: u32 = 65_000;
/// Largest datagram worth trying GSO for: one segment must fit the path's MTU, and beyond Ethernet's that is rare.
const MAX_SEGMENT: u32 = 1_472;

/// Queued packets at which the owner must flush.
const QUEUE_PACKETS: usize = 2_048;

/// The regions of bytes that a queued packet can lie in; valid until the next flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Region {
    /// Headers and control messages, copied into the queue itself.
    Queue = 0,
    /// What was received: the arena of a shard, the read buffer of a stream.
    Input = 1,
    /// Packets that another owner handed over.
    Inbox = 2,
}

/// A payload: `start..start + len` of `region`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Payload {
    pub region: Region,
    pub start: usize,
    pub len: usize,
}

impl From<Payload> for Piece {
    fn from(payload: Payload) -> Self {
        Self { region: payload.region as u32, start: payload.start as u32, len: payload.len as u32 }
    }
}

/// Receive buffers, filled one behind the other until the owner has sent what came in and starts over.
pub(super) struct Arena {
    bytes: Vec<u8>,
    buffers: usize,
    used: usize,
    receiver: Receiver,
    received: Vec<Received>,
}

impl Arena {
    /// `buffers` (at least one batch) of 64 KiB; memory is touched only where datagrams arrive.
    pub(super) fn new(buffers: usize) -> Self {
        let buffers = buffers.max(RECEIVE_BATCH);
        Self {
            bytes: vec![0; buffers * STRIDE],
            buffers,
            used: 0,
            receiver: Receiver::new(),
            received: Vec::with_capacity(RECEIVE_BATCH),
        }
    }

    /// Receives one batch without waiting; the messages are then [`Arena::datagrams`].
    pub(super) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.receive_most(socket, RECEIVE_BATCH)
    }

    /// The same with `most` messages at most.
    pub(super) fn receive_most(&mut self, socket: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
        self.received.clear();
        let end = self.buffers.min(self.used + most);
        let free = &mut self.bytes[self.used * STRIDE..end * STRIDE];
        let count = self.receiver.receive(socket, free, STRIDE, &mut self.received)?;
        for message in &mut self.received {
            message.buffer += self.used;
        }
        self.used += count;
        Ok(count)
    }

    /// True when there is no room for another whole batch: flush what refers to the arena, then [`Arena::reset`].
    pub(super) fn is_full(&self) -> bool {
        self.used + RECEIVE_BATCH > self.buffers
    }

    /// Starts over; nothing may refer to earlier datagrams any more.
    pub(super) fn reset(&mut self) {
        self.used = 0;
    }

    /// All bytes: what [`Region::Input`] stands for.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// A message of the last batch: where it is from, the address it was sent to, and how many datagrams it holds.
    pub(super) fn message(&self, index: usize) -> Option<(SocketAddr, Option<IpAddr>, u64)> {
        let message = self.received.get(index)?;
        Some((message.from, message.to, message.len.div_ceil(message.segment.max(1)).max(1) as u64))
    }

    /// The datagrams of the last batch in order of arrival, GRO messages cut at their segments.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = Datagram> + '_ {
        self.received.iter().flat_map(|message| {
            let start = message.buffer * STRIDE;
            let segment = message.segment.max(1);
            // An empty datagram is one datagram, too.
            (0..message.len.div_ceil(segment).max(1)).map(move |index| Datagram {
                from: message.from,
                to: message.to,
                start: start + index * segment,
                len: segment.min(message.len - index * segment),
            })
        })
    }
}

/// One datagram in the arena.
#[derive(Clone, Copy, Debug)]
pub(super) struct Datagram {
    pub from: SocketAddr,
    pub to: Option<IpAddr>,
    pub start: usize,
    pub len: usize,
}

/// Where a packet leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Path {
    /// The owner's number of the socket.
    pub socket: u32,
    pub to: SocketAddr,
    pub source: Option<IpAddr>,
}

#[derive(Clone, Copy)]
struct Packet {
    head: Piece,
    body: Piece,
    padding: u32,
    next: u32,
}

/// Packets that leave as one message: same path, same size, in order.
struct Group {
    path: Path,
    segment: u32,
    bytes: u32,
    count: u32,
    first: u32,
    last: u32,
    /// Nothing may follow: a shorter packet ended it, or it must go alone.
    closed: bool,
    dont_fragment: bool,
}

const NONE: u32 = u32::MAX;
const NOTHING: Piece = Piece { region: Region::Queue as u32, start: 0, len: 0 };
/// What padding is made of; stands at the start of the copied bytes.
const ZEROS: [u8; 3] = [0; 3];

/// Packets waiting for the flush at the end of a turn, in order per socket and destination.
pub(super) struct SendQueue {
    gso: bool,
    copied: Vec<u8>,
    packets: Vec<Packet>,
    groups: Vec<Group>,
    open: FxHashMap<Path, u32>,
    order: Vec<u32>,
    pieces: Vec<Piece>,
    messages: Vec<Outgoing>,
    sender: Sender,
    /// Sends that failed so far.
    errors: u64,
    failed: Vec<Failed>,
}

/// A socket on which a send failed: its error queue may say why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    pub socket: u32,
    /// Where a packet went that was to stay whole. The kernel does not say that about a packet it refused itself.
    pub whole: Option<SocketAddr>,
}

impl SendQueue {
    /// `gso`: whether the kernel cuts large messages into datagrams.
    pub(super) fn new(gso: bool) -> Self {
        Self {
            gso,
            copied: ZEROS.to_vec(),
            packets: Vec::new(),
            groups: Vec::new(),
            open: FxHashMap::default(),
            order: Vec::new(),
            pieces: Vec::new(),
            messages: Vec::new(),
            sender: Sender::new(),
            errors: 0,
            failed: Vec::new(),
        }
    }

    /// True when the owner must flush before it queues more.
    pub(super) fn is_full(&self) -> bool {
        self.packets.len() >= QUEUE_PACKETS
    }

    /// One socket on which a send failed; `None` when all have been taken.
    pub(super) fn take_failed(&mut self) -> Option<Failed> {
        self.failed.pop()
    }

    /// Queues `head` (copied), `body` (referred to) and up to 3 zero bytes of padding as one datagram.
    pub(super) fn push(&mut self, path: Path, head: &[u8], body: Payload, padding: u8) {
        let head = self.copy(head);
        let padding = u32::from(padding).min(ZEROS.len() as u32);
        self.append(path, Packet { head, body: body.into(), padding, next: NONE }, false);
    }

    /// Queues `bytes` (copied) as one datagram.
    pub(super) fn push_copy(&mut self, path: Path, bytes: &[u8]) {
        let head = self.copy(bytes);
        self.append(path, Packet { head, body: NOTHING, padding: 0, next: NONE }, false);
    }

    /// Queues `body` as a datagram that must not be fragmented; it goes alone.
    pub(super) fn push_unfragmented(&mut self, path: Path, body: Payload) {
        self.append(path, Packet { head: NOTHING, body: body.into(), padding: 0, next: NONE }, true);
    }

    fn copy(&mut self, bytes: &[u8]) -> Piece {
        if bytes.is_empty() {
            return NOTHING;
        }
        let start = self.copied.len() as u32;
        self.copied.extend_from_slice(bytes);
        Piece { region: Region::Queue as u32, start, len: bytes.len() as u32 }
    }

    fn append(&mut self, path: Path, packet: Packet, dont_fragment: bool) {
        let size = packet.head.len + packet.body.len + packet.padding;
        let index = self.packets.len() as u32;
        self.packets.push(packet);
        let group = match self.groups.last() {
            Some(last) if last.path == path => Some(self.groups.len() as u32 - 1),
            _ => self.open.get(&path).copied(),
        };
        if let Some(group) = group.and_then(|group| self.groups.get_mut(group as usize))
            && !dont_fragment
            && group.takes(size)
        {
            if let Some(last) = self.packets.get_mut(group.last as usize) {
                last.next = index;
            }
            group.last = index;
            group.count += 1;
            group.bytes += size;
            group.closed = size < group.segment;
            return;
        }
        let closed = !self.gso || dont_fragment || size == 0 || size > MAX_SEGMENT;
        self.open.insert(path, self.groups.len() as u32);
        self.groups.push(Group {
            path,
            segment: size,
            bytes: size,
            count: 1,
            first: index,
            last: index,
            closed,
            dont_fragment,
        });
    }

    /// Sends everything, one batch of system calls per socket. `regions` are the bytes behind [`Region::Input`] and
    /// [`Region::Inbox`]; `socket` finds the descriptor of a number (packets of a socket gone meanwhile are dropped).
    pub(super) fn flush<'fd>(
        &mut self,
        input: &[u8],
        inbox: &[u8],
        socket: impl Fn(u32) -> Option<BorrowedFd<'fd>>,
        counters: &Counters,
    ) {
        if self.packets.is_empty() {
            return;
        }
        counters.sent.add(self.packets.len() as u64);
        self.order.clear();
        self.order.extend(0..self.groups.len() as u32);
        let groups = &self.groups;
        self.order.sort_unstable_by_key(|&index| (groups[index as usize].path.socket, index));
        let copied = mem::take(&mut self.copied);
        let order = mem::take(&mut self.order);
        let regions: [&[u8]; 3] = [&copied, input, inbox];
        let groups = mem::take(&mut self.groups);
        for run in order.chunk_by(|&a, &b| groups_share_call(&groups[a as usize], &groups[b as usize])) {
            let Some(&Group { path, dont_fragment, .. }) = run.first().map(|&index| &groups[index as usize]) else {
                continue;
            };
            let Some(descriptor) = socket(path.socket) else { continue };
            self.prepare(run.iter().map(|&index| &groups[index as usize]));
            let errors = self.errors;
            if dont_fragment {
                let v6 = path.to.is_ipv6();
                let set = sys::set_dont_fragment(descriptor, v6, true);
                self.send(descriptor, &regions, counters);
                if set.is_ok() && sys::set_dont_fragment(descriptor, v6, false).is_err() {
                    counters.send_errors.add(1);
                }
            } else {
                self.send(descriptor, &regions, counters);
            }
            let failed = Failed { socket: path.socket, whole: dont_fragment.then_some(path.to) };
            if self.errors != errors && self.failed.last() != Some(&failed) {
                self.failed.push(failed);
            }
        }
        self.copied = copied;
        self.order = order;
        self.groups = groups;
        self.clear();
    }

    fn clear(&mut self) {
        self.copied.truncate(ZEROS.len());
        self.packets.clear();
        self.groups.clear();
        self.open.clear();
    }

    /// Lays out the messages of a run of groups.
    fn prepare<'a>(&mut self, run: impl Iterator<Item = &'a Group>) {
        self.pieces.clear();
        self.messages.clear();
        for group in run {
            let start = self.pieces.len();
            let mut next = group.first;
            while let Some(packet) = self.packets.get(next as usize) {
                let padding = Piece { len: packet.padding, ..NOTHING };
                self.pieces.extend([packet.head, packet.body, padding].into_iter().filter(|piece| piece.len > 0));
                next = packet.next;
            }
            let segment = if group.count > 1 { group.segment as u16 } else { 0 };
            let pieces = start..self.pieces.len();
            self.messages.push(Outgoing { to: group.path.to, source: group.path.source, segment, pieces });
        }
    }

    /// Sends the prepared messages. A message that fails is given up, after a second try: what the kernel reports may be
    /// an ICMP error about an earlier packet. A GSO message is sent once more in single datagrams when the path or device
    /// cannot segment it.
    fn send(&mut self, socket: BorrowedFd<'_>, regions: &[&[u8]], counters: &Counters) {
        let mut done = 0;
        let mut tried = None;
        while done < self.messages.len() {
            match self.sender.send(socket, regions, &self.pieces, &self.messages[done..]) {
                Ok(sent) => {
                    counters.send_calls.add(1);
                    done += sent.max(1);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    counters.send_full.add((self.messages.len() - done) as u64);
                    return;
                }
                Err(error) => {
                    self.errors += 1;
                    let is_unfit = is_segmentation_error(&error);
                    let is_segmented = self.messages[done].segment > 0;
                    if is_unfit && is_segmented {
                        counters.gso_fallbacks.add(1);
                        self.send_singly(socket, regions, done, counters);
                        done += 1;
                    } else if is_unfit || tried == Some(done) {
                        counters.send_errors.add(1);
                        done += 1;
                    } else {
                        tried = Some(done);
                    }
                }
            }
        }
    }

    /// Sends the datagrams of the GSO message at `index` one by one.
    fn send_singly(&mut self, socket: BorrowedFd<'_>, regions: &[&[u8]], index: usize, counters: &Counters) {
        let failed = self.messages[index].clone();
        let mut singles = Vec::with_capacity(MAX_SEGMENTS as usize);
        let mut start = failed.pieces.start;
        let mut bytes = 0;
        for index in failed.pieces.clone() {
            bytes += self.pieces[index].len;
            if bytes >= u32::from(failed.segment) || index + 1 == failed.pieces.end {
                let pieces = start..index + 1;
                singles.push(Outgoing { to: failed.to, source: failed.source, segment: 0, pieces });
                start = index + 1;
                bytes = 0;
            }
        }
        let mut rest = &singles[..];
        let mut tried = usize::MAX;
        while !rest.is_empty() {
            let sent = match self.sender.send(socket, regions, &self.pieces, &rest[..rest.len().min(SEND_BATCH)]) {
                Ok(sent) => sent.max(1),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                Err(_) if tried != rest.len() => {
                    tried = rest.len();
                    0
                }
                Err(_) => {
                    counters.send_errors.add(1);
                    1
                }
            };
            rest = &rest[sent..];
        }
    }
}

/// Groups of one socket go out in one system call, but one that must not be fragmented goes alone.
fn groups_share_call(a: &Group, b: &Group) -> bool {
    a.path.socket == b.path.socket && !a.dont_fragment && !b.dont_fragment
}

/// What the kernel says when a message cannot be segmented here: the device cannot (EIO), or a segment does not fit the
/// path's MTU (EINVAL, EMSGSIZE).
fn is_segmentation_error(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE))
}

impl Group {
    fn takes(&self, size: u32) -> bool {
        !self.closed
            && size > 0
            && size <= self.segment
            && self.count < MAX_SEGMENTS
            && self.bytes + size <= MAX_GSO_BYTES
    }
}

#[cfg(test)]
mod tests;
