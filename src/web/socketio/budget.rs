//! The bytes that all Socket.IO sessions together may hold: what waits for polls, and what has come in part.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// In all.
const MAX_TOTAL_BYTES: usize = 256 << 20;

/// What one may hold even when the others have taken everything: the start of a call.
const FLOOR: usize = 64 << 10;

/// What all hold.
#[derive(Default)]
pub(super) struct Budget {
    used: AtomicUsize,
}

/// The share of one holder, given back when dropped.
pub(in crate::web) struct Held {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Held {
    pub(super) fn new(budget: &Arc<Budget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: 0 }
    }

    /// Holds `bytes` from now on. False when that is more than there is: the holder has to let go.
    pub(in crate::web) fn set(&mut self, bytes: usize) -> bool {
        let before = std::mem::replace(&mut self.bytes, bytes);
        if bytes <= before {
            self.budget.used.fetch_sub(before - bytes, Ordering::Relaxed);
            return true;
        }
        let grown = bytes - before;
        let used = self.budget.used.fetch_add(grown, Ordering::Relaxed) + grown;
        used <= MAX_TOTAL_BYTES || bytes <= FLOOR
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_limited_and_given_back() {
        let budget = Arc::default();
        let mut large: Vec<Held> = (0..256).map(|_| Held::new(&budget)).collect();
        assert!(large.iter_mut().all(|held| held.set(1 << 20)));
        let (mut small, mut one_more) = (Held::new(&budget), Held::new(&budget));
        assert!(small.set(FLOOR) && !one_more.set(FLOOR + 1));
        drop((one_more, small));
        large.truncate(255);
        assert!(Held::new(&budget).set(1 << 20));
        drop(large);
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
    }
}
