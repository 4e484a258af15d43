//! The system calls that no safe crate offers in the form the packet path needs. The only module with `unsafe` code.
//!
//! Every function here is safe to call: buffers are borrowed for the length of the call, and the pointers handed to the
//! kernel are made and forgotten within it.
#![allow(
    unsafe_code,
    reason = "batched UDP, socket options with ancillary data and epoll are system calls on raw pointers"
)]

mod errors;
mod netlink;
mod options;
mod poll;

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use libc::{c_int, c_uint, c_void};

pub(super) use errors::{Origin, take_error};
pub(super) use netlink::address_changes;
#[cfg(test)]
pub(super) use options::mtu_discovery;
pub(crate) use options::{enable_gro, force_buffers, supports_gso};
pub(super) use options::{
    enable_packet_info, force_receive_buffer, report_errors, set_dont_fragment, spread_by_source,
};
pub(crate) use poll::{Poller, Ready};
pub(super) use poll::{WakeUp, sleep_precisely, watch_input};

/// Messages per `recvmmsg`: bounds what one socket gets before the next one has its turn.
pub(crate) const RECEIVE_BATCH: usize = 16;
/// Messages per `sendmmsg`.
pub(crate) const SEND_BATCH: usize = 64;
/// The largest UDP payload (65,535) fits, so nothing is ever cut.
pub(crate) const DATAGRAM: usize = 1 << 16;

/// Room for packet info of either family and a segment size, aligned as `cmsghdr` asks.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; 128]);

/// One message of [`Receiver::receive`]; with GRO it holds several datagrams of `segment` bytes, the last maybe shorter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    pub from: SocketAddr,
    /// The address it was sent to, where packet info is switched on.
    pub to: Option<IpAddr>,
    /// Index of the buffer it lies in, within the arena given.
    pub buffer: usize,
    pub len: usize,
    pub segment: usize,
}

/// Reusable headers of `recvmmsg`.
pub(crate) struct Receiver {
    names: Vec<libc::sockaddr_storage>,
    controls: Vec<Control>,
    iovecs: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

// SAFETY: the pointers within are made and used in one call of `receive`; between calls nobody follows them.
unsafe impl Send for Receiver {}

impl Receiver {
    pub(crate) fn new() -> Self {
        // SAFETY: all-zero bytes are a valid value of these plain C structures (null pointers, zero lengths).
        let (name, iovec, header) = unsafe { (zeroed(), zeroed(), zeroed()) };
        Self {
            names: vec![name; RECEIVE_BATCH],
            controls: vec![Control([0; 128]); RECEIVE_BATCH],
            iovecs: vec![iovec; RECEIVE_BATCH],
            headers: vec![header; RECEIVE_BATCH],
        }
    }

    /// Receives into `arena`, one message per `stride` bytes (at least [`DATAGRAM`]), without waiting. Appends to `out`
    /// and returns how many; a message whose source is no IP address is left out.
    pub(crate) fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        arena: &mut [u8],
        stride: usize,
        out: &mut Vec<Received>,
    ) -> io::Result<usize> {
        let mut count = 0;
        for buffer in arena.chunks_exact_mut(stride).take(RECEIVE_BATCH) {
            self.iovecs[count] = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: DATAGRAM.min(stride) };
            let header = &mut self.headers[count].msg_hdr;
            header.msg_name = ptr::from_mut(&mut self.names[count]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_storage>() as _;
            header.msg_iov = &mut self.iovecs[count];
            header.msg_iovlen = 1;
            header.msg_control = self.controls[count].0.as_mut_ptr().cast();
            header.msg_controllen = size_of::<Control>() as _;
            header.msg_flags = 0;
            count += 1;
        }
        // SAFETY: the first `count` headers were just pointed at buffers, names and controls that outlive the call, with
        // their true lengths; the kernel writes nowhere else.
        let received = check(unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                count as c_uint,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        })? as usize;
        for buffer in 0..received.min(count) {
            let Some(from) = socket_address(&self.names[buffer]) else { continue };
            let len = self.headers[buffer].msg_len as usize;
            let (to, segment) = ancillary(&self.headers[buffer].msg_hdr);
            let segment = segment.filter(|&segment| segment > 0).unwrap_or(len);
            out.push(Received { from, to, buffer, len, segment });
        }
        Ok(received)
    }
}

/// Destination address and GRO segment size of a message just received.
fn ancillary(header: &libc::msghdr) -> (Option<IpAddr>, Option<usize>) {
    let (mut to, mut segment) = (None, None);
    // SAFETY: the kernel filled `msg_control` and `msg_controllen` of this header; the CMSG macros stay within them, and
    // each payload is read unaligned only under the level and type that define its structure.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(header);
        while let Some(head) = control.as_ref() {
            let data = libc::CMSG_DATA(control);
            match (head.cmsg_level, head.cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info = ptr::read_unaligned(data.cast::<libc::in_pktinfo>());
                    to = Some(IpAddr::V4(Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr))));
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info = ptr::read_unaligned(data.cast::<libc::in6_pktinfo>());
                    to = Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)));
                }
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    segment = usize::try_from(ptr::read_unaligned(data.cast::<c_int>())).ok();
                }
                _ => {}
            }
            control = libc::CMSG_NXTHDR(header, control);
        }
    }
    (to, segment)
}

/// A run of bytes to send: `start..start + len` of the region numbered `region`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub region: u32,
    pub start: u32,
    pub len: u32,
}

/// One message of [`Sender::send`]: its bytes are `pieces` of the piece list, one behind the other.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub to: SocketAddr,
    /// Sent from this local address instead of the one the route would choose.
    pub source: Option<IpAddr>,
    /// GSO: the kernel cuts the message into datagrams of this size; 0 sends it as one datagram.
    pub segment: u16,
    pub pieces: Range<usize>,
}

/// Reusable headers of `sendmmsg`.
pub(crate) struct Sender {
    names: Vec<libc::sockaddr_storage>,
    controls: Vec<Control>,
    iovecs: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

// SAFETY: the pointers within are made and used in one call of `send`; between calls nobody follows them.
unsafe impl Send for Sender {}

impl Sender {
    pub(crate) fn new() -> Self {
        // SAFETY: all-zero bytes are a valid value of these plain C structures (null pointers, zero lengths).
        let (name, header) = unsafe { (zeroed(), zeroed()) };
        Self {
            names: vec![name; SEND_BATCH],
            controls: vec![Control([0; 128]); SEND_BATCH],
            iovecs: Vec::new(),
            headers: vec![header; SEND_BATCH],
        }
    }

    /// Sends the first [`SEND_BATCH`] of `messages` without waiting. Returns how many went out; an error is about the
    /// first one.
    pub(crate) fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        regions: &[&[u8]],
        pieces: &[Piece],
        messages: &[Outgoing],
    ) -> io::Result<usize> {
        let messages = &messages[..messages.len().min(SEND_BATCH)];
        self.iovecs.clear();
        for message in messages {
            self.iovecs.extend(pieces[message.pieces.clone()].iter().map(|piece| {
                let bytes = &regions[piece.region as usize][piece.start as usize..][..piece.len as usize];
                libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
            }));
        }
        // The list is complete and does not move any more: pointers into it can be taken.
        let mut next = self.iovecs.as_mut_ptr();
        for (index, message) in messages.iter().enumerate() {
            let header = &mut self.headers[index].msg_hdr;
            header.msg_namelen = put_socket_address(&mut self.names[index], message.to) as _;
            header.msg_name = ptr::from_mut(&mut self.names[index]).cast();
            header.msg_iov = next;
            header.msg_iovlen = message.pieces.len() as _;
            // SAFETY: the pieces of all messages together are as many as `iovecs` has, so this stays within or one past.
            next = unsafe { next.add(message.pieces.len()) };
            put_ancillary(header, &mut self.controls[index], message);
        }
        // SAFETY: the first `messages.len()` headers point at names, controls and iovecs of `self`, and those at bytes of
        // `regions`, all borrowed for the length of the call; the kernel only reads them.
        let sent = check(unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                messages.len() as c_uint,
                (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
            )
        })?;
        Ok(sent as usize)
    }
}

/// Writes source address and segment size of `message` as ancillary data of `header`.
fn put_ancillary(header: &mut libc::msghdr, control: &mut Control, message: &Outgoing) {
    *control = Control([0; 128]);
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = size_of::<Control>() as _;
    // SAFETY: `control` is aligned and has room for both entries (40 + 24 of 128 bytes), so CMSG_FIRSTHDR and
    // CMSG_NXTHDR return pointers into it; payloads are written unaligned at their exact size.
    unsafe {
        let mut entry = libc::CMSG_FIRSTHDR(header);
        let mut used = 0;
        let mut put = |level: c_int, kind: c_int, payload: *const c_void, len: usize| {
            (*entry).cmsg_level = level;
            (*entry).cmsg_type = kind;
            (*entry).cmsg_len = libc::CMSG_LEN(len as c_uint) as _;
            ptr::copy_nonoverlapping(payload.cast::<u8>(), libc::CMSG_DATA(entry), len);
            used += libc::CMSG_SPACE(len as c_uint) as usize;
            entry = libc::CMSG_NXTHDR(header, entry);
        };
        match message.source {
            Some(IpAddr::V4(ip)) => {
                let mut info: libc::in_pktinfo = zeroed();
                info.ipi_spec_dst.s_addr = u32::from(ip).to_be();
                put(libc::IPPROTO_IP, libc::IP_PKTINFO, ptr::from_ref(&info).cast(), size_of::<libc::in_pktinfo>());
            }
            Some(IpAddr::V6(ip)) => {
                let mut info: libc::in6_pktinfo = zeroed();
                info.ipi6_addr.s6_addr = ip.octets();
                put(
                    libc::IPPROTO_IPV6,
                    libc::IPV6_PKTINFO,
                    ptr::from_ref(&info).cast(),
                    size_of::<libc::in6_pktinfo>(),
                );
            }
            None => {}
        }
        if message.segment > 0 {
            put(libc::SOL_UDP, libc::UDP_SEGMENT, ptr::from_ref(&message.segment).cast(), size_of::<u16>());
        }
        header.msg_controllen = used as _;
        if used == 0 {
            header.msg_control = ptr::null_mut();
        }
    }
}

/// Reads the address the kernel wrote; `None` for another family than IP.
fn socket_address(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    let name = ptr::from_ref(name);
    // SAFETY: the storage is large enough and aligned for either structure, and the family says which one it holds.
    unsafe {
        match c_int::from((*name).ss_family) {
            libc::AF_INET => {
                let v4 = &*name.cast::<libc::sockaddr_in>();
                let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
                Some(SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(v4.sin_port))))
            }
            libc::AF_INET6 => {
                let v6 = &*name.cast::<libc::sockaddr_in6>();
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                Some(SocketAddr::V6(SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), 0, v6.sin6_scope_id)))
            }
            _ => None,
        }
    }
}

/// Writes `address` for the kernel and returns the length of the structure.
fn put_socket_address(name: &mut libc::sockaddr_storage, address: SocketAddr) -> usize {
    let name = ptr::from_mut(name);
    // SAFETY: the storage is large enough and aligned for either structure; both are plain data valid when zeroed.
    unsafe {
        match address {
            SocketAddr::V4(v4) => {
                let mut raw: libc::sockaddr_in = zeroed();
                raw.sin_family = libc::AF_INET as _;
                raw.sin_port = v4.port().to_be();
                raw.sin_addr.s_addr = u32::from(*v4.ip()).to_be();
                name.cast::<libc::sockaddr_in>().write(raw);
                size_of::<libc::sockaddr_in>()
            }
            SocketAddr::V6(v6) => {
                let mut raw: libc::sockaddr_in6 = zeroed();
                raw.sin6_family = libc::AF_INET6 as _;
                raw.sin6_port = v6.port().to_be();
                raw.sin6_addr.s6_addr = v6.ip().octets();
                raw.sin6_scope_id = v6.scope_id();
                name.cast::<libc::sockaddr_in6>().write(raw);
                size_of::<libc::sockaddr_in6>()
            }
        }
    }
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
