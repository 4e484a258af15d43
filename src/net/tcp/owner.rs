//! The owner's side: the task of a control connection with its relayed address, what arrives there, and what is being
//! connected to.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;

use super::registry::{Held, Listing, Papers, Place, Registry};
use super::socket;
use crate::net::grants::{Charge, Granted, Lease};
use crate::net::mailbox::Mailbox;
use crate::relay::tcp::{ConnectError, LinkId, Meter};
use crate::relay::{Event, Relay, RelayId, Route, Usage};
use crate::time::Now;

/// Connections accepted in one turn before the rest of the client has its turn.
const ACCEPTS: usize = 16;
/// Pause after a failed accept (out of file descriptors), so that the task does not spin.
const BACKOFF: Duration = Duration::from_millis(100);

/// A listening relayed address.
struct Listening {
    id: RelayId,
    listener: TcpListener,
    bound: SocketAddr,
    // Held for their drop: the address is unlisted before its port is given back.
    _listing: Listing,
    lease: Lease,
}

/// A Connect on its way.
struct Connecting {
    link: LinkId,
    place: Place,
    socket: Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>,
}

/// What a control connection has of TCP.
pub(in crate::net) struct Owner {
    registry: Arc<Registry>,
    mailbox: Arc<Mailbox>,
    subject: Arc<str>,
    meter: Arc<Meter>,
    listening: Vec<Listening>,
    connecting: Vec<Connecting>,
    links: FxHashMap<LinkId, Held>,
    backoff: Option<Pin<Box<Sleep>>>,
}

impl Owner {
    /// For the allocation of `subject`, whose task reads `mailbox`.
    pub(in crate::net) fn new(registry: Arc<Registry>, mailbox: Arc<Mailbox>, subject: Arc<str>) -> Self {
        Self {
            registry,
            mailbox,
            subject,
            meter: Arc::default(),
            listening: Vec::new(),
            connecting: Vec::new(),
            links: FxHashMap::default(),
            backoff: None,
        }
    }

    /// Serves a relayed address that was granted.
    pub(in crate::net) fn add(&mut self, id: RelayId, granted: Granted) -> io::Result<()> {
        let Granted { socket, bound, advertised, lease } = granted;
        let listener = TcpListener::from_std(socket.into())?;
        let listing = self.registry.list(bound, advertised);
        self.listening.push(Listening { id, listener, bound, _listing: listing, lease });
        Ok(())
    }

    /// What the allocation takes of its quota already.
    pub(in crate::net) fn charge(&self) -> Option<Arc<Charge>> {
        self.listening.first().map(|listening| Arc::clone(listening.lease.charge()))
    }

    /// Closes a relayed address with all its links; true when it was the last one.
    pub(in crate::net) fn close_relay(&mut self, id: RelayId) -> bool {
        self.listening.retain(|listening| listening.id != id);
        self.connecting.retain(|connecting| connecting.link.relay != id);
        self.links.retain(|link, _| link.relay != id);
        self.listening.is_empty()
    }

    /// Closes a link.
    pub(in crate::net) fn close_link(&mut self, link: LinkId) {
        self.connecting.retain(|connecting| connecting.link != link);
        self.links.remove(&link);
    }

    /// Adds what the data connections have carried to the account of the allocation that ended.
    pub(in crate::net) fn account(&self, event: &mut Event) {
        if let Event::Deleted { traffic, .. } = event {
            self.meter.settle(traffic);
        }
    }

    /// Adds it to the report of a living allocation.
    pub(in crate::net) fn report(&self, usage: &mut [Usage]) {
        if let Some(first) = usage.first_mut() {
            self.meter.add_to(&mut first.traffic);
        }
    }

    /// Begins to connect. `Err`: it cannot be, and why.
    pub(in crate::net) fn connect(&mut self, link: LinkId, peer: SocketAddr, route: Route) -> Result<(), ConnectError> {
        let listening = self.listening.iter().find(|listening| listening.id == link.relay);
        let bound = listening.map(|listening| listening.bound).ok_or(ConnectError::Failed)?;
        let target = match route {
            Route::Network => peer,
            // A relayed address of ours is reached where it is bound, whatever it is called outside and whatever a firewall
            // lets in.
            Route::Own { else_network } => {
                let relayed = self.registry.bound(peer);
                relayed.or(else_network.then_some(peer)).ok_or(ConnectError::Forbidden)?
            }
        };
        if target == bound {
            return Err(ConnectError::Forbidden);
        }
        let place = self.registry.enter().ok_or(ConnectError::Capacity)?;
        let socket = Box::pin(socket::connect(bound, target));
        self.connecting.push(Connecting { link, place, socket });
        Ok(())
    }

    /// Looks at everything that can have happened. True when more may be waiting.
    pub(in crate::net) fn poll(&mut self, cx: &mut Context<'_>, now: Now, relay: &mut Relay) -> bool {
        self.poll_connecting(cx, now, relay);
        if let Some(backoff) = &mut self.backoff {
            if backoff.as_mut().poll(cx).is_pending() {
                return false;
            }
            self.backoff = None;
        }
        let mut more = false;
        for index in 0..self.listening.len() {
            more |= self.accept(cx, now, relay, index);
        }
        more
    }

    fn poll_connecting(&mut self, cx: &mut Context<'_>, now: Now, relay: &mut Relay) {
        let mut index = 0;
        while let Some(connecting) = self.connecting.get_mut(index) {
            let Poll::Ready(outcome) = connecting.socket.as_mut().poll(cx) else {
                index += 1;
                continue;
            };
            let Connecting { link, place, .. } = self.connecting.swap_remove(index);
            match outcome {
                Ok(peer) => {
                    let (held, end) = self.registry.reserve();
                    let id = held.id;
                    self.papers(link, place).offer(&self.registry, &held, prepared(peer), end);
                    self.links.insert(link, held);
                    relay.peer_connected(now, link, Ok(id));
                }
                Err(error) => {
                    tracing::debug!(?link, %error, "a peer was not reached");
                    relay.peer_connected(now, link, Err(ConnectError::Failed));
                }
            }
        }
    }

    fn accept(&mut self, cx: &mut Context<'_>, now: Now, relay: &mut Relay, index: usize) -> bool {
        for _ in 0..ACCEPTS {
            let Some(listening) = self.listening.get(index) else { return false };
            let id = listening.id;
            match listening.listener.poll_accept(cx) {
                Poll::Pending => return false,
                Poll::Ready(Ok((peer, from))) => self.take(now, relay, id, peer, from),
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%error, "a peer's connection was not accepted");
                    let mut backoff = Box::pin(tokio::time::sleep(BACKOFF));
                    // Asked at once, so that it wakes this task.
                    let _ = backoff.as_mut().poll(cx);
                    self.backoff = Some(backoff);
                    return false;
                }
            }
        }
        true
    }

    /// A peer's connection: known to the core, or closed at once.
    fn take(&mut self, now: Now, relay: &mut Relay, id: RelayId, peer: TcpStream, from: SocketAddr) {
        let Some(place) = self.registry.enter() else { return };
        let (held, end) = self.registry.reserve();
        let Some(link) = relay.peer_arrived(now, id, self.registry.advertised(from), held.id) else { return };
        self.papers(link, place).offer(&self.registry, &held, prepared(peer), end);
        self.links.insert(link, held);
    }

    fn papers(&self, link: LinkId, place: Place) -> Papers {
        let (owner, meter) = (Arc::clone(&self.mailbox), Arc::clone(&self.meter));
        Papers { link, subject: Arc::clone(&self.subject), owner, meter, place }
    }
}

/// What is written goes out at once: the client's application has decided how to cut it.
fn prepared(peer: TcpStream) -> TcpStream {
    let _ = peer.set_nodelay(true);
    peer
}
