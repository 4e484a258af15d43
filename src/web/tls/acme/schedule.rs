//! When to ask for a certificate: before the old one ends, and after failures with growing pauses.

use std::time::Duration;

/// First pause after a failure. Let's Encrypt counts five failures an hour for a name; the pauses stay below that.
const FIRST_PAUSE: Duration = Duration::from_secs(5 * 60);
/// Longest pause between attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(6 * 3600);
/// Certificates that live shorter than this are renewed at half of their life, others with a third left.
const SHORT_LIVED: Duration = Duration::from_secs(10 * 24 * 3600);
/// Renewals are spread over this part of a certificate's life, so that servers made together do not ask together.
const JITTER: u64 = 24;

/// The life of a certificate, in unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub not_before: u64,
    pub not_after: u64,
}

impl Validity {
    /// True while a client accepts it.
    pub fn has(self, now: u64) -> bool {
        (self.not_before..self.not_after).contains(&now)
    }
}

/// When a certificate of this life is to be renewed, in unix seconds. `random` spreads it.
pub fn renewal(validity: Validity, random: u64) -> u64 {
    let life = validity.not_after.saturating_sub(validity.not_before);
    let left = if life < SHORT_LIVED.as_secs() { life / 2 } else { life / 3 };
    let jitter = random.checked_rem(life / JITTER).unwrap_or(0);
    validity.not_after.saturating_sub(left + jitter)
}

/// The pause after `failures` attempts in a row (1 or more), between three quarters and the whole of its step.
pub fn pause(failures: u32, random: u64) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    let step = doubled.min(LONGEST_PAUSE).as_secs();
    Duration::from_secs(step - random % (step / 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3600;

    #[test]
    fn renewal_comes_in_good_time() {
        let long = Validity { not_before: 1_000 * DAY, not_after: 1_090 * DAY };
        let short = Validity { not_before: 1_000 * DAY, not_after: 1_000 * DAY + 160 * 3600 };
        let tiny = Validity { not_before: 100, not_after: 120 };
        for random in [0, 1, 12_345_678, u64::MAX] {
            let due = renewal(long, random);
            assert!((1_056 * DAY..=1_060 * DAY).contains(&due), "{due}");
            let due = renewal(short, random);
            assert!((1_000 * DAY + 72 * 3600..=1_000 * DAY + 80 * 3600).contains(&due), "{due}");
            assert_eq!(renewal(tiny, random), 110);
        }
        assert_eq!(renewal(Validity { not_before: 5, not_after: 5 }, 7), 5, "no life at all: at once");
    }

    #[test]
    fn pauses_grow_and_are_bounded() {
        let whole = |failures| pause(failures, 0).as_secs();
        assert_eq!([whole(1), whole(2), whole(3)], [300, 600, 1200]);
        assert_eq!(whole(40), LONGEST_PAUSE.as_secs());
        assert_eq!(whole(u32::MAX), LONGEST_PAUSE.as_secs());
        for random in [1, 74, u64::MAX] {
            assert!((225..=300).contains(&pause(1, random).as_secs()));
        }
        let first_hour = [1, 2, 3, 4].map(|failures| pause(failures, u64::MAX).as_secs()).iter().sum::<u64>();
        assert!(first_hour >= 3600, "five attempts take {first_hour} s at least");
    }

    #[test]
    fn a_life_has_its_first_second_and_not_its_last() {
        let validity = Validity { not_before: 10, not_after: 20 };
        assert_eq!([9, 10, 19, 20].map(|now| validity.has(now)), [false, true, true, false]);
    }
}
