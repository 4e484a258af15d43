//! Allocate (RFC 8656 section 7.2), in two phases: the request is checked and asks the shell for a relay socket; the
//! shell's answer makes the allocation and the reply.

use std::net::SocketAddr;
use std::time::Duration;

use super::allocation::{Allocation, Granted, Owner, Relayed};
use super::event::{EndReason, Event, OpenError, OpenRelay, Output, Traffic};
use super::request::{AllocateRequest, RequestedFamily};
use super::response::{Asked, ErrorCode, Refusal, Seal, close, refusal};
use super::stun::{Builder, Integrity, attr};
use super::table::State;
use super::types::{Family, FiveTuple, RelayId};
use super::{Exchange, Relay};
use crate::credentials::turn::LongTermKey;
use crate::time::Now;

/// RFC 8656 section 3.2: the lifetime of an allocation that asks for none, and the least granted.
const DEFAULT_LIFETIME: u32 = 600;

/// RFC 8656 section 7.2 recommends an hour at most.
const MAXIMUM_LIFETIME: u32 = 3600;

/// The IP protocol numbers granted as REQUESTED-TRANSPORT.
const UDP: u8 = 17;
const TCP: u8 = 6;

/// How long a shell may take to grant a relay socket before the request is refused.
const PENDING: Duration = Duration::from_secs(10);

/// Allocates waiting for their relay socket at one time; one more is 508.
const PENDING_LIMIT: usize = 1024;

/// What became of the relay socket of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    No,
    Asked,
    Opened(SocketAddr),
    Refused(OpenError),
}

/// An Allocate between its two phases.
pub(super) struct Pending {
    pub(super) tuple: FiveTuple,
    pub(super) asked: Asked,
    pub(super) owner: Owner,
    integrity: Integrity,
    key: LongTermKey,
    lifetime: u32,
    even_port: bool,
    tcp: bool,
    reserve: Option<[u8; 8]>,
    /// No family was named: IPv6 will do where there is no IPv4.
    falls_back: bool,
    /// By family, IPv4 first.
    wants: [Want; 2],
}

/// What the checks let through to the shell.
struct Plan {
    families: [bool; 2],
    falls_back: bool,
    tcp: bool,
    even_port: bool,
    reserve: bool,
    reservation: Option<[u8; 8]>,
}

/// RFC 8656 section 7.2: what is asked for, but at least the default and at most the maximum.
pub(super) fn clamp_lifetime(asked: Option<u32>) -> u32 {
    asked.map_or(DEFAULT_LIFETIME, |asked| asked.clamp(DEFAULT_LIFETIME, MAXIMUM_LIFETIME))
}

impl Relay {
    /// `None`: the reply comes when the shell has answered.
    pub(super) fn allocate(&mut self, exchange: &Exchange<'_>) -> Result<Option<Builder>, Refusal> {
        // 1. Authentication has been done. 2. The 5-tuple is in use: the same answer to the same request, else 437.
        if let Some(replay) = self.replay(exchange)? {
            return Ok(replay);
        }
        let request = AllocateRequest::parse(exchange.message)?;
        let plan = self.plan(exchange, &request)?;
        if self.table.pending() >= PENDING_LIMIT {
            return Err(ErrorCode::InsufficientCapacity.into());
        }
        self.open(exchange, &plan, clamp_lifetime(request.lifetime));
        Ok(None)
    }

    fn replay(&mut self, exchange: &Exchange<'_>) -> Result<Option<Option<Builder>>, ErrorCode> {
        let is_same = |transaction, owner: &Owner| {
            transaction == exchange.asked.transaction && exchange.identity.subject.is(&owner.subject)
        };
        if let Some(pending) = self.table.pending_of(exchange.tuple) {
            return match is_same(pending.asked.transaction, &pending.owner) {
                true => Ok(Some(None)),
                false => Err(ErrorCode::AllocationMismatch),
            };
        }
        let Some(allocation) = self.table.allocation(exchange.tuple) else { return Ok(None) };
        match is_same(allocation.granted.transaction, &allocation.owner) {
            true => Ok(Some(Some(success(&exchange.asked, allocation)))),
            false => Err(ErrorCode::AllocationMismatch),
        }
    }

    fn plan(&self, exchange: &Exchange<'_>, request: &AllocateRequest) -> Result<Plan, ErrorCode> {
        // 3. REQUESTED-TRANSPORT must be UDP or TCP (its absence was a 400). 4. DONT-FRAGMENT is supported.
        match request.transport {
            UDP => {}
            TCP => self.check_tcp(exchange.tuple, request)?,
            _ => return Err(ErrorCode::UnsupportedTransportProtocol),
        }
        // 5. RESERVATION-TOKEN excludes EVEN-PORT and both family attributes.
        let names_family = request.family.is_some() || request.additional_family.is_some();
        if request.reservation.is_some() && (request.even_port.is_some() || names_family) {
            return Err(ErrorCode::BadRequest);
        }
        // 6. Both family attributes exclude each other.
        if request.family.is_some() && request.additional_family.is_some() {
            return Err(ErrorCode::BadRequest);
        }
        // 8. EVEN-PORT with a reserved pair is for one family. 9. IPv4 is never the additional one.
        let reserve = request.even_port == Some(true);
        let is_dual = match request.additional_family {
            None => false,
            Some(RequestedFamily::Known(Family::V6)) if !reserve => true,
            Some(_) => return Err(ErrorCode::BadRequest),
        };
        // 7. The family: as asked, else as reserved, else IPv4.
        let family = match (request.family, request.reservation) {
            (Some(RequestedFamily::Unknown), _) => return Err(ErrorCode::AddressFamilyNotSupported),
            (Some(RequestedFamily::Known(family)), _) => family,
            (None, Some(token)) => family_of_token(&token),
            (None, None) => Family::V4,
        };
        // Unless strict, who came over IPv6 gets that where we have no IPv4 relay address.
        let is_named = names_family || request.reservation.is_some();
        let falls_back = !is_named && !self.shared.settings.strict_family && exchange.tuple.server.is_ipv6();
        Ok(Plan {
            falls_back,
            families: [is_dual || family == Family::V4, is_dual || family == Family::V6],
            tcp: request.transport == TCP,
            even_port: request.even_port.is_some(),
            reserve,
            reservation: request.reservation,
        })
    }

    fn open(&mut self, exchange: &Exchange<'_>, plan: &Plan, lifetime: u32) {
        let reserve = plan.reserve.then(|| self.reservation_token(plan.families[Family::V6 as usize]));
        let owner = Owner::new(&exchange.identity);
        let subject = owner.subject.clone();
        let pending = Pending {
            tuple: *exchange.tuple,
            asked: exchange.asked,
            owner,
            integrity: exchange.identity.integrity,
            key: exchange.identity.key,
            lifetime,
            even_port: plan.even_port,
            tcp: plan.tcp,
            reserve,
            falls_back: plan.falls_back,
            wants: plan.families.map(|is_wanted| if is_wanted { Want::Asked } else { Want::No }),
        };
        let id = self.table.reserve(pending, Family::V4, exchange.now.mono + PENDING);
        for family in [Family::V4, Family::V6].into_iter().filter(|family| plan.families[*family as usize]) {
            self.push(Output::OpenRelay(OpenRelay {
                relay: RelayId { family, ..id },
                tuple: *exchange.tuple,
                family,
                tcp: plan.tcp,
                even_port: plan.even_port,
                reserve,
                reservation: plan.reservation,
                subject: subject.clone(),
            }));
        }
    }

    fn reservation_token(&mut self, is_v6: bool) -> [u8; 8] {
        let counter = self.rng.next();
        let mut token = self.shared.keychain.nonces.reservation_token(self.seed, counter);
        token[0] = token[0] & !1 | u8::from(is_v6);
        token
    }

    /// The outcome of an [`OpenRelay`]: the bound address, or why not. An id that is no longer waited for answers a
    /// bound address with `CloseRelay`.
    pub fn relay_opened(&mut self, now: Now, relay: RelayId, outcome: Result<SocketAddr, OpenError>) {
        // An address of the other family is of no use to the client.
        let is_usable = outcome.is_ok_and(|bound| Family::of(bound.ip()) == relay.family);
        let is_revoked =
            matches!(self.table.state_of(relay), State::Pending(pending) if self.was_revoked(now, pending));
        let pending = self.table.pending_relay(relay);
        let Some(pending) = pending.filter(|pending| pending.wants[relay.family as usize] == Want::Asked) else {
            if outcome.is_ok() && self.table.relay(relay).is_none_or(|live| live.relayed(relay.family).is_none()) {
                self.push(Output::CloseRelay(relay));
            }
            return;
        };
        if pending.falls_back && outcome == Err(OpenError::Family) {
            return self.fall_back(relay);
        }
        pending.wants[relay.family as usize] = match outcome {
            Ok(_) if is_revoked => Want::Refused(OpenError::Revoked),
            Ok(bound) if is_usable => Want::Opened(bound),
            Ok(_) => Want::Refused(OpenError::Capacity),
            Err(error) => Want::Refused(error),
        };
        let is_complete = !pending.wants.contains(&Want::Asked);
        if outcome.is_ok() && (is_revoked || !is_usable) {
            self.push(Output::CloseRelay(relay));
        }
        if is_complete {
            self.complete(now, relay);
        }
    }

    /// There is no IPv4 relay address: asks for an IPv6 one.
    fn fall_back(&mut self, relay: RelayId) {
        let token = self.reservation_token(true);
        let Some(pending) = self.table.pending_relay(relay) else { return };
        pending.falls_back = false;
        pending.wants = [Want::No, Want::Asked];
        pending.reserve = pending.reserve.map(|_| token);
        let open = OpenRelay {
            relay: RelayId { family: Family::V6, ..relay },
            tuple: pending.tuple,
            family: Family::V6,
            tcp: pending.tcp,
            even_port: pending.even_port,
            reserve: pending.reserve,
            reservation: None,
            subject: pending.owner.subject.clone(),
        };
        self.push(Output::OpenRelay(open));
    }

    /// Every family has its outcome: makes the allocation, or refuses the request.
    fn complete(&mut self, now: Now, relay: RelayId) {
        let Some(pending) = self.table.pending_relay(relay) else { return };
        let wants = pending.wants;
        let is_revoked = wants.contains(&Want::Refused(OpenError::Revoked));
        let is_opened = wants.iter().any(|want| matches!(want, Want::Opened(_)));
        if is_revoked || !is_opened {
            let refused = wants.into_iter().find_map(|want| match want {
                Want::Refused(error) => Some(error),
                Want::No | Want::Asked | Want::Opened(_) => None,
            });
            let error = if is_revoked { OpenError::Revoked } else { refused.unwrap_or(OpenError::Capacity) };
            return self.abandon(now, relay, Some(error_code(error)));
        }
        let allocation = self.settle(now, relay, wants);
        let Some((allocation, pending)) = allocation else { return };
        let builder = success(&pending.asked, &allocation);
        let seal = Seal { integrity: pending.integrity, key: &pending.key, software: &self.shared.settings.software };
        let reply = close(&pending.asked, builder, Some(seal));
        for (family, relayed) in allocation.families() {
            self.push(Output::Event(Event::Created {
                relay: allocation.id(family),
                tuple: pending.tuple,
                subject: pending.owner.subject.clone(),
                relayed: relayed.advertised,
                lifetime: pending.lifetime,
            }));
        }
        self.table.settle(allocation);
        self.reply(&pending.tuple, reply);
    }

    fn settle(&mut self, now: Now, relay: RelayId, wants: [Want; 2]) -> Option<(Allocation, Box<Pending>)> {
        let pending = self.table.take_pending(relay)?;
        // RFC 8656 section 18.12 knows two reasons; a quota is a want of capacity.
        let refused = [Family::V4, Family::V6].into_iter().zip(wants).find_map(|(family, want)| match want {
            Want::Refused(OpenError::Family) => Some((family, ErrorCode::AddressFamilyNotSupported)),
            Want::Refused(_) => Some((family, ErrorCode::InsufficientCapacity)),
            Want::No | Want::Asked | Want::Opened(_) => None,
        });
        let granted = Granted {
            transaction: pending.asked.transaction,
            lifetime: pending.lifetime,
            reservation: pending.reserve,
            refused,
            at: now.mono,
        };
        let mut allocation = Allocation::new(pending.tuple, pending.owner.clone(), granted, relay);
        allocation.tcp = pending.tcp.then(Box::default);
        let expires = now.mono + Duration::from_secs(pending.lifetime.into());
        for (family, want) in [Family::V4, Family::V6].into_iter().zip(wants) {
            if let Want::Opened(bound) = want {
                let advertised = SocketAddr::new(self.shared.settings.advertised(bound.ip()), bound.port());
                allocation.set_relayed(family, Relayed { advertised, expires, traffic: Traffic::default() });
            }
        }
        Some((allocation, pending))
    }

    /// Ends a pending Allocate, with an error reply when its client still waits.
    pub(super) fn abandon(&mut self, now: Now, relay: RelayId, code: Option<ErrorCode>) {
        let Some(pending) = self.table.take_pending(relay) else { return };
        self.table.release(relay.slot);
        for (family, want) in [Family::V4, Family::V6].into_iter().zip(pending.wants) {
            if matches!(want, Want::Opened(_)) {
                self.push(Output::CloseRelay(RelayId { family, ..relay }));
            }
        }
        match code {
            None => {}
            // A revoked subject has no credential any more.
            Some(ErrorCode::Unauthenticated) => {
                let reply = self.challenge(now, &pending.tuple, &pending.asked, ErrorCode::Unauthenticated);
                self.reply(&pending.tuple, reply);
            }
            Some(code) => {
                self.note_refused(&pending.tuple, pending.asked.method, code);
                let seal =
                    Seal { integrity: pending.integrity, key: &pending.key, software: &self.shared.settings.software };
                let reply = refusal(&pending.asked, &code.into(), Some(seal));
                self.reply(&pending.tuple, reply);
            }
        }
    }

    /// Ends whatever a slot holds.
    pub(super) fn end(&mut self, now: Now, slot: u32, reason: EndReason) {
        let pending_code = match reason {
            EndReason::Revoked => Some(ErrorCode::Unauthenticated),
            EndReason::Expired => Some(ErrorCode::InsufficientCapacity),
            EndReason::Released | EndReason::Closed => None,
        };
        match self.table.state(slot) {
            State::Free => {}
            State::Pending(_) => {
                if let Some(relay) = self.table.id(slot) {
                    self.abandon(now, relay, pending_code);
                }
            }
            State::Live(_) => {
                self.end_family(slot, Family::V4, reason);
                self.end_family(slot, Family::V6, reason);
            }
        }
    }

    /// Ends one relayed address, and the allocation with its last one.
    pub(super) fn end_family(&mut self, slot: u32, family: Family, reason: EndReason) {
        self.end_links(slot, family);
        let Some(allocation) = self.table.at(slot) else { return };
        let Some(relayed) = allocation.remove(family) else { return };
        let (relay, tuple, subject) = (allocation.id(family), allocation.tuple, allocation.owner.subject.clone());
        let due = allocation.deadline();
        match due {
            Some(_) => self.table.schedule(slot, due),
            None => self.table.remove_live(slot),
        }
        self.push(Output::CloseRelay(relay));
        let Relayed { advertised: relayed, traffic, .. } = relayed;
        self.push(Output::Event(Event::Deleted { relay, tuple, subject, relayed, reason, traffic }));
    }
}

/// The success response of RFC 8656 section 7.2, the same for every retransmission.
fn success(asked: &Asked, allocation: &Allocation) -> Builder {
    let granted = &allocation.granted;
    let mut reply = asked.success();
    for (_, relayed) in allocation.families() {
        reply.xor_address(attr::XOR_RELAYED_ADDRESS, relayed.advertised);
    }
    reply.xor_address(attr::XOR_MAPPED_ADDRESS, allocation.tuple.client);
    reply.attribute(attr::LIFETIME, &granted.lifetime.to_be_bytes());
    if let Some(token) = granted.reservation {
        reply.attribute(attr::RESERVATION_TOKEN, &token);
    }
    if let Some((family, code)) = granted.refused {
        let family = if family == Family::V4 { 0x01 } else { 0x02 };
        let [class, number] = [code.number() / 100, code.number() % 100].map(|part| part as u8);
        reply.attribute(attr::ADDRESS_ERROR_CODE, &[family, 0, class, number]);
    }
    reply
}

/// The shell never sees the family of a token, so the token itself says it, in its lowest bit.
fn family_of_token(token: &[u8; 8]) -> Family {
    if token[0] & 1 == 0 { Family::V4 } else { Family::V6 }
}

fn error_code(error: OpenError) -> ErrorCode {
    match error {
        OpenError::Quota => ErrorCode::AllocationQuotaReached,
        OpenError::Capacity => ErrorCode::InsufficientCapacity,
        OpenError::Family => ErrorCode::AddressFamilyNotSupported,
        OpenError::Revoked => ErrorCode::Unauthenticated,
    }
}
