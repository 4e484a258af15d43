//! Notices when the wall clock jumps: credentials, invites and nonces are dated by it. Lifetimes run on the monotonic
//! clock and do not notice.

use std::time::Duration;

use crate::clock;
use crate::time::Now;

const INTERVAL: Duration = Duration::from_secs(1);
/// A smaller step is of no matter to anything that is dated: the shortest lives for minutes.
const STEP: u64 = 30;

/// Looks at the clock until the process ends.
pub(super) async fn run() {
    let mut before = clock::now();
    let mut interval = tokio::time::interval(INTERVAL);
    loop {
        interval.tick().await;
        let now = clock::now();
        if let Some(seconds) = jump(before, now) {
            tracing::warn!(
                seconds,
                "the clock of this machine has jumped: credentials and invites count by it, calls that are going on do not; keep it right with NTP"
            );
        }
        before = now;
    }
}

/// By how much the wall clock went another way than the monotonic one; forwards is positive.
fn jump(before: Now, now: Now) -> Option<i64> {
    let expected = before.unix.saturating_add((now.mono - before.mono).as_secs());
    let step = i64::try_from(now.unix.abs_diff(expected)).unwrap_or(i64::MAX);
    (step.unsigned_abs() >= STEP).then_some(if now.unix > expected { step } else { -step })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Mono;

    #[test]
    fn a_jump_is_what_the_monotonic_clock_did_not_see() {
        let at = |mono, unix| Now { mono: Mono(mono), unix };
        let before = at(5_000, 1_000_000);
        assert_eq!(jump(before, at(6_000, 1_000_001)), None);
        assert_eq!(jump(before, at(3_605_000, 1_003_600)), None, "the machine slept, and both clocks saw it");
        assert_eq!(jump(before, at(6_000, 1_003_601)), Some(3_600));
        assert_eq!(jump(before, at(6_000, 996_401)), Some(-3_600));
    }
}
