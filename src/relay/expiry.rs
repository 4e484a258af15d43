//! One ordered queue of deadlines: at most one per slot, moved when its slot's next deadline changes.

use std::collections::BTreeSet;

use crate::time::Mono;

/// Which slot of the table is due when.
#[derive(Debug, Default)]
pub(super) struct Expiry {
    queue: BTreeSet<(Mono, u32)>,
}

impl Expiry {
    /// Replaces the deadline of `slot`.
    pub(super) fn move_to(&mut self, slot: u32, before: Option<Mono>, after: Option<Mono>) {
        if before == after {
            return;
        }
        if let Some(before) = before {
            self.queue.remove(&(before, slot));
        }
        if let Some(after) = after {
            self.queue.insert((after, slot));
        }
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<Mono> {
        self.queue.first().map(|&(due, _)| due)
    }

    /// A slot whose deadline has come. It stays queued until its deadline is moved.
    pub(super) fn due(&self, now: Mono) -> Option<u32> {
        self.queue.first().filter(|&&(due, _)| due <= now).map(|&(_, slot)| slot)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }
}
