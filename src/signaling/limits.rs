//! Named limits of the signaling core, and the rate limiter.

use std::time::Duration;

use crate::time::Mono;

/// What the hub allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubLimits {
    /// Rooms and streams together.
    pub rooms: usize,
    /// Peers in one call room, lost ones that may come back included.
    pub peers_per_room: usize,
    /// Viewers of one stream.
    pub viewers_per_stream: usize,
    /// By-id sockets together.
    pub direct_sockets: usize,
    /// How long a lost connection may come back.
    pub resume: Duration,
    /// How long who holds a place that another wants may be silent when asked whether it is alive.
    pub challenge: Duration,
    /// Least time between two tellings of the number of viewers.
    pub viewers_interval: Duration,
    /// Messages kept for one session, in case its connection is lost. A call's start takes some 50.
    pub replay_messages: usize,
    /// Bytes kept for one session.
    pub replay_bytes: usize,
    /// Bytes kept for all sessions together. Beyond it each keeps [`REPLAY_FLOOR`] at most.
    pub replay_total_bytes: usize,
}

/// What a session keeps even when the others have taken everything: the start of a call.
pub const REPLAY_FLOOR: usize = 16 << 10;

impl Default for HubLimits {
    fn default() -> Self {
        Self {
            rooms: 10_000,
            peers_per_room: 2,
            viewers_per_stream: 10_000,
            direct_sockets: 50_000,
            resume: Duration::from_secs(60),
            challenge: Duration::from_secs(2),
            viewers_interval: Duration::from_secs(1),
            replay_messages: 256,
            replay_bytes: 1 << 20,
            replay_total_bytes: 256 << 20,
        }
    }
}

/// A token bucket: so many a second, with a burst.
#[derive(Clone, Debug)]
pub struct Rate {
    per_second: u64,
    burst: u64,
    /// In thousandths.
    available: u64,
    filled: Mono,
}

impl Rate {
    /// With a burst of one second's worth.
    pub fn new(per_second: u32, now: Mono) -> Self {
        Self::with_burst(u64::from(per_second), u64::from(per_second), now)
    }

    pub fn with_burst(per_second: u64, burst: u64, now: Mono) -> Self {
        let (per_second, burst) = (per_second.max(1), burst.clamp(1, u64::MAX / 1000));
        Self { per_second, burst, available: burst * 1000, filled: now }
    }

    /// Takes one; false when there is none left.
    pub fn take(&mut self, now: Mono) -> bool {
        self.take_many(1, now)
    }

    /// Takes `many`; false, and none are taken, when there are fewer.
    pub fn take_many(&mut self, many: u64, now: Mono) -> bool {
        let millis = (now - self.filled).as_millis() as u64;
        self.filled = self.filled.max(now);
        let refill = millis.saturating_mul(self.per_second);
        self.available = self.available.saturating_add(refill).min(self.burst * 1000);
        let Some(left) = self.available.checked_sub(many.saturating_mul(1000)) else { return false };
        self.available = left;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_one_second_then_the_rate() {
        let mut rate = Rate::new(10, Mono(5_000));
        assert_eq!((0..20).filter(|_| rate.take(Mono(5_000))).count(), 10);
        assert!(!rate.take(Mono(5_099)));
        assert!(rate.take(Mono(5_100)));
        assert_eq!((0..100).filter(|_| rate.take(Mono(60_000))).count(), 10);
    }

    #[test]
    fn bytes_by_a_burst_of_their_own() {
        let mut rate = Rate::with_burst(100, 1000, Mono(0));
        assert!(rate.take_many(900, Mono(0)) && !rate.take_many(101, Mono(0)) && rate.take_many(100, Mono(0)));
        assert!(!rate.take_many(100, Mono(999)) && rate.take_many(100, Mono(1000)));
        assert!(!rate.take_many(1001, Mono(1_000_000)) && !rate.take_many(u64::MAX, Mono(1_000_000)));
    }

    #[test]
    fn a_clock_that_steps_back_gives_nothing() {
        let mut rate = Rate::new(1, Mono(1_000));
        assert!(rate.take(Mono(1_000)));
        assert!(!rate.take(Mono(0)));
        assert!(!rate.take(Mono(1_500)));
    }
}
