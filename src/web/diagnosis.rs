//! What `GET /api/ice?all=1` tells beside the URLs: the facts by which `/check` tells one cause of a fault from another.
//! Nothing of it is secret, and only who may have a credential is told.

use std::net::IpAddr;

use serde::Serialize;

use super::host::Host;
use super::ice::{Asker, IceConfig, Scope};
use super::{Connection, Web};
use crate::clock;

/// The ICE configuration and the facts.
#[derive(Clone, Debug, Serialize)]
pub struct Diagnosed {
    #[serde(flatten)]
    pub ice: IceConfig,
    pub server: Facts,
}

/// What this server knows of itself and of the way that the page came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// Its clock, in unix seconds.
    pub time: u64,
    /// The address that the page came to, unless a proxy or a NAT stands before it.
    pub address: Option<IpAddr>,
    /// What it gives out as relayed address where it is behind NAT.
    pub public_ips: Vec<IpAddr>,
    /// The first and the last relay port.
    pub relay_ports: (u16, u16),
    /// A browser trusts its certificate for this host without any setting.
    pub certificate_public: bool,
    /// Somebody's STUN over UDP was answered since it started.
    pub udp_reached: bool,
    /// The page's own address, as seen here.
    pub client: IpAddr,
    /// That address is another host's, and may be a peer of the relay.
    pub client_is_peer: bool,
}

impl Web {
    /// The facts for whoever asks.
    pub fn facts(&self, asker: &Asker<'_>) -> Facts {
        let Connection { client, server, .. } = asker.connection;
        let config = self.config();
        let host = self.known_host(asker.connection, asker.host);
        let (client, server) = (client.ip().to_canonical(), server.ip().to_canonical());
        // A name may lead to a NAT or a proxy: then the connection came here from an address of another kind, or to one
        // that has a public name.
        let is_named = config.public_ips.iter().any(|rule| rule.public.is_ipv4() == server.is_ipv4());
        let address = match &host {
            Some(Host::Ip(ip)) => Some(*ip),
            _ => Some(server).filter(|_| !is_named && Scope::of(server) == Scope::of(client)),
        };
        Facts {
            time: clock::now().unix,
            address,
            public_ips: config.public_ips.iter().map(|rule| rule.public).collect(),
            relay_ports: config.relay_ports,
            certificate_public: host.is_some_and(|host| self.identity.is_public_for(&host)),
            udp_reached: self.net.totals().stranger_replies > 0,
            client,
            client_is_peer: self.net.may_be_peer(client),
        }
    }
}
