//! Which peers may be reached. Precedence: service ports of ours never, deny list, allow list, built-in deny of every
//! special-purpose range (IANA's IPv4 and IPv6 Special-Purpose Address Registries) and of the clouds' own services.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustc_hash::FxHashSet;

use super::event::Route;
use super::settings::Settings;
use crate::config::Cidr;

/// What the policy says about a peer's IP address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Another host.
    Network,
    /// This host: a live relayed address may be there. `allowed`: the allow list covers it as well.
    Own { allowed: bool },
}

/// The compiled peer policy.
pub(super) struct Policy {
    own_ips: FxHashSet<IpAddr>,
    service_ports: FxHashSet<u16>,
    allow: Vec<Block>,
    deny: Vec<Block>,
}

impl Policy {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            own_ips: settings.own_ips.iter().copied().map(canonical_ip).collect(),
            service_ports: settings.service_ports.iter().copied().collect(),
            allow: settings.allow_peers.iter().map(Block::new).collect(),
            deny: settings.deny_peers.iter().map(Block::new).collect(),
        }
    }

    /// Whether `ip` (canonical) may be a peer; `None` is denied.
    pub(super) fn judge(&self, ip: IpAddr) -> Option<Reach> {
        if self.own_ips.contains(&ip) {
            return Some(Reach::Own { allowed: self.is_allowed(ip) });
        }
        // An address that stands for an IPv4 address elsewhere is as good as that address, and no way around to us.
        let is_way_around = embedded_ipv4(ip)
            .into_iter()
            .flatten()
            .map(IpAddr::V4)
            .any(|inner| self.own_ips.contains(&inner) || !self.is_reachable(inner));
        if is_way_around || !self.is_reachable(ip) {
            return None;
        }
        // All of 127/8 reaches our wildcard sockets, so the service port rule must see it.
        Some(if ip.is_loopback() { Reach::Own { allowed: true } } else { Reach::Network })
    }

    /// How a peer that `judge` let through is reached on `port`; `None` when a service of ours listens there.
    pub(super) fn route(&self, reach: Reach, port: u16) -> Option<Route> {
        match reach {
            Reach::Network => Some(Route::Network),
            Reach::Own { .. } if self.service_ports.contains(&port) => None,
            Reach::Own { allowed } => Some(Route::Own { else_network: allowed }),
        }
    }

    fn is_reachable(&self, ip: IpAddr) -> bool {
        let is_denied = ip.is_unspecified() || self.deny.iter().any(|block| block.contains(ip));
        !is_denied && (self.allow.iter().any(|block| block.contains(ip)) || !is_special_purpose(ip))
    }

    /// Whether the allow list covers `ip` and the deny list does not.
    pub(super) fn is_allowed(&self, ip: IpAddr) -> bool {
        let covers = |blocks: &[Block]| blocks.iter().any(|block| block.contains(ip));
        covers(&self.allow) && !covers(&self.deny)
    }
}

/// One form per peer: IPv4-mapped and -compatible addresses become IPv4, IPv6 loses flow and scope.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(canonical_ip(address.ip()), address.port())
}

fn canonical_ip(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    // `to_ipv4` reads ::1 and :: as IPv4-compatible, which they are not.
    if v6.is_loopback() || v6.is_unspecified() {
        return ip;
    }
    v6.to_ipv4().map_or(ip, IpAddr::V4)
}

/// The IPv4 addresses that an IPv6 address leads to through a translator or tunnel. Where a prefix is used in several
/// ways, all readings that are addresses of hosts.
fn embedded_ipv4(ip: IpAddr) -> [Option<Ipv4Addr>; 4] {
    let IpAddr::V6(v6) = ip else { return [None; 4] };
    let bits = u128::from(v6);
    let word = |shift: u32| Ipv4Addr::from((bits >> shift) as u32);
    match v6.segments() {
        // NAT64, RFC 6052.
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => [Some(word(0)), None, None, None],
        // NAT64 within a network, RFC 8215: with prefixes of 96, 64, 56 and 48 bits, of which the latter three leave bits
        // 64 to 71 out (RFC 6052 section 2.2).
        [0x64, 0xff9b, 1, ..] => {
            let around = |before: u32| {
                let high = (bits >> 64) as u32 & u32::MAX.checked_shr(32 - before).unwrap_or(0);
                Ipv4Addr::from(high.checked_shl(32 - before).unwrap_or(0) | ((bits >> 24) as u32 >> before))
            };
            let readings = [word(0), around(0), around(8), around(16)];
            readings.map(|reading| Some(reading).filter(|reading| reading.octets()[0] != 0))
        }
        // 6to4, RFC 3056.
        [0x2002, ..] => [Some(word(80)), None, None, None],
        // Teredo, RFC 4380: the server, and the client's address inverted.
        [0x2001, 0, ..] => [Some(word(64)), Some(Ipv4Addr::from(!(bits as u32))), None, None],
        _ => [None; 4],
    }
}

/// Services that a cloud's own machines reach at addresses of the public range: whoever asks from there gets what is for
/// the machine alone.
const CLOUD_IPV4: [(Ipv4Addr, u8); 1] = [
    (Ipv4Addr::new(168, 63, 129, 16), 32), // Azure WireServer
];

const SPECIAL_IPV4: [(Ipv4Addr, u8); 18] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),       // this network
    (Ipv4Addr::new(10, 0, 0, 0), 8),      // private use
    (Ipv4Addr::new(100, 64, 0, 0), 10),   // carrier-grade NAT
    (Ipv4Addr::new(127, 0, 0, 0), 8),     // loopback
    (Ipv4Addr::new(169, 254, 0, 0), 16),  // link local, cloud metadata
    (Ipv4Addr::new(172, 16, 0, 0), 12),   // private use
    (Ipv4Addr::new(192, 0, 0, 0), 24),    // IETF protocol assignments
    (Ipv4Addr::new(192, 0, 2, 0), 24),    // documentation
    (Ipv4Addr::new(192, 31, 196, 0), 24), // AS112
    (Ipv4Addr::new(192, 52, 193, 0), 24), // AMT
    (Ipv4Addr::new(192, 88, 99, 0), 24),  // 6to4 relays
    (Ipv4Addr::new(192, 168, 0, 0), 16),  // private use
    (Ipv4Addr::new(192, 175, 48, 0), 24), // AS112
    (Ipv4Addr::new(198, 18, 0, 0), 15),   // benchmarking
    (Ipv4Addr::new(198, 51, 100, 0), 24), // documentation
    (Ipv4Addr::new(203, 0, 113, 0), 24),  // documentation
    (Ipv4Addr::new(224, 0, 0, 0), 4),     // multicast
    (Ipv4Addr::new(240, 0, 0, 0), 4),     // reserved, broadcast
];

/// Within 2000::/3, the only block of global unicast addresses; everything outside it is special.
const SPECIAL_IPV6: [(Ipv6Addr, u8); 5] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // IETF protocol assignments, Teredo, ORCHID
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16), // 6to4
    (Ipv6Addr::new(0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0), 48), // AS112
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation
];

const GLOBAL_UNICAST: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
const NAT64: (Ipv6Addr, u8) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

fn is_special_purpose(ip: IpAddr) -> bool {
    let within = |(network, prefix): (IpAddr, u8)| Block { network, prefix }.contains(ip);
    if ip.is_ipv4() {
        return SPECIAL_IPV4.iter().chain(&CLOUD_IPV4).any(|&(network, prefix)| within((network.into(), prefix)));
    }
    let is_global = [GLOBAL_UNICAST, NAT64].iter().any(|&(network, prefix)| within((network.into(), prefix)));
    !is_global || SPECIAL_IPV6.iter().any(|&(network, prefix)| within((network.into(), prefix)))
}

/// A block of addresses of one family.
struct Block {
    network: IpAddr,
    prefix: u8,
}

impl Block {
    /// A block of IPv4-mapped addresses is the IPv4 block it stands for.
    fn new(cidr: &Cidr) -> Self {
        match cidr.network {
            IpAddr::V6(v6) if cidr.prefix >= 96 && v6.to_ipv4_mapped().is_some() => {
                Self { network: canonical_ip(cidr.network), prefix: cidr.prefix - 96 }
            }
            network => Self { network, prefix: cidr.prefix },
        }
    }

    fn contains(&self, ip: IpAddr) -> bool {
        let (network, ip, width) = match (self.network, ip) {
            (IpAddr::V4(network), IpAddr::V4(ip)) => (u128::from(u32::from(network)), u128::from(u32::from(ip)), 32),
            (IpAddr::V6(network), IpAddr::V6(ip)) => (u128::from(network), u128::from(ip), 128),
            _ => return false,
        };
        let ignored = width - u32::from(self.prefix).min(width);
        // A shift by the whole width is a block that holds everything.
        (network ^ ip).checked_shr(ignored).unwrap_or(0) == 0
    }
}

#[cfg(test)]
mod tests;
