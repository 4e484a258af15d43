//! Token buckets, each kept as one number: the moment at which it is full again.

use crate::time::Mono;

const NANOS_PER_SECOND: u64 = 1_000_000_000;
const NANOS_PER_MILLI: u64 = 1_000_000;

/// How fast a bucket fills, and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Tokens per second; 0 lets nothing through.
    pub per_second: u64,
    /// Tokens of a full bucket.
    pub burst: u64,
}

impl Rate {
    /// Takes `tokens` from a bucket that is full at `full_at` (nanoseconds): when it is full then, or `None` when there
    /// are too few left.
    pub(super) fn take(self, full_at: u64, now: Mono, tokens: u64) -> Option<u64> {
        let now = now.0.saturating_mul(NANOS_PER_MILLI);
        let after = full_at.max(now).saturating_add(self.time_for(tokens)?);
        (after - now <= self.time_for(self.burst)?).then_some(after)
    }

    /// Takes `tokens` whether they are there or not: when the bucket is full then, and when nothing is owed any more.
    pub(super) fn owe(self, full_at: u64, now: Mono, tokens: u64) -> (u64, Mono) {
        let now = now.0.saturating_mul(NANOS_PER_MILLI);
        let after = full_at.max(now).saturating_add(self.time_for(tokens).unwrap_or(u64::MAX));
        let settled = after.saturating_sub(self.time_for(self.burst).unwrap_or(0));
        (after, Mono(settled.div_ceil(NANOS_PER_MILLI)))
    }

    fn time_for(self, tokens: u64) -> Option<u64> {
        tokens.saturating_mul(NANOS_PER_SECOND).checked_div(self.per_second)
    }
}

/// A bucket of one owner; full at first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket {
    full_at: u64,
}

impl Bucket {
    /// Whether `tokens` were there; they are gone then.
    pub(super) fn take(&mut self, rate: Rate, now: Mono, tokens: u64) -> bool {
        let after = rate.take(self.full_at, now, tokens);
        self.full_at = after.unwrap_or(self.full_at);
        after.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 50, burst: 200 };

    #[test]
    fn a_burst_and_then_the_rate() {
        let mut bucket = Bucket::default();
        let mut count = |ms, times| (0..times).filter(|_| bucket.take(RATE, Mono(ms), 1)).count();
        assert_eq!(count(0, 1000), 200);
        assert_eq!(count(19, 10), 0);
        assert_eq!(count(20, 10), 1);
        assert_eq!(count(1020, 1000), 50);
        assert_eq!(count(1_000_000, 1000), 200, "it holds no more than the burst");
        assert_eq!(count(0, 10), 0, "a clock that goes back gives nothing");
    }

    #[test]
    fn many_tokens_at_once() {
        let mut bucket = Bucket::default();
        assert!(!bucket.take(RATE, Mono(0), 201));
        assert!(bucket.take(RATE, Mono(0), 150) && !bucket.take(RATE, Mono(0), 51) && bucket.take(RATE, Mono(0), 50));
    }

    #[test]
    fn what_is_owed_is_paid_at_the_rate() {
        let second = NANOS_PER_SECOND;
        assert_eq!(RATE.owe(0, Mono(1000), 200), (5 * second, Mono(1000)), "the burst owes nothing");
        assert_eq!(RATE.owe(5 * second, Mono(1000), 50), (6 * second, Mono(2000)));
        assert_eq!(RATE.owe(5 * second, Mono(9000), 200), (13 * second, Mono(9000)), "it was full again");
    }

    #[test]
    fn extremes() {
        let mut bucket = Bucket::default();
        assert!(!bucket.take(Rate { per_second: 0, burst: 1 }, Mono(0), 1), "a rate of nothing");
        assert!(!bucket.take(RATE, Mono(0), u64::MAX));
        assert!(bucket.take(Rate { per_second: u64::MAX, burst: u64::MAX }, Mono(5), 1));
    }
}
