//! The only reader of the system's clocks.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::time::{Mono, Now};

static START: OnceLock<Instant> = OnceLock::new();

/// The present. The monotonic part counts from the first call in this process.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clocks")]
pub fn now() -> Now {
    let start = *START.get_or_init(Instant::now);
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Now { mono: Mono(start.elapsed().as_millis() as u64), unix }
}

/// A moment to measure a short span from, such as a round trip.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clocks")]
pub fn stopwatch() -> Instant {
    Instant::now()
}
