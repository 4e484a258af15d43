//! How long a turn of a shard is, and when it lets packets collect. At some thousands of messages a second (a single
//! datagram, or a burst that the kernel hands over as one) each wakes the thread by itself, and waking up costs more than
//! forwarding; a short rest then brings several at once. At high rates they collect by themselves, and at low ones there
//! is nothing to gain.

use std::time::Duration;

use super::sys::RECEIVE_BATCH;

/// The longest rest, in nanoseconds: a call does not notice it, and half of it is what a message waits on average.
const LONGEST: u64 = 190_000;
/// A rest shorter than this would cost as much as it saves.
const SHORTEST: u64 = 40_000;
/// Messages that a rest is to bring: more hardly make each of them cheaper.
const WANTED: u64 = 12;
/// Messages of a turn from which on there is no rest: the work itself takes as long.
const MANY: u64 = 24;
/// What a rate is measured over, in nanoseconds.
const WINDOW: u64 = 4_000_000;
/// Messages per second from which on a rest pays: three or more come in it on average. A timer costs the thread two to three
/// times what waking up by itself does (23 and 10 us on the virtual machine of `benches/`).
const PAYS: u64 = 15_000;

/// Counts what comes.
#[derive(Debug, Default)]
pub(super) struct Pace {
    since: u64,
    seen: u64,
    /// `None` while it does not pay.
    rest: Option<Duration>,
}

impl Pace {
    /// After a turn that took `messages`, at `now` (nanoseconds): how long to rest, if at all.
    pub(super) fn after_turn(&mut self, messages: u64, now: u64) -> Option<Duration> {
        self.seen += messages;
        let passed = now.saturating_sub(self.since);
        if passed >= WINDOW {
            let rate = self.seen.saturating_mul(1_000_000_000) / passed;
            let rest = (WANTED * 1_000_000_000).checked_div(rate).unwrap_or(u64::MAX).min(LONGEST);
            self.rest = (rate >= PAYS && rest >= SHORTEST).then_some(Duration::from_nanos(rest));
            (self.since, self.seen) = (now, 0);
        }
        self.rest.filter(|_| (1..MANY).contains(&messages))
    }
}

/// Datagrams that a socket of one sender may give in a turn, unless its messages are larger yet: everybody else waits
/// meanwhile (some 80 us).
const TURN: u64 = 256;
/// Messages that it may give at least: with fewer each would cost a system call.
const LEAST: u64 = 4;

/// How many messages the socket of one sender gives in a turn, by what they held the last time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share(u8);

impl Default for Share {
    fn default() -> Self {
        Self(RECEIVE_BATCH as u8)
    }
}

impl Share {
    /// The share after a turn in which `messages` held `datagrams`.
    pub(super) fn after(messages: u64, datagrams: u64) -> Self {
        let messages = (TURN * messages).checked_div(datagrams).unwrap_or(u64::MAX);
        Self(messages.clamp(LEAST, RECEIVE_BATCH as u64) as u8)
    }

    pub(super) fn messages(self) -> usize {
        usize::from(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_sends_large_messages_gives_fewer() {
        let messages = |messages, datagrams| Share::after(messages, datagrams).messages();
        assert_eq!(Share::default().messages(), RECEIVE_BATCH);
        assert_eq!(messages(16, 16), RECEIVE_BATCH, "single packets");
        assert_eq!(messages(16, 16 * 12), RECEIVE_BATCH, "frames of video");
        assert_eq!(messages(16, 16 * 48), 5);
        assert_eq!(messages(5, 5 * 48), 5, "the same again");
        assert_eq!(messages(4, 4 * 1_000), LEAST as usize);
        assert_eq!(messages(0, 0), RECEIVE_BATCH);
    }

    /// Rests in a second of turns that come `gap` nanoseconds apart and take `messages` each, and the last one's length.
    fn rests(gap: u64, messages: u64) -> (usize, Duration) {
        let mut pace = Pace::default();
        let turns = (1..=1_000_000_000 / gap).filter_map(|turn| pace.after_turn(messages, turn * gap));
        turns.fold((0, Duration::ZERO), |(count, _), rest| (count + 1, rest))
    }

    #[test]
    fn it_rests_where_that_pays() {
        assert_eq!(rests(1_000_000, 1).0, 0, "1,000 a second: nothing to gain");
        assert_eq!(rests(100_000, 1).0, 0, "10,000 a second: nothing to gain");
        let (count, rest) = rests(50_000, 1);
        assert!(count > 19_000, "20,000 a second, each by itself");
        assert_eq!(rest, Duration::from_nanos(LONGEST));
        let (count, rest) = rests(80_000, 8);
        assert!(count > 12_000, "100,000 a second in eights");
        assert_eq!(rest, Duration::from_micros(120), "twelve of them");
        assert_eq!(rests(50_000, 23).0, 0, "460,000 a second: they collect by themselves");
        assert_eq!(rests(500_000, 32).0, 0, "a turn with so many is work enough");
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
