//! What subjects use at this moment.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::Relay;
use super::event::Traffic;
use super::types::{RelayId, Transport};
use crate::time::Mono;

/// One relayed address of a live allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    pub relay: RelayId,
    /// Whom the allocation counts for.
    pub subject: Arc<str>,
    /// How its client reaches us.
    pub transport: Transport,
    /// Where its client is.
    pub client: IpAddr,
    /// What peers see.
    pub relayed: SocketAddr,
    pub traffic: Traffic,
    /// Live permissions and channels of the allocation, both families together.
    pub permissions: usize,
    pub channels: usize,
    /// What kinds of address the permissions are for.
    pub contacts: Contacts,
    pub age: Duration,
    /// How long it lives unless it is refreshed.
    pub expires_in: Duration,
}

/// What kinds of peer address an allocation has permissions for; the addresses themselves stay here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contacts {
    /// Addresses of this server: relay to relay.
    pub relay: bool,
    /// Addresses of local networks, which `allow_peer` has opened.
    pub private: bool,
    pub public_v4: bool,
    pub public_v6: bool,
}

impl Contacts {
    pub(super) fn add(&mut self, ip: IpAddr, is_own: bool) {
        let kind = match ip {
            _ if is_own => &mut self.relay,
            ip if is_private(ip) => &mut self.private,
            IpAddr::V4(_) => &mut self.public_v4,
            IpAddr::V6(_) => &mut self.public_v6,
        };
        *kind = true;
    }
}

/// An address that means something in a local network alone (RFC 1918, 6598, 3927, 4193, 4291).
pub fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            let is_shared = first == 100 && (64..128).contains(&second);
            ip.is_private() || ip.is_loopback() || ip.is_link_local() || is_shared
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

impl Relay {
    /// The live allocations of the subjects that `wants` names, one entry for each relayed address, `limit` at most.
    pub fn usage(&mut self, now: Mono, wants: impl Fn(&str) -> bool, limit: usize) -> Vec<Usage> {
        let mut found = Vec::new();
        for allocation in self.table.each_live().filter(|allocation| wants(&allocation.owner.subject)) {
            let (permissions, channels) = allocation.in_use(now);
            let contacts = allocation.contacts(now);
            for (family, relayed) in allocation.families().filter(|(_, relayed)| relayed.expires > now) {
                if found.len() == limit {
                    return found;
                }
                found.push(Usage {
                    relay: allocation.id(family),
                    subject: Arc::clone(&allocation.owner.subject),
                    transport: allocation.tuple.transport,
                    client: allocation.tuple.client.ip(),
                    relayed: relayed.advertised,
                    traffic: relayed.traffic,
                    permissions,
                    channels,
                    contacts,
                    age: now - allocation.granted.at,
                    expires_in: relayed.expires - now,
                });
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_contacts() {
        let kinds = |ip: &str, is_own| {
            let mut contacts = Contacts::default();
            contacts.add(ip.parse().expect("address"), is_own);
            (contacts.relay, contacts.private, contacts.public_v4, contacts.public_v6)
        };
        assert_eq!(kinds("192.168.1.1", true), (true, false, false, false));
        for ip in ["10.1.2.3", "100.64.0.1", "169.254.0.1", "127.0.0.1", "::1", "fd00::1", "fe80::1"] {
            assert_eq!(kinds(ip, false), (false, true, false, false), "{ip}");
        }
        assert_eq!(kinds("198.51.100.1", false), (false, false, true, false));
        assert_eq!(kinds("2001:db8::1", false), (false, false, false, true));
    }
}
