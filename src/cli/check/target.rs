//! What is to be tested: host, ports and transports, as people write them.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

/// Where STUN and TURN live by default (RFC 8489 section 18.6).
const DEFAULT_PORT: u16 = 3478;

/// The way from the client to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    Udp,
    Tcp,
    Tls,
}

impl Transport {
    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
        }
    }
}

/// A server to test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Name or address, without brackets.
    pub host: String,
    pub port: u16,
    /// False when the port is the usual one because none was named.
    pub has_port: bool,
    /// Set when the target was a URL that says so.
    pub transport: Option<Transport>,
    /// True for a `stun:` URL: nothing is relayed there.
    pub is_stun_only: bool,
    /// The token of an invite link, and whether the link is `https:`.
    pub invite: Option<(String, bool)>,
}

/// Reads `HOST`, `HOST:PORT`, `[IPv6]:PORT`, a `stun:`, `turn:`, `turns:` URL (RFC 7064, RFC 7065) or an invite link.
pub fn parse(text: &str) -> Result<Target, String> {
    let refusal = || "write HOST, HOST:PORT, a turn: URL such as turn:example.org:3478, or an invite link".to_owned();
    if let Some((scheme @ ("https" | "http"), rest)) = text.split_once("://") {
        let (authority, rest) = rest.split_at(rest.find(['/', '#', '?']).unwrap_or(rest.len()));
        let token = rest.split_once("#t=").map(|(_, token)| token).filter(|token| !token.is_empty());
        let (host, port) = split(authority).ok_or_else(refusal)?;
        let is_tls = scheme == "https";
        let default = if is_tls { 443 } else { 80 };
        let token =
            token.ok_or("the link carries no invite (#t=…); write HOST alone, or make one with relais invite")?;
        let invite = Some((token.to_owned(), is_tls));
        let (port, has_port) = (port.unwrap_or(default), true);
        return Ok(Target { host, port, has_port, transport: None, is_stun_only: false, invite });
    }
    let (scheme, rest) = match text.split_once(':') {
        Some((scheme @ ("stun" | "turn" | "turns"), rest)) => (scheme, rest),
        _ => ("", text),
    };
    let (authority, query) = rest.split_once('?').map_or((rest, None), |(authority, query)| (authority, Some(query)));
    let transport = match (scheme, query) {
        ("turns", None | Some("transport=tcp")) => Some(Transport::Tls),
        ("turn", Some("transport=tcp")) => Some(Transport::Tcp),
        ("turn", Some("transport=udp")) | ("stun", None) => Some(Transport::Udp),
        (_, None) => None,
        _ => return Err(refusal()),
    };
    let (host, port) = split(authority).ok_or_else(refusal)?;
    // RFC 7065 section 3.2.
    let default = if scheme == "turns" { 5349 } else { DEFAULT_PORT };
    let (has_port, is_stun_only) = (port.is_some(), scheme == "stun");
    Ok(Target { host, port: port.unwrap_or(default), has_port, transport, is_stun_only, invite: None })
}

fn split(authority: &str) -> Option<(String, Option<u16>)> {
    if let Ok(address) = authority.parse::<SocketAddr>() {
        return Some((address.ip().to_string(), Some(address.port())));
    }
    if let Ok(ip) = authority.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Some((ip.to_string(), None));
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok().filter(|port| *port != 0)?)),
        None => (authority, None),
    };
    crate::config::parse::domain(host).ok().map(|host| (host, port))
}

/// The addresses of `host`: one of each family, the first the system's resolver gives.
pub async fn resolve(host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
    let found: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
    let first = |is_ipv4: bool| found.iter().copied().find(|address| address.is_ipv4() == is_ipv4);
    Ok([first(true), first(false)].into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (text, host, port, transport) in [
            ("a.org", "a.org", 3478, None),
            ("a.org:443", "a.org", 443, None),
            ("1.2.3.4", "1.2.3.4", 3478, None),
            ("[::1]:99", "::1", 99, None),
            ("::1", "::1", 3478, None),
            ("[::1]", "::1", 3478, None),
            ("turn:a.org", "a.org", 3478, None),
            ("turn:a.org:443?transport=tcp", "a.org", 443, Some(Transport::Tcp)),
            ("turn:a.org?transport=udp", "a.org", 3478, Some(Transport::Udp)),
            ("turns:a.org?transport=tcp", "a.org", 5349, Some(Transport::Tls)),
            ("stun:[::1]:5", "::1", 5, Some(Transport::Udp)),
        ] {
            let target = parse(text).expect(text);
            assert_eq!((target.host.as_str(), target.port, target.transport), (host, port, transport), "{text}");
            assert_eq!(target.is_stun_only, text.starts_with("stun:"), "{text}");
        }
        for text in ["", "a b", "http://a.org", "a.org:0", "a.org:99999", "turn:a.org?transport=sctp", "turn:"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn invite_links() {
        let target = parse("https://[::1]:8443/call/a?x=1#t=ey.J").expect("a link");
        assert_eq!((target.host.as_str(), target.port), ("::1", 8443));
        assert_eq!(target.invite, Some(("ey.J".into(), true)));
        let target = parse("http://a.org#t=k").expect("a link");
        assert_eq!((target.port, target.invite), (80, Some(("k".into(), false))));
        assert!(parse("https://a.org/").expect_err("no invite").contains("#t="));
    }
}
