//! What every `Relay` of the process shares: immutable, replaced whole on reload.

use std::net::IpAddr;

use super::bucket::Rate;
use super::discovery::Alternate;
use crate::config::{Cidr, PublicIp, StaticUser};

/// Most bytes of a realm: with a longer one a 401 would be more than twice its request of 40 bytes, in whole packets.
pub const LONGEST_REALM: usize = 48;

/// The relay's part of the configuration, plain data.
#[derive(Clone, Debug)]
pub struct Settings {
    pub realm: String,
    /// SOFTWARE, sent in authenticated replies only.
    pub software: String,
    /// Secrets of time-limited credentials, newest first: the newest signs, all verify.
    pub turn_secrets: Vec<Vec<u8>>,
    pub users: Vec<StaticUser>,
    /// Nonces are signed with keys derived from these, current first, then the previous one.
    pub nonce_secrets: Vec<Vec<u8>>,
    /// Every address of this host, bound or advertised, loopback included: peers there are `Route::Own`.
    pub own_ips: Vec<IpAddr>,
    /// Ports of our own services (UDP and TCP): never reachable on an own address.
    pub service_ports: Vec<u16>,
    /// 1:1 NAT: the advertised address of each bound one (XOR-RELAYED-ADDRESS carries it).
    pub public_ips: Vec<PublicIp>,
    /// The second address and port for NAT discovery (RFC 5780).
    pub alternate: Option<Alternate>,
    pub allow_peers: Vec<Cidr>,
    pub deny_peers: Vec<Cidr>,
    /// Permissions per allocation; one more is 508.
    pub permissions: usize,
    /// Channels per allocation; one more is 508.
    pub channels: usize,
    /// Connections of one TCP allocation (RFC 6062); 0: none is made.
    pub tcp_connections: usize,
    pub legacy_channels: bool,
    pub strict_family: bool,
    pub strict_expiry: bool,
    /// Offers SHA-256 beside MD5 as password algorithm (RFC 8489 section 9.2.4), where the realm is short enough for the
    /// bound on amplification.
    pub password_algorithms: bool,
    pub limits: Limits,
}

/// Rates that a core keeps to.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Replies over UDP to one /24 (IPv4) or /56 (IPv6) while its sources have not proven their address.
    pub strangers_per_prefix: Rate,
    /// The same for all prefixes together, for each core.
    pub strangers: Rate,
    /// Bytes per second that one allocation may relay each way, IP and UDP headers (28 bytes) included.
    pub bandwidth: Option<u64>,
    /// The same for all allocations of the process together.
    pub total_bandwidth: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // A caller behind a NAT needs some twelve 401s and as many Binding replies to begin a call, and none that
            // count once its allocation is there: sixteen callers at the same moment, and then four each second.
            strangers_per_prefix: Rate { per_second: 50, burst: 200 },
            // At some 100 bytes each, 16 Mbit/s of reflected traffic at most, spread over 400 prefixes or more.
            strangers: Rate { per_second: 20_000, burst: 20_000 },
            // What a client may use is the operator's to say.
            bandwidth: None,
            total_bandwidth: None,
        }
    }
}

impl Settings {
    /// Refuses what would make the server answer to anybody: the error says what.
    pub fn check(&self) -> Result<(), String> {
        let is_empty = |secrets: &[Vec<u8>]| secrets.iter().any(Vec::is_empty);
        if is_empty(&self.turn_secrets) {
            return Err("a shared secret is empty: anybody could make credentials".into());
        }
        if self.turn_secrets.is_empty() && self.users.is_empty() {
            return Err("there is neither a shared secret nor a user: nobody could authenticate".into());
        }
        if self.nonce_secrets.is_empty() || is_empty(&self.nonce_secrets) {
            return Err("a secret of the nonces is missing or empty: anybody could make nonces".into());
        }
        if self.realm.len() > LONGEST_REALM {
            let len = self.realm.len();
            return Err(format!("the realm has {len} bytes: at most {LONGEST_REALM} keep a challenge small enough"));
        }
        Ok(())
    }

    /// What `bound` is called outside: the public address of its 1:1 NAT (the rule of this very address before the
    /// general one of its family), else itself.
    pub fn advertised(&self, bound: IpAddr) -> IpAddr {
        let same_family = || self.public_ips.iter().filter(|rule| rule.public.is_ipv4() == bound.is_ipv4());
        let exact = same_family().find(|rule| rule.bound == Some(bound));
        exact.or_else(|| same_family().find(|rule| rule.bound.is_none())).map_or(bound, |rule| rule.public)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_of_an_address_goes_before_that_of_its_family() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let rule = |public, bound: Option<&str>| PublicIp { public: ip(public), bound: bound.map(ip) };
        let rules = [rule("192.0.2.1", None), rule("192.0.2.2", Some("10.0.0.2"))];
        for public_ips in [rules.to_vec(), rules.into_iter().rev().collect()] {
            let settings = Settings { public_ips, ..crate::relay::tests::settings() };
            let advertised = ["10.0.0.1", "10.0.0.2", "fd00::1"].map(|bound| settings.advertised(ip(bound)));
            assert_eq!(advertised, ["192.0.2.1", "192.0.2.2", "fd00::1"].map(ip));
        }
    }
}
