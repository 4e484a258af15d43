//! The ICE configuration: `GET /api/ice` and the same in every join reply (DESIGN section 7).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::Serialize;

use super::host::Host;
use super::{Connection, Web};
use crate::clock;
use crate::config::{PublicIp, Turns};
use crate::credentials::turn::{self, TurnCredential};

/// How many addresses a diagnosis tries beside the one that the page came to.
const MAX_OTHERS: usize = 4;

/// One entry of `RTCConfiguration.iceServers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IceServer {
    pub urls: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

/// The JSON shape of DESIGN section 7.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IceConfig {
    pub ice_servers: Vec<IceServer>,
    /// Seconds until the credential expires.
    pub ttl: u64,
    /// The same as unix seconds.
    pub expires_at: u64,
}

/// The request's Host header names neither us nor the address the connection came to: 421.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this server does not answer for that host name: set it with --domain")]
pub struct UnknownHost;

/// Who asks for an ICE configuration, and how.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    pub connection: &'a Connection,
    /// The Host header.
    pub host: Option<&'a str>,
    pub user_agent: Option<&'a str>,
    /// Everything instead of the best, for diagnosis.
    pub all: bool,
}

/// A TURN credential and where it is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relaying {
    pub credential: TurnCredential,
    /// Seconds until it expires.
    pub ttl: u64,
    pub stun: Vec<String>,
    pub turn: Vec<String>,
}

impl Web {
    /// The ICE configuration for a browser that reached us as `host` (the Host header), credentials for `subject`.
    pub fn ice_config(
        &self,
        connection: &Connection,
        host: Option<&str>,
        user_agent: Option<&str>,
        subject: &str,
        all: bool,
    ) -> Result<IceConfig, UnknownHost> {
        let ttl = self.config().credential_ttl.as_secs();
        Ok(self.relaying(&Asker { connection, host, user_agent, all }, subject, ttl)?.into())
    }

    /// A credential of `subject` for `ttl` seconds, and the URLs where it can be used.
    pub fn relaying(&self, asker: &Asker<'_>, subject: &str, ttl: u64) -> Result<Relaying, UnknownHost> {
        let Asker { connection, host, user_agent, all } = *asker;
        let known = self.known_host(connection, host).ok_or(UnknownHost)?;
        let live = self.live.get();
        let host = match &live.config.domain {
            Some(domain) => Host::Name(domain.to_ascii_lowercase()),
            None => known,
        };
        let view = View {
            connection,
            host: &host,
            is_domain: live.config.domain.is_some(),
            public_ips: &live.config.public_ips,
            all,
        };
        let streams = [self.bound.tcp.as_slice(), self.bound.http.as_slice()].concat();
        let udp = view.ports(&self.bound.udp, &[3478]);
        let tcp = view.ports(&streams, &[443, 3478]);
        let secret = live.turn_secrets.first().map_or(&[][..], Vec::as_slice);
        let credential = turn::mint(secret, subject, clock::now().unix + ttl);
        let turns = self.offers_turns(&host, user_agent, all);
        let mut urls = Urls::new(&host, &udp, &tcp, turns);
        if all {
            let alternate = live.config.alt_ip;
            for ip in view.others(&self.bound.udp, &streams, alternate, &crate::net::interface_addresses()) {
                let host = Host::Ip(ip);
                let view = View { host: &host, is_domain: false, all: false, ..view };
                // The alternate address answers STUN on the first port (RFC 5780 section 6).
                let is_alternate = alternate == Some(ip);
                let udp = if is_alternate { udp.clone() } else { view.ports(&self.bound.udp, &[3478]) };
                urls.add(Urls::new(&host, &udp, &view.ports(&streams, &[443, 3478]), false), is_alternate);
            }
        }
        let Urls { stun, turn } = urls;
        Ok(Relaying { credential, ttl, stun, turn })
    }

    /// Whether `turns:` can work: `auto` asks for a certificate that browsers trust for this host.
    fn offers_turns(&self, host: &Host, user_agent: Option<&str>, all: bool) -> bool {
        match self.config().turns {
            Turns::Never => false,
            Turns::Always => true,
            Turns::Auto if all => true,
            Turns::Auto => {
                // Firefox refuses TLS to an address without saying so (nricectx: "without an FQDN").
                let is_firefox = user_agent.is_some_and(|agent| agent.contains("Firefox/"));
                let is_withheld = is_firefox && matches!(host, Host::Ip(_));
                !is_withheld && self.identity.is_public_for(host)
            }
        }
    }
}

impl From<Relaying> for IceConfig {
    fn from(relaying: Relaying) -> Self {
        let Relaying { credential, ttl, stun, turn } = relaying;
        let mut ice_servers = Vec::with_capacity(2);
        // An entry without URLs is a SyntaxError in browsers.
        if !stun.is_empty() {
            ice_servers.push(IceServer { urls: stun, username: None, credential: None });
        }
        if !turn.is_empty() {
            let (username, password) = (Some(credential.username), Some(credential.password));
            ice_servers.push(IceServer { urls: turn, username, credential: password });
        }
        Self { ice_servers, ttl, expires_at: credential.expires }
    }
}

/// What a browser can reach.
#[derive(Clone, Copy)]
struct View<'a> {
    connection: &'a Connection,
    host: &'a Host,
    /// `host` is the configured domain, which leads here from everywhere.
    is_domain: bool,
    public_ips: &'a [PublicIp],
    /// Every port instead of the best one.
    all: bool,
}

impl View<'_> {
    /// The best reachable port of `sockets` (one of `preferred`, else the first), or all of them.
    fn ports(&self, sockets: &[SocketAddr], preferred: &[u16]) -> Vec<u16> {
        let reachable = sockets.iter().filter(|socket| self.reaches(socket.ip())).map(|socket| socket.port());
        let mut ports: Vec<u16> = Vec::new();
        for port in reachable {
            if !ports.contains(&port) && (self.all || is_allowed_in_chromium(port)) {
                ports.push(port);
            }
        }
        if !self.all {
            let best = preferred.iter().copied().find(|port| ports.contains(port)).or_else(|| ports.first().copied());
            ports = best.into_iter().collect();
        }
        ports
    }

    /// Our other addresses that a browser on this connection may reach, for diagnosis: each family by itself, and a
    /// second address, which tells kinds of NAT apart.
    fn others(
        &self,
        udp: &[SocketAddr],
        streams: &[SocketAddr],
        alternate: Option<IpAddr>,
        interfaces: &[IpAddr],
    ) -> Vec<IpAddr> {
        let here = Scope::of(self.connection.server.ip());
        let sockets = || udp.iter().chain(streams).map(SocketAddr::ip);
        let is_wild = |ip: &IpAddr| sockets().any(|bound| bound.is_unspecified() && bound.is_ipv4() == ip.is_ipv4());
        let inside = interfaces.iter().copied().filter(is_wild);
        let own = sockets().filter(|bound| !bound.is_unspecified()).chain(alternate).chain(inside);
        // An address with a public name is reached by that one.
        let own =
            own.filter(|ip| !self.public_ips.iter().any(|rule| rule.public != *ip && self.is_mapped(rule.public, *ip)));
        let public = self.public_ips.iter().map(|rule| rule.public).filter(|_| here != Scope::Loopback);
        let mut others: Vec<IpAddr> = Vec::new();
        for ip in public.chain(own.filter(|ip| Scope::of(*ip) == here)) {
            if *self.host != Host::Ip(ip) && !others.contains(&ip) {
                others.push(ip);
            }
        }
        others.truncate(MAX_OTHERS);
        others
    }

    /// Whether `host` leads to a socket bound to `bound`.
    fn reaches(&self, bound: IpAddr) -> bool {
        match self.host {
            Host::Ip(ip) if bound.is_unspecified() => ip.is_ipv4() == bound.is_ipv4(),
            Host::Ip(ip) => *ip == bound || self.is_mapped(*ip, bound),
            Host::Name(_) if bound.is_unspecified() => true,
            // Browsers take `localhost` for these two and no other loopback address.
            Host::Name(_) if self.host.is_localhost_name() => {
                bound == IpAddr::V4(Ipv4Addr::LOCALHOST) || bound == IpAddr::V6(Ipv6Addr::LOCALHOST)
            }
            Host::Name(_) => {
                let server = self.connection.server.ip();
                // A name that led to a loopback address leads others of this machine there, too.
                let is_local = server.is_loopback() && self.connection.client.ip().is_loopback();
                if is_local && !self.is_domain { bound == server } else { is_local || !bound.is_loopback() }
            }
        }
    }

    /// Whether `public` is the outside of a 1:1 NAT whose inside is `bound`.
    fn is_mapped(&self, public: IpAddr, bound: IpAddr) -> bool {
        self.public_ips.iter().filter(|mapping| mapping.public == public).any(|mapping| match mapping.bound {
            Some(inside) => inside == bound,
            None => inside_family(public, bound),
        })
    }
}

/// How far an address is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Loopback,
    Link,
    Private,
    World,
}

impl Scope {
    pub(super) fn of(ip: IpAddr) -> Self {
        let (is_link, is_private) = match ip {
            IpAddr::V4(ip) => (ip.is_link_local(), ip.is_private()),
            IpAddr::V6(ip) => (ip.is_unicast_link_local(), ip.is_unique_local()),
        };
        match ip {
            _ if ip.is_loopback() => Self::Loopback,
            _ if is_link => Self::Link,
            _ if is_private => Self::Private,
            _ => Self::World,
        }
    }
}

/// A mapping without an inside address stands for every bound address of its family but loopback.
fn inside_family(public: IpAddr, bound: IpAddr) -> bool {
    public.is_ipv4() == bound.is_ipv4() && !bound.is_loopback()
}

/// Chromium allows TURN only on these ports (libwebrtc's `AllowedTurnPort`).
fn is_allowed_in_chromium(port: u16) -> bool {
    matches!(port, 53 | 80 | 443) || port >= 1024
}

struct Urls {
    stun: Vec<String>,
    turn: Vec<String>,
}

impl Urls {
    fn new(host: &Host, udp: &[u16], tcp: &[u16], turns: bool) -> Self {
        // `stun:` takes no `?transport=`: a SyntaxError in browsers.
        let stun = udp.iter().map(|port| format!("stun:{host}:{port}")).collect();
        let over_udp = udp.iter().map(|port| format!("turn:{host}:{port}?transport=udp"));
        let over_tcp = tcp.iter().map(|port| format!("turn:{host}:{port}?transport=tcp"));
        let over_tls = tcp.iter().filter(|_| turns).map(|port| format!("turns:{host}:{port}?transport=tcp"));
        Self { stun, turn: over_udp.chain(over_tcp).chain(over_tls).collect() }
    }

    fn add(&mut self, other: Self, is_stun_only: bool) {
        self.stun.extend(other.stun);
        if !is_stun_only {
            self.turn.extend(other.turn);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ports a browser is told, for (host, sockets).
    fn ports(host: &str, server: &str, sockets: &[&str], all: bool) -> Vec<u16> {
        let connection = Connection {
            client: "127.0.0.1:5000".parse().expect("address"),
            server: server.parse().expect("address"),
            secure: true,
            loopback_listener: false,
        };
        let host = Host::parse(host).expect("host");
        let mapping = |public: &str, bound: Option<&str>| PublicIp {
            public: public.parse().expect("address"),
            bound: bound.map(|bound| bound.parse().expect("address")),
        };
        let public_ips = [mapping("203.0.113.1", None), mapping("203.0.113.2", Some("10.0.0.2"))];
        let is_domain = host == Host::Name("call.example".into());
        let view = View { connection: &connection, host: &host, is_domain, public_ips: &public_ips, all };
        let sockets: Vec<SocketAddr> = sockets.iter().map(|socket| socket.parse().expect("address")).collect();
        view.ports(&sockets, &[443, 3478])
    }

    #[test]
    fn only_sockets_the_host_leads_to() {
        let local = "127.0.0.1:8443";
        let lan = "192.168.1.5:8443";
        for (host, server, sockets, expected) in [
            ("localhost", local, &["0.0.0.0:3478", "[::]:3478"][..], &[3478][..]),
            ("localhost", local, &["192.168.1.5:3478"], &[]),
            ("localhost", local, &["127.0.0.2:3478", "[::1]:3479"], &[3479]),
            ("127.0.0.1", local, &["127.0.0.1:9001"], &[9001]),
            ("127.0.0.1", local, &["[::]:3478"], &[]),
            ("::1", "[::1]:8443", &["0.0.0.0:3478", "[::]:3479"], &[3479]),
            ("192.168.1.5", lan, &["127.0.0.1:3478", "192.168.1.5:3479"], &[3479]),
            ("192.168.1.5", lan, &["0.0.0.0:8443", "0.0.0.0:443"], &[443]),
            ("192.168.1.5", lan, &["0.0.0.0:8443", "0.0.0.0:3478"], &[3478]),
            ("192.168.1.5", lan, &["0.0.0.0:8443", "0.0.0.0:9000"], &[8443]),
            ("192.168.1.5", lan, &["0.0.0.0:22", "0.0.0.0:853"], &[]),
            ("192.168.1.5", lan, &["0.0.0.0:53"], &[53]),
            ("203.0.113.1", "10.0.0.9:443", &["10.0.0.9:3478"], &[3478]),
            ("203.0.113.1", "10.0.0.9:443", &["127.0.0.1:3478"], &[]),
            ("203.0.113.2", "10.0.0.2:443", &["10.0.0.9:3478", "10.0.0.2:3479"], &[3479]),
            ("call.example", "10.0.0.9:443", &["10.0.0.9:3478", "127.0.0.1:443"], &[3478]),
            ("call.example", local, &["127.0.0.1:9001"], &[9001]),
            ("pc", "127.0.1.1:8443", &["192.168.1.5:3478", "127.0.1.1:3479"], &[3479]),
            ("pc", lan, &["192.168.1.5:3478"], &[3478]),
        ] {
            assert_eq!(ports(host, server, sockets, false), expected, "{host} {sockets:?}");
        }
    }

    #[test]
    fn all_lists_every_reachable_port_once() {
        let sockets = ["0.0.0.0:3478", "[::]:3478", "0.0.0.0:8443", "0.0.0.0:853", "127.0.0.1:9000"];
        assert_eq!(ports("pc", "192.168.1.5:8443", &sockets, true), [3478, 8443, 853]);
    }

    #[test]
    fn a_diagnosis_tries_the_addresses_that_this_client_may_reach() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("address");
        let others = |host: &str, server: &str, sockets: &[&str], public: &[PublicIp]| {
            let server: SocketAddr = server.parse().expect("address");
            let client = "198.51.100.1:5000".parse().expect("address");
            let connection = Connection { client, server, secure: true, loopback_listener: false };
            let host = Host::parse(host).expect("host");
            let view = View { connection: &connection, host: &host, is_domain: false, public_ips: public, all: true };
            let udp: Vec<SocketAddr> = sockets.iter().map(|socket| socket.parse().expect("address")).collect();
            let interfaces = ["127.0.0.1", "::1", "10.0.0.9", "8.8.8.8", "2a00::1", "fe80::1"].map(ip);
            view.others(&udp, &[], None, &interfaces).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let wild = ["0.0.0.0:3478", "[::]:3478"];
        assert_eq!(others("localhost", "127.0.0.1:443", &wild, &[]), ["127.0.0.1", "::1"]);
        assert_eq!(others("8.8.8.8", "8.8.8.8:443", &wild, &[]), ["2a00::1"]);
        assert_eq!(others("call.example", "8.8.8.8:443", &wild[..1], &[]), ["8.8.8.8"]);
        let literal = ["10.0.0.9:3478", "10.0.0.10:3478", "127.0.0.1:3478", "8.8.8.8:3478"];
        assert_eq!(others("10.0.0.9", "10.0.0.9:443", &literal, &[]), ["10.0.0.10"]);
        let mapped = [PublicIp { public: ip("9.9.9.9"), bound: Some(ip("10.0.0.9")) }];
        assert_eq!(others("9.9.9.9", "10.0.0.9:443", &literal, &mapped), ["10.0.0.10"]);
        assert_eq!(others("10.0.0.10", "10.0.0.10:443", &literal, &mapped), ["9.9.9.9"]);
        assert_eq!(others("localhost", "127.0.0.1:443", &literal, &mapped), ["127.0.0.1"]);
    }

    #[test]
    fn urls_as_browsers_take_them() {
        let host = Host::parse("2001:db8::1").expect("host");
        let urls = Urls::new(&host, &[3478], &[443], true);
        assert_eq!(urls.stun, ["stun:[2001:db8::1]:3478"]);
        let expected = [
            "turn:[2001:db8::1]:3478?transport=udp",
            "turn:[2001:db8::1]:443?transport=tcp",
            "turns:[2001:db8::1]:443?transport=tcp",
        ];
        assert_eq!(urls.turn, expected);
        let urls = Urls::new(&host, &[], &[443], false);
        assert!(urls.stun.is_empty());
        assert_eq!(urls.turn, ["turn:[2001:db8::1]:443?transport=tcp"]);
    }
}
