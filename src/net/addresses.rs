//! The addresses of this host, and how each looks from outside.

use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

use super::sys;

/// The addresses of this host's interfaces (loopback included).
pub fn interface_addresses() -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_else(|error| {
        tracing::warn!(%error, "the addresses of the network interfaces could not be listed");
        Vec::new()
    });
    let mut addresses: Vec<IpAddr> = interfaces.iter().map(if_addrs::Interface::ip).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// Tells when the addresses of this host change.
pub struct AddressWatch {
    /// `None` where the kernel does not tell.
    socket: Option<(AsyncFd<OwnedFd>, File)>,
}

impl AddressWatch {
    /// Must be called within the runtime.
    pub fn new() -> Self {
        let open = || {
            let socket = sys::address_changes()?;
            let reader = File::from(socket.try_clone()?);
            Ok((sys::watch_input(socket)?, reader))
        };
        let socket: io::Result<_> = open();
        let told = |error: &io::Error| tracing::info!(%error, "changes of addresses are looked for, not told");
        Self { socket: socket.inspect_err(told).ok() }
    }

    /// Waits for the next change; for ever where the kernel does not tell.
    pub async fn changed(&self) {
        let Some((socket, reader)) = &self.socket else { return std::future::pending().await };
        let Ok(mut guard) = socket.readable().await else { return std::future::pending().await };
        // What the messages say does not matter. More of them than the socket holds are an error, and news as well.
        let mut buffer = [0; 8192];
        let mut reader = reader;
        loop {
            match guard.try_io(|_| reader.read(&mut buffer)) {
                Ok(Ok(0)) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }
}

impl Default for AddressWatch {
    fn default() -> Self {
        Self::new()
    }
}

/// The source address of the default route of each family, if there is one: what a LAN reaches us on.
pub fn default_route_addresses() -> Vec<IpAddr> {
    // Connecting a UDP socket sends nothing: it only asks the routing table. Both targets are public unicast addresses,
    // since a documentation prefix may have a route of its own.
    let v4 = source_towards((Ipv4Addr::new(1, 1, 1, 1), 9).into());
    let v6 = source_towards((Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1111), 9).into());
    v4.into_iter().chain(v6).collect()
}

fn source_towards(target: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(target).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified() && !ip.is_loopback() && !is_link_local(ip)).then_some(ip)
}

/// True for addresses that mean something on one link only.
pub(super) fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// An unpredictable number.
pub(super) fn random() -> u32 {
    let mut bytes = [0; 4];
    fill_random(&mut bytes);
    u32::from_ne_bytes(bytes)
}

/// An unpredictable seed.
pub(super) fn random_seed() -> u64 {
    let mut bytes = [0; 8];
    fill_random(&mut bytes);
    u64::from_ne_bytes(bytes)
}

fn fill_random(bytes: &mut [u8]) {
    // It fails only when the system has no random source at all; a service of secrets must not go on then.
    aws_lc_rs::rand::fill(bytes).expect("the system's random source works");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_an_interface_address_but_no_default_route() {
        assert!(interface_addresses().contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)));
        assert!(default_route_addresses().iter().all(|ip| !ip.is_loopback() && !ip.is_unspecified()));
    }
}
