//! The error queue of a socket: what ICMP, or this host itself, says about packets sent earlier.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use super::{Control, socket_address};

/// Who reports an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::net) enum Origin {
    /// An ICMPv4 or ICMPv6 message of this type and code, as the socket's family.
    Icmp { kind: u8, code: u8 },
    /// This host: the packet is larger than the MTU of its own interface, and must not be fragmented.
    TooBigHere,
    /// Anything else, which concerns no peer.
    Other,
}

/// One error about one packet sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::net) struct SocketError {
    pub origin: Origin,
    /// Where the packet was going.
    pub to: SocketAddr,
    /// The MTU, where the error tells one.
    pub mtu: u32,
}

/// Takes the oldest error off the queue of `socket`, without waiting. `Ok(None)`: the queue is empty.
pub(in crate::net) fn take_error(socket: BorrowedFd<'_>) -> io::Result<Option<SocketError>> {
    // SAFETY: all-zero bytes are a valid value of these plain C structures.
    let (mut name, mut header): (libc::sockaddr_storage, libc::msghdr) = unsafe { (zeroed(), zeroed()) };
    let mut control = Control([0; 128]);
    header.msg_name = ptr::from_mut(&mut name).cast();
    header.msg_namelen = size_of::<libc::sockaddr_storage>() as _;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = size_of::<Control>() as _;
    // SAFETY: name and control outlive the call and are given with their true lengths; there is no buffer, since the
    // quoted packet is not wanted.
    let result = unsafe { libc::recvmsg(socket.as_raw_fd(), &mut header, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT) };
    if result < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) };
    }
    let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
    let to = socket_address(&name).unwrap_or(unspecified);
    let report = extended_error(&header);
    let origin = match report {
        Some(report) if matches!(report.ee_origin, libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6) => {
            Origin::Icmp { kind: report.ee_type, code: report.ee_code }
        }
        Some(report) if report.ee_origin == libc::SO_EE_ORIGIN_LOCAL && report.ee_errno == libc::EMSGSIZE as u32 => {
            Origin::TooBigHere
        }
        _ => Origin::Other,
    };
    Ok(Some(SocketError { origin, to, mtu: report.map_or(0, |report| report.ee_info) }))
}

fn extended_error(header: &libc::msghdr) -> Option<libc::sock_extended_err> {
    // SAFETY: the kernel filled `msg_control` and `msg_controllen` of this header; the CMSG macros stay within them, and
    // the payload is read unaligned only under the level and type that define its structure.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(header);
        while let Some(head) = control.as_ref() {
            let kind = (head.cmsg_level, head.cmsg_type);
            if matches!(kind, (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)) {
                return Some(ptr::read_unaligned(libc::CMSG_DATA(control).cast::<libc::sock_extended_err>()));
            }
            control = libc::CMSG_NXTHDR(header, control);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;
    use crate::net::sys;

    /// A port that nobody listens on, sent to.
    fn refused(local: &str) -> (UdpSocket, SocketAddr) {
        let sender = UdpSocket::bind(local).unwrap();
        sys::report_errors(sender.as_fd(), local.starts_with('[')).unwrap();
        sender.set_nonblocking(true).unwrap();
        let closed = UdpSocket::bind(local).unwrap().local_addr().unwrap();
        sender.send_to(b"anybody?", closed).unwrap();
        (sender, closed)
    }

    #[test]
    fn a_closed_port_is_reported_with_its_address() {
        for (local, kind, code) in [("127.0.0.1:0", 3, 3), ("[::1]:0", 1, 4)] {
            let (sender, closed) = refused(local);
            // On loopback the answer is there before the call returns.
            let error = take_error(sender.as_fd()).unwrap().expect("an error is queued");
            assert_eq!((error.origin, error.to), (Origin::Icmp { kind, code }, closed), "{local}");
            assert_eq!(take_error(sender.as_fd()).unwrap(), None);
        }
    }
}
