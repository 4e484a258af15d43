//! Moments, as the sans-IO cores are told them. Only `clock.rs` makes them from the system's clocks.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment on the monotonic time line: milliseconds since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

impl Add<Duration> for Mono {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(rhs.as_millis() as u64))
    }
}

impl Sub for Mono {
    type Output = Duration;

    /// The time from `rhs` to `self`, zero when `rhs` is later.
    fn sub(self, rhs: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(rhs.0))
    }
}

/// The present on both time lines: lifetimes run on `mono`, credentials and nonces on `unix`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic milliseconds since the process started.
    pub mono: Mono,
    /// Seconds since 1970-01-01T00:00:00Z.
    pub unix: u64,
}

impl Add<Duration> for Now {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        let mono = self.mono + rhs;
        // Whole seconds pass on the wall clock when the millisecond count crosses them.
        let seconds = mono.0 / 1000 - self.mono.0 / 1000;
        Self { mono, unix: self.unix + seconds }
    }
}
