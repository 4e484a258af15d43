//! The relay port pool: a random free port per relayed address, even ones, pairs and reservations.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::time::Mono;

/// How long a port that another program holds is left alone before it is tried again.
const FOREIGN: Duration = Duration::from_secs(10);
/// Random picks before the range is searched in order: enough while it is not nearly full.
const PICKS: usize = 8;

/// Which ports of the range are taken, per relay address.
pub(super) struct Ports {
    first: u16,
    last: u16,
    pools: FxHashMap<IpAddr, Pool>,
}

/// What is asked of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Any,
    Even,
    /// An even port, and the next higher one bound as well.
    Pair,
}

struct Pool {
    /// One bit per port of the range, set while it is taken.
    taken: Vec<u64>,
    count: usize,
    /// Ports that another program held, with the moment they may be tried again.
    foreign: VecDeque<(Mono, u16)>,
}

impl Ports {
    /// `first` to `last`, both included.
    pub(super) fn new((first, last): (u16, u16)) -> Self {
        Self { first: first.min(last), last: first.max(last), pools: FxHashMap::default() }
    }

    /// Sets a port of `ip` aside (for a pair the next one as well): the caller binds it and says how that went.
    ///
    /// `random` gives an unpredictable number (RFC 8656 section 7.2 asks for randomized ports). `None`: nothing is free.
    pub(super) fn pick(&mut self, now: Mono, ip: IpAddr, wish: Wish, random: impl Fn() -> u32) -> Option<SocketAddr> {
        let size = usize::from(self.last - self.first) + 1;
        let first = self.first;
        let pool = self.pools.entry(ip).or_insert_with(|| Pool::new(size));
        pool.forget_foreign(now, first);
        let index = pool.pick(first, size, wish, &random)?;
        pool.set(index);
        if wish == Wish::Pair {
            pool.set(index + 1);
        }
        Some(SocketAddr::new(ip, first + index as u16))
    }

    /// Another program holds this port, which was picked: it is left alone for a while.
    pub(super) fn set_foreign(&mut self, now: Mono, address: SocketAddr) {
        if let Some(pool) = self.pools.get_mut(&address.ip()) {
            pool.foreign.push_back((now + FOREIGN, address.port()));
        }
    }

    /// Gives a port back.
    pub(super) fn give_back(&mut self, address: SocketAddr) {
        let Some(index) = address.port().checked_sub(self.first) else { return };
        if let Some(pool) = self.pools.get_mut(&address.ip()) {
            pool.clear(usize::from(index));
        }
        self.drop_empty(address.ip());
    }

    fn drop_empty(&mut self, ip: IpAddr) {
        if self.pools.get(&ip).is_some_and(|pool| pool.count == 0) {
            self.pools.remove(&ip);
        }
    }
}

impl Pool {
    fn new(size: usize) -> Self {
        Self { taken: vec![0; size.div_ceil(64)], count: 0, foreign: VecDeque::new() }
    }

    /// Index of a free port that fits `wish`: random picks first, then in order from a random start.
    fn pick(&self, first: u16, size: usize, wish: Wish, random: &impl Fn() -> u32) -> Option<usize> {
        let fits = |index: usize| {
            let even = (usize::from(first) + index).is_multiple_of(2);
            let free = index < size && !self.is_set(index);
            match wish {
                Wish::Any => free,
                Wish::Even => free && even,
                Wish::Pair => free && even && index + 1 < size && !self.is_set(index + 1),
            }
        };
        let start = || random() as usize % size;
        (0..PICKS).map(|_| start()).find(|&index| fits(index)).or_else(|| {
            let start = start();
            (start..size).chain(0..start).find(|&index| fits(index))
        })
    }

    fn is_set(&self, index: usize) -> bool {
        self.taken.get(index / 64).is_none_or(|word| word & (1 << (index % 64)) != 0)
    }

    fn set(&mut self, index: usize) {
        if !self.is_set(index)
            && let Some(word) = self.taken.get_mut(index / 64)
        {
            *word |= 1 << (index % 64);
            self.count += 1;
        }
    }

    fn clear(&mut self, index: usize) {
        if self.is_set(index)
            && let Some(word) = self.taken.get_mut(index / 64)
        {
            *word &= !(1 << (index % 64));
            self.count -= 1;
        }
    }

    fn forget_foreign(&mut self, now: Mono, first: u16) {
        while let Some(&(until, port)) = self.foreign.front()
            && until <= now
        {
            self.foreign.pop_front();
            self.clear(usize::from(port - first));
        }
    }
}

#[cfg(test)]
mod tests;
