//! When a shard lets packets collect. At some thousands of packets a second each wakes the thread by itself, and waking up
//! costs more than forwarding; a short rest then brings several at once. At high rates they collect by themselves, and at
//! low ones there is nothing to gain.

use std::time::Duration;

/// How long a rest is.
const REST: Duration = Duration::from_micros(100);
/// Datagrams of a turn from which on there is no rest: the work itself takes as long.
const MANY: u64 = 24;
/// What a rate is measured over, in nanoseconds.
const WINDOW: u64 = 4_000_000;
/// Datagrams per second from which on a rest pays: two or more come in it on average.
const PAYS: u64 = 12_000;

/// Counts what comes.
#[derive(Debug, Default)]
pub(super) struct Pace {
    since: u64,
    seen: u64,
    pays: bool,
}

impl Pace {
    /// After a turn that took `datagrams`, at `now` (nanoseconds): how long to rest, if at all.
    pub(super) fn after_turn(&mut self, datagrams: u64, now: u64) -> Option<Duration> {
        self.seen += datagrams;
        let passed = now.saturating_sub(self.since);
        if passed >= WINDOW {
            self.pays = self.seen.saturating_mul(1_000_000_000) / passed >= PAYS;
            (self.since, self.seen) = (now, 0);
        }
        (self.pays && (1..MANY).contains(&datagrams)).then_some(REST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rests in a second of turns that come `gap` nanoseconds apart and take `datagrams` each.
    fn rests(gap: u64, datagrams: u64) -> usize {
        let mut pace = Pace::default();
        (1..=1_000_000_000 / gap).filter(|turn| pace.after_turn(datagrams, turn * gap).is_some()).count()
    }

    #[test]
    fn it_rests_where_that_pays() {
        assert_eq!(rests(1_000_000, 1), 0, "1,000 a second: nothing to gain");
        assert_eq!(rests(200_000, 1), 0, "5,000 a second: nothing to gain");
        assert!(rests(50_000, 1) > 19_000, "20,000 a second, each by itself");
        assert!(rests(125_000, 8) > 7_900, "64,000 a second in eights");
        assert_eq!(rests(100_000, 32), 0, "320,000 a second: they collect by themselves");
    }

    #[test]
    fn silence_ends_it() {
        let mut pace = Pace::default();
        for turn in 1..1_000 {
            pace.after_turn(1, turn * 50_000);
        }
        assert!(pace.after_turn(1, 50_000_000).is_some());
        assert_eq!(pace.after_turn(1, 1_000_000_000), None, "the first after a pause is in no company");
        assert_eq!(pace.after_turn(0, 1_000_050_000), None, "nothing came");
    }
}
