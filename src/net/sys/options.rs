//! Socket options that no safe crate offers.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use libc::c_int;

use super::check;

/// Asks the kernel to say which local address a datagram was sent to.
pub(in crate::net) fn enable_packet_info(socket: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    if v6 {
        set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)
    } else {
        set_option(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)
    }
}

/// Asks the kernel to hand over runs of datagrams of one sender as one message (UDP GRO, Linux 5.0).
pub(crate) fn enable_gro(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_option(socket, libc::SOL_UDP, libc::UDP_GRO, 1)
}

/// Whether the kernel knows UDP GSO (Linux 4.18): a segment size of 0 is accepted and changes nothing.
pub(crate) fn supports_gso(socket: BorrowedFd<'_>) -> bool {
    set_option(socket, libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok()
}

/// Linux's "never set DF, and believe no ICMP about the path's MTU" (`linux/in.h`; since 3.15), which libc does not name.
const IP_PMTUDISC_OMIT: c_int = 5;

/// Forbids or allows fragmentation of what is sent. Relayed packets may be fragmented unless the client asked otherwise.
///
/// Over IPv4 the allowing mode is not `IP_PMTUDISC_DONT`: that one hides "fragmentation needed", which comes back after
/// the mode was restored and which the client that asked for DF must hear of.
pub(in crate::net) fn set_dont_fragment(socket: BorrowedFd<'_>, v6: bool, dont_fragment: bool) -> io::Result<()> {
    let (level, name, on, off) = if v6 {
        (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO, libc::IPV6_PMTUDISC_DONT)
    } else {
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO, IP_PMTUDISC_OMIT)
    };
    set_option(socket, level, name, if dont_fragment { on } else { off })
}

/// Asks the kernel to queue ICMP errors about packets sent (`super::take_error`), and to count the queue as input for
/// whoever waits for that.
pub(in crate::net) fn report_errors(socket: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    let (level, name) =
        if v6 { (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) } else { (libc::IPPROTO_IP, libc::IP_RECVERR) };
    set_option(socket, level, name, 1)?;
    set_option(socket, libc::SOL_SOCKET, libc::SO_SELECT_ERR_QUEUE, 1)
}

/// Asks for socket buffers of `bytes`, beyond the system's limit where we have the privilege.
pub(crate) fn force_buffers(socket: BorrowedFd<'_>, bytes: usize) -> io::Result<()> {
    force_receive_buffer(socket, bytes)?;
    set_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, bytes.min(c_int::MAX as usize) as c_int)
}

/// The same of the receive buffer alone.
pub(crate) fn force_receive_buffer(socket: BorrowedFd<'_>, bytes: usize) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes.min(c_int::MAX as usize) as c_int)
}

/// `SKF_NET_OFF` of `linux/filter.h`: offsets from here on count from the start of the IP header.
const IP_HEADER: u32 = -0x10_0000i32 as u32;

/// 2^32 by the golden ratio: a multiplication by it carries every bit upwards, where the last step of the program looks.
const GOLDEN: u32 = 0x9E37_79B1;

/// Spreads what comes to the port of a `SO_REUSEPORT` group over its first `sockets` members, by the sender's address and
/// port, and by `seed`, so that nobody can choose a port that leads to a certain socket. Sockets that join later get
/// nothing. Packets with IP options or extension headers are spread by what stands in the port's place.
pub(in crate::net) fn spread_by_source(socket: BorrowedFd<'_>, v6: bool, sockets: u32, seed: u32) -> io::Result<()> {
    use libc::{BPF_A, BPF_X, BPF_XOR};
    use libc::{BPF_ABS, BPF_ALU, BPF_H, BPF_K, BPF_LD, BPF_MISC, BPF_MOD, BPF_MUL, BPF_RET, BPF_RSH, BPF_TAX, BPF_W};
    let step = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let load = |size: u32, offset: u32| step(BPF_LD | size | BPF_ABS, IP_HEADER.wrapping_add(offset));
    // RFC 791 section 3.1, RFC 8200 section 3, and RFC 768 behind them.
    let (words, port): (&[u32], u32) = if v6 { (&[8, 12, 16, 20], 40) } else { (&[12], 20) };
    // The port moves to both halves, so that it meets all bits of the address.
    let mut program = vec![
        load(BPF_H, port),
        step(BPF_ALU | BPF_MUL | BPF_K, 0x1_0001),
        step(BPF_ALU | BPF_XOR | BPF_K, seed),
        step(BPF_ALU | BPF_MUL | BPF_K, GOLDEN),
    ];
    for &word in words {
        program.extend([
            step(BPF_MISC | BPF_TAX, 0),
            load(BPF_W, word),
            step(BPF_ALU | BPF_XOR | BPF_X, 0),
            step(BPF_ALU | BPF_MUL | BPF_K, GOLDEN),
        ]);
    }
    program.extend([
        step(BPF_ALU | BPF_RSH | BPF_K, 16),
        step(BPF_ALU | BPF_MOD | BPF_K, sockets.max(1)),
        step(BPF_RET | BPF_A, 0),
    ]);
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the option's value is the structure given with its size; the steps that it points to are as many as it says,
    // and both live through the call, in which the kernel copies them.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            ptr::from_ref(&program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    })
    .map(drop)
}

fn set_option(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    // SAFETY: the option's value is one `c_int` that lives through the call, and its length is given.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            ptr::from_ref(&value).cast(),
            size_of::<c_int>() as libc::socklen_t,
        )
    })
    .map(drop)
}

/// How an IPv4 socket treats the path's MTU, as set by [`set_dont_fragment`].
#[cfg(test)]
pub(in crate::net) fn mtu_discovery(socket: BorrowedFd<'_>) -> io::Result<c_int> {
    let (mut value, mut len) = (0, size_of::<c_int>() as libc::socklen_t);
    // SAFETY: the value has the length given, and both live through the call.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            ptr::from_mut(&mut value).cast(),
            &mut len,
        )
    })?;
    Ok(value)
}
