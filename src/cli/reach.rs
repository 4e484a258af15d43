//! How a server with this configuration is reached, as far as the configuration tells.

use std::net::{IpAddr, SocketAddr};

use crate::config::{Config, Turns};
use crate::net;

/// The host part of URLs: the domain, a public address, a listener's own address, or that of the default route.
/// IPv6 addresses stand in brackets.
pub fn host(config: &Config) -> String {
    if let Some(domain) = &config.domain {
        return domain.clone();
    }
    let listeners = [&config.tcp, &config.udp, &config.http].into_iter().flat_map(|listen| &listen.addresses);
    let bound = listeners.map(SocketAddr::ip).find(|ip| !ip.is_unspecified());
    let public = config.public_ips.first().map(|ip| ip.public);
    let found = public.or(bound).or_else(|| net::default_route_addresses().first().copied());
    match found {
        Some(IpAddr::V6(ip)) => format!("[{ip}]"),
        Some(IpAddr::V4(ip)) => ip.to_string(),
        None => "localhost".into(),
    }
}

/// `https://HOST:PORT` of the pages; `None` when no listener has a port yet known.
pub fn base_url(config: &Config) -> Option<String> {
    let host = host(config);
    let (scheme, default, port) = match page_port(&config.tcp.addresses) {
        Some(port) => ("https", 443, port),
        None => ("http", 80, page_port(&config.http.addresses)?),
    };
    Some(if port == default { format!("{scheme}://{host}") } else { format!("{scheme}://{host}:{port}") })
}

/// HTTPS's own port, else its usual alternative, else the first.
fn page_port(addresses: &[SocketAddr]) -> Option<u16> {
    let known = || addresses.iter().map(SocketAddr::port).filter(|port| *port != 0);
    [443, 8443].into_iter().find(|wanted| known().any(|port| port == *wanted)).or_else(|| known().next())
}

/// URLs of the STUN and of the TURN entry, from the configured ports.
pub fn ice_urls(config: &Config) -> (Vec<String>, Vec<String>) {
    let host = host(config);
    let (mut stun, mut turn) = (Vec::new(), Vec::new());
    if let Some(port) = turn_port(&config.udp.addresses, 3478) {
        stun.push(format!("stun:{host}:{port}"));
        turn.push(format!("turn:{host}:{port}?transport=udp"));
    }
    if let Some(port) = turn_port(&config.tcp.addresses, 443) {
        turn.push(format!("turn:{host}:{port}?transport=tcp"));
        let verifies = config.certificate.is_some() && config.domain.is_some();
        if config.turns == Turns::Always || (config.turns == Turns::Auto && verifies) {
            turn.push(format!("turns:{host}:{port}?transport=tcp"));
        }
    }
    (stun, turn)
}

fn turn_port(addresses: &[SocketAddr], wanted: u16) -> Option<u16> {
    let known = || addresses.iter().map(SocketAddr::port).filter(|port| *port != 0);
    let preferred = [wanted, 3478].into_iter().find(|wanted| known().any(|port| port == *wanted));
    preferred.or_else(|| known().next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Listen;

    #[test]
    fn urls_of_an_installed_server() {
        let mut config = Config { domain: Some("call.example.org".into()), ..Config::default() };
        assert_eq!(base_url(&config).as_deref(), Some("https://call.example.org:8443"));
        config.tcp = listen(&["0.0.0.0:80", "0.0.0.0:443", "[::]:3478"]);
        assert_eq!(base_url(&config).as_deref(), Some("https://call.example.org"));
        config.turns = Turns::Always;
        let (stun, turn) = ice_urls(&config);
        assert_eq!(stun, ["stun:call.example.org:3478"]);
        let expected = ["turn:call.example.org:3478?transport=udp", "turn:call.example.org:443?transport=tcp"];
        assert_eq!(turn[..2], expected);
        assert_eq!(turn[2], "turns:call.example.org:443?transport=tcp");
    }

    #[test]
    fn urls_of_odd_servers() {
        let udp = listen(&["[2001:db8::1]:5000"]);
        let config = Config { udp, tcp: listen(&[]), http: listen(&["[2001:db8::1]:80"]), ..Config::default() };
        assert_eq!(base_url(&config).as_deref(), Some("http://[2001:db8::1]"));
        assert_eq!(ice_urls(&config).1, ["turn:[2001:db8::1]:5000?transport=udp"]);
        let unknown = Config { tcp: listen(&["127.0.0.1:0"]), ..config };
        assert_eq!(base_url(&Config { http: listen(&[]), ..unknown }), None);
    }

    fn listen(addresses: &[&str]) -> Listen {
        Listen { addresses: addresses.iter().map(|text| text.parse().expect("literal")).collect(), explicit: true }
    }
}
