//! Host names and addresses as browsers write them: the Host header, origins, URLs, client prefixes.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use crate::config::Cidr;

/// Longest DNS name (RFC 1035 section 2.3.4).
const MAX_NAME: usize = 253;

/// The host of a URL: a name in lower case without a final dot, or an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    Ip(IpAddr),
    Name(String),
}

impl Host {
    /// Parses `name`, `192.0.2.1`, `2001:db8::1` or `[2001:db8::1]`.
    pub fn parse(text: &str) -> Option<Self> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if let Some(inside) = bare {
            return inside.parse::<Ipv6Addr>().ok().map(|ip| Self::Ip(IpAddr::V6(ip)));
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Some(Self::Ip(ip));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        is_dns_name(&name).then_some(Self::Name(name))
    }

    /// Parses the value of a Host header: a host and perhaps a port.
    pub fn parse_authority(text: &str) -> Option<(Self, Option<u16>)> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
            _ => (text, None),
        };
        let is_bare_v6 = !host.starts_with('[') && host.contains(':');
        if is_bare_v6 {
            return None;
        }
        let port = match port {
            Some(digits) if digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(digits.parse().ok()?)
            }
            Some(_) => return None,
            None => None,
        };
        Some((Self::parse(host)?, port))
    }

    /// `localhost` and names under it, which browsers never look up elsewhere (RFC 6761 section 6.3).
    pub fn is_localhost_name(&self) -> bool {
        matches!(self, Self::Name(name) if name == "localhost" || name.ends_with(".localhost"))
    }

    /// This machine itself: a `localhost` name or a loopback address.
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Ip(ip) => ip.is_loopback(),
            Self::Name(_) => self.is_localhost_name(),
        }
    }
}

impl fmt::Display for Host {
    /// As it stands in a URL: IPv6 in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Ip(ip) => write!(f, "{ip}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Letters, digits, hyphens and underscores in labels of 1 to 63 bytes.
pub fn is_dns_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= MAX_NAME && name.split('.').all(is_label)
}

/// An origin in lower case without its scheme's default port (RFC 6454 section 6.2): what two origins are compared by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub scheme: String,
    pub host: Host,
    pub port: u16,
}

impl Origin {
    /// Parses `https://host[:port]`; `None` for `null` and for schemes without a port we know.
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let default_port = match scheme.as_str() {
            "https" => 443,
            "http" => 80,
            _ => return None,
        };
        let (host, port) = Host::parse_authority(authority)?;
        Some(Self { scheme, host, port: port.unwrap_or(default_port) })
    }

    /// True when a page of this origin asks the host and port it came from. The scheme is left out: a proxy may
    /// end TLS before us.
    pub fn is_same_as_host(&self, host_header: &str) -> bool {
        let default_port = if self.scheme == "https" { 443 } else { 80 };
        Host::parse_authority(host_header)
            .is_some_and(|(host, port)| host == self.host && port.unwrap_or(default_port) == self.port)
    }
}

/// What limits per client count by: the /24 of an IPv4 and the /56 of an IPv6 address, as hex digits.
pub fn client_prefix(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            format!("4-{a:02x}{b:02x}{c:02x}")
        }
        IpAddr::V6(ip) => format!("6-{:014x}", u128::from(ip) >> 72),
    }
}

/// True when `block` contains `ip`.
pub fn is_in_block(block: &Cidr, ip: IpAddr) -> bool {
    match (block.network, ip) {
        (IpAddr::V4(network), IpAddr::V4(ip)) => {
            let mask = u32::MAX.checked_shl(32u32.saturating_sub(block.prefix.into())).unwrap_or(0);
            u32::from(network) & mask == u32::from(ip) & mask
        }
        (IpAddr::V6(network), IpAddr::V6(ip)) => {
            let mask = u128::MAX.checked_shl(128u32.saturating_sub(block.prefix.into())).unwrap_or(0);
            u128::from(network) & mask == u128::from(ip) & mask
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_headers() {
        let parse = |text| Host::parse_authority(text).map(|(host, port)| (host.to_string(), port));
        for (text, expected) in [
            ("localhost", Some(("localhost", None))),
            ("LocalHost.:8443", Some(("localhost", Some(8443)))),
            ("192.0.2.1:3478", Some(("192.0.2.1", Some(3478)))),
            ("[2001:DB8::1]:443", Some(("[2001:db8::1]", Some(443)))),
            ("[::1]", Some(("[::1]", None))),
            ("::1", None),
            ("a b", None),
            ("", None),
            (":80", None),
            ("host:99999", None),
            ("host:000080", None),
            ("host:+80", None),
            ("[::1", None),
            ("evil.example/..", None),
            ("-x", None),
        ] {
            assert_eq!(parse(text), expected.map(|(host, port)| (host.to_owned(), port)), "{text}");
        }
    }

    #[test]
    fn origins_compare_without_default_ports() {
        let same = |origin: &str, host| Origin::parse(origin).is_some_and(|origin| origin.is_same_as_host(host));
        assert!(same("https://Call.Example", "call.example"));
        assert!(same("https://call.example", "call.example:443"));
        assert!(same("http://call.example:3478", "call.example:3478"));
        assert!(!same("https://call.example", "call.example:8443"));
        assert!(!same("https://evil.example", "call.example"));
        assert!(!same("null", "call.example"));
        assert!(!same("chrome-extension://abc", "abc"));
    }

    #[test]
    fn prefixes_group_what_one_client_can_own() {
        let prefix = |text: &str| client_prefix(text.parse().expect("address"));
        assert_eq!(prefix("192.0.2.7"), prefix("192.0.2.200"));
        assert_eq!(prefix("192.0.2.7"), prefix("::ffff:192.0.2.9"));
        assert_ne!(prefix("192.0.2.7"), prefix("192.0.3.7"));
        assert_eq!(prefix("2001:db8:0:1f00::1"), prefix("2001:db8:0:1fff::2"));
        assert_ne!(prefix("2001:db8:0:1f00::1"), prefix("2001:db8:0:2000::1"));
    }

    #[test]
    fn blocks_contain_their_addresses_only() {
        let block = |network: &str, prefix| Cidr { network: network.parse().expect("address"), prefix };
        let contains = |block: &Cidr, ip: &str| is_in_block(block, ip.parse().expect("address"));
        assert!(contains(&block("10.0.0.0", 8), "10.255.0.1"));
        assert!(!contains(&block("10.0.0.0", 8), "11.0.0.1"));
        assert!(contains(&block("0.0.0.0", 0), "203.0.113.1"));
        assert!(contains(&block("::1", 128), "::1"));
        assert!(!contains(&block("::", 0), "127.0.0.1"));
    }
}
