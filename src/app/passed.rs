//! Sockets that systemd bound before the start and passed on (`LISTEN_FDS`): connections wait in them while the service
//! restarts.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use listenfd::ListenFd;

/// What was passed and not yet taken.
#[derive(Debug, Default)]
pub struct Passed {
    tcp: Vec<(SocketAddr, TcpListener)>,
    udp: Vec<(SocketAddr, UdpSocket)>,
}

impl Passed {
    /// Takes what the environment announces, and the announcement with it: before any thread is started.
    pub fn from_environment() -> Self {
        let (mut passed, mut sockets) = (Self::default(), ListenFd::from_env());
        for index in 0..sockets.len() {
            if let Ok(Some(socket)) = sockets.take_tcp_listener(index) {
                passed.tcp.extend(socket.local_addr().ok().map(|address| (address, socket)));
            } else if let Ok(Some(socket)) = sockets.take_udp_socket(index) {
                passed.udp.extend(socket.local_addr().ok().map(|address| (address, socket)));
            }
        }
        passed
    }

    /// The listener bound to exactly this address.
    pub(super) fn take_tcp(&mut self, wanted: SocketAddr) -> Option<TcpListener> {
        let index = self.tcp.iter().position(|(address, _)| *address == wanted)?;
        Some(self.tcp.swap_remove(index).1)
    }

    /// All UDP sockets. The kernel lets only sockets of one user share a port, so that a passed one serves where a
    /// single thread does.
    pub(super) fn take_udp(&mut self) -> Vec<UdpSocket> {
        std::mem::take(&mut self.udp).into_iter().map(|(_, socket)| socket).collect()
    }

    /// Closes what the configuration does not name, and says so.
    pub(super) fn close_rest(&mut self) {
        for (address, _) in self.tcp.drain(..) {
            tracing::warn!(%address, "a TCP socket was passed that the configuration does not name (web.tcp): closed");
        }
    }
}
