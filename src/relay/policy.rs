//! Which peers may be reached. Precedence: service ports of ours never, deny list, allow list, built-in deny of every
//! special-purpose range (IANA's IPv4 and IPv6 Special-Purpose Address Registries).

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

/// The IPv4 addresses that an IPv6 address leads to through a translator or tunnel.
fn embedded_ipv4(ip: IpAddr) -> [Option<Ipv4Addr>; 2] {
    let IpAddr::V6(v6) = ip else { return [None; 2] };
    let bits = u128::from(v6);
    let word = |shift: u32| Ipv4Addr::from((bits >> shift) as u32);
    match v6.segments() {
        // NAT64, RFC 6052.
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => [Some(word(0)), None],
        // 6to4, RFC 3056.
        [0x2002, ..] => [Some(word(80)), None],
        // Teredo, RFC 4380: the server, and the client's address inverted.
        [0x2001, 0, ..] => [Some(word(64)), Some(Ipv4Addr::from(!(bits as u32)))],
        _ => [None; 2],
    }
}

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
const SPECIAL_IPV6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // IETF protocol assignments, Teredo, ORCHID
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation
    (Ipv6Addr::new(0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0), 48), // AS112
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation
];

const GLOBAL_UNICAST: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
const NAT64: (Ipv6Addr, u8) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

fn is_special_purpose(ip: IpAddr) -> bool {
    let within = |(network, prefix): (IpAddr, u8)| Block { network, prefix }.contains(ip);
    if ip.is_ipv4() {
        return SPECIAL_IPV4.iter().any(|&(network, prefix)| within((network.into(), prefix)));
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
mod tests {
    use super::*;

    fn policy(own: &[&str], allow: &[(&str, u8)], deny: &[(&str, u8)]) -> Policy {
        let block = |&(network, prefix): &(&str, u8)| Block::new(&Cidr { network: network.parse().unwrap(), prefix });
        Policy {
            own_ips: own.iter().map(|ip| ip.parse().unwrap()).collect(),
            service_ports: [3478].into_iter().collect(),
            allow: allow.iter().map(block).collect(),
            deny: deny.iter().map(block).collect(),
        }
    }

    fn judge(policy: &Policy, ip: &str) -> Option<Reach> {
        policy.judge(canonical_ip(ip.parse().unwrap()))
    }

    #[test]
    fn special_purpose_ranges_are_denied_in_every_disguise() {
        let policy = policy(&[], &[], &[]);
        let plain = [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
        ];
        for text in plain {
            assert_eq!(judge(&policy, text), None, "{text}");
            let v4: Ipv4Addr = text.parse().unwrap();
            let [a, b] = [(u32::from(v4) >> 16) as u16, u32::from(v4) as u16];
            let disguises = [
                format!("::ffff:{text}"),
                format!("::{text}"),
                format!("64:ff9b::{text}"),
                format!("2002:{a:x}:{b:x}::1"),
                format!("2001:0:{a:x}:{b:x}::1"),
                format!("2001:0:808:808:0:0:{:x}:{:x}", !a, !b),
            ];
            for disguise in disguises {
                assert_eq!(judge(&policy, &disguise), None, "{disguise}");
            }
        }
        for text in [
            "::",
            "::1",
            "fc00::1",
            "fdff::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "2001:db8::1",
            "2001:2::1",
            "100::1",
            "64:ff9b:1::1",
            "3fff::1",
            "5f00::1",
            "4000::1",
        ] {
            assert_eq!(judge(&policy, text), None, "{text}");
        }
    }

    #[test]
    fn public_addresses_are_reached() {
        let policy = policy(&["9.9.9.9"], &[], &[]);
        for text in ["8.8.8.8", "100.128.0.1", "172.32.0.1", "192.0.1.1", "198.20.0.1", "223.255.255.255"] {
            assert_eq!(judge(&policy, text), Some(Reach::Network), "{text}");
        }
        for text in ["2606:4700::1111", "2a00::1", "64:ff9b::8.8.8.8", "2002:808:808::1", "::ffff:8.8.8.8"] {
            assert_eq!(judge(&policy, text), Some(Reach::Network), "{text}");
        }
        assert_eq!(judge(&policy, "9.9.9.9"), Some(Reach::Own { allowed: false }));
        assert_eq!(judge(&policy, "64:ff9b::9.9.9.9"), None, "no way around to ourselves");
    }

    #[test]
    fn deny_beats_allow_beats_built_in() {
        let policy = policy(&[], &[("10.0.0.0", 8), ("0.0.0.0", 0)], &[("10.1.0.0", 16), ("8.8.8.8", 32)]);
        assert_eq!(judge(&policy, "10.0.0.1"), Some(Reach::Network));
        assert_eq!(judge(&policy, "10.1.0.1"), None);
        assert_eq!(judge(&policy, "8.8.8.8"), None);
        assert_eq!(judge(&policy, "::ffff:8.8.8.8"), None);
        assert_eq!(judge(&policy, "64:ff9b::8.8.8.8"), None);
        assert_eq!(judge(&policy, "0.0.0.0"), None, "the kernel takes it for loopback");
        assert_eq!(judge(&policy, "fd00::1"), None, "an IPv4 list says nothing about IPv6");
    }

    #[test]
    fn own_addresses_never_lead_to_a_service_port() {
        let policy = policy(&["203.0.113.9", "127.0.0.1"], &[("127.0.0.0", 8)], &[]);
        let own = judge(&policy, "203.0.113.9").unwrap();
        assert_eq!(policy.route(own, 3478), None);
        assert_eq!(policy.route(own, 50_000), Some(Route::Own { else_network: false }));
        for text in ["127.0.0.1", "127.0.0.2"] {
            let loopback = judge(&policy, text).unwrap();
            assert_eq!(policy.route(loopback, 3478), None);
            assert_eq!(policy.route(loopback, 50_000), Some(Route::Own { else_network: true }));
        }
        assert_eq!(policy.route(Reach::Network, 3478), Some(Route::Network));
    }

    #[test]
    fn blocks() {
        let contains = |network: &str, prefix, ip: &str| {
            Block::new(&Cidr { network: network.parse().unwrap(), prefix }).contains(ip.parse().unwrap())
        };
        assert!(contains("::", 0, "2001::1"));
        assert!(!contains("::", 0, "1.2.3.4"));
        assert!(contains("::ffff:10.0.0.0", 104, "10.9.9.9"));
        assert!(contains("10.0.0.7", 32, "10.0.0.7"));
        assert!(!contains("10.0.0.7", 32, "10.0.0.6"));
        assert!(contains("10.0.0.7", 8, "10.200.0.6"));
    }
}
