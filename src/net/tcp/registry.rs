//! Every link of the process by its connection id, and every TCP relayed address.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashMap;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::net::addresses;
use crate::net::mailbox::{Mailbox, Order};
use crate::relay::tcp::{BindError, ConnectionId, LinkId, Meter};

/// What the owner of a link is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::net) enum News {
    /// Its ConnectionBind has come.
    Bound(LinkId),
    /// One of its two sides is gone.
    Closed(LinkId),
}

/// A peer data connection on its way to its client.
pub(in crate::net) struct Joined {
    pub peer: TcpStream,
    /// Shared by the data connections of the allocation.
    pub meter: Arc<Meter>,
    /// Resolves when the owner has closed the link.
    pub end: oneshot::Receiver<()>,
    link: LinkId,
    owner: Arc<Mailbox>,
    _place: Place,
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.owner.order(Order::Link(News::Closed(self.link)));
    }
}

/// A link as its owner holds it. Dropping it closes the peer data connection, wherever it is.
pub(super) struct Held {
    registry: Arc<Registry>,
    pub(super) id: ConnectionId,
    _end: oneshot::Sender<()>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let waiting = self.registry.lock().waiting.remove(&self.id);
        // Outside the lock: it tells its owner.
        drop(waiting);
    }
}

/// A connection that counts for the limit in all, until this is dropped.
pub(super) struct Place {
    registry: Arc<Registry>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.registry.lock().places -= 1;
    }
}

/// Links that wait for their ConnectionBind, and the addresses of all TCP allocations.
pub(in crate::net) struct Registry {
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    /// `None`: the id is given out, the connection is not there yet.
    waiting: FxHashMap<ConnectionId, Option<(Arc<str>, Joined)>>,
    places: usize,
    /// Most places.
    total: usize,
    /// Bound addresses by advertised and bound ones, and the other way round.
    bound: FxHashMap<SocketAddr, SocketAddr>,
    advertised: FxHashMap<SocketAddr, SocketAddr>,
}

impl Registry {
    /// `total`: connections of all allocations together.
    pub(in crate::net) fn new(total: usize) -> Self {
        Self { books: Mutex::new(Books { total, ..Books::default() }) }
    }

    /// Takes another limit into use; who is in stays in.
    pub(in crate::net) fn set_total(&self, total: usize) {
        self.lock().total = total;
    }

    /// Room for one more connection, if there is any.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Place> {
        let mut books = self.lock();
        if books.places >= books.total {
            return None;
        }
        books.places += 1;
        Some(Place { registry: Arc::clone(self) })
    }

    /// Gives out a connection id that nobody else has, and what ends the connection.
    pub(super) fn reserve(self: &Arc<Self>) -> (Held, oneshot::Receiver<()>) {
        let mut books = self.lock();
        let id = loop {
            let id = ConnectionId(addresses::random());
            if !books.waiting.contains_key(&id) {
                break id;
            }
        };
        books.waiting.insert(id, None);
        let (sender, end) = oneshot::channel();
        (Held { registry: Arc::clone(self), id, _end: sender }, end)
    }

    /// Lets the connection of `held` wait for its ConnectionBind by `subject`.
    pub(super) fn offer(&self, held: &Held, subject: Arc<str>, joined: Joined) {
        self.lock().waiting.insert(held.id, Some((subject, joined)));
    }

    /// Takes the connection that waits for `subject` under `id`, and tells its owner.
    pub(in crate::net) fn take(&self, id: ConnectionId, subject: &str) -> Result<Joined, BindError> {
        let mut books = self.lock();
        match books.waiting.get_mut(&id) {
            Some(Some((owner, _))) if **owner != *subject => Err(BindError::WrongOwner),
            Some(waiting @ Some(_)) => {
                // The id stays taken while the link lives, so that no other connection gets it.
                let (_, joined) = waiting.take().ok_or(BindError::Unknown)?;
                drop(books);
                joined.owner.order(Order::Link(News::Bound(joined.link)));
                Ok(joined)
            }
            Some(None) | None => Err(BindError::Unknown),
        }
    }

    /// Lists a TCP relayed address until the listing is dropped.
    pub(super) fn list(self: &Arc<Self>, bound: SocketAddr, advertised: SocketAddr) -> Listing {
        let mut books = self.lock();
        books.bound.insert(advertised, bound);
        books.bound.insert(bound, bound);
        books.advertised.insert(bound, advertised);
        Listing { registry: Arc::clone(self), bound, advertised }
    }

    /// Where the TCP relayed address `address`, bound or advertised, is bound.
    pub(super) fn bound(&self, address: SocketAddr) -> Option<SocketAddr> {
        self.lock().bound.get(&address).copied()
    }

    /// How `from` is called outside: a TCP relayed address of ours by its advertised name, everybody else as it is.
    pub(super) fn advertised(&self, from: SocketAddr) -> SocketAddr {
        self.lock().advertised.get(&from).copied().unwrap_or(from)
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        // Nothing panics while it is held, and every change is complete.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a TCP relayed address known.
pub(super) struct Listing {
    registry: Arc<Registry>,
    bound: SocketAddr,
    advertised: SocketAddr,
}

impl Drop for Listing {
    fn drop(&mut self) {
        let mut books = self.registry.lock();
        books.advertised.remove(&self.bound);
        for address in [self.bound, self.advertised] {
            // Two bound addresses can share an advertised one: only our own entry goes.
            if books.bound.get(&address) == Some(&self.bound) {
                books.bound.remove(&address);
            }
        }
    }
}

/// What a link needs besides its socket.
pub(super) struct Papers {
    pub(super) link: LinkId,
    pub(super) subject: Arc<str>,
    pub(super) owner: Arc<Mailbox>,
    pub(super) meter: Arc<Meter>,
    pub(super) place: Place,
}

impl Papers {
    /// Puts the connection up for its ConnectionBind.
    pub(super) fn offer(self, registry: &Registry, held: &Held, peer: TcpStream, end: oneshot::Receiver<()>) {
        let Self { link, subject, owner, meter, place } = self;
        registry.offer(held, subject, Joined { peer, meter, end, link, owner, _place: place });
    }
}

#[cfg(test)]
mod tests;
