//! The latest failures with their causes, for who administers the server: what the counters of all parts say, looked at
//! every other second. So a flood of one kind costs nothing, takes one place, and drives no other out.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::net::Snapshot;
use crate::web::Web;
use crate::web::figures::{Class, Handshake};
use crate::web::hub::Drop;

/// How often the counters are looked at.
pub const INTERVAL: Duration = Duration::from_secs(2);
/// Failures that are kept.
pub const KEPT: usize = 64;
/// A failure of a kind that has failed so shortly before counts on, in seconds.
const SAME: u64 = 60;
/// What is kept of an error's text, in characters.
const MAX_DETAIL: usize = 300;

/// One kind of failure, as often as it came within a minute of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// What failed: stable words with dots, which the page says in sentences.
    pub cause: String,
    /// An error's own words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    pub count: u64,
    /// Unix seconds.
    pub first: u64,
    pub last: u64,
}

/// The failures, newest last.
#[derive(Default)]
pub struct Failures {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    seen: HashMap<String, u64>,
    kept: VecDeque<Failure>,
    /// Grows with every change.
    revision: u64,
}

/// What one part of the server counted since the start.
type Counts = Vec<(String, u64)>;

impl Failures {
    /// Takes what the counters say now.
    pub fn look(&self, web: &Web, now: u64) {
        let mut counts = of_relay(&web.net.snapshot());
        of_web(web, &mut counts);
        let acme = web.acme.as_ref().map(|acme| acme.status());
        let detail = acme.as_ref().and_then(|status| status.last_error.as_deref());
        let mut inner = self.lock();
        inner.take(counts, now);
        inner.take_one("acme.failed", acme.as_ref().map_or(0, |status| u64::from(status.failures)), detail, now);
        let webhooks = web.webhooks.tally();
        let detail = web.webhooks.last_failure();
        inner.take_one("webhook.failed", webhooks.failed, detail.as_deref(), now);
    }

    /// The failures kept, newest first, unless nothing has changed since `revision`; with the revision they are of.
    pub fn since(&self, revision: u64) -> Option<(u64, Vec<Failure>)> {
        let inner = self.lock();
        let mut kept: Vec<Failure> = inner.kept.iter().cloned().collect();
        kept.sort_by_key(|failure| std::cmp::Reverse(failure.last));
        (inner.revision != revision).then_some((inner.revision, kept))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it is held.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn take(&mut self, counts: Counts, now: u64) {
        for (cause, count) in counts {
            self.take_one(&cause, count, None, now);
        }
    }

    fn take_one(&mut self, cause: &str, count: u64, detail: Option<&str>, now: u64) {
        // A kind that shows for the first time, a while after the start, has counted from nothing.
        let before = self.seen.insert(cause.to_owned(), count).unwrap_or(0);
        let more = count.saturating_sub(before);
        if more == 0 {
            return;
        }
        self.revision += 1;
        let detail = detail.map(|text| text.chars().take(MAX_DETAIL).collect::<String>());
        let is_same = |kept: &&mut Failure| kept.cause == cause && now.saturating_sub(kept.last) <= SAME;
        if let Some(kept) = self.kept.iter_mut().find(is_same) {
            kept.count += more;
            kept.last = now;
            kept.detail = detail.or(kept.detail.take());
            return;
        }
        if self.kept.len() >= KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(Failure { cause: cause.to_owned(), detail, count: more, first: now, last: now });
    }
}

/// Requests without a credential and with a stale nonce are the usual course of things, and not told.
fn of_relay(snapshot: &Snapshot) -> Counts {
    let mut counts = Counts::new();
    for ((transport, method, code), count) in &snapshot.refused {
        if !matches!(code, 401 | 438) {
            counts.push((format!("turn.{method}.{code}.{}", transport.name()), *count));
        }
    }
    for (reason, count) in &snapshot.dropped {
        counts.push((format!("drop.{}", reason.name()), *count));
    }
    let totals = &snapshot.totals;
    counts.push(("turn.credential".into(), totals.wrong_credentials));
    counts.push(("turn.denied".into(), snapshot.denied));
    counts.push(("udp.send-full".into(), totals.send_full));
    counts.push(("udp.errors".into(), totals.receive_errors + totals.send_errors));
    counts.push(("stream.backlog".into(), totals.stream_backlog));
    counts
}

fn of_web(web: &Web, counts: &mut Counts) {
    for outcome in Handshake::ALL.into_iter().filter(|outcome| *outcome != Handshake::Done) {
        counts.push((format!("tls.{}", outcome.name()), web.figures.handshakes(outcome)));
    }
    counts.push(("tcp.refused".into(), web.figures.connections().1));
    for drop in Drop::ALL {
        counts.push((format!("signaling.{}", drop.name()), web.hub.figures().drops(drop)));
    }
    for (code, count) in web.figures.refusals() {
        counts.push((format!("access.{code}"), count));
    }
    let failed = Class::ALL.into_iter().flat_map(|class| web.figures.requests(class));
    counts.push(("http.5xx".into(), failed.filter(|(status, _)| *status == "5xx").map(|(_, count)| count).sum()));
    counts.push(("webhook.dropped".into(), web.webhooks.tally().dropped));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(inner: &Inner) -> Vec<(&str, u64, u64, u64)> {
        inner.kept.iter().map(|kept| (kept.cause.as_str(), kept.count, kept.first, kept.last)).collect()
    }

    #[test]
    fn a_kind_counts_on_within_a_minute_and_begins_anew_after() {
        let mut inner = Inner::default();
        inner.take(vec![("a".into(), 0), ("b".into(), 5)], 100);
        inner.take(vec![("a".into(), 2), ("b".into(), 5)], 102);
        inner.take(vec![("a".into(), 3), ("b".into(), 1000)], 150);
        inner.take(vec![("a".into(), 4)], 211);
        assert_eq!(kept(&inner), [("b", 1000, 100, 150), ("a", 3, 102, 150), ("a", 1, 211, 211)]);
        let revision = inner.revision;
        inner.take(vec![("a".into(), 4)], 300);
        assert_eq!(inner.revision, revision, "nothing new");
    }

    #[test]
    fn a_flood_of_one_kind_takes_one_place_and_all_have_a_bound() {
        let mut inner = Inner::default();
        inner.take_one("rare", 1, Some(&"x".repeat(5000)), 1);
        for count in 1..10_000 {
            inner.take_one("flood", count * 1000, None, 1 + count / 1000);
        }
        assert_eq!(inner.kept.len(), 2);
        assert_eq!(inner.kept[0].detail.as_ref().map(|text| text.len()), Some(MAX_DETAIL));
        for number in 0..10 * KEPT {
            inner.take_one(&format!("kind-{number}"), 1, None, 20);
        }
        assert_eq!(inner.kept.len(), KEPT);
    }
}
