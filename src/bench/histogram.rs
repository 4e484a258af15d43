//! Latencies: counts in buckets of at most 3 % width, so that millions of them cost 15 KiB and no sorting.

use std::time::Duration;

/// Buckets for each power of two.
const FINE: u64 = 32;
const FINE_BITS: u32 = FINE.trailing_zeros();
/// Up to 2^40 nanoseconds, 18 minutes; what took longer counts as that.
const POWERS: u64 = 40;

/// How often each latency was seen.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Box<[u64]>,
    total: u64,
    largest: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; (POWERS * FINE) as usize].into(), total: 0, largest: 0 }
    }
}

impl Histogram {
    /// Counts one latency, in nanoseconds.
    pub fn add(&mut self, nanos: u64) {
        if let Some(count) = self.counts.get_mut(bucket(nanos)) {
            *count += 1;
        }
        self.total += 1;
        self.largest = self.largest.max(nanos);
    }

    /// How many were counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The latency that `share` (0 to 1) of all stay within; `None` when there are none.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let wanted = (self.total as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        let index = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        Some(Duration::from_nanos(upper(index as u64).min(self.largest)))
    }
}

fn bucket(nanos: u64) -> usize {
    let nanos = nanos.min((1 << POWERS) - 1);
    if nanos < FINE {
        return nanos as usize;
    }
    let shift = nanos.ilog2() - FINE_BITS;
    (u64::from(shift + 1) * FINE + (nanos >> shift) - FINE) as usize
}

/// The largest latency of a bucket.
fn upper(index: u64) -> u64 {
    if index < FINE {
        return index;
    }
    let shift = index / FINE - 1;
    ((index % FINE + FINE + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_narrow_and_in_order() {
        for nanos in (0..5_000u64).chain((0..38).map(|power| 3 << power)) {
            let top = upper(bucket(nanos) as u64);
            assert!(top >= nanos && (top - nanos) * 32 <= nanos.max(1), "{nanos}: up to {top}");
        }
        for nanos in 1..5_000 {
            let (before, index) = (bucket(nanos - 1), bucket(nanos));
            assert!(index == before || index == before + 1, "{nanos}");
        }
        assert!(bucket(u64::MAX) < (POWERS * FINE) as usize);
    }

    #[test]
    fn quantiles() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        for micros in 1..=1000u64 {
            histogram.add(micros * 1000);
        }
        for (share, micros) in [(0.5, 500.0), (0.99, 990.0), (0.999, 999.0), (1.0, 1000.0)] {
            let found = histogram.quantile(share).expect("counted").as_nanos() as f64 / 1000.0;
            assert!((found - micros).abs() <= micros * 0.04, "{share}: {found}");
        }
        assert_eq!(histogram.total(), 1000);
    }
}
