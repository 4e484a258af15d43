//! One allocation: its relayed addresses, permissions and channels (RFC 8656 sections 6, 9 and 12).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::auth::{Identity, Known};
use super::bandwidth::Meters;
use super::event::{Route, Traffic};
use super::policy::{Policy, Reach};
use super::response::ErrorCode;
use super::stun::TransactionId;
use super::tcp::Links;
use super::types::{ChannelNumber, Family, FiveTuple, RelayId};
use super::usage::Contacts;
use crate::credentials::turn::LongTermKey;
use crate::time::Mono;

/// RFC 8656 section 9: the lifetime of a permission.
const PERMISSION: Duration = Duration::from_secs(300);

/// RFC 8656 section 12: the lifetime of a channel binding.
const CHANNEL: Duration = Duration::from_secs(600);

/// RFC 8656 section 12: number and peer of an expired channel are kept apart from others this long.
const CHANNEL_RESERVED: Duration = Duration::from_secs(300);

/// Who owns an allocation.
#[derive(Clone)]
pub(super) struct Owner {
    pub(super) subject: Arc<str>,
    username: Box<str>,
    /// `None` after a reload: the next request must prove itself against the new secrets.
    key: Option<LongTermKey>,
}

impl Owner {
    pub(super) fn new(identity: &Identity<'_>) -> Self {
        Self { subject: identity.subject.to_arc(), username: identity.username.into(), key: Some(identity.key) }
    }

    pub(super) fn known(&self) -> Option<Known<'_>> {
        self.key.as_ref().map(|key| Known { username: &self.username, key })
    }

    /// A fresh credential of the same subject takes over (a page that fetched its ICE servers again).
    pub(super) fn renew(&mut self, identity: &Identity<'_>) {
        if *self.username != *identity.username {
            self.username = identity.username.into();
        }
        self.key = Some(identity.key);
    }

    pub(super) fn forget_key(&mut self) {
        self.key = None;
    }
}

/// What the Allocate that made the allocation was granted, to answer its retransmissions the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Granted {
    pub(super) transaction: TransactionId,
    pub(super) lifetime: u32,
    pub(super) reservation: Option<[u8; 8]>,
    /// Of two families asked for, the one refused (RFC 8656 section 18.12).
    pub(super) refused: Option<(Family, ErrorCode)>,
    /// When.
    pub(super) at: Mono,
}

/// A relayed transport address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Relayed {
    /// The address that peers see: the public one of a 1:1 NAT with the bound port.
    pub(super) advertised: SocketAddr,
    pub(super) expires: Mono,
    pub(super) traffic: Traffic,
}

struct Permission {
    expires: Mono,
    reach: Reach,
}

struct Channel {
    peer: SocketAddr,
    expires: Mono,
    route: Route,
}

impl Channel {
    fn is_reserved(&self, now: Mono) -> bool {
        self.expires + CHANNEL_RESERVED > now
    }
}

/// How many permissions and channels an allocation may have; one more is 508.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) permissions: usize,
    pub(super) channels: usize,
}

/// The server-side state for one 5-tuple.
pub(super) struct Allocation {
    pub(super) tuple: FiveTuple,
    pub(super) owner: Owner,
    pub(super) granted: Granted,
    pub(super) meters: Meters,
    /// The connections of a TCP allocation (RFC 6062); `None` for UDP.
    pub(super) tcp: Option<Box<Links>>,
    relayed: [Option<Relayed>; 2],
    permissions: FxHashMap<IpAddr, Permission>,
    channels: FxHashMap<u16, Channel>,
    channel_of: FxHashMap<SocketAddr, u16>,
    slot: u32,
    generation: u32,
}

impl Allocation {
    /// `id`: any of its relay ids.
    pub(super) fn new(tuple: FiveTuple, owner: Owner, granted: Granted, id: RelayId) -> Self {
        Self {
            tuple,
            owner,
            granted,
            meters: Meters::default(),
            tcp: None,
            relayed: [None; 2],
            permissions: FxHashMap::default(),
            channels: FxHashMap::default(),
            channel_of: FxHashMap::default(),
            slot: id.slot,
            generation: id.generation,
        }
    }

    pub(super) fn id(&self, family: Family) -> RelayId {
        RelayId { slot: self.slot, generation: self.generation, family }
    }

    pub(super) fn relayed(&self, family: Family) -> Option<&Relayed> {
        self.relayed[family as usize].as_ref()
    }

    /// Whether the relayed address of a family is there and its time not over.
    pub(super) fn is_live(&self, family: Family, now: Mono) -> bool {
        self.relayed(family).is_some_and(|relayed| relayed.expires > now)
    }

    pub(super) fn set_relayed(&mut self, family: Family, relayed: Relayed) {
        self.relayed[family as usize] = Some(relayed);
    }

    /// The relayed addresses, IPv4 first.
    pub(super) fn families(&self) -> impl Iterator<Item = (Family, &Relayed)> {
        let families = [Family::V4, Family::V6].into_iter().zip(&self.relayed);
        families.filter_map(|(family, relayed)| Some((family, relayed.as_ref()?)))
    }

    /// When the first of its relayed addresses or connections is due; `None` when it has no address left.
    pub(super) fn deadline(&self) -> Option<Mono> {
        let expires = self.families().map(|(_, relayed)| relayed.expires).min()?;
        let link = self.tcp.as_ref().and_then(|links| links.due());
        Some(link.map_or(expires, |due| due.min(expires)))
    }

    /// Makes one relayed address live until `expires`.
    pub(super) fn extend(&mut self, family: Family, expires: Mono) {
        if let Some(relayed) = &mut self.relayed[family as usize] {
            relayed.expires = expires;
        }
    }

    /// Takes one relayed address away, with its permissions and channels and no others (RFC 8656 section 8.1).
    pub(super) fn remove(&mut self, family: Family) -> Option<Relayed> {
        let relayed = self.relayed[family as usize].take()?;
        self.permissions.retain(|ip, _| Family::of(*ip) != family);
        self.channels.retain(|_, channel| Family::of(channel.peer.ip()) != family);
        self.channel_of.retain(|peer, _| Family::of(peer.ip()) != family);
        Some(relayed)
    }

    /// How many permissions and channels live.
    pub(super) fn in_use(&self, now: Mono) -> (usize, usize) {
        let permissions = self.permissions.values().filter(|permission| permission.expires > now).count();
        (permissions, self.channels.values().filter(|channel| channel.expires > now).count())
    }

    /// What kinds of address its live permissions are for.
    pub(super) fn contacts(&self, now: Mono) -> Contacts {
        let mut contacts = Contacts::default();
        for (ip, permission) in self.permissions.iter().filter(|(_, permission)| permission.expires > now) {
            contacts.add(*ip, permission.reach != Reach::Network);
        }
        contacts
    }

    /// Forgets permissions that have expired and channels whose reservation is over.
    pub(super) fn sweep(&mut self, now: Mono) {
        self.permissions.retain(|_, permission| permission.expires > now);
        self.channels.retain(|_, channel| channel.is_reserved(now));
        let channels = &self.channels;
        self.channel_of.retain(|_, number| channels.contains_key(number));
    }

    /// How a peer IP is reached, while it has a permission.
    pub(super) fn permitted(&self, ip: IpAddr, now: Mono) -> Option<Reach> {
        let permission = self.permissions.get(&ip)?;
        (permission.expires > now).then_some(permission.reach)
    }

    /// Whether `new` more permissions fit, after forgetting dead ones where that helps.
    pub(super) fn has_room(&mut self, new: usize, room: Room, now: Mono) -> bool {
        if self.permissions.len() + new > room.permissions {
            self.sweep(now);
        }
        self.permissions.len() + new <= room.permissions
    }

    /// Whether `ip` is in the table, live or not.
    pub(super) fn has_entry(&self, ip: IpAddr) -> bool {
        self.permissions.contains_key(&ip)
    }

    /// Installs or refreshes a permission (RFC 8656 section 9).
    pub(super) fn permit(&mut self, ip: IpAddr, reach: Reach, now: Mono) {
        self.permissions.insert(ip, Permission { expires: now + PERMISSION, reach });
    }

    /// The peer of a channel, while both the channel and its permission live.
    pub(super) fn channel(&self, number: u16, now: Mono) -> Option<(SocketAddr, Route)> {
        let channel = self.channels.get(&number)?;
        let is_live = channel.expires > now && self.permitted(channel.peer.ip(), now).is_some();
        is_live.then_some((channel.peer, channel.route))
    }

    /// The live channel bound to a peer.
    pub(super) fn channel_to(&self, peer: SocketAddr, now: Mono) -> Option<ChannelNumber> {
        let number = *self.channel_of.get(&peer)?;
        let channel = self.channels.get(&number)?;
        (channel.expires > now).then_some(ChannelNumber(number))
    }

    /// Whether `number` and `peer` may be bound to each other now (RFC 8656 section 12.2): neither may be bound, or
    /// reserved after its expiry, to another. The same pair may always come back.
    pub(super) fn may_bind(&self, number: ChannelNumber, peer: SocketAddr, now: Mono) -> bool {
        let is_free = |channel: &Channel| channel.peer == peer || !channel.is_reserved(now);
        let number_is_free = self.channels.get(&number.0).is_none_or(is_free);
        let peer_is_free = self.channel_of.get(&peer).is_none_or(|bound| {
            *bound == number.0 || self.channels.get(bound).is_none_or(|channel| !channel.is_reserved(now))
        });
        number_is_free && peer_is_free
    }

    /// Whether the channel exists already or one more fits.
    pub(super) fn has_channel_room(&mut self, number: ChannelNumber, room: Room, now: Mono) -> bool {
        if self.channels.contains_key(&number.0) || self.channels.len() < room.channels {
            return true;
        }
        self.sweep(now);
        self.channels.len() < room.channels
    }

    /// Binds or refreshes a channel that `may_bind`. Its permission is the caller's to install.
    pub(super) fn bind(&mut self, number: ChannelNumber, peer: SocketAddr, route: Route, now: Mono) {
        if let Some(before) = self.channels.insert(number.0, Channel { peer, expires: now + CHANNEL, route })
            && before.peer != peer
        {
            self.channel_of.remove(&before.peer);
        }
        if let Some(before) = self.channel_of.insert(peer, number.0)
            && before != number.0
        {
            self.channels.remove(&before);
        }
    }

    /// Applies a new peer policy: what it denies is no longer permitted, what it reaches otherwise is routed anew.
    pub(super) fn apply(&mut self, policy: &Policy) {
        self.permissions.retain(|ip, permission| match policy.judge(*ip) {
            Some(reach) => {
                permission.reach = reach;
                true
            }
            None => false,
        });
        self.channels.retain(|_, channel| {
            let reach = policy.judge(channel.peer.ip());
            match reach.and_then(|reach| policy.route(reach, channel.peer.port())) {
                Some(route) => {
                    channel.route = route;
                    true
                }
                None => false,
            }
        });
        let channels = &self.channels;
        self.channel_of.retain(|_, number| channels.contains_key(number));
    }

    pub(super) fn count_to_peer(&mut self, family: Family, len: usize) {
        if let Some(relayed) = &mut self.relayed[family as usize] {
            relayed.traffic.count_to_peer(len);
        }
    }

    pub(super) fn count_to_client(&mut self, family: Family, len: usize) {
        if let Some(relayed) = &mut self.relayed[family as usize] {
            relayed.traffic.count_to_client(len);
        }
    }

    /// Panics when the indexes disagree or a limit was passed; the tests ask after every step.
    #[cfg(test)]
    pub(super) fn check(&self, permissions: usize) {
        assert!(self.permissions.len() <= permissions);
        assert_eq!(self.channels.len(), self.channel_of.len());
        for (peer, number) in &self.channel_of {
            assert_eq!(self.channels[number].peer, *peer);
        }
        for ip in self.permissions.keys() {
            assert!(self.relayed(Family::of(*ip)).is_some());
        }
    }
}
