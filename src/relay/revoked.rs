//! Revoked subjects (DESIGN section 5): what the core asks its shell, and what becomes of their allocations.

use super::Relay;
use super::allocate::Pending;
use super::event::EndReason;
use super::table::State;
use crate::credentials::turn::covers;
use crate::time::Now;

/// Knows the subjects whose credentials were taken back. The shell asks it before it grants a relay socket; the core
/// asks again when the socket is there, and at every Refresh.
pub trait Revoked: Send + Sync {
    /// Whether `subject` is refused at `unix` (seconds).
    fn is_revoked(&self, unix: u64, subject: &str) -> bool;
}

/// Nobody is revoked.
pub struct Nobody;

impl Revoked for Nobody {
    fn is_revoked(&self, _: u64, _: &str) -> bool {
        false
    }
}

impl Relay {
    /// Ends every allocation of `subject` (its owner left, was kicked, or its token was revoked). A subject that ends
    /// with `.*` stands for all that begin so.
    pub fn revoke(&mut self, now: Now, subject: &str) {
        let slots = self.table.select(|state| match state {
            State::Free => false,
            State::Pending(pending) => covers(subject, &pending.owner.subject),
            State::Live(allocation) => covers(subject, &allocation.owner.subject),
        });
        for slot in slots {
            self.end(now, slot, EndReason::Revoked);
        }
    }

    /// Whether the client of a pending Allocate was revoked while the shell opened its relay socket.
    pub(super) fn was_revoked(&self, now: Now, pending: &Pending) -> bool {
        self.shared.revoked.is_revoked(now.unix, &pending.owner.subject)
    }

    /// Ends the allocation in `slot` when its subject was revoked; true when it did.
    pub(super) fn end_revoked(&mut self, now: Now, slot: u32) -> bool {
        let revoked = &self.shared.revoked;
        let is_revoked =
            self.table.at(slot).is_some_and(|allocation| revoked.is_revoked(now.unix, &allocation.owner.subject));
        if is_revoked {
            self.end(now, slot, EndReason::Revoked);
        }
        is_revoked
    }
}
