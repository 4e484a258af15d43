//! The answer to `OpenRelay`: revocation, quota, relay address and port, in this order; the only place that says no.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{io, mem};

use rustc_hash::FxHashMap;

use super::addresses;
use super::current::Current;
use super::ports::{Ports, Wish};
use super::relay_socket;
use super::revocations::Revocations;
use super::tcp;
use crate::config::{Config, Limits};
use crate::logging::Seldom;
use crate::relay::{Family, FiveTuple, OpenError, OpenRelay};
use crate::time::{Mono, Now};

/// How long a reserved port is kept (RFC 8656 section 7.2: at least 30 seconds).
const RESERVATION: Duration = Duration::from_secs(30);
/// How long the default route's addresses are believed before the routing table is asked again.
const ROUTES: Duration = Duration::from_secs(5);
/// Binds tried per Allocate: a bound on its cost when other programs sit on many ports of the range.
const ATTEMPTS: usize = 32;

/// Causes of refusals that the log tells of.
const PORTS: usize = 0;
const TOTAL: usize = 1;
const SOCKETS: usize = 2;

/// Grants relay sockets to all shards and streams.
pub(super) struct Grants {
    relay_ips: Vec<IpAddr>,
    current: Arc<Current>,
    is_draining: AtomicBool,
    /// For what is refused, by cause.
    seldom: [Seldom; 3],
    has_reservations: AtomicBool,
    revoked: Arc<Revocations>,
    books: Mutex<Books>,
}

struct Books {
    ports: Ports,
    /// Allocations and reservations of each account.
    accounts: FxHashMap<Arc<str>, usize>,
    total: usize,
    /// Allocations of one account, and in all.
    limits: (usize, usize),
    reserved: FxHashMap<[u8; 8], Reserved>,
    routes: Option<(Mono, Vec<IpAddr>)>,
}

struct Reserved {
    until: Mono,
    granted: Granted,
}

/// Opens a relay socket on an address.
type OpenSocket = fn(SocketAddr) -> io::Result<OwnedFd>;

/// A relay socket, with the leave to use it.
pub(super) struct Granted {
    pub socket: OwnedFd,
    pub bound: SocketAddr,
    /// What clients and peers are told: the bound address seen through the 1:1 NAT.
    pub advertised: SocketAddr,
    pub lease: Lease,
}

/// Gives the port back when dropped, and its part of the quota.
pub(super) struct Lease {
    grants: Arc<Grants>,
    address: SocketAddr,
    charge: Arc<Charge>,
}

impl Lease {
    /// What the allocation takes of its quota, for its relayed address of the other family.
    pub(super) fn charge(&self) -> &Arc<Charge> {
        &self.charge
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.grants.lock().ports.give_back(self.address);
    }
}

/// One allocation of an account, given back when dropped. Both families of an allocation hold the same one: it counts
/// once, and until the last of the two is gone.
pub(super) struct Charge {
    grants: Arc<Grants>,
    account: Arc<str>,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.grants.lock().discharge(&self.account);
    }
}

/// What quotas count by (DESIGN section 5): fetching credentials again must yield no new quota. `GET /api/ice` gives
/// `t.<token>.<random>`, and `t.open-<client prefix>.<random>` where no token is asked for: the random part tells the
/// credentials of one account apart. A token's part never has a dot of its own. Every other subject (`p.<peer>`,
/// `a.<key>.<name>`, `c.<name>`, `u.<name>`, whatever an application names) is an account of its own.
fn account(subject: &str) -> &str {
    let token = subject.strip_prefix("t.").and_then(|rest| rest.split_once('.')).map(|(token, _)| token);
    token.and_then(|token| subject.get(.."t.".len() + token.len())).unwrap_or(subject)
}

impl Grants {
    pub(super) fn new(config: &Config, current: Arc<Current>, revoked: Arc<Revocations>) -> Self {
        Self {
            relay_ips: config.relay_ips.clone(),
            current,
            is_draining: AtomicBool::new(false),
            seldom: Default::default(),
            has_reservations: AtomicBool::new(false),
            revoked,
            books: Mutex::new(Books {
                ports: Ports::new(config.relay_ports),
                accounts: FxHashMap::default(),
                total: 0,
                limits: (config.limits.allocations_per_subject, config.limits.allocations_total),
                reserved: FxHashMap::default(),
                routes: None,
            }),
        }
    }

    /// Takes other quotas into use; who has more keeps it.
    pub(super) fn set_limits(&self, limits: &Limits) {
        self.lock().limits = (limits.allocations_per_subject, limits.allocations_total);
    }

    /// Grants nothing new from now on.
    pub(super) fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// Grants or refuses `open`. `first`: what the first family of the same allocation took of the quota.
    pub(super) fn open(
        self: &Arc<Self>,
        now: Now,
        open: &OpenRelay,
        first: Option<Arc<Charge>>,
    ) -> Result<Granted, OpenError> {
        self.forget(now);
        if self.revoked.is_subject_revoked(now.unix, &open.subject) {
            return Err(OpenError::Revoked);
        }
        if self.is_draining.load(Ordering::Relaxed) {
            return Err(OpenError::Capacity);
        }
        if let Some(token) = &open.reservation {
            return self.take_reserved(token, open);
        }
        let ip = self.relay_ip(now.mono, &open.tuple, open.family).ok_or(OpenError::Family)?;
        let charge = first.map_or_else(|| self.charge(&open.subject), Ok)?;
        let wish = match (open.reserve, open.even_port) {
            (Some(_), _) => Wish::Pair,
            (None, true) => Wish::Even,
            (None, false) => Wish::Any,
        };
        let open_socket = if open.tcp { tcp::listen } else { relay_socket::bind };
        let (address, socket, next) = self.bind(now.mono, ip, wish, open_socket).ok_or(OpenError::Capacity)?;
        let granted = self.granted(address, socket, charge);
        if let (Some(token), Some(next)) = (open.reserve, next) {
            self.reserve(now.mono, token, address, next, &open.subject)?;
        }
        Ok(granted)
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

    fn charge(self: &Arc<Self>, subject: &str) -> Result<Arc<Charge>, OpenError> {
        let account = account(subject);
        let mut books = self.lock();
        let (per_subject, total) = books.limits;
        if books.accounts.get(account).copied().unwrap_or(0) >= per_subject {
            return Err(OpenError::Quota);
        }
        if books.total >= total {
            drop(books);
            self.complain(TOTAL, |more| {
                tracing::warn!(
                    total,
                    more,
                    "as many allocations as limits.allocations_total allows: more are refused (508)"
                );
            });
            return Err(OpenError::Capacity);
        }
        let account: Arc<str> = account.into();
        *books.accounts.entry(Arc::clone(&account)).or_insert(0) += 1;
        books.total += 1;
        Ok(Arc::new(Charge { grants: Arc::clone(self), account }))
    }

    /// Binds a free port of `ip`; the system calls run outside the lock.
    fn bind(
        &self,
        now: Mono,
        ip: IpAddr,
        wish: Wish,
        open: OpenSocket,
    ) -> Option<(SocketAddr, OwnedFd, Option<OwnedFd>)> {
        for _ in 0..ATTEMPTS {
            let picked = self.lock().ports.pick(now, ip, wish, addresses::random);
            let Some(address) = picked else { break };
            let next = (wish == Wish::Pair).then(|| SocketAddr::new(ip, address.port() + 1));
            let socket = match open(address) {
                Ok(socket) => socket,
                Err(error) => {
                    self.failed(now, address, &error);
                    next.into_iter().for_each(|next| self.lock().ports.give_back(next));
                    if error.kind() == io::ErrorKind::AddrInUse {
                        continue;
                    }
                    return None;
                }
            };
            let Some(next) = next else { return Some((address, socket, None)) };
            match open(next) {
                Ok(pair) => return Some((address, socket, Some(pair))),
                Err(error) => {
                    self.failed(now, next, &error);
                    self.lock().ports.give_back(address);
                }
            }
        }
        self.complain(PORTS, |more| {
            tracing::warn!(%ip, more, "no relay port is free: allocations are refused (508); widen --relay-ports, and the firewall with it");
        });
        None
    }

    /// Calls `tell` at most every ten seconds for each cause, with how often it was not called.
    fn complain(&self, cause: usize, tell: impl FnOnce(u64)) {
        if let Some(more) = self.seldom.get(cause).and_then(Seldom::take) {
            tell(more);
        }
    }

    fn failed(&self, now: Mono, address: SocketAddr, error: &io::Error) {
        if error.kind() == io::ErrorKind::AddrInUse {
            self.lock().ports.set_foreign(now, address);
        } else {
            let remedy = match error.raw_os_error() {
                Some(libc::EMFILE) => {
                    "this process has as many files open as it may: raise LimitNOFILE= of the unit, or ulimit -n"
                }
                Some(libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                    "this machine is out of files or memory (fs.file-max)"
                }
                Some(libc::EADDRNOTAVAIL) => "no interface has this address: see --relay-ip",
                _ => "see the system's log",
            };
            self.complain(SOCKETS, |more| {
                tracing::warn!(ip = %address.ip(), %error, more, "a relay socket could not be opened; {remedy}");
            });
            self.lock().ports.give_back(address);
        }
    }

    /// Keeps the second port of a pair for who comes back with the token. It counts for its account meanwhile.
    fn reserve(
        self: &Arc<Self>,
        now: Mono,
        token: [u8; 8],
        first: SocketAddr,
        socket: OwnedFd,
        subject: &str,
    ) -> Result<(), OpenError> {
        let address = SocketAddr::new(first.ip(), first.port() + 1);
        let charge = self.charge(subject).inspect_err(|_| self.lock().ports.give_back(address))?;
        let granted = self.granted(address, socket, charge);
        let mut books = self.lock();
        let replaced = books.reserved.insert(token, Reserved { until: now + RESERVATION, granted });
        self.has_reservations.store(true, Ordering::Relaxed);
        drop(books);
        drop(replaced);
        Ok(())
    }

    /// The reserved socket of `token`, for the account that reserved it.
    fn take_reserved(&self, token: &[u8; 8], open: &OpenRelay) -> Result<Granted, OpenError> {
        let mut books = self.lock();
        let fits = books.reserved.get(token).is_some_and(|reserved| {
            *reserved.granted.lease.charge.account == *account(&open.subject)
                && Family::of(reserved.granted.bound.ip()) == open.family
        });
        let reserved = if fits { books.reserved.remove(token) } else { None };
        reserved.map(|reserved| reserved.granted).ok_or(OpenError::Capacity)
    }

    fn granted(self: &Arc<Self>, address: SocketAddr, socket: OwnedFd, charge: Arc<Charge>) -> Granted {
        let advertised = SocketAddr::new(self.current.get().settings().advertised(address.ip()), address.port());
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
    fn discharge(&mut self, account: &Arc<str>) {
        self.total = self.total.saturating_sub(1);
        if let Some(count) = self.accounts.get_mut(account) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.accounts.remove(account);
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

#[cfg(test)]
mod tests;
