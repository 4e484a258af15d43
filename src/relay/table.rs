//! Every allocation of one `Relay`, live or pending, and its indexes, kept consistent in this one place.

use rustc_hash::FxHashMap;

use super::allocate::Pending;
use super::allocation::{Allocation, Owner};
use super::expiry::Expiry;
use super::types::{Family, FiveTuple, RelayId};
use crate::time::Mono;

/// What a slot holds.
pub(super) enum State {
    Free,
    /// An Allocate whose relay socket the shell has yet to grant.
    Pending(Box<Pending>),
    Live(Box<Allocation>),
}

struct Slot {
    generation: u32,
    due: Option<Mono>,
    state: State,
}

/// Slots by number and by 5-tuple, and their deadlines.
#[derive(Default)]
pub(super) struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_tuple: FxHashMap<FiveTuple, u32>,
    expiry: Expiry,
    live: usize,
    pending: usize,
}

impl Table {
    pub(super) fn live(&self) -> usize {
        self.live
    }

    pub(super) fn pending(&self) -> usize {
        self.pending
    }

    /// The slot of a 5-tuple.
    pub(super) fn find(&self, tuple: &FiveTuple) -> Option<u32> {
        self.by_tuple.get(tuple).copied()
    }

    /// The live allocation of a 5-tuple.
    pub(super) fn allocation(&mut self, tuple: &FiveTuple) -> Option<&mut Allocation> {
        let slot = *self.by_tuple.get(tuple)?;
        self.at(slot)
    }

    /// Who owns the live allocation of a 5-tuple.
    pub(super) fn owner(&self, tuple: &FiveTuple) -> Option<&Owner> {
        match self.state(self.find(tuple)?) {
            State::Live(allocation) => Some(&allocation.owner),
            State::Pending(_) | State::Free => None,
        }
    }

    /// The live allocation in a slot.
    pub(super) fn at(&mut self, slot: u32) -> Option<&mut Allocation> {
        match &mut self.slots.get_mut(slot as usize)?.state {
            State::Live(allocation) => Some(allocation),
            State::Pending(_) | State::Free => None,
        }
    }

    /// The live allocation of a relay id; an id that outlived its allocation finds none.
    pub(super) fn relay(&mut self, relay: RelayId) -> Option<&mut Allocation> {
        match self.slots.get_mut(relay.slot as usize)? {
            Slot { generation, state: State::Live(allocation), .. } if *generation == relay.generation => {
                Some(allocation)
            }
            _ => None,
        }
    }

    /// The pending Allocate of a 5-tuple.
    pub(super) fn pending_of(&self, tuple: &FiveTuple) -> Option<&Pending> {
        match &self.slots.get(self.find(tuple)? as usize)?.state {
            State::Pending(pending) => Some(pending),
            State::Live(_) | State::Free => None,
        }
    }

    /// The pending Allocate of a relay id.
    pub(super) fn pending_relay(&mut self, relay: RelayId) -> Option<&mut Pending> {
        match self.slots.get_mut(relay.slot as usize)? {
            Slot { generation, state: State::Pending(pending), .. } if *generation == relay.generation => Some(pending),
            _ => None,
        }
    }

    /// Takes a free slot for a pending Allocate and returns its id, `family` filled in.
    pub(super) fn reserve(&mut self, pending: Pending, family: Family, due: Mono) -> RelayId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, due: None, state: State::Free });
            (self.slots.len() - 1) as u32
        });
        self.by_tuple.insert(pending.tuple, slot);
        self.pending += 1;
        let entry = &mut self.slots[slot as usize];
        entry.state = State::Pending(Box::new(pending));
        let generation = entry.generation;
        self.schedule(slot, Some(due));
        RelayId { slot, generation, family }
    }

    /// Puts an allocation into the slot that its pending Allocate was taken from, with its deadline.
    pub(super) fn settle(&mut self, allocation: Allocation) {
        let slot = allocation.id(Family::V4).slot;
        let Some(entry) = self.slots.get_mut(slot as usize) else { return };
        self.by_tuple.insert(allocation.tuple, slot);
        let due = allocation.deadline();
        entry.state = State::Live(Box::new(allocation));
        self.live += 1;
        self.schedule(slot, due);
    }

    /// Takes a pending Allocate out; its slot waits for [`Table::settle`] or [`Table::release`].
    pub(super) fn take_pending(&mut self, relay: RelayId) -> Option<Box<Pending>> {
        self.pending_relay(relay)?;
        self.schedule(relay.slot, None);
        let entry = self.slots.get_mut(relay.slot as usize)?;
        let State::Pending(pending) = std::mem::replace(&mut entry.state, State::Free) else { return None };
        self.by_tuple.remove(&pending.tuple);
        self.pending -= 1;
        Some(pending)
    }

    /// Takes a live allocation out and frees its slot.
    pub(super) fn remove_live(&mut self, slot: u32) {
        let Some(entry) = self.slots.get_mut(slot as usize) else { return };
        if let State::Live(allocation) = std::mem::replace(&mut entry.state, State::Free) {
            self.by_tuple.remove(&allocation.tuple);
            self.live -= 1;
            self.schedule(slot, None);
            self.release(slot);
        }
    }

    /// Gives an emptied slot back. The next one in it has another generation.
    pub(super) fn release(&mut self, slot: u32) {
        let Some(entry) = self.slots.get_mut(slot as usize) else { return };
        // A generation is never used twice: a slot that has used them all retires.
        if let Some(next) = entry.generation.checked_add(1) {
            entry.generation = next;
            self.free.push(slot);
        }
    }

    /// What a slot holds.
    pub(super) fn state(&self, slot: u32) -> &State {
        self.slots.get(slot as usize).map_or(&State::Free, |entry| &entry.state)
    }

    /// What the slot of a relay id holds, if it is still that id's.
    pub(super) fn state_of(&self, relay: RelayId) -> &State {
        match self.slots.get(relay.slot as usize) {
            Some(entry) if entry.generation == relay.generation => &entry.state,
            _ => &State::Free,
        }
    }

    /// The id of whatever is in a slot now.
    pub(super) fn id(&self, slot: u32) -> Option<RelayId> {
        let generation = self.slots.get(slot as usize)?.generation;
        Some(RelayId { slot, generation, family: Family::V4 })
    }

    /// Sets the deadline of a slot.
    pub(super) fn schedule(&mut self, slot: u32, due: Option<Mono>) {
        if let Some(entry) = self.slots.get_mut(slot as usize) {
            self.expiry.move_to(slot, entry.due, due);
            entry.due = due;
        }
    }

    /// The earliest deadline of all.
    pub(super) fn next_deadline(&self) -> Option<Mono> {
        self.expiry.next()
    }

    /// A slot whose deadline has come.
    pub(super) fn due(&self, now: Mono) -> Option<u32> {
        self.expiry.due(now)
    }

    /// Whether the deadline of a slot has come.
    pub(super) fn is_due(&self, slot: u32, now: Mono) -> bool {
        self.slots.get(slot as usize).and_then(|entry| entry.due).is_some_and(|due| due <= now)
    }

    /// The slots that `wanted` picks.
    pub(super) fn select(&self, wanted: impl Fn(&State) -> bool) -> Vec<u32> {
        let used = self.slots.iter().enumerate().filter(|(_, entry)| !matches!(entry.state, State::Free));
        used.filter(|(_, entry)| wanted(&entry.state)).map(|(slot, _)| slot as u32).collect()
    }

    /// Every live allocation.
    pub(super) fn each_live(&mut self) -> impl Iterator<Item = &mut Allocation> {
        self.slots.iter_mut().filter_map(|entry| match &mut entry.state {
            State::Live(allocation) => Some(&mut **allocation),
            State::Pending(_) | State::Free => None,
        })
    }

    /// Panics when the indexes disagree; the tests ask after every step.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let mut counts = [0; 2];
        for (number, entry) in self.slots.iter().enumerate() {
            let tuple = match &entry.state {
                State::Free => {
                    assert_eq!(entry.due, None);
                    continue;
                }
                State::Pending(pending) => {
                    counts[0] += 1;
                    pending.tuple
                }
                State::Live(allocation) => {
                    counts[1] += 1;
                    assert_eq!(allocation.deadline(), entry.due);
                    allocation.tuple
                }
            };
            assert!(entry.due.is_some());
            assert_eq!(self.by_tuple.get(&tuple), Some(&(number as u32)));
        }
        assert_eq!(counts, [self.pending, self.live]);
        assert_eq!(self.by_tuple.len(), self.pending + self.live);
        assert_eq!(self.expiry.len(), self.by_tuple.len());
    }
}
