//! Credentials and tokens that were taken back: names refused until the last of them has expired (DESIGN section 5).

use std::collections::BTreeSet;
use std::sync::Arc;

use rustc_hash::FxHashMap;

/// Names remembered: some 40 MB. Everybody who joins and leaves a room adds one for the life of a credential, so the
/// memory needs a bound; beyond it the one whose time is over soonest is forgotten.
pub const REMEMBERED: usize = 1 << 18;

/// Names that are refused, each until its time.
#[derive(Default)]
pub struct Table {
    /// Until when (unix seconds) each name is refused.
    until: FxHashMap<Arc<str>, u64>,
    by_time: BTreeSet<(u64, Arc<str>)>,
}

impl Table {
    /// Refuses `subject` until `until`; a later time given before stays. Forgets what is over at `unix`.
    pub fn add(&mut self, unix: u64, subject: &str, until: u64) {
        self.forget(unix);
        if until <= unix {
            return;
        }
        let subject: Arc<str> = match self.until.get_key_value(subject) {
            Some((_, &known)) if known >= until => return,
            Some((subject, &known)) => {
                let subject = Arc::clone(subject);
                self.by_time.remove(&(known, Arc::clone(&subject)));
                subject
            }
            None => subject.into(),
        };
        self.by_time.insert((until, Arc::clone(&subject)));
        self.until.insert(subject, until);
        while self.until.len() > REMEMBERED {
            self.forget_first();
        }
    }

    /// Whether `subject` is refused at `unix`.
    pub fn contains(&self, unix: u64, subject: &str) -> bool {
        self.until.get(subject).is_some_and(|until| *until > unix)
    }

    /// Names and times, for keeping; those that are over at `unix` are left out.
    pub fn entries(&self, unix: u64) -> Vec<(Arc<str>, u64)> {
        let live = self.by_time.range((unix.saturating_add(1), "".into())..);
        live.map(|(until, name)| (Arc::clone(name), *until)).collect()
    }

    /// How many names are refused.
    pub fn len(&self) -> usize {
        self.until.len()
    }

    /// True when nobody is.
    pub fn is_empty(&self) -> bool {
        self.until.is_empty()
    }

    fn forget(&mut self, unix: u64) {
        while self.by_time.first().is_some_and(|(until, _)| *until <= unix) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, subject)) = self.by_time.pop_first() {
            self.until.remove(&subject);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_until_the_latest_time_given() {
        let mut revoked = Table::default();
        revoked.add(100, "p.a", 200);
        revoked.add(100, "p.a", 150);
        assert!(revoked.contains(199, "p.a") && !revoked.contains(200, "p.a") && !revoked.contains(100, "p.b"));
        revoked.add(100, "p.a", 300);
        revoked.add(250, "p.b", 400);
        assert!(revoked.contains(299, "p.a"));
        revoked.add(300, "p.c", 400);
        assert_eq!((revoked.until.len(), revoked.by_time.len()), (2, 2), "p.a is over and forgotten");
        revoked.add(300, "p.d", 300);
        assert_eq!(revoked.until.len(), 2, "over before it began");
    }

    #[test]
    fn a_flood_of_leavers_is_bounded() {
        let mut revoked = Table::default();
        let all = REMEMBERED as u64 + 1000;
        for number in 0..all {
            revoked.add(0, &format!("p.{number}"), 1_000_000 + number);
        }
        assert_eq!((revoked.until.len(), revoked.by_time.len()), (REMEMBERED, REMEMBERED));
        assert!(!revoked.contains(0, "p.999") && revoked.contains(0, "p.1000"));
        let kept = revoked.entries(1_001_000);
        assert_eq!((kept.len(), &*kept[0].0), (REMEMBERED - 1, "p.1001"), "what is over is not kept");
    }
}
