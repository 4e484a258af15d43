//! The answer to `OpenRelay`: revocation, quota, relay address and port, in this order; the only place that says no.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{io, mem};

use rustc_hash::FxHashMap;

use super::addresses;
use super::ports::{Ports, Wish};
use super::relay_socket;
use crate::config::Config;
use crate::relay::{self, Family, FiveTuple, OpenError, OpenRelay};
use crate::time::{Mono, Now};

/// How long a reserved port is kept (RFC 8656 section 7.2: at least 30 seconds).
const RESERVATION: Duration = Duration::from_secs(30);
/// How long the default route's addresses are believed before the routing table is asked again.
const ROUTES: Duration = Duration::from_secs(5);
/// Binds tried per Allocate: a bound on its cost when other programs sit on many ports of the range.
const ATTEMPTS: usize = 32;

/// Grants relay sockets to all shards and streams.
pub(super) struct Grants {
    relay_ips: Vec<IpAddr>,
    relay: Arc<relay::Shared>,
    per_subject: usize,
    total: usize,
    has_reservations: AtomicBool,
    books: Mutex<Books>,
}

struct Books {
    ports: Ports,
    subjects: FxHashMap<Arc<str>, usize>,
    total: usize,
    reserved: FxHashMap<[u8; 8], Reserved>,
    /// Until when (unix seconds) each subject is refused.
    revoked: FxHashMap<Arc<str>, u64>,
    routes: Option<(Mono, Vec<IpAddr>)>,
}

struct Reserved {
    until: Mono,
    granted: Granted,
}

/// A relay socket, with the leave to use it.
pub(super) struct Granted {
    pub socket: OwnedFd,
    pub bound: SocketAddr,
    /// What clients and peers are told: the bound address seen through the 1:1 NAT.
    pub advertised: SocketAddr,
    pub lease: Lease,
}

/// Gives port and quota back when dropped.
pub(super) struct Lease {
    grants: Arc<Grants>,
    address: SocketAddr,
    charge: Option<Arc<str>>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut books = self.grants.lock();
        books.ports.give_back(self.address);
        if let Some(subject) = &self.charge {
            books.discharge(subject);
        }
    }
}

impl Grants {
    pub(super) fn new(config: &Config, relay: Arc<relay::Shared>) -> Self {
        Self {
            relay_ips: config.relay_ips.clone(),
            relay,
            per_subject: config.limits.allocations_per_subject,
            total: config.limits.allocations_total,
            has_reservations: AtomicBool::new(false),
            books: Mutex::new(Books {
                ports: Ports::new(config.relay_ports),
                subjects: FxHashMap::default(),
                total: 0,
                reserved: FxHashMap::default(),
                revoked: FxHashMap::default(),
                routes: None,
            }),
        }
    }

    /// Grants or refuses `open`. `additional`: it is the second family of an allocation, which counts once.
    pub(super) fn open(self: &Arc<Self>, now: Now, open: &OpenRelay, additional: bool) -> Result<Granted, OpenError> {
        self.forget(now);
        if self.is_revoked(now.unix, &open.subject) {
            return Err(OpenError::Revoked);
        }
        if let Some(token) = &open.reservation {
            return self.take_reserved(token, open);
        }
        let ip = self.relay_ip(now.mono, &open.tuple, open.family).ok_or(OpenError::Family)?;
        let charge = (!additional).then(|| Arc::clone(&open.subject));
        if let Some(subject) = &charge {
            self.charge(subject)?;
        }
        let wish = match (open.reserve, open.even_port) {
            (Some(_), _) => Wish::Pair,
            (None, true) => Wish::Even,
            (None, false) => Wish::Any,
        };
        let bound = self.bind(now.mono, ip, wish);
        let Some((address, socket, next)) = bound else {
            if let Some(subject) = &charge {
                self.lock().discharge(subject);
            }
            return Err(OpenError::Capacity);
        };
        if let (Some(token), Some(next)) = (open.reserve, next) {
            self.reserve(now.mono, token, address, next, &open.subject)?;
        }
        Ok(self.granted(address, socket, charge))
    }

    /// Refuses `subject` until `until` (unix seconds).
    pub(super) fn revoke(&self, unix: u64, subject: &str, until: u64) {
        let mut books = self.lock();
        books.revoked.retain(|_, until| *until > unix);
        let kept = books.revoked.entry(Arc::from(subject)).or_insert(until);
        *kept = until.max(*kept);
    }

    /// Live allocations; one of two families counts once.
    pub(super) fn allocations(&self) -> usize {
        let books = self.lock();
        books.total.saturating_sub(books.reserved.len())
    }

    /// True while a reservation waits: somebody must call [`Grants::forget`] now and then.
    pub(super) fn has_reservations(&self) -> bool {
        self.has_reservations.load(Ordering::Relaxed)
    }

    /// Drops reservations whose time is over.
    pub(super) fn forget(&self, now: Now) {
        if !self.has_reservations() {
            return;
        }
        let mut books = self.lock();
        let reserved = mem::take(&mut books.reserved);
        let (kept, over): (FxHashMap<_, _>, Vec<_>) = split(reserved, |reserved| reserved.until > now.mono);
        self.has_reservations.store(!kept.is_empty(), Ordering::Relaxed);
        books.reserved = kept;
        drop(books);
        // Their leases lock the books again.
        drop(over);
    }

    fn is_revoked(&self, unix: u64, subject: &str) -> bool {
        self.lock().revoked.get(subject).is_some_and(|until| *until > unix)
    }

    fn charge(&self, subject: &Arc<str>) -> Result<(), OpenError> {
        let mut books = self.lock();
        if books.subjects.get(subject).copied().unwrap_or(0) >= self.per_subject {
            return Err(OpenError::Quota);
        }
        if books.total >= self.total {
            return Err(OpenError::Capacity);
        }
        *books.subjects.entry(Arc::clone(subject)).or_insert(0) += 1;
        books.total += 1;
        Ok(())
    }

    /// Binds a free port of `ip`; the system calls run outside the lock.
    fn bind(&self, now: Mono, ip: IpAddr, wish: Wish) -> Option<(SocketAddr, OwnedFd, Option<OwnedFd>)> {
        for _ in 0..ATTEMPTS {
            let address = self.lock().ports.pick(now, ip, wish, addresses::random)?;
            let next = (wish == Wish::Pair).then(|| SocketAddr::new(ip, address.port() + 1));
            let socket = match relay_socket::bind(address) {
                Ok(socket) => socket,
                Err(error) => {
                    self.failed(now, address, &error);
                    next.into_iter().for_each(|next| self.lock().ports.give_back(next));
                    if error.kind() == io::ErrorKind::AddrInUse { continue } else { return None }
                }
            };
            let Some(next) = next else { return Some((address, socket, None)) };
            match relay_socket::bind(next) {
                Ok(pair) => return Some((address, socket, Some(pair))),
                Err(error) => {
                    self.failed(now, next, &error);
                    self.lock().ports.give_back(address);
                }
            }
        }
        None
    }

    fn failed(&self, now: Mono, address: SocketAddr, error: &io::Error) {
        if error.kind() == io::ErrorKind::AddrInUse {
            self.lock().ports.set_foreign(now, address);
        } else {
            tracing::warn!(ip = %address.ip(), %error, "a relay socket could not be opened");
            self.lock().ports.give_back(address);
        }
    }

    /// Keeps the second port of a pair for who comes back with the token. It counts for its subject meanwhile.
    fn reserve(
        self: &Arc<Self>,
        now: Mono,
        token: [u8; 8],
        first: SocketAddr,
        socket: OwnedFd,
        subject: &Arc<str>,
    ) -> Result<(), OpenError> {
        let address = SocketAddr::new(first.ip(), first.port() + 1);
        if let Err(refusal) = self.charge(subject) {
            let mut books = self.lock();
            books.ports.give_back(first);
            books.ports.give_back(address);
            books.discharge(subject);
            return Err(refusal);
        }
        let granted = self.granted(address, socket, Some(Arc::clone(subject)));
        let mut books = self.lock();
        let replaced = books.reserved.insert(token, Reserved { until: now + RESERVATION, granted });
        self.has_reservations.store(true, Ordering::Relaxed);
        drop(books);
        drop(replaced);
        Ok(())
    }

    /// The reserved socket of `token`, for the subject that reserved it.
    fn take_reserved(&self, token: &[u8; 8], open: &OpenRelay) -> Result<Granted, OpenError> {
        let mut books = self.lock();
        let fits = books.reserved.get(token).is_some_and(|reserved| {
            reserved.granted.lease.charge.as_ref() == Some(&open.subject)
                && Family::of(reserved.granted.bound.ip()) == open.family
        });
        let reserved = if fits { books.reserved.remove(token) } else { None };
        reserved.map(|reserved| reserved.granted).ok_or(OpenError::Capacity)
    }

    fn granted(self: &Arc<Self>, address: SocketAddr, socket: OwnedFd, charge: Option<Arc<str>>) -> Granted {
        let advertised = SocketAddr::new(self.relay.settings().advertised(address.ip()), address.port());
        Granted { socket, bound: address, advertised, lease: Lease { grants: Arc::clone(self), address, charge } }
    }

    /// Where a relayed address of `family` is bound: as configured, else where the client reached us, else the default
    /// route's address. Loopback and link-local addresses would be of no use to a peer.
    fn relay_ip(&self, now: Mono, tuple: &FiveTuple, family: Family) -> Option<IpAddr> {
        let server = tuple.server.ip();
        let mut configured = self.relay_ips.iter().copied().filter(|ip| Family::of(*ip) == family).peekable();
        if let Some(&first) = configured.peek() {
            return Some(configured.find(|ip| *ip == server).unwrap_or(first));
        }
        if Family::of(server) != family {
            return self.route(now, family);
        }
        if server.is_loopback() {
            return Some(self.route(now, family).unwrap_or(server));
        }
        if addresses::is_link_local(server) { self.route(now, family) } else { Some(server) }
    }

    fn route(&self, now: Mono, family: Family) -> Option<IpAddr> {
        let mut books = self.lock();
        let fresh = books.routes.as_ref().is_some_and(|(until, _)| now < *until);
        if !fresh {
            books.routes = Some((now + ROUTES, addresses::default_route_addresses()));
        }
        let (_, routes) = books.routes.as_ref()?;
        routes.iter().copied().find(|ip| Family::of(*ip) == family)
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        // Every change under the lock is complete before anything that could panic.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn discharge(&mut self, subject: &Arc<str>) {
        self.total = self.total.saturating_sub(1);
        if let Some(count) = self.subjects.get_mut(subject) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.subjects.remove(subject);
            }
        }
    }
}

/// Splits a map into the entries that stay and the values that go.
fn split<K: std::hash::Hash + Eq, V>(map: FxHashMap<K, V>, stays: impl Fn(&V) -> bool) -> (FxHashMap<K, V>, Vec<V>) {
    let (mut kept, mut gone) = (FxHashMap::default(), Vec::new());
    for (key, value) in map {
        if stays(&value) {
            kept.insert(key, value);
        } else {
            gone.push(value);
        }
    }
    (kept, gone)
}
