//! A client's connection to the server: UDP, TCP or TLS. It waits while the allocation is made, and never afterwards.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use socket2::{Domain, Protocol, Socket, Type};

use crate::net::sys;
use crate::relay::framing;
use crate::relay::stun::TransactionId;

/// How long an answer may take before the request is sent again (UDP).
const ANSWER: Duration = Duration::from_millis(500);
/// How often a request is sent over UDP.
const ATTEMPTS: usize = 8;
/// How long a stream may take to answer, or to connect.
const STREAM_ANSWER: Duration = Duration::from_secs(10);
/// Bytes that may wait for a server that does not read its stream; what is due then is not sent.
const BACKLOG: usize = 512 << 10;
/// Bytes read from a stream in one go.
pub const SCRATCH: usize = 256 << 10;
/// Room for the largest frame behind what is left of the one before.
const FRAME: usize = 68 << 10;
/// Socket buffers asked for: what the generator has no time to read at once must not count as lost.
const BUFFER: usize = 4 << 20;

/// What a TLS client trusts, and the name it asks for.
#[derive(Clone, Debug)]
pub struct Tls {
    pub config: Arc<ClientConfig>,
    pub name: ServerName<'static>,
}

/// A client's connection.
#[derive(Debug)]
pub enum Link {
    Udp(UdpSocket),
    Stream(Box<Stream>),
}

/// A TCP or TLS connection.
#[derive(Debug)]
pub struct Stream {
    socket: TcpStream,
    tls: Option<ClientConnection>,
    /// The start of a frame whose rest has not come.
    partial: Vec<u8>,
    /// What the kernel has not taken, behind `written` bytes that it has.
    output: Vec<u8>,
    written: usize,
    /// Bytes given to TLS since it last had nothing to write.
    queued: usize,
}

/// A UDP socket with large buffers. `gro`: it takes runs of datagrams as one message.
pub fn udp_socket(address: SocketAddr, gro: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if sys::force_buffers(socket.as_fd(), BUFFER).is_err() {
        socket.set_recv_buffer_size(BUFFER)?;
        socket.set_send_buffer_size(BUFFER)?;
    }
    if gro {
        // Without it every datagram comes alone: slower, never wrong.
        let _ = sys::enable_gro(socket.as_fd());
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

impl Link {
    /// A UDP client from a port of its own.
    pub fn udp(server: SocketAddr, gro: bool) -> io::Result<Self> {
        let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
        let socket = udp_socket(any, gro)?;
        // Connected, so that the kernel says where nobody listens.
        socket.connect(server)?;
        socket.set_read_timeout(Some(ANSWER))?;
        Ok(Self::Udp(socket))
    }

    /// A TCP client, or a TLS client after its handshake.
    pub fn stream(server: SocketAddr, tls: Option<&Tls>) -> io::Result<Self> {
        let mut socket = TcpStream::connect_timeout(&server, STREAM_ANSWER)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(STREAM_ANSWER))?;
        let mut session = None;
        if let Some(tls) = tls {
            let mut new = ClientConnection::new(Arc::clone(&tls.config), tls.name.clone()).map_err(io::Error::other)?;
            new.set_buffer_limit(None);
            while new.is_handshaking() {
                new.complete_io(&mut socket)?;
            }
            session = Some(new);
        }
        let (partial, output) = (Vec::new(), Vec::new());
        Ok(Self::Stream(Box::new(Stream { socket, tls: session, partial, output, written: 0, queued: 0 })))
    }

    /// Where it sends from.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Udp(socket) => socket.local_addr(),
            Self::Stream(stream) => stream.socket.local_addr(),
        }
    }

    /// From here on nothing waits.
    pub fn go_async(&self) -> io::Result<()> {
        match self {
            Self::Udp(socket) => socket.set_nonblocking(true),
            Self::Stream(stream) => stream.socket.set_nonblocking(true),
        }
    }

    /// The descriptor, to wait for input.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        match self {
            Self::Udp(socket) => socket.as_fd(),
            Self::Stream(stream) => stream.socket.as_fd(),
        }
    }

    /// Sends `request` and waits for the answer that `is_answer` takes.
    pub fn ask(&mut self, request: &[u8], is_answer: impl Fn(&[u8]) -> bool) -> io::Result<Vec<u8>> {
        match self {
            Self::Udp(socket) => {
                let mut buffer = [0; 2048];
                for _ in 0..ATTEMPTS {
                    // An error may be an ICMP one about an earlier try: the server may be about to start.
                    let _ = socket.send(request);
                    while let Ok(length) = socket.recv(&mut buffer) {
                        if let Some(answer) = buffer.get(..length).filter(|bytes| is_answer(bytes)) {
                            return Ok(answer.to_vec());
                        }
                    }
                }
                Err(io::Error::new(io::ErrorKind::TimedOut, "no answer"))
            }
            Self::Stream(stream) => {
                let (mut scratch, mut found) = (vec![0; SCRATCH], None);
                stream.send(request);
                while found.is_none() {
                    stream.receive(&mut scratch, |frame| {
                        if is_answer(frame) {
                            found = Some(frame.to_vec());
                        }
                    })?;
                }
                found.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
            }
        }
    }
}

/// Whether `bytes` is a response with this transaction id.
pub fn answers(bytes: &[u8], transaction: &TransactionId) -> bool {
    bytes.first().is_some_and(|first| *first == 1) && bytes.get(8..20) == Some(transaction)
}

impl Stream {
    /// Sends `bytes`, whole frames, as far as the server reads; false when too much waits already, and nothing was sent.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        if self.output.len() - self.written > BACKLOG || self.queued > BACKLOG {
            self.flush();
            return false;
        }
        match &mut self.tls {
            Some(tls) => {
                self.queued += bytes.len();
                let _ = tls.writer().write_all(bytes);
            }
            None => self.output.extend_from_slice(bytes),
        }
        self.flush();
        true
    }

    /// True when something waits for the server to read.
    pub fn is_behind(&self) -> bool {
        self.output.len() > self.written || self.queued > 0
    }

    /// Writes what waits, as far as the server reads. A lost connection shows when it is read.
    pub fn flush(&mut self) {
        let Some(tls) = &mut self.tls else {
            while let Some(rest) = self.output.get(self.written..).filter(|rest| !rest.is_empty()) {
                match self.socket.write(rest) {
                    Ok(count) if count > 0 => self.written += count,
                    _ => return,
                }
            }
            self.output.clear();
            self.written = 0;
            return;
        };
        while tls.wants_write() {
            if !matches!(tls.write_tls(&mut self.socket), Ok(count) if count > 0) {
                return;
            }
        }
        self.queued = 0;
    }

    /// Reads once, or until `scratch` is full, and gives each whole frame to `take`. An error ends the connection.
    pub fn receive(&mut self, scratch: &mut Vec<u8>, mut take: impl FnMut(&[u8])) -> io::Result<()> {
        let mut length = self.partial.len();
        if scratch.len() < length + FRAME {
            scratch.resize(length + FRAME, 0);
        }
        scratch[..length].copy_from_slice(&self.partial);
        length += self.read(&mut scratch[length..])?;
        let mut start = 0;
        while let Some(rest) = scratch.get(start..length) {
            let next = framing::next_frame(rest).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            let Some((frame, advance)) = next else { break };
            take(&rest[..frame]);
            start += advance;
        }
        self.partial.clear();
        self.partial.extend_from_slice(&scratch[start..length]);
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let ended = || Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
        let Some(tls) = &mut self.tls else {
            return match self.socket.read(buffer) {
                Ok(0) => ended(),
                result => result,
            };
        };
        let mut length = 0;
        loop {
            match tls.reader().read(&mut buffer[length..]) {
                Ok(0) if length < buffer.len() => return ended(),
                Ok(count) => length += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            if length == buffer.len() {
                return Ok(length);
            }
            match tls.read_tls(&mut self.socket) {
                Ok(0) => return ended(),
                Ok(_) => {
                    tls.process_new_packets().map_err(io::Error::other)?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && length > 0 => return Ok(length),
                Err(error) => return Err(error),
            }
            // While the allocation is made the socket waits: what has come is enough then.
            if length == 0 && !tls.is_handshaking() {
                length = match tls.reader().read(buffer) {
                    Ok(count) if count > 0 => return Ok(count),
                    _ => 0,
                };
            }
        }
    }
}
