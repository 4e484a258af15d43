//! A bare forwarder: what moving the same packets costs without TURN, in three styles. It is the limit that figures of a
//! server are held against, and no service: loopback only, no authentication, everything by address.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use rustc_hash::FxHashMap;

use super::link::{Link, udp_socket};
use crate::net::sys::{DATAGRAM, Outgoing, Piece, Poller, RECEIVE_BATCH, Received, Receiver, Sender};

/// How packets are taken and sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `recvfrom` and `sendto`: two system calls for a packet.
    Single,
    /// `recvmmsg` and `sendmmsg`.
    Batched,
    /// The same with runs of datagrams as one message, in and out (`UDP_GRO`, `UDP_SEGMENT`).
    Segmented,
}

impl Style {
    /// All of them, by name.
    pub const ALL: [(&'static str, Self); 3] =
        [("single", Self::Single), ("batched", Self::Batched), ("segmented", Self::Segmented)];
}

/// Distance of two receive buffers.
const STRIDE: usize = DATAGRAM + 320;
/// The first byte of a request to forward: a port follows, in a request the peer's, in its answer the one opened.
const JOIN: u8 = 0xfe;
const JOIN_LENGTH: usize = 3;
/// Flows at most.
const FLOWS: usize = 20_000;
/// Packets of one socket before the others have their turn.
const SINGLES: usize = 64;

/// Asks a forwarder to forward what `link` sends to `peer`; what comes to the address returned goes to `link`.
pub fn join(link: &mut Link, peer: SocketAddr) -> io::Result<SocketAddr> {
    let [high, low] = peer.port().to_be_bytes();
    let answer = link.ask(&[JOIN, high, low], |bytes| bytes.len() == JOIN_LENGTH && bytes[0] == JOIN)?;
    let port = u16::from_be_bytes([answer[1], answer[2]]);
    Ok((Ipv4Addr::LOCALHOST, port).into())
}

struct Flow {
    socket: UdpSocket,
    client: SocketAddr,
    peer: SocketAddr,
}

struct Forwarder {
    style: Style,
    listener: UdpSocket,
    poller: Poller,
    flows: Vec<Flow>,
    by_client: FxHashMap<SocketAddr, usize>,
    receiver: Receiver,
    sender: Sender,
    arena: Vec<u8>,
    received: Vec<Received>,
    pieces: Vec<Piece>,
    messages: Vec<Outgoing>,
}

/// The token of the listening socket; the others have the number of their flow.
const LISTENER: u64 = u64::MAX;

/// Forwards on a loopback `port` (0 chooses one, `started` is told which) until the process ends.
pub fn run(style: Style, port: u16, started: impl FnOnce(SocketAddr)) -> io::Result<()> {
    let listener = udp_socket((Ipv4Addr::LOCALHOST, port).into(), style == Style::Segmented)?;
    listener.set_nonblocking(true)?;
    let poller = Poller::new()?;
    poller.add(listener.as_fd(), LISTENER)?;
    started(listener.local_addr()?);
    let mut forwarder = Forwarder {
        style,
        listener,
        poller,
        flows: Vec::new(),
        by_client: FxHashMap::default(),
        receiver: Receiver::new(),
        sender: Sender::new(),
        arena: vec![0; STRIDE * RECEIVE_BATCH],
        received: Vec::new(),
        pieces: Vec::new(),
        messages: Vec::new(),
    };
    let mut ready = Vec::new();
    loop {
        if let Err(error) = forwarder.poller.wait(-1, &mut ready)
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(error);
        }
        for ready in &ready {
            let flow = (ready.token != LISTENER).then_some(ready.token as usize);
            match style {
                Style::Single => forwarder.forward_singly(flow)?,
                Style::Batched | Style::Segmented => forwarder.forward_batch(flow)?,
            }
        }
    }
}

impl Forwarder {
    /// Opens a relay socket for `client` and tells its port.
    fn open(&mut self, client: SocketAddr, request: [u8; JOIN_LENGTH]) -> io::Result<()> {
        let peer = (Ipv4Addr::LOCALHOST, u16::from_be_bytes([request[1], request[2]])).into();
        if self.flows.len() < FLOWS && !self.by_client.contains_key(&client) {
            let socket = udp_socket((Ipv4Addr::LOCALHOST, 0).into(), self.style == Style::Segmented)?;
            socket.set_nonblocking(true)?;
            self.poller.add(socket.as_fd(), self.flows.len() as u64)?;
            self.by_client.insert(client, self.flows.len());
            self.flows.push(Flow { socket, client, peer });
        }
        if let Some(flow) = self.by_client.get(&client).and_then(|index| self.flows.get(*index)) {
            let [high, low] = flow.socket.local_addr()?.port().to_be_bytes();
            self.listener.send_to(&[JOIN, high, low], client)?;
        }
        Ok(())
    }

    fn forward_singly(&mut self, flow: Option<usize>) -> io::Result<()> {
        for _ in 0..SINGLES {
            let socket = match flow {
                Some(index) => self.flows.get(index).map(|flow| &flow.socket),
                None => Some(&self.listener),
            };
            let Some(Ok((length, from))) = socket.map(|socket| socket.recv_from(&mut self.arena)) else {
                return Ok(());
            };
            let bytes = &self.arena[..length];
            if flow.is_none()
                && let &[JOIN, high, low] = bytes
            {
                self.open(from, [JOIN, high, low])?;
            } else if let Some(flow) = flow.and_then(|index| self.flows.get(index)) {
                let _ = self.listener.send_to(bytes, flow.client);
            } else if let Some(flow) = self.by_client.get(&from).and_then(|index| self.flows.get(*index)) {
                let _ = flow.socket.send_to(bytes, flow.peer);
            }
        }
        Ok(())
    }

    fn forward_batch(&mut self, flow: Option<usize>) -> io::Result<()> {
        let socket = match flow {
            Some(index) => self.flows.get(index).map(|flow| &flow.socket),
            None => Some(&self.listener),
        };
        let Some(socket) = socket else { return Ok(()) };
        self.received.clear();
        if self.receiver.receive(socket.as_fd(), &mut self.arena, STRIDE, &mut self.received).is_err() {
            return Ok(());
        }
        let received = std::mem::take(&mut self.received);
        // What leaves by the same socket, one behind the other, is one call.
        let mut leaving = flow.map(|_| usize::MAX);
        for message in &received {
            let start = message.buffer * STRIDE;
            if flow.is_none()
                && let Some(&[JOIN, high, low]) = self.arena.get(start..start + message.len)
            {
                self.open(message.from, [JOIN, high, low])?;
                continue;
            }
            let (by, to) = match flow.and_then(|index| self.flows.get(index)) {
                Some(flow) => (usize::MAX, flow.client),
                None => {
                    match self.by_client.get(&message.from).and_then(|index| Some((*index, self.flows.get(*index)?))) {
                        Some((index, flow)) => (index, flow.peer),
                        None => continue,
                    }
                }
            };
            if leaving != Some(by) {
                self.send(leaving);
                leaving = Some(by);
            }
            let piece = self.pieces.len();
            self.pieces.push(Piece { region: 0, start: start as u32, len: message.len as u32 });
            let segment = if message.segment < message.len { message.segment as u16 } else { 0 };
            self.messages.push(Outgoing { to, source: None, segment, pieces: piece..piece + 1 });
        }
        self.send(leaving);
        self.received = received;
        Ok(())
    }

    /// Sends what waits: by the socket of a flow, or for `usize::MAX` by the listening one.
    fn send(&mut self, by: Option<usize>) {
        let socket: Option<BorrowedFd<'_>> = match by {
            Some(usize::MAX) => Some(self.listener.as_fd()),
            Some(index) => self.flows.get(index).map(|flow| flow.socket.as_fd()),
            None => None,
        };
        let mut done = 0;
        while let (Some(socket), Some(rest)) = (socket, self.messages.get(done..).filter(|rest| !rest.is_empty())) {
            match self.sender.send(socket, &[&self.arena], &self.pieces, rest) {
                Ok(sent) => done += sent.max(1),
                Err(_) => done += 1,
            }
        }
        self.pieces.clear();
        self.messages.clear();
    }
}
