//! Who holds a port, as far as `/proc` tells this user.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// TCP state LISTEN in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// `name (pid 123)` of the process that holds `address`; `transport` is `TCP` or `UDP`.
pub(crate) fn holder(address: SocketAddr, transport: &str) -> Option<String> {
    let is_tcp = transport == "TCP";
    let files = if is_tcp { ["tcp", "tcp6"] } else { ["udp", "udp6"] };
    let inode = files.iter().find_map(|file| {
        let table = fs::read_to_string(format!("/proc/net/{file}")).ok()?;
        table.lines().skip(1).find_map(|line| inode_of(line, address, is_tcp))
    })?;
    process_of(&format!("socket:[{inode}]"))
}

/// The inode of a line of `/proc/net/{tcp,udp}` whose socket collides with `address`.
fn inode_of(line: &str, address: SocketAddr, is_tcp: bool) -> Option<String> {
    let mut fields = line.split_whitespace();
    let (host, port) = fields.nth(1)?.split_once(':')?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?;
    let is_same_port = u16::from_str_radix(port, 16).ok()? == address.port();
    let bound = parse_address(host)?;
    let is_same_host = bound == address.ip() || bound.is_unspecified() || address.ip().is_unspecified();
    (is_same_port && is_same_host && (!is_tcp || state == LISTEN)).then(|| inode.to_owned())
}

/// An address as the kernel prints it: 32-bit words of network order in the machine's order.
fn parse_address(text: &str) -> Option<IpAddr> {
    let mut octets = Vec::with_capacity(16);
    for start in (0..text.len()).step_by(8) {
        let word = u32::from_str_radix(text.get(start..start + 8)?, 16).ok()?;
        octets.extend(word.to_ne_bytes());
    }
    if let Ok(octets) = <[u8; 4]>::try_from(octets.as_slice()) {
        return Some(Ipv4Addr::from(octets).into());
    }
    <[u8; 16]>::try_from(octets.as_slice()).ok().map(|octets| Ipv6Addr::from(octets).to_canonical())
}

fn process_of(socket: &str) -> Option<String> {
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else { continue };
        let Ok(files) = fs::read_dir(entry.path().join("fd")) else { continue };
        let is_holder =
            files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == socket));
        if is_holder {
            let command = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", command.trim()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_this_process_by_its_socket() {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let udp =
            std::net::UdpSocket::bind("[::1]:0").or_else(|_| std::net::UdpSocket::bind("127.0.0.1:0")).expect("bound");
        let own = format!("(pid {})", std::process::id());
        let tcp_holder = holder(tcp.local_addr().expect("address"), "TCP").expect("found");
        assert!(tcp_holder.ends_with(&own), "{tcp_holder}");
        let udp_holder = holder(udp.local_addr().expect("address"), "UDP").expect("found");
        assert!(udp_holder.ends_with(&own), "{udp_holder}");
    }

    #[test]
    fn wildcards_collide_with_every_address() {
        let line = "   1: 00000000:0D96 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1";
        let asked = |address: &str| inode_of(line, address.parse().expect("address"), true);
        assert_eq!(asked("127.0.0.1:3478").as_deref(), Some("4711"));
        assert_eq!(asked("127.0.0.1:3479"), None);
        let connected = line.replace(" 0A ", " 01 ");
        assert_eq!(inode_of(&connected, "127.0.0.1:3478".parse().expect("address"), true), None);
    }
}
