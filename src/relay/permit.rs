//! CreatePermission (RFC 8656 section 10.2) and ChannelBind (section 12.2).

use std::net::SocketAddr;

use super::allocation::{Allocation, Room};
use super::event::{Event, Output};
use super::request::{ChannelBindRequest, peers};
use super::response::{ErrorCode, Refusal};
use super::stun::Builder;
use super::types::{ChannelNumber, Family, RelayId};
use super::{Exchange, Relay};
use crate::time::Mono;

/// Channel numbers of RFC 8656 section 12.
const CHANNELS: std::ops::RangeInclusive<u16> = 0x4000..=0x4fff;

/// Those of RFC 5766, which older clients draw from.
const LEGACY_CHANNELS: std::ops::RangeInclusive<u16> = 0x4000..=0x7fff;

impl Relay {
    pub(super) fn create_permission(&mut self, exchange: &Exchange<'_>) -> Result<Builder, Refusal> {
        let now = exchange.now.mono;
        let room = self.room();
        let slot = self.owned(exchange)?;
        let policy = &self.shared.policy;
        let allocation = self.table.at(slot).ok_or(ErrorCode::AllocationMismatch)?;
        // 1. Every XOR-PEER-ADDRESS must be well-formed, of a family we relay, and allowed: all or none.
        let mut named = 0;
        for peer in peers(exchange.message) {
            let peer = peer?;
            let relay = relay_for(allocation, peer)?;
            if policy.judge(peer.ip()).is_none() {
                return Err(self.deny(relay, peer).into());
            }
            named += 1;
        }
        // 2. At least one. 3. And room for all: 508 otherwise.
        if named == 0 {
            return Err(ErrorCode::BadRequest.into());
        }
        if named > room.permissions || !fits(allocation, exchange, named, room, now) {
            return Err(ErrorCode::InsufficientCapacity.into());
        }
        // 4. Install or refresh each; ports do not matter.
        for peer in peers(exchange.message).flatten() {
            if let Some(reach) = policy.judge(peer.ip()) {
                allocation.permit(peer.ip(), reach, now);
            }
        }
        Ok(exchange.asked.success())
    }

    pub(super) fn channel_bind(&mut self, exchange: &Exchange<'_>) -> Result<Builder, Refusal> {
        let now = exchange.now.mono;
        let room = self.room();
        let slot = self.owned(exchange)?;
        let policy = &self.shared.policy;
        // 1. CHANNEL-NUMBER and XOR-PEER-ADDRESS must be there.
        let ChannelBindRequest { number, peer } = ChannelBindRequest::parse(exchange.message)?;
        let allocation = self.table.at(slot).ok_or(ErrorCode::AllocationMismatch)?;
        // A TCP relayed address has connections, no channels.
        if allocation.tcp.is_some() {
            return Err(ErrorCode::BadRequest.into());
        }
        // 2. A number of the range, and a port one can send to.
        let range = if self.shared.settings.legacy_channels { LEGACY_CHANNELS } else { CHANNELS };
        if !range.contains(&number.0) || peer.port() == 0 {
            return Err(ErrorCode::BadRequest.into());
        }
        // 3. Neither number nor peer bound, or still reserved, to another.
        if !allocation.may_bind(number, peer, now) {
            return Err(ErrorCode::BadRequest.into());
        }
        // 4. A family we relay, and an allowed peer that is no service of ours.
        let relay = relay_for(allocation, peer)?;
        let reach = policy.judge(peer.ip());
        let Some((reach, route)) = reach.and_then(|reach| Some((reach, policy.route(reach, peer.port())?))) else {
            return Err(self.deny(relay, peer).into());
        };
        // 5. Room for the channel and its permission.
        if !fits_channel(allocation, number, peer, room, now) {
            return Err(ErrorCode::InsufficientCapacity.into());
        }
        // 6. Bind or refresh, and the permission with it.
        allocation.permit(peer.ip(), reach, now);
        allocation.bind(number, peer, route, now);
        Ok(exchange.asked.success())
    }

    fn room(&self) -> Room {
        Room { permissions: self.shared.settings.permissions, channels: self.shared.settings.channels }
    }

    pub(super) fn deny(&mut self, relay: RelayId, peer: SocketAddr) -> ErrorCode {
        self.push_bounded(Output::Event(Event::PermissionDenied { relay, peer }));
        ErrorCode::Forbidden
    }
}

/// The relayed address that serves a peer's family.
pub(super) fn relay_for(allocation: &Allocation, peer: SocketAddr) -> Result<RelayId, ErrorCode> {
    let family = Family::of(peer.ip());
    allocation.relayed(family).map(|_| allocation.id(family)).ok_or(ErrorCode::PeerAddressFamilyMismatch)
}

/// Whether every peer of a CreatePermission that names `named` fits.
fn fits(allocation: &mut Allocation, exchange: &Exchange<'_>, named: usize, room: Room, now: Mono) -> bool {
    // Counted exactly only when the crude count does not do.
    if allocation.has_room(named, room, now) {
        return true;
    }
    let ips = || peers(exchange.message).flatten().map(|peer| peer.ip());
    let is_new = |&(index, ip): &(usize, _)| !allocation.has_entry(ip) && !ips().take(index).any(|seen| seen == ip);
    let new = ips().enumerate().filter(is_new).count();
    allocation.has_room(new, room, now)
}

fn fits_channel(allocation: &mut Allocation, number: ChannelNumber, peer: SocketAddr, room: Room, now: Mono) -> bool {
    let has_permission_room = allocation.has_entry(peer.ip()) || allocation.has_room(1, room, now);
    has_permission_room && allocation.has_channel_room(number, room, now)
}
