//! What the generator's own sockets had no room for: the kernel counts it, and no server lost it.

use std::collections::HashSet;
use std::fs;

/// The kernel's tables of UDP sockets, one line each.
const TABLES: [&str; 2] = ["/proc/self/net/udp", "/proc/self/net/udp6"];
/// The field `local_address` of a line, counted from 0.
const LOCAL: usize = 1;

/// Datagrams dropped so far at the sockets with these ports, since nobody had read what came before.
pub fn dropped(ports: &HashSet<u16>) -> u64 {
    let tables = TABLES.iter().filter_map(|table| fs::read_to_string(table).ok());
    tables.map(|text| text.lines().filter_map(|line| of_line(line, ports)).sum::<u64>()).sum()
}

/// The last field, `drops`, if the socket is one of `ports`.
fn of_line(line: &str, ports: &HashSet<u16>) -> Option<u64> {
    let (_, port) = line.split_whitespace().nth(LOCAL)?.rsplit_once(':')?;
    if !ports.contains(&u16::from_str_radix(port, 16).ok()?) {
        return None;
    }
    line.split_whitespace().last()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn a_socket_that_nobody_reads() {
        let (full, idle) = (UdpSocket::bind("127.0.0.1:0"), UdpSocket::bind("127.0.0.1:0"));
        let (full, idle) = (full.expect("a port"), idle.expect("a port"));
        let port = |socket: &UdpSocket| HashSet::from([socket.local_addr().expect("bound").port()]);
        let (ports, others) = (port(&full), port(&idle));
        assert_eq!(dropped(&ports), 0);
        // Until its buffer is full, however large it is here.
        while dropped(&ports) == 0 {
            for _ in 0..1_000 {
                idle.send_to(&[0; 1_000], full.local_addr().expect("bound")).expect("sent");
            }
        }
        assert_eq!(dropped(&others), 0);
    }
}
