//! Connections that have not yet shown what they speak. When there are too many the oldest gives way to the newcomer:
//! who means it speaks within a round trip, so a crowd of silent ones locks nobody out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::pending;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::web::host::client_prefix;

/// All silent connections, oldest first, in all and of each client prefix.
pub(super) struct Silent {
    total: usize,
    per_prefix: usize,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    next: u64,
    all: BTreeMap<u64, Entry>,
    by_prefix: HashMap<String, BTreeSet<u64>>,
}

struct Entry {
    /// `None`: it counts in all only.
    prefix: Option<String>,
    /// Tells the connection to give way.
    evict: oneshot::Sender<()>,
}

/// One silent connection; dropped when it has spoken or ended.
pub(super) struct Pass {
    silent: Arc<Silent>,
    number: u64,
}

/// Told when a connection has to give way.
pub(super) struct Eviction(oneshot::Receiver<()>);

impl Silent {
    pub(super) fn new(total: usize, per_prefix: usize) -> Arc<Self> {
        Arc::new(Self { total, per_prefix, table: Mutex::default() })
    }

    /// Takes in a connection. `client`: whose prefix it counts for; `None` for who stands for many.
    pub(super) fn enter(self: &Arc<Self>, client: Option<IpAddr>) -> (Pass, Eviction) {
        let prefix = client.map(client_prefix);
        let mut table = self.lock();
        let of_prefix = prefix.as_ref().and_then(|prefix| table.by_prefix.get(prefix));
        let oldest_of_prefix = of_prefix.filter(|of| of.len() >= self.per_prefix).and_then(|of| of.first().copied());
        let oldest_of_all = || table.all.first_key_value().map(|(number, _)| *number);
        let is_full = table.all.len() >= self.total;
        let oldest = oldest_of_prefix.or_else(|| if is_full { oldest_of_all() } else { None });
        if let Some(entry) = oldest.and_then(|oldest| table.remove(oldest)) {
            let _ = entry.evict.send(());
        }
        let number = table.next;
        table.next += 1;
        if let Some(prefix) = &prefix {
            table.by_prefix.entry(prefix.clone()).or_default().insert(number);
        }
        let (evict, evicted) = oneshot::channel();
        table.all.insert(number, Entry { prefix, evict });
        (Pass { silent: Arc::clone(self), number }, Eviction(evicted))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.all.remove(&number)?;
        if let Some(prefix) = &entry.prefix
            && let Some(of_prefix) = self.by_prefix.get_mut(prefix)
        {
            of_prefix.remove(&number);
            if of_prefix.is_empty() {
                self.by_prefix.remove(prefix);
            }
        }
        Some(entry)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.silent.lock().remove(self.number);
    }
}

/// Returns when the connection has to give way; never, once it has spoken or when it does not count.
pub(super) async fn comes(eviction: Option<Eviction>) {
    if let Some(Eviction(told)) = eviction
        && told.await.is_ok()
    {
        return;
    }
    pending().await
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("address"))
    }

    #[test]
    fn the_oldest_of_a_full_prefix_gives_way_and_nobody_else() {
        let silent = Silent::new(100, 2);
        let (_elsewhere, spared) = silent.enter(ip("192.0.3.1"));
        let (_first, evicted) = silent.enter(ip("192.0.2.1"));
        let (_second, also_spared) = silent.enter(ip("192.0.2.1"));
        let (_newcomer, stays) = silent.enter(ip("192.0.2.200"));
        assert!(comes(Some(evicted)).now_or_never().is_some(), "the oldest of the same /24");
        for spared in [spared, also_spared, stays] {
            assert!(comes(Some(spared)).now_or_never().is_none());
        }
    }

    #[test]
    fn who_has_spoken_is_spared() {
        let silent = Silent::new(100, 1);
        let (spoke, spared) = silent.enter(ip("192.0.2.1"));
        drop(spoke);
        let (_mute, evicted) = silent.enter(ip("192.0.2.1"));
        let (_newcomer, _) = silent.enter(ip("192.0.2.1"));
        assert!(comes(Some(spared)).now_or_never().is_none());
        assert!(comes(Some(evicted)).now_or_never().is_some());
    }

    #[test]
    fn the_oldest_of_all_gives_way_when_there_is_no_place_left() {
        let silent = Silent::new(3, 100);
        let mut held: Vec<_> = (1..=3).map(|net| silent.enter(Some(IpAddr::from([10, net, 0, 1])))).collect();
        held.push(silent.enter(None));
        let evicted: Vec<bool> =
            held.into_iter().map(|(_pass, eviction)| comes(Some(eviction)).now_or_never().is_some()).collect();
        assert_eq!(evicted, [true, false, false, false]);
        let table = silent.lock();
        assert_eq!((table.all.len(), table.by_prefix.len()), (0, 0), "nothing is left behind");
    }

    #[test]
    fn who_does_not_count_never_gives_way() {
        assert!(comes(None).now_or_never().is_none());
    }

    #[test]
    fn who_stands_for_many_counts_in_all_only() {
        let silent = Silent::new(1000, 1);
        let held: Vec<_> = (0..1000).map(|_| silent.enter(None)).collect();
        assert!(held.into_iter().all(|(_pass, eviction)| comes(Some(eviction)).now_or_never().is_none()));
    }
}
