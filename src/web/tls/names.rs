//! Which names and addresses the local CA may sign, and which of them the leaf carries.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::{Cidr, Config};
use crate::web::host::{is_dns_name, is_in_block};

/// Names and addresses of a certificate, in a fixed order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub dns: BTreeSet<String>,
    pub ips: BTreeSet<IpAddr>,
}

/// What a server may be called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Given by the operator: `--domain`, `--public-ip`, addresses of listeners. A CA that does not permit one of
    /// them is replaced.
    pub given: Names,
    /// Found on this machine. What the CA does not permit is left out of the leaf.
    pub found: Names,
}

impl Wanted {
    /// Collects the names: those of `config`, the machine's name, and `interfaces`.
    pub fn collect(config: &Config, interfaces: &[IpAddr]) -> Self {
        let mut wanted = Self::default();
        wanted.given.dns.extend(config.domain.iter().map(|domain| domain.to_ascii_lowercase()));
        wanted.given.ips.extend(config.public_ips.iter().map(|public| public.public));
        let listeners = [&config.udp, &config.tcp, &config.http].into_iter().flat_map(|listen| &listen.addresses);
        wanted.given.ips.extend(listeners.map(|address| address.ip()).filter(|ip| !ip.is_unspecified()));
        if let Some(name) = machine_name() {
            let short = name.split('.').next().unwrap_or_default();
            wanted.found.dns.insert(format!("{short}.local"));
            wanted.found.dns.insert(name);
        }
        wanted.found.dns.insert("localhost".into());
        wanted.found.ips.extend([IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]);
        wanted.found.ips.extend(interfaces.iter().copied().filter(|ip| !is_link_local(*ip)));
        wanted
    }
}

/// This machine's name if it is a DNS name.
pub fn machine_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?.trim().to_ascii_lowercase();
    (is_dns_name(&name) && !name.contains('_')).then_some(name)
}

/// Name constraints: the DNS subtrees and address blocks a CA may sign for (RFC 5280 section 4.2.1.10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permitted {
    pub dns: BTreeSet<String>,
    pub blocks: Vec<Cidr>,
}

impl Permitted {
    /// What a new CA may sign for: local names, private addresses, and whatever is wanted now.
    pub fn for_new_authority(wanted: &Wanted) -> Self {
        let local = ["localhost", "local", "lan", "internal", "home.arpa"].map(str::to_owned);
        let mut permitted = Self { dns: local.into(), blocks: private_blocks() };
        for name in wanted.found.dns.iter().chain(&wanted.given.dns) {
            if !permitted.has_name(name) {
                permitted.dns.insert(name.clone());
            }
        }
        for ip in wanted.given.ips.iter().chain(&wanted.found.ips) {
            if !permitted.has_ip(*ip) {
                permitted.blocks.push(Cidr { network: *ip, prefix: if ip.is_ipv4() { 32 } else { 128 } });
            }
        }
        permitted
    }

    /// True when the CA may sign all of `names`.
    pub fn has_all(&self, names: &Names) -> bool {
        names.dns.iter().all(|name| self.has_name(name)) && names.ips.iter().all(|ip| self.has_ip(*ip))
    }

    /// The part of `wanted` that the CA may sign: one name outside would void the whole leaf.
    pub fn fit(&self, wanted: &Wanted) -> Names {
        let dns = wanted.given.dns.union(&wanted.found.dns).filter(|name| self.has_name(name)).cloned().collect();
        let ips = wanted.given.ips.union(&wanted.found.ips).filter(|ip| self.has_ip(**ip)).copied().collect();
        Names { dns, ips }
    }

    fn has_name(&self, name: &str) -> bool {
        let is_under = |subtree: &String| {
            name.strip_suffix(subtree.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        self.dns.iter().any(is_under)
    }

    fn has_ip(&self, ip: IpAddr) -> bool {
        self.blocks.iter().any(|block| is_in_block(block, ip))
    }
}

/// Loopback, RFC 1918 and unique local addresses.
fn private_blocks() -> Vec<Cidr> {
    let v4 = |a, b, prefix| Cidr { network: Ipv4Addr::new(a, b, 0, 0).into(), prefix };
    let v6 = |network: Ipv6Addr, prefix| Cidr { network: network.into(), prefix };
    vec![
        v4(127, 0, 8),
        v4(10, 0, 8),
        v4(172, 16, 12),
        v4(192, 168, 16),
        v6(Ipv6Addr::LOCALHOST, 128),
        v6(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
    ]
}

/// Addresses that no URL can carry without a zone.
fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Listen, PublicIp};

    fn names(dns: &[&str], ips: &[&str]) -> Names {
        Names {
            dns: dns.iter().map(|name| (*name).to_owned()).collect(),
            ips: ips.iter().map(|ip| ip.parse().expect("address")).collect(),
        }
    }

    #[test]
    fn constraints_are_subtrees_not_suffixes() {
        let permitted = Permitted::for_new_authority(&Wanted::default());
        assert!(
            permitted.has_all(&names(&["localhost", "tv.local", "a.b.lan"], &["127.0.0.1", "10.1.2.3", "fd00::1"]))
        );
        assert!(!permitted.has_all(&names(&["evillocalhost"], &[])));
        assert!(!permitted.has_all(&names(&["example.org"], &[])));
        assert!(!permitted.has_all(&names(&[], &["172.32.0.1"])));
        assert!(!permitted.has_all(&names(&[], &["2001:db8::1"])));
    }

    #[test]
    fn what_does_not_fit_is_left_out_of_the_leaf() {
        let permitted = Permitted::for_new_authority(&Wanted::default());
        let wanted =
            Wanted { given: names(&[], &[]), found: names(&["localhost", "pc"], &["10.0.0.1", "203.0.113.9"]) };
        assert_eq!(permitted.fit(&wanted), names(&["localhost"], &["10.0.0.1"]));
    }

    #[test]
    fn operators_names_come_from_the_configuration() {
        let public = PublicIp { public: "203.0.113.9".parse().expect("address"), bound: None };
        let listen = Listen { addresses: vec!["192.0.2.1:443".parse().expect("address")], explicit: true };
        let config =
            Config { domain: Some("Call.Example".into()), public_ips: vec![public], tcp: listen, ..Config::default() };
        let wanted = Wanted::collect(&config, &["fe80::1".parse().expect("address")]);
        assert_eq!(wanted.given, names(&["call.example"], &["192.0.2.1", "203.0.113.9"]));
        assert!(!wanted.found.ips.contains(&"fe80::1".parse::<IpAddr>().expect("address")));
        assert!(Permitted::for_new_authority(&wanted).has_all(&wanted.given));
    }
}
