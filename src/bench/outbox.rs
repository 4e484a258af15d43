//! Packets that leave by the same socket at the same moment, as few messages.

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use super::packet::{Envelope, Stamp};
use super::setup::Via;
use crate::net::sys::{Outgoing, Piece, SEND_BATCH, Sender};

/// Most datagrams that the kernel cuts from one message.
const MAX_SEGMENTS: usize = 64;
/// Most bytes of such a message.
const MAX_BYTES: usize = 65_000;
/// Largest datagram that is tried in such a message: Ethernet's MTU less the headers.
const MAX_SEGMENT: usize = 1_472;
/// Packets gathered before they are sent.
const PACKETS: usize = 1_024;

/// What waits to be sent by one socket.
pub struct Outbox {
    gso: bool,
    via: Option<Via>,
    bytes: Vec<u8>,
    used: usize,
    packets: usize,
    last: Option<Stamp>,
    pieces: Vec<Piece>,
    messages: Vec<Outgoing>,
    sender: Sender,
}

impl Outbox {
    /// `gso`: the kernel cuts large messages into datagrams.
    pub fn new(gso: bool) -> Self {
        Self {
            gso,
            via: None,
            bytes: Vec::new(),
            used: 0,
            packets: 0,
            last: None,
            pieces: Vec::new(),
            messages: Vec::new(),
            sender: Sender::new(),
        }
    }

    /// The socket that what waits leaves by; `None` when nothing waits.
    pub fn via(&self) -> Option<Via> {
        self.via
    }

    /// True when `burst` more packets do not fit.
    pub fn is_full(&self, burst: usize) -> bool {
        self.packets > 0 && self.packets + burst > PACKETS
    }

    /// Packets that wait.
    pub fn packets(&self) -> usize {
        self.packets
    }

    /// What waits, one packet behind the other.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.used).unwrap_or_default()
    }

    /// The stamp of the last burst.
    pub fn last(&self) -> Option<Stamp> {
        self.last
    }

    /// Adds `burst` packets of `size` payload bytes, all with the same stamp.
    pub fn push(
        &mut self,
        (via, to): (Via, SocketAddr),
        envelope: &Envelope,
        (stamp, size): (Stamp, usize),
        burst: usize,
    ) {
        self.via = Some(via);
        self.last = Some(stamp);
        let whole = envelope.head.len() + size + envelope.padding;
        let per_message =
            if self.gso && whole <= MAX_SEGMENT { MAX_SEGMENTS.min(MAX_BYTES / whole.max(1)).max(1) } else { 1 };
        let end = self.used + whole * burst;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        for packet in self.bytes[self.used..end].chunks_exact_mut(whole) {
            let (head, rest) = packet.split_at_mut(envelope.head.len());
            head.copy_from_slice(&envelope.head);
            stamp.write(rest);
        }
        for first in (0..burst).step_by(per_message) {
            let count = per_message.min(burst - first);
            let start = (self.used + first * whole) as u32;
            let piece = self.pieces.len();
            self.pieces.push(Piece { region: 0, start, len: (count * whole) as u32 });
            let segment = if count > 1 { whole as u16 } else { 0 };
            self.messages.push(Outgoing { to, source: None, segment, pieces: piece..piece + 1 });
        }
        self.used = end;
        self.packets += burst;
    }

    /// Sends all and returns how many packets found no room.
    pub fn send(&mut self, socket: BorrowedFd<'_>) -> usize {
        let mut done = 0;
        let mut tries = 0;
        while done < self.messages.len() {
            let rest = &self.messages[done..self.messages.len().min(done + SEND_BATCH)];
            match self.sender.send(socket, &[&self.bytes], &self.pieces, rest) {
                Ok(sent) => done += sent.max(1),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // An error may be an ICMP one about an earlier packet.
                Err(_) if tries < 4 => tries += 1,
                Err(_) => break,
            }
        }
        let Some(first) = self.messages.get(done) else { return 0 };
        let whole = self.used / self.packets.max(1);
        let start = self.pieces.get(first.pieces.start).map_or(self.used, |piece| piece.start as usize);
        (self.used - start) / whole.max(1)
    }

    /// Forgets what was sent.
    pub fn clear(&mut self) {
        self.via = None;
        self.used = 0;
        self.packets = 0;
        self.pieces.clear();
        self.messages.clear();
    }
}
