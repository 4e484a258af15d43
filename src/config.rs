//! The configuration: file, environment and flags in, one validated and immutable [`Config`] out.

mod assemble;
pub mod keys;
pub mod layers;
pub mod load;
pub(crate) mod parse;
pub mod reload;
pub mod sample;
pub mod show;
mod validate;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// A block of addresses such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    pub network: IpAddr,
    pub prefix: u8,
}

impl Cidr {
    /// True when `ip` lies in the block; an IPv4 address in IPv6 clothes counts as IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.network, ip.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(ip)) => {
                let shift = 32 - u32::from(self.prefix.min(32));
                (u32::from(network) ^ u32::from(ip)).checked_shr(shift).unwrap_or(0) == 0
            }
            (IpAddr::V6(network), IpAddr::V6(ip)) => {
                let shift = 128 - u32::from(self.prefix.min(128));
                (u128::from(network) ^ u128::from(ip)).checked_shr(shift).unwrap_or(0) == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.network, self.prefix)
    }
}

/// An address set by the operator must bind; of the defaults a missing family is only a warning (DESIGN section 6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    pub addresses: Vec<SocketAddr>,
    /// Set by flag, variable or file, so that a failure to bind any of them stops the start.
    pub explicit: bool,
}

/// How the world reaches us: `PUBLIC[/BOUND]` of a 1:1 NAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicIp {
    pub public: IpAddr,
    /// The local address behind it; `None` is every bound address of the same family.
    pub bound: Option<IpAddr>,
}

/// Who may join rooms and fetch ICE configurations (DESIGN section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Open,
    Invite,
}

/// When `turns:` URLs are offered (DESIGN section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turns {
    Auto,
    Always,
    Never,
}

/// Certificates from an authority that speaks ACME (RFC 8555).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmeConfig {
    /// Where the authority may write about expiry.
    pub email: Option<String>,
    /// URL of the authority's directory.
    pub directory: String,
    /// Certificates that vouch for the authority's own server, beside the public roots.
    pub ca_file: Option<PathBuf>,
    /// The kind of certificate, by the authority's name for it.
    pub profile: Option<String>,
}

/// Form of the log on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// Named limits; each has a reason beside its default in `Default`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub allocations_per_subject: usize,
    pub allocations_total: usize,
    pub permissions: usize,
    pub channels: usize,
    /// Connections of one TCP allocation (RFC 6062).
    pub tcp_connections: usize,
    pub tcp_connections_total: usize,
    /// Bytes per second that one allocation may relay each way, 28 bytes of headers a packet included; `None`: any.
    pub bandwidth: Option<u64>,
    /// The same for all allocations together.
    pub total_bandwidth: Option<u64>,
    pub rooms: usize,
    pub peers_per_room: usize,
    pub message_bytes: usize,
    pub messages_per_second: u32,
    /// Bytes of signaling messages of one connection.
    pub bytes_per_second: u64,
}

impl Limits {
    /// Bytes of signaling messages that may come at once: some messages of the greatest size.
    pub fn bytes_burst(&self) -> u64 {
        self.bytes_per_second.max(self.message_bytes as u64 * 4)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // A Chromium caller without max-bundle makes 12 at once; two pages and one ICE restart fit.
            allocations_per_subject: 40,
            allocations_total: 10_000,
            permissions: 256,
            channels: 128,
            // A client needs one for each peer it speaks to over TCP.
            tcp_connections: 32,
            // Each takes two file descriptors, the client's connection included.
            tcp_connections_total: 2_000,
            // What a client may use is the operator's to say.
            bandwidth: None,
            total_bandwidth: None,
            rooms: 10_000,
            peers_per_room: 2,
            // socket.io's own maxHttpBufferSize.
            message_bytes: 1_000_000,
            messages_per_second: 100,
            // A call's start is some 50 kB.
            bytes_per_second: 1_000_000,
        }
    }
}

/// A static TURN user of the configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticUser {
    pub name: String,
    pub password: String,
}

/// A back end's key (DESIGN section 5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Its name: the `kid` of tokens, part of the subjects it mints credentials for.
    pub id: String,
    pub secret: String,
}

/// Where events are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// `https://` or `http://`.
    pub url: String,
    /// The bytes that messages are signed with.
    pub secret: Vec<u8>,
}

/// Everything `serve` needs to know, checked. Names are those of DESIGN section 7.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Files of the state directory are made at first run and read again later.
    pub state_dir: PathBuf,
    pub udp: Listen,
    pub tcp: Listen,
    /// Sniffed ports that serve plain HTTP without redirect.
    pub http: Listen,
    /// A listener of its own for `/metrics`, without a token.
    pub metrics: Option<SocketAddr>,
    pub trust_proxy: Vec<Cidr>,
    /// Origins allowed beside the same origin; `*` is every origin.
    pub origins: Vec<String>,
    pub domain: Option<String>,
    pub public_ips: Vec<PublicIp>,
    /// The second address of NAT discovery (RFC 5780).
    pub alt_ip: Option<IpAddr>,
    /// Where relayed addresses are bound; empty: the address the client reached us on.
    pub relay_ips: Vec<IpAddr>,
    pub relay_ports: (u16, u16),
    pub realm: String,
    pub secret_file: Option<PathBuf>,
    /// Secrets given in the configuration, newest first. Empty: the state directory's `turn-secret`.
    pub secrets: Vec<String>,
    pub users: Vec<StaticUser>,
    /// Keys of back ends.
    pub api_keys: Vec<ApiKey>,
    pub webhook: Option<Webhook>,
    pub allow_peers: Vec<Cidr>,
    pub deny_peers: Vec<Cidr>,
    /// TCP allocations are made (RFC 6062).
    pub tcp_relay: bool,
    /// `None`: invite, or open when every listener is a literal loopback address.
    pub access: Option<Access>,
    /// A certificate chain and its key of the operator's own.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// `None`: ACME is off.
    pub acme: Option<AcmeConfig>,
    pub turns: Turns,
    pub legacy_channels: bool,
    pub strict_family: bool,
    pub strict_expiry: bool,
    /// UDP threads; 0 is one per core.
    pub shards: usize,
    pub static_dir: Option<PathBuf>,
    pub socketio_client_dir: Option<PathBuf>,
    pub log_format: LogFormat,
    pub log_level: String,
    /// Lifetime of the credentials we mint.
    pub credential_ttl: Duration,
    /// How long a lost signaling connection may come back.
    pub resume: Duration,
    pub drain_timeout: Duration,
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        let any =
            |port: u16| [format!("0.0.0.0:{port}"), format!("[::]:{port}")].map(|text| text.parse().expect("literal"));
        Self {
            state_dir: PathBuf::from("certs"),
            udp: Listen { addresses: any(3478).to_vec(), explicit: false },
            tcp: Listen { addresses: [any(3478), any(8443)].concat(), explicit: false },
            http: Listen { addresses: Vec::new(), explicit: false },
            metrics: None,
            trust_proxy: Vec::new(),
            origins: Vec::new(),
            domain: None,
            public_ips: Vec::new(),
            alt_ip: None,
            relay_ips: Vec::new(),
            relay_ports: (49152, 65535),
            realm: "relais".into(),
            secret_file: None,
            secrets: Vec::new(),
            users: Vec::new(),
            api_keys: Vec::new(),
            webhook: None,
            allow_peers: Vec::new(),
            deny_peers: Vec::new(),
            tcp_relay: true,
            access: None,
            certificate: None,
            acme: None,
            turns: Turns::Auto,
            legacy_channels: false,
            strict_family: false,
            strict_expiry: false,
            shards: 0,
            static_dir: None,
            socketio_client_dir: None,
            log_format: LogFormat::Text,
            log_level: "info".into(),
            credential_ttl: Duration::from_secs(24 * 3600),
            resume: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(10),
            limits: Limits::default(),
        }
    }
}
