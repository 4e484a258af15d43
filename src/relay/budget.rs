//! What strangers may make us send: replies to requests whose source address is not proven, and may be a victim's.
//! Nothing is kept for a source; a prefix finds its bucket by a keyed hash in a table of a fixed size.

use std::hash::Hasher;
#[expect(deprecated, reason = "its successor takes no key, and a key makes the table hard to aim at")]
use std::hash::SipHasher;
use std::net::IpAddr;

use super::bucket::Bucket;
use super::settings::Limits;
use crate::time::Mono;

/// 32 KiB. Prefixes that share a bucket share its rate, which takes an attacker thousands of prefixes to exploit, and
/// then the total is what counts.
const BUCKETS: usize = 4096;

/// IPv4 and UDP headers, 20 and 8 bytes: amplification is measured in whole packets.
pub(super) const PACKET_HEADERS: usize = 28;

/// What replies to strangers over UDP cost so far, in bytes of whole packets: `sent / received` is the measured
/// amplification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exposure {
    /// Replies sent.
    pub replies: u64,
    /// Bytes of the requests that were answered.
    pub received: u64,
    /// Bytes of their replies.
    pub sent: u64,
}

/// The buckets of one core. Costs no heap before its first UDP stranger.
#[derive(Default)]
pub(super) struct Budget {
    per_prefix: Box<[Bucket]>,
    total: Bucket,
    pub(super) exposure: Exposure,
}

impl Budget {
    /// Whether `source` gets one more reply, which counts for `tokens` of them. Loopback sources have no prefix of their own: what is sent to them reaches
    /// no victim elsewhere.
    pub(super) fn allows(&mut self, limits: &Limits, key: [u64; 2], source: IpAddr, now: Mono, tokens: u64) -> bool {
        if !source.is_loopback() {
            if self.per_prefix.is_empty() {
                self.per_prefix = vec![Bucket::default(); BUCKETS].into();
            }
            let index = place(key, source) as usize % BUCKETS;
            let bucket = self.per_prefix.get_mut(index);
            if !bucket.is_some_and(|bucket| bucket.take(limits.strangers_per_prefix, now, tokens)) {
                return false;
            }
        }
        self.total.take(limits.strangers, now, tokens)
    }

    /// Counts a reply of `sent` bytes to a request of `received` bytes, both without IP and UDP headers.
    pub(super) fn count(&mut self, received: usize, sent: usize) {
        self.exposure.replies += 1;
        self.exposure.received += (received + PACKET_HEADERS) as u64;
        self.exposure.sent += (sent + PACKET_HEADERS) as u64;
    }
}

fn place(key: [u64; 2], source: IpAddr) -> u64 {
    #[expect(deprecated, reason = "see the import")]
    let mut hasher = SipHasher::new_with_keys(key[0], key[1]);
    hasher.write_u64(prefix(source));
    hasher.finish()
}

/// The /24 of an IPv4 and the /56 of an IPv6 address, told apart by the highest bit.
fn prefix(source: IpAddr) -> u64 {
    match source {
        IpAddr::V4(ip) => u64::from(u32::from(ip) >> 8),
        IpAddr::V6(ip) => (u128::from(ip) >> 72) as u64 | 1 << 63,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn prefixes() {
        assert_eq!(prefix(ip("198.51.100.1")), prefix(ip("198.51.100.254")));
        assert_ne!(prefix(ip("198.51.100.1")), prefix(ip("198.51.101.1")));
        assert_eq!(prefix(ip("2001:db8:1:2::1")), prefix(ip("2001:db8:1:ff:9::1")), "a /56");
        assert_ne!(prefix(ip("2001:db8:1:2::1")), prefix(ip("2001:db8:1:102::1")));
        assert_ne!(prefix(ip("0.0.1.0")), prefix(ip("0:0:0:100::")), "of another family");
    }

    #[test]
    fn another_key_is_another_table() {
        let moved = (0..=255_u8).filter(|third| {
            let source = IpAddr::from([198, 51, *third, 1]);
            place([1, 2], source) as usize % BUCKETS != place([1, 3], source) as usize % BUCKETS
        });
        assert!(moved.count() > 250);
    }

    #[test]
    fn buckets_are_used_evenly() {
        let used: std::collections::HashSet<usize> = (0..4096_u32)
            .map(|prefix| place([7, 8], IpAddr::from((0x0800_0000 | prefix << 8).to_be_bytes())) as usize % BUCKETS)
            .collect();
        // Of 4096 balls in 4096 bins 1 - 1/e of the bins have one.
        assert!((2400..2800).contains(&used.len()), "{} buckets", used.len());
    }

    #[test]
    fn one_prefix_and_the_total_are_bounded() {
        let limits = Limits::default();
        let mut budget = Budget::default();
        let mut allowed = |source: IpAddr, times: usize| {
            (0..times).filter(|_| budget.allows(&limits, [1, 2], source, Mono(1), 1)).count() as u64
        };
        let of_one = allowed(ip("198.51.100.1"), 10_000) + allowed(ip("198.51.100.2"), 10_000);
        assert_eq!(of_one, limits.strangers_per_prefix.burst);
        let others: u64 = (0..1000_u32).map(|prefix| allowed(IpAddr::from((prefix << 8).to_be_bytes()), 200)).sum();
        assert_eq!(of_one + others, limits.strangers.burst);
        assert_eq!(allowed(ip("127.0.0.1"), 1), 0, "loopback counts in the total");
    }

    #[test]
    fn loopback_has_no_prefix() {
        let limits = Limits::default();
        let mut budget = Budget::default();
        let allowed = (0..5000).filter(|_| budget.allows(&limits, [1, 2], ip("127.0.0.1"), Mono(1), 1)).count();
        assert_eq!((allowed, budget.per_prefix.len()), (5000, 0));
    }
}
