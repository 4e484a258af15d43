//! The three sockets that NAT discovery (RFC 5780) needs beside the first one: our other address, and on both addresses
//! another port. They are listeners of every shard like any other, so that any of them can answer for any other.

use std::io;
use std::net::{IpAddr, SocketAddr};

use super::StartError;
use super::listener::{Listener, bind_group, start_error};
use crate::config::Config;
use crate::relay::Alternate;

/// Other ports tried when the first port was left to the kernel, and the other one is with it.
const ATTEMPTS: usize = 16;

/// Binds them behind the listeners of each shard. `None`: no `--alt-ip`, or no first listener of its family.
pub(super) fn bind(config: &Config, lists: &mut [Vec<Listener>]) -> Result<Option<Alternate>, StartError> {
    let Some(ip) = config.alt_ip else { return Ok(None) };
    let listeners = lists.first().map_or(&[][..], Vec::as_slice);
    let first = listeners.iter().map(|listener| listener.address).find(|first| first.is_ipv4() == ip.is_ipv4());
    let Some(first) = first else { return Ok(None) };
    let is_chosen = config.udp.addresses.iter().any(|address| address.ip() == first.ip() && address.port() == 0);
    let mut left = if is_chosen { ATTEMPTS } else { 1 };
    loop {
        left -= 1;
        let port = if is_chosen { 0 } else { other_port(first.port()) };
        match bind_three(first, ip, port, lists.len()) {
            Ok(groups) => {
                let other = groups.last().and_then(|group| group.first()).map(|listener| listener.address);
                for group in groups {
                    lists.iter_mut().zip(group).for_each(|(list, listener)| list.push(listener));
                }
                return Ok(other.map(|other| Alternate { first, other }));
            }
            Err((_, error)) if left > 0 && error.kind() == io::ErrorKind::AddrInUse => {}
            Err((address, error)) => return Err(start_error(address, &error)),
        }
    }
}

/// The port beside the first one: the next higher, as with coturn.
pub(crate) fn other_port(first: u16) -> u16 {
    first.checked_add(1).unwrap_or(first - 1)
}

type Groups = Vec<Vec<Listener>>;

/// The first address with the other port, the other address with the first port, and the other address and port.
fn bind_three(first: SocketAddr, ip: IpAddr, port: u16, shards: usize) -> Result<Groups, (SocketAddr, io::Error)> {
    let bind = |address: SocketAddr| bind_group(address, shards).map_err(|error| (address, error));
    let second = bind(SocketAddr::new(first.ip(), port))?;
    let port = second.first().map_or(port, |listener| listener.address.port());
    let third = bind(SocketAddr::new(ip, first.port()))?;
    let fourth = bind(SocketAddr::new(ip, port))?;
    Ok(vec![second, third, fourth])
}
