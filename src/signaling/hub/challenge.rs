//! Places that only one can have: who holds one must be alive when somebody else wants it.
//!
//! A connection that died without a word is noticed late. A streamer whose network changed would find its own stream
//! taken by its former self, and existing pages do not try again. So the holder is asked at once (the shell pings it)
//! and the newcomer waits for the answer: when there is none in time, the holder gives way.

use std::collections::HashMap;

use super::{Hub, Output, Timer};
use crate::signaling::{Delivery, Event, Fault, Join, LeaveReason, LinkId, PeerId};
use crate::time::Mono;

/// Everybody who waits for somebody else's place; one for each holder.
#[derive(Default)]
pub(super) struct Challenges {
    by_holder: HashMap<PeerId, Challenge>,
    by_link: HashMap<LinkId, PeerId>,
}

struct Challenge {
    link: LinkId,
    join: Join,
    until: Mono,
    /// What the newcomer is told when the holder is alive.
    fault: Fault,
}

impl Challenges {
    /// Who waits and came by this token.
    pub(super) fn by_token(&self, token: &str) -> Vec<LinkId> {
        let bears = |challenge: &&Challenge| challenge.join.pass.token.as_deref() == Some(token);
        let mut links: Vec<LinkId> = self.by_holder.values().filter(bears).map(|challenge| challenge.link).collect();
        links.sort_unstable();
        links
    }

    fn take(&mut self, holder: &PeerId) -> Option<Challenge> {
        let challenge = self.by_holder.remove(holder)?;
        self.by_link.remove(&challenge.link);
        Some(challenge)
    }
}

impl Hub {
    /// `holder` is asked whether it is alive, and `join` waits for the answer.
    pub(super) fn challenge(&mut self, holder: &PeerId, link: LinkId, join: Join, fault: Fault) {
        let Some(peer) = self.peers.get(holder) else { return self.shut_out(link, fault) };
        // Lost already: it could come back, but whoever is here goes first.
        if peer.link.is_none() {
            self.give_way(holder);
            return self.try_enter(link, join, false);
        }
        // Who just answered is not asked again: nobody can make a page answer all day.
        let just_answered = peer.answered.is_some_and(|at| at + self.limits.challenge > self.now);
        let Some(asked) = peer.link.filter(|_| !just_answered && !self.challenges.by_holder.contains_key(holder))
        else {
            return self.shut_out(link, fault);
        };
        let until = self.now + self.limits.challenge;
        self.timers.insert((until, Timer::Challenge(holder.clone())));
        self.challenges.by_link.insert(link, holder.clone());
        self.challenges.by_holder.insert(holder.clone(), Challenge { link, join, until, fault });
        self.outputs.push_back(Output::Deliver { link: asked, delivery: Delivery { seq: 0, event: Event::Probe } });
    }

    /// The holder is alive: whoever waits for its place is refused.
    pub(super) fn answered(&mut self, holder: &PeerId) {
        let now = self.now;
        let Some(challenge) = self.challenges.take(holder) else { return };
        self.with_peer(holder, |peer| peer.answered = Some(now));
        self.timers.remove(&(challenge.until, Timer::Challenge(holder.clone())));
        self.shut_out(challenge.link, challenge.fault);
    }

    /// The holder did not answer in time.
    pub(super) fn give_way(&mut self, holder: &PeerId) {
        if let Some(link) = self.peers.get(holder).and_then(|peer| peer.link) {
            self.shut_out(link, Fault::Replaced);
        }
        self.remove(holder, LeaveReason::Lost);
    }

    /// A peer is gone: its place is free for whoever waits for it.
    pub(super) fn free(&mut self, holder: &PeerId) {
        let Some(challenge) = self.challenges.take(holder) else { return };
        self.timers.remove(&(challenge.until, Timer::Challenge(holder.clone())));
        self.try_enter(challenge.link, challenge.join, false);
    }

    /// Whoever waits behind `link` waits no more.
    pub(super) fn withdraw(&mut self, link: LinkId) {
        let Some(holder) = self.challenges.by_link.get(&link).cloned() else { return };
        if let Some(challenge) = self.challenges.take(&holder) {
            self.timers.remove(&(challenge.until, Timer::Challenge(holder)));
        }
    }
}
