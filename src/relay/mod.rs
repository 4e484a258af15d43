//! The sans-IO STUN/TURN server: bytes and time in, outputs out.
//!
//! The contract is the same as everywhere in this code base: *one input, then drain `poll_output` to `None`, then the
//! next input*. The return value of [`Relay::handle_client`] and [`Relay::handle_peer`] is the hot path (where a
//! payload goes, without copying it); everything else is queued as [`Output`].

mod allocate;
mod allocation;
mod auth;
mod bandwidth;
mod binding;
mod bucket;
mod budget;
mod discovery;
pub mod event;
mod expiry;
mod forward;
pub mod framing;
mod icmp;
mod nonce;
mod permit;
mod policy;
mod refresh;
mod request;
mod response;
mod revoked;
pub mod settings;
pub mod stun;
mod table;
pub mod tcp;
pub mod types;
mod usage;

use std::collections::VecDeque;
use std::sync::Arc;

use auth::{Identity, Keychain};
use bandwidth::Bandwidth;
use budget::Budget;
use nonce::ALLOCATE_AGE;
use policy::Policy;
use response::{Asked, Challenge, ErrorCode, Refusal, Seal};
use stun::{Class, Message, TransactionId, attr, method};
use table::{State, Table};

use crate::time::{Mono, Now};

pub use bucket::Rate;
pub use budget::Exposure;
pub use discovery::Alternate;
pub use event::{
    DropReason, EndReason, Event, OpenError, OpenRelay, Output, ReplyBytes, Route, ToClient, ToPeer, Traffic,
};
pub use icmp::IcmpError;
pub use revoked::{Nobody, Revoked};
pub use settings::{Limits, Settings};
pub use tcp::TcpOutput;
pub use types::{ChannelNumber, Family, FiveTuple, RelayId, Transport};
pub use usage::{Contacts, Usage, is_private};

/// Replies and notes queued between two drains; further ones are dropped. Lifecycle outputs are always kept: there are
/// at most four for an allocation.
const OUTPUT_LIMIT: usize = 1024;

/// What every `Relay` of the process shares: settings compiled into policy, keys and user tables.
pub struct Shared {
    settings: Settings,
    keychain: Keychain,
    policy: Policy,
    budget_key: [u64; 2],
    bandwidth: Bandwidth,
    revoked: Arc<dyn Revoked>,
}

impl Shared {
    /// Compiles `settings`; nobody is ever revoked but by [`Relay::revoke`].
    pub fn new(settings: Settings) -> Self {
        Self::with_revoked(settings, Arc::new(Nobody))
    }

    /// Compiles `settings`; `revoked` is asked about the subjects of clients.
    pub fn with_revoked(settings: Settings, revoked: Arc<dyn Revoked>) -> Self {
        let keychain = Keychain::new(&settings);
        let budget_key = keychain.nonces.budget_key();
        let (policy, bandwidth) = (Policy::new(&settings), Bandwidth::new(&settings.limits));
        Self { keychain, policy, budget_key, bandwidth, revoked, settings }
    }

    /// Whether the peer policy lets `ip`, of another host, be a peer.
    pub fn may_be_peer(&self, ip: std::net::IpAddr) -> bool {
        self.policy.judge(ip) == Some(policy::Reach::Network)
    }

    /// The settings it was made from.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // It is made of secrets.
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// One STUN/TURN server core: all clients of a shard, or the one client of a stream.
pub struct Relay {
    shared: Arc<Shared>,
    table: Table,
    outputs: VecDeque<Output>,
    budget: Budget,
    traffic: Traffic,
    /// Requests whose credential was wrong or over; those without any are the usual first step.
    wrong_credentials: u64,
    /// Datagrams have come: this is a shard's core, which keeps its queue, so that floods do not touch the heap.
    takes_datagrams: bool,
    seed: u64,
    rng: Rng,
    /// A ConnectionBind that waits for the shell (RFC 6062 section 5.4).
    binding: Option<Box<tcp::Binding>>,
}

/// An authenticated request on its way through its procedure.
struct Exchange<'m> {
    now: Now,
    tuple: &'m FiveTuple,
    message: &'m Message<'m>,
    identity: Identity<'m>,
    asked: Asked,
}

impl Relay {
    /// A core without allocations. `seed` feeds transaction ids of indications and reservation tokens. Costs no heap
    /// until the first allocation, so that every TCP and TLS connection can have one.
    pub fn new(shared: Arc<Shared>, seed: u64) -> Self {
        let (table, outputs, budget) = (Table::default(), VecDeque::new(), Budget::default());
        let (traffic, takes_datagrams, rng) = (Traffic::default(), false, Rng { state: seed });
        let (wrong_credentials, binding) = (0, None);
        Self { shared, table, outputs, budget, traffic, wrong_credentials, takes_datagrams, seed, rng, binding }
    }

    /// Replaces settings, keys and policy; live allocations stay. Their permissions are held against the new policy,
    /// and their next request against the new secrets.
    pub fn set_shared(&mut self, shared: Arc<Shared>) {
        self.shared = shared;
        for allocation in self.table.each_live() {
            allocation.owner.forget_key();
            allocation.apply(&self.shared.policy);
        }
        self.deny_links();
    }

    /// Takes one datagram (UDP) or one frame (stream, cut by `framing`) from a client. `Some` says where its payload
    /// goes; replies and everything else are drained with [`Relay::poll_output`].
    pub fn handle_client(&mut self, now: Now, tuple: &FiveTuple, datagram: &[u8]) -> Option<ToPeer> {
        self.takes_datagrams |= !tuple.transport.is_stream();
        match datagram.first().map(|first| framing::FirstByte::of(*first)) {
            Some(framing::FirstByte::ChannelData) => self.channel_data(now, tuple, datagram),
            Some(framing::FirstByte::Stun) => self.message(now, tuple, datagram),
            Some(framing::FirstByte::Other) | None => {
                self.note_dropped(DropReason::Malformed);
                None
            }
        }
    }

    fn message(&mut self, now: Now, tuple: &FiveTuple, datagram: &[u8]) -> Option<ToPeer> {
        let Ok(message) = Message::parse(datagram) else {
            self.note_dropped(DropReason::Malformed);
            return None;
        };
        match (message.class, message.method) {
            (Class::Indication, method::SEND) => return self.send_indication(now, tuple, &message),
            (Class::Indication, _) => self.note_dropped(DropReason::Indication),
            (Class::Request, method::BINDING) => self.binding(now, tuple, &message),
            (
                Class::Request,
                method::ALLOCATE
                | method::REFRESH
                | method::CREATE_PERMISSION
                | method::CHANNEL_BIND
                | method::CONNECT
                | method::CONNECTION_BIND,
            ) => self.request(now, tuple, &message),
            // RFC 8489 section 6.3: methods we do not know, and responses, get no answer.
            (Class::Request | Class::Success | Class::Error, _) => self.note_dropped(DropReason::Malformed),
        }
        None
    }

    fn request(&mut self, now: Now, tuple: &FiveTuple, message: &Message<'_>) {
        // An allocation whose time is over is gone, even if the shell's timer is late.
        let slot = self.table.find(tuple);
        if let Some(slot) = slot.filter(|slot| self.table.is_due(*slot, now.mono)) {
            self.expire(now, slot);
        }
        let asked = Asked::of(message);
        let known = self.table.owner(tuple).and_then(|owner| owner.known());
        // A static user's name may be the keychain's, which must outlive the exchange.
        let shared = Arc::clone(&self.shared);
        let identity = match shared.keychain.authenticate(now, tuple, message, known) {
            Ok(identity) => identity,
            Err(code) => {
                let is_wrong = code == ErrorCode::Unauthenticated && message.integrity().is_some();
                self.wrong_credentials += u64::from(is_wrong);
                return self.reply_to_stranger(now, tuple, message, |core| core.challenge(now, tuple, &asked, code));
            }
        };
        let exchange = Exchange { now, tuple, message, identity, asked };
        let outcome = request::refuse_unknown(message, &[]).and_then(|()| match message.method {
            method::ALLOCATE => self.allocate(&exchange),
            method::REFRESH => self.refresh(&exchange).map(Some),
            method::CREATE_PERMISSION => self.create_permission(&exchange).map(Some),
            method::CONNECT => self.connect(&exchange).map(|()| None),
            method::CONNECTION_BIND => self.connection_bind(&exchange).map(|()| None),
            _ => self.channel_bind(&exchange).map(Some),
        });
        let software = &shared.settings.software;
        let seal = Some(Seal { integrity: identity.integrity, key: &identity.key, software });
        let reply = match outcome {
            Ok(None) => return,
            Ok(Some(success)) => response::close(&asked, success, seal),
            // A credential that was revoked is none any more.
            Err(refusal) if refusal.code() == ErrorCode::Unauthenticated => {
                self.challenge(now, tuple, &asked, ErrorCode::Unauthenticated)
            }
            Err(refusal) => {
                let reply = response::refusal(&asked, &refusal, seal);
                self.note_refused(tuple, asked.method, refusal.code());
                reply
            }
        };
        self.reply(tuple, reply);
    }

    /// The slot of the sender's allocation: none is 437, somebody else's is 441 (RFC 8656 section 5).
    fn owned(&mut self, exchange: &Exchange<'_>) -> Result<u32, Refusal> {
        let slot = self.table.find(exchange.tuple).ok_or(ErrorCode::AllocationMismatch)?;
        let allocation = self.table.at(slot).ok_or(ErrorCode::AllocationMismatch)?;
        if !exchange.identity.subject.is(&allocation.owner.subject) {
            return Err(ErrorCode::WrongCredentials.into());
        }
        allocation.owner.renew(&exchange.identity);
        Ok(slot)
    }

    /// Refuses what is not authenticated: 401 and 438 with realm and nonce, 400 bare.
    fn challenge(&mut self, now: Now, tuple: &FiveTuple, asked: &Asked, code: ErrorCode) -> Option<ReplyBytes> {
        self.note_refused(tuple, asked.method, code);
        match code {
            ErrorCode::Unauthenticated | ErrorCode::StaleNonce => {
                let keychain = &self.shared.keychain;
                let nonce = keychain.nonces.mint(now.unix, tuple.client, keychain.features);
                let offers_algorithms = keychain.features.password_algorithms;
                let challenge = Challenge { realm: &keychain.realm, nonce: &nonce, offers_algorithms };
                response::challenge(asked, code, &challenge)
            }
            _ => response::refusal(asked, &code.into(), None),
        }
    }

    /// Answers a request without credentials, or with wrong ones, as far as the budget goes.
    fn reply_to_stranger(
        &mut self,
        now: Now,
        tuple: &FiveTuple,
        message: &Message<'_>,
        make: impl FnOnce(&mut Self) -> Option<ReplyBytes>,
    ) {
        let is_stranger = !self.has_proven_address(now, tuple, message);
        if is_stranger && !self.spend(now, tuple, 1) {
            return;
        }
        let reply = make(self);
        if let Some(reply) = reply.as_ref().filter(|_| is_stranger) {
            self.budget.count(message.len(), reply.len());
        }
        self.reply(tuple, reply);
    }

    /// Takes `tokens` from the budget for strangers; false when there are too few.
    fn spend(&mut self, now: Now, tuple: &FiveTuple, tokens: u64) -> bool {
        let (limits, key) = (&self.shared.settings.limits, self.shared.budget_key);
        let is_within = self.budget.allows(limits, key, tuple.client.ip(), now.mono, tokens);
        if !is_within {
            self.note_dropped(DropReason::Budget);
        }
        is_within
    }

    /// Whether the sender is where its packets say: the handshake of a stream, an allocation, or a nonce that went to
    /// this address proves it. An old nonce does as well.
    fn has_proven_address(&self, now: Now, tuple: &FiveTuple, message: &Message<'_>) -> bool {
        let nonces = &self.shared.keychain.nonces;
        let is_ours = |nonce| nonces.verify(nonce, now.unix, tuple.client, ALLOCATE_AGE).is_some();
        tuple.transport.is_stream() || self.table.find(tuple).is_some() || message.get(attr::NONCE).is_some_and(is_ours)
    }

    /// Whether a 5-tuple has a live allocation.
    pub fn has_allocation(&self, tuple: &FiveTuple) -> bool {
        self.table.owner(tuple).is_some()
    }

    /// What all allocations have relayed so far, those that have ended included.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Requests that were signed with a wrong credential, or with one whose time is over.
    pub fn wrong_credentials(&self) -> u64 {
        self.wrong_credentials
    }

    /// What replies to strangers over UDP have cost so far.
    pub fn exposure(&self) -> Exposure {
        self.budget.exposure
    }

    /// Ends every allocation: the client's stream closed, or the server stops.
    pub fn close(&mut self, now: Now) {
        for slot in self.table.select(|_| true) {
            self.end(now, slot, EndReason::Closed);
        }
    }

    /// Expires what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some(slot) = self.table.due(now.mono) {
            self.expire(now, slot);
        }
    }

    fn expire(&mut self, now: Now, slot: u32) {
        if matches!(self.table.state(slot), State::Pending(_)) {
            return self.end(now, slot, EndReason::Expired);
        }
        for family in [Family::V4, Family::V6] {
            if self.table.at(slot).is_some_and(|allocation| !allocation.is_live(family, now.mono)) {
                self.end_family(slot, family, EndReason::Expired);
            }
        }
        self.expire_links(now, slot);
    }

    /// When `handle_timeout` is next due; `None` while nothing can expire.
    pub fn poll_timeout(&self) -> Option<Mono> {
        self.table.next_deadline()
    }

    /// The next output; drain to `None` after every input.
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        // A stream's core keeps no memory for a queue that is rarely used.
        if output.is_none() && !self.takes_datagrams {
            self.outputs = VecDeque::new();
        }
        output
    }

    /// Live allocations.
    pub fn allocations(&self) -> usize {
        self.table.live()
    }

    fn push(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    fn push_bounded(&mut self, output: Output) {
        if self.outputs.len() < OUTPUT_LIMIT {
            self.outputs.push_back(output);
        }
    }

    fn reply(&mut self, tuple: &FiveTuple, bytes: Option<ReplyBytes>) {
        if let Some(bytes) = bytes {
            self.push_bounded(Output::ToClient { tuple: *tuple, bytes });
        }
    }

    fn note_dropped(&mut self, reason: DropReason) {
        self.push_bounded(Output::Event(Event::Dropped(reason)));
    }

    fn note_refused(&mut self, tuple: &FiveTuple, method: u16, code: ErrorCode) {
        self.push_bounded(Output::Event(Event::Refused { tuple: *tuple, method, code: code.number() }));
    }
}

/// SplitMix64: transaction ids need to differ, not to be secret.
struct Rng {
    state: u64,
}

impl Rng {
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn transaction(&mut self) -> TransactionId {
        let mut id = [0; 12];
        id[..8].copy_from_slice(&self.next().to_be_bytes());
        id[8..].copy_from_slice(&(self.next() as u32).to_be_bytes());
        id
    }
}

#[cfg(test)]
mod tests;
