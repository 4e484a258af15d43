//! The listening UDP sockets: one per address and shard, sharing ports by `SO_REUSEPORT`.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};

use socket2::{SockRef, Socket};

use super::{StartError, holder, relay_socket, sys};
use crate::config::Listen;

const ONE_THREAD: &str = "the socket that systemd passed for it serves one UDP thread only: start with --shards 1 \
    (turn.shards), or take its ListenDatagram= out of the socket unit";

/// Who decides which shard's socket takes the packets of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spread {
    /// Nobody: there is one socket.
    Alone,
    /// A program of ours in the kernel, by the client's address and port, among the sockets of the start.
    ByProgram,
    /// The kernel, among all sockets of the port: another one would move clients.
    ByKernel,
}

/// A listening socket of one shard.
pub(super) struct Listener {
    pub socket: OwnedFd,
    /// The bound address.
    pub address: SocketAddr,
    /// Bound to every address of its family: each datagram says where it was sent to, and answers leave from there.
    pub wildcard: bool,
    pub spread: Spread,
}

impl Listener {
    /// The server's side of the 5-tuple of a datagram that came to `to`.
    pub(super) fn server(&self, to: Option<IpAddr>) -> SocketAddr {
        match to {
            Some(ip) if self.wildcard => SocketAddr::new(ip, self.address.port()),
            _ => self.address,
        }
    }
}

/// Binds every address once per shard; the result has one list per shard, all in the same order. A socket of `passed`
/// takes the place of its address where there is one shard. With more there is no place for it, and none beside it, since
/// whoever passed it holds the port: that is an error.
///
/// A default address whose family this host lacks is a warning; whatever else fails stops the start.
pub(super) fn bind_all(
    listen: &Listen,
    shards: usize,
    mut passed: Vec<UdpSocket>,
) -> Result<Vec<Vec<Listener>>, StartError> {
    let mut lists: Vec<Vec<Listener>> = (0..shards).map(|_| Vec::new()).collect();
    for &address in &listen.addresses {
        let has_it = |socket: &UdpSocket| socket.local_addr().is_ok_and(|bound| bound == address);
        let group = match passed.iter().position(has_it) {
            Some(_) if shards > 1 => return Err(StartError { address, in_use: false, reason: ONE_THREAD.into() }),
            Some(index) => adopt(passed.swap_remove(index), address).map(|listener| vec![listener]),
            None => bind_group(address, shards),
        };
        match group {
            Ok(group) => {
                for (list, listener) in lists.iter_mut().zip(group) {
                    list.push(listener);
                }
            }
            Err(error) if !listen.explicit && is_family_missing(&error) => {
                tracing::warn!(%address, %error, "not listening there: this host lacks the address family");
            }
            Err(error) => return Err(start_error(address, &error)),
        }
    }
    for address in passed.iter().filter_map(|socket| socket.local_addr().ok()) {
        tracing::warn!(%address, "a UDP socket was passed that the configuration does not name (turn.udp): closed");
    }
    Ok(lists)
}

/// Makes a listener of a socket that is bound already.
fn adopt(socket: UdpSocket, address: SocketAddr) -> io::Result<Listener> {
    let socket = Socket::from(socket);
    socket.set_nonblocking(true)?;
    relay_socket::prepare(&socket, address)?;
    let wildcard = address.ip().is_unspecified();
    if wildcard {
        sys::enable_packet_info(socket.as_fd(), address.is_ipv6())?;
    }
    let listener = Listener { socket: socket.into(), address, wildcard, spread: Spread::Alone };
    tracing::info!(%address, "a passed UDP socket is in use");
    log_buffers(&listener);
    Ok(listener)
}

/// Binds `address` once per shard. For port 0 the first socket picks, the others join it.
pub(super) fn bind_group(address: SocketAddr, shards: usize) -> io::Result<Vec<Listener>> {
    let mut group: Vec<Listener> = Vec::with_capacity(shards);
    for _ in 0..shards {
        let target = group.first().map_or(address, |first| first.address);
        let socket = relay_socket::open(target)?;
        // The first one binds alone, so that a port another process shares is found out as well.
        if !group.is_empty() {
            socket.set_reuse_port(true)?;
        }
        socket.bind(&target.into())?;
        if shards > 1 && group.is_empty() {
            socket.set_reuse_port(true)?;
        }
        let wildcard = target.ip().is_unspecified();
        if wildcard {
            sys::enable_packet_info(socket.as_fd(), target.is_ipv6())?;
        }
        let bound = socket.local_addr()?.as_socket().unwrap_or(target);
        group.push(Listener { socket: socket.into(), address: bound, wildcard, spread: Spread::Alone });
    }
    if shards > 1 {
        let spread = spread(&group, address.is_ipv6());
        group.iter_mut().for_each(|listener| listener.spread = spread);
    }
    if let Some(first) = group.first() {
        log_buffers(first);
    }
    Ok(group)
}

/// Has clients spread over the sockets of a port by a program.
fn spread(group: &[Listener], v6: bool) -> Spread {
    let Some(first) = group.first() else { return Spread::ByKernel };
    let seed = super::addresses::random_seed() as u32;
    match sys::spread_by_source(first.socket.as_fd(), v6, group.len() as u32, seed) {
        Ok(()) => Spread::ByProgram,
        Err(error) => {
            tracing::info!(address = %first.address, %error, "the kernel spreads clients over UDP threads by itself");
            Spread::ByKernel
        }
    }
}

fn log_buffers(listener: &Listener) {
    let socket = SockRef::from(&listener.socket);
    // The kernel counts its own overhead and reports twice what it grants.
    let receive = socket.recv_buffer_size().unwrap_or(0) / 2;
    let send = socket.send_buffer_size().unwrap_or(0) / 2;
    tracing::info!(address = %listener.address, receive, send, "UDP socket buffers granted, in bytes");
}

fn is_family_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

pub(super) fn start_error(address: SocketAddr, error: &io::Error) -> StartError {
    let in_use = error.kind() == io::ErrorKind::AddrInUse;
    let reason = match (error.kind(), holder::holder(address, "UDP")) {
        (io::ErrorKind::AddrInUse, Some(holder)) => format!("already in use by {holder}"),
        (io::ErrorKind::AddrInUse, None) => "already in use".into(),
        (io::ErrorKind::AddrNotAvailable, _) => "no interface of this host has that address".into(),
        (io::ErrorKind::PermissionDenied, _) => "not permitted (ports below 1024 need CAP_NET_BIND_SERVICE)".into(),
        _ => error.to_string(),
    };
    StartError { address, in_use, reason }
}
