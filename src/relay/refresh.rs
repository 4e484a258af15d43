//! Refresh (RFC 8656 section 8.2): a live allocation lives on, or ends.

use std::time::Duration;

use super::allocate::clamp_lifetime;
use super::event::{EndReason, Event, Output};
use super::request::{RefreshRequest, RequestedFamily};
use super::response::{ErrorCode, Refusal};
use super::stun::{Builder, attr};
use super::types::Family;
use super::{Exchange, Relay};

impl Relay {
    pub(super) fn refresh(&mut self, exchange: &Exchange<'_>) -> Result<Builder, Refusal> {
        // 1. The allocation must be there and the sender's.
        let slot = self.owned(exchange)?;
        if self.end_revoked(exchange.now, slot) {
            return Err(ErrorCode::Unauthenticated.into());
        }
        let request = RefreshRequest::parse(exchange.message)?;
        let Some(allocation) = self.table.at(slot) else { return Err(ErrorCode::AllocationMismatch.into()) };
        // 2. A family that it does not have: 443. None named: all it has.
        let families = match request.family {
            None => [Some(Family::V4), Some(Family::V6)],
            Some(RequestedFamily::Known(family)) if allocation.relayed(family).is_some() => [Some(family), None],
            Some(_) => return Err(ErrorCode::PeerAddressFamilyMismatch.into()),
        };
        // 3. The desired lifetime: 0 deletes, anything else is clamped as in Allocate.
        let lifetime = match request.lifetime {
            Some(0) => 0,
            asked => clamp_lifetime(asked),
        };
        for family in families.into_iter().flatten() {
            if lifetime == 0 {
                self.end_family(slot, family, EndReason::Released);
            } else {
                self.extend(exchange, slot, family, lifetime);
            }
        }
        // 4. The success response carries LIFETIME.
        let mut reply = exchange.asked.success();
        reply.attribute(attr::LIFETIME, &lifetime.to_be_bytes());
        Ok(reply)
    }

    fn extend(&mut self, exchange: &Exchange<'_>, slot: u32, family: Family, lifetime: u32) {
        let now = exchange.now.mono;
        let Some(allocation) = self.table.at(slot).filter(|found| found.relayed(family).is_some()) else { return };
        allocation.extend(family, now + Duration::from_secs(lifetime.into()));
        allocation.sweep(now);
        let (relay, due) = (allocation.id(family), allocation.deadline());
        self.table.schedule(slot, due);
        self.push(Output::Event(Event::Refreshed { relay, lifetime }));
    }
}
