//! How the sockets of a TCP relayed address are opened: one that listens there, and one for each Connect from there.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

/// Peers that may wait to be accepted: no more than an allocation may have connections by default.
const BACKLOG: i32 = 32;

/// Listens on `address`, not blocking. Connections of an earlier allocation that are still closing do not stand in the way;
/// another listener does.
pub(in crate::net) fn listen(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    // Only now, so that the bind above has found the port to be ours alone: Connect binds to it as well.
    socket.set_reuse_port(true)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Connects to `target` from `bound`, on which we listen (RFC 6062 section 5.2).
pub(super) async fn connect(bound: SocketAddr, target: SocketAddr) -> io::Result<TcpStream> {
    let socket = if bound.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(bound)?;
    socket.connect(target).await
}
