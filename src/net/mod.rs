//! The I/O shell of the relay: shards for UDP, one task per TCP or TLS client, ports, quotas, hairpin.

mod addresses;
pub(crate) mod alternate;
mod backlog;
mod counters;
mod current;
mod ended;
mod forward;
mod grants;
mod hairpin;
pub(crate) mod holder;
mod lanes;
mod listener;
mod mailbox;
mod outcomes;
mod pace;
mod ports;
mod records;
mod relay_socket;
mod revocations;
mod shard;
mod stream;
pub(crate) mod sys;
mod tcp;
mod udp;
mod worker;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, thread};

use rustc_hash::FxHashMap;
use tokio::sync::mpsc;

use crate::clock;
use crate::config::Config;
use crate::relay::{self, FiveTuple, Settings, Usage};

pub use addresses::{AddressWatch, default_route_addresses, interface_addresses};
use counters::Counters;
pub use counters::Totals;
use current::Current;
pub use ended::Ended;
use grants::Grants;
use hairpin::Directory;
pub use mailbox::Query;
use mailbox::{Bell, Mailbox, Order, Revocation};
pub use outcomes::Snapshot;
pub use records::ReadAhead;
pub use revocations::{Damaged, Revocations};
use shard::Shard;
use sys::WakeUp;
use worker::Workers;

/// Relayed addresses told of one subject; beyond what `limits.allocations_per_subject` gives anybody by default.
pub const MAX_USAGE: usize = 256;
/// How long shards and streams may take to tell what a subject uses.
const REPORT: Duration = Duration::from_secs(1);

/// A UDP address that could not be bound, or another reason not to start.
#[derive(Debug, thiserror::Error)]
#[error("{address}/udp: {reason}")]
pub struct StartError {
    pub address: SocketAddr,
    /// True when another process holds the port.
    pub in_use: bool,
    pub reason: String,
}

/// The running relay shell; cheap to clone.
#[derive(Clone)]
pub struct Net {
    shared: Arc<Shared>,
}

struct Shared {
    current: Arc<Current>,
    /// Taken by whoever replaces the settings, until every owner is told.
    change: Mutex<()>,
    grants: Arc<Grants>,
    directory: Arc<Directory>,
    tcp: Arc<tcp::Registry>,
    workers: Workers,
    /// The kernel cuts large sends into datagrams.
    gso: bool,
    udp_addresses: Vec<SocketAddr>,
    shard_mailboxes: Vec<Arc<Mailbox>>,
    shard_counters: Vec<Arc<Counters>>,
    stream_counters: Counters,
    revoked: Arc<Revocations>,
    ended: ended::Sink,
    /// By the address of their mailbox.
    streams: Mutex<FxHashMap<usize, Arc<Mailbox>>>,
    stopping: AtomicBool,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What `net` needs beside the configuration.
pub struct Setup<'a> {
    pub config: &'a Config,
    /// Secrets of time-limited credentials, newest first.
    pub turn_secrets: Vec<Vec<u8>>,
    /// The nonce key is derived from this state-directory secret, so that a restart invalidates no nonce.
    pub nonce_secret: Vec<u8>,
    /// Every TCP address that `web` has bound, for the own-service-port rule of the peer policy.
    pub tcp_addresses: Vec<SocketAddr>,
    /// Whose credentials count no more.
    pub revoked: Arc<Revocations>,
}

impl Net {
    /// Binds every UDP address and starts the shards. A default address whose family is missing is a warning.
    pub fn start(setup: Setup<'_>) -> Result<Self, StartError> {
        Self::start_with(setup, Vec::new())
    }

    /// The same, with sockets that are bound already: one that has a configured address is used where there is one
    /// shard. Several share a port, which the kernel allows to sockets of one user only.
    pub fn start_with(setup: Setup<'_>, passed: Vec<UdpSocket>) -> Result<Self, StartError> {
        let config = setup.config;
        let shards = match config.shards {
            0 => thread::available_parallelism().map_or(1, usize::from),
            shards => shards,
        };
        // All sockets of all shards, before the first is read: the kernel spreads clients over a group, and a group that
        // grows moves them.
        let mut listeners = listener::bind_all(&config.udp, shards, passed)?;
        let udp_addresses: Vec<_> = listeners.first().into_iter().flatten().map(|listener| listener.address).collect();
        let alternate = alternate::bind(config, &mut listeners)?;
        let gso = listeners.iter().flatten().next().is_some_and(|listener| probe(listener.socket.as_fd()));
        let refused = |reason: String| StartError {
            address: config.udp.addresses.first().copied().unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0))),
            in_use: false,
            reason,
        };
        let failed = |error: io::Error| refused(format!("the UDP threads could not be started: {error}"));
        let bells = (0..shards).map(|_| WakeUp::new().map(Bell::Thread)).collect::<io::Result<Vec<_>>>();
        let directory = Arc::<Directory>::default();
        let revoked = Arc::clone(&setup.revoked);
        let asked: Arc<dyn relay::Revoked> = Arc::clone(&revoked) as _;
        let current = Arc::new(Current::new(&setup, &udp_addresses, alternate, asked).map_err(refused)?);
        let shared = Arc::new(Shared {
            grants: Arc::new(Grants::new(config, Arc::clone(&current), Arc::clone(&revoked))),
            revoked,
            ended: ended::Sink::default(),
            current,
            change: Mutex::default(),
            workers: Workers::new(Arc::clone(&directory), gso),
            directory,
            tcp: Arc::new(tcp::Registry::new(config.limits.tcp_connections_total)),
            gso,
            udp_addresses,
            shard_mailboxes: bells.map_err(failed)?.into_iter().map(|bell| Arc::new(Mailbox::new(bell))).collect(),
            shard_counters: (0..shards).map(|_| Arc::default()).collect(),
            stream_counters: Counters::default(),
            streams: Mutex::default(),
            stopping: AtomicBool::new(false),
            threads: Mutex::default(),
        });
        let net = Self { shared };
        for (index, listeners) in listeners.into_iter().enumerate() {
            if let Err(error) = net.start_shard(index, listeners) {
                net.stop();
                return Err(failed(error));
            }
        }
        Ok(net)
    }

    fn start_shard(&self, index: usize, listeners: Vec<listener::Listener>) -> io::Result<()> {
        let shared = &self.shared;
        let (Some(mailbox), Some(counters)) = (shared.shard_mailboxes.get(index), shared.shard_counters.get(index))
        else {
            return Ok(());
        };
        let shard = Shard::new(Arc::clone(shared), Arc::clone(counters), listeners, Arc::clone(mailbox))?;
        let thread = thread::Builder::new().name(format!("relais-udp-{index}")).spawn(move || shard.run())?;
        lock(&shared.threads).push(thread);
        Ok(())
    }

    /// The UDP addresses that really bound.
    pub fn udp_addresses(&self) -> Vec<SocketAddr> {
        self.shared.udp_addresses.clone()
    }

    /// Serves STUN/TURN on a TCP connection until it ends. `first` are bytes already read from it.
    pub async fn serve_stream<S>(&self, stream: S, tuple: FiveTuple, first: &[u8])
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        stream::serve(Arc::clone(&self.shared), stream, tuple, first).await;
    }

    /// The same on a TLS connection, on which every frame leaves as a record of its own.
    pub async fn serve_tls<S>(&self, stream: tokio_rustls::server::TlsStream<S>, tuple: FiveTuple, first: &[u8])
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        stream::serve(Arc::clone(&self.shared), records::Records(stream), tuple, first).await;
    }

    /// Ends every allocation of `subject` and refuses new ones until `until` (unix seconds). A subject that ends with
    /// `.*` stands for all credentials of an account.
    pub fn revoke(&self, subject: &str, until: u64) {
        self.revoke_of_room(subject, until, "");
    }

    /// The same for a peer of a room, which the log names with each allocation that ends.
    pub fn revoke_of_room(&self, subject: &str, until: u64, room: &str) {
        if !room.is_empty() {
            self.shared.revoked.set_room(subject, room);
        }
        // First the table, then the orders: an allocation granted before the entry is there when the order comes.
        self.shared.revoked.revoke_subject(clock::now().unix, subject, until);
        let revocation = Arc::new(Revocation { subject: subject.into(), room: room.into() });
        self.shared.order_about(subject, &Order::Revoke(revocation));
    }

    /// What was revoked so far.
    pub fn revoked(&self) -> &Arc<Revocations> {
        &self.shared.revoked
    }

    /// The live allocations of `subject`, [`MAX_USAGE`] relayed addresses at most: shards and streams are asked, and
    /// who does not answer within a second is left out.
    pub async fn usage(&self, subject: &str) -> Vec<Usage> {
        self.survey(Query::Subject(subject.to_owned()), MAX_USAGE).await
    }

    /// The live allocations that `query` asks about, `limit` relayed addresses at most, in the same way. Each shard looks
    /// through all of its allocations once.
    pub async fn survey(&self, query: Query, limit: usize) -> Vec<Usage> {
        let (reply, mut answers) = mpsc::channel(limit.max(1));
        let query = Arc::new(query);
        self.shared.order_for(|mailbox| mailbox.is_asked(&query), &Order::Report { query: Arc::clone(&query), reply });
        let mut found = Vec::new();
        // It ends when the last of those asked has dropped its order.
        let all = async {
            while let Some(usage) = answers.recv().await {
                found.push(usage);
            }
        };
        let _ = tokio::time::timeout(REPORT, all).await;
        found
    }

    /// Allocations that end from now on, in a bounded queue; those that find no room are counted in the log. There is
    /// one listener: a later one takes the place of the one before.
    pub fn ended(&self) -> mpsc::Receiver<Ended> {
        self.shared.ended.listen()
    }

    /// Tells the peer policy which addresses the interfaces of this host have now: an address that came up since the
    /// start is our own, too. True when that changed anything.
    pub fn set_interface_addresses(&self, interfaces: &[IpAddr]) -> bool {
        let own_ips = self.shared.current.own_ips(interfaces);
        if own_ips == self.shared.current.get().settings().own_ips {
            return false;
        }
        self.reconfigure(|settings| settings.own_ips = own_ips).is_ok()
    }

    /// Changes the settings while running: secrets, users, peers, limits. Live allocations go on; their permissions are
    /// held against the new policy and their next requests against the new secrets. Nothing changes when the result is
    /// none that could be started with, which the error explains.
    pub fn reconfigure(&self, edit: impl FnOnce(&mut Settings)) -> Result<(), String> {
        let _change = lock(&self.shared.change);
        let relay = self.shared.current.replace(edit)?;
        // Owners that start from here on take the new settings themselves.
        self.shared.order(&Order::Reconfigure(relay));
        Ok(())
    }

    /// Takes a configuration that was read again into use: secrets (newest first), users, peers, limits. `nonce_secret`
    /// signs from now on; nonces signed with the one before stay good. Nothing changes when it cannot be used.
    pub fn apply(&self, config: &Config, turn_secrets: &[Vec<u8>], nonce_secret: &[u8]) -> Result<(), String> {
        self.reconfigure(|settings| {
            current::take(settings, config);
            settings.turn_secrets = turn_secrets.to_vec();
            if settings.nonce_secrets.first().is_none_or(|first| first != nonce_secret) {
                settings.nonce_secrets.insert(0, nonce_secret.to_vec());
                settings.nonce_secrets.truncate(2);
            }
        })?;
        self.shared.grants.set_limits(&config.limits);
        self.shared.tcp.set_total(config.limits.tcp_connections_total);
        Ok(())
    }

    /// Refuses every new allocation with 508 from now on; those that are there go on.
    pub fn drain(&self) {
        self.shared.grants.drain();
    }

    /// True when every UDP thread has answered. It waits for them without end: a caller gives it a time.
    pub async fn answers(&self) -> bool {
        let mailboxes = &self.shared.shard_mailboxes;
        let (reply, mut answers) = mpsc::channel(mailboxes.len().max(1));
        for mailbox in mailboxes {
            mailbox.order(Order::Answer(reply.clone()));
        }
        drop(reply);
        let mut count = 0;
        while answers.recv().await.is_some() {
            count += 1;
        }
        count == mailboxes.len()
    }

    /// True once the server stops: no more allocations are granted.
    pub fn is_draining(&self) -> bool {
        self.shared.grants.is_draining()
    }

    /// Live allocations, for the log line at the end and for status.
    pub fn allocations(&self) -> usize {
        self.shared.grants.allocations()
    }

    /// Whether the relay takes `ip` (canonical), of another host, for a peer.
    pub fn may_be_peer(&self, ip: IpAddr) -> bool {
        self.shared.current.get().may_be_peer(ip)
    }

    /// What the packet path has counted since the start, all shards and streams together.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for counters in &self.shared.shard_counters {
            counters.add_to(&mut totals);
        }
        self.shared.stream_counters.add_to(&mut totals);
        totals
    }

    /// The same of each shard, in their order.
    pub fn shard_totals(&self) -> Vec<Totals> {
        let of_shard = |counters: &Arc<Counters>| {
            let mut totals = Totals::default();
            counters.add_to(&mut totals);
            totals
        };
        self.shared.shard_counters.iter().map(of_shard).collect()
    }

    /// Everything counted since the start.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot { allocations: self.allocations(), totals: self.totals(), ..Snapshot::default() };
        let shared = &self.shared;
        for counters in shared.shard_counters.iter().map(Arc::as_ref).chain([&shared.stream_counters]) {
            counters.outcomes.add_to(&mut snapshot);
        }
        snapshot
    }

    /// How many UDP threads have received anything so far: the kernel spreads clients over all of them.
    pub fn receiving_shards(&self) -> usize {
        self.shard_totals().iter().filter(|totals| totals.received > 0).count()
    }

    /// Stops the shards, closes every relay socket and waits for the threads.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.order(&Order::Stop);
        for thread in lock(&self.shared.threads).drain(..) {
            if thread.join().is_err() {
                tracing::error!("a UDP thread had panicked");
            }
        }
    }
}

impl Shared {
    /// Counts an event of a core, and tells the log about it, and whoever listens for the end of allocations.
    fn tell(&self, event: &relay::Event, counters: &Counters) {
        counters.outcomes.note(event);
        let _span = self.span_of(event).map(tracing::Span::entered);
        forward::log(event);
        self.ended.tell(event);
    }

    /// What stands with the end of an allocation that a Refresh found revoked before the order to end it came.
    fn span_of(&self, event: &relay::Event) -> Option<tracing::Span> {
        let relay::Event::Deleted { subject, reason: relay::EndReason::Revoked, .. } = event else { return None };
        if !tracing::Span::current().is_none() {
            return None;
        }
        let room = self.revoked.room_of(subject)?;
        Some(Revocation { subject: subject.to_string(), room }.span())
    }

    /// Gives `order` to every shard, and to the streams that may hold an allocation of `subject`.
    fn order_about(&self, subject: &str, order: &Order) {
        self.order_for(|mailbox| mailbox.concerns(subject), order);
    }

    /// Gives `order` to every shard, and to the streams that it concerns.
    fn order_for(&self, is_concerned: impl Fn(&Mailbox) -> bool, order: &Order) {
        let streams = lock(&self.streams);
        let concerned = streams.values().filter(|mailbox| is_concerned(mailbox));
        for mailbox in self.shard_mailboxes.iter().chain(concerned) {
            mailbox.order(order.clone());
        }
    }

    /// Gives `order` to every shard and stream.
    fn order(&self, order: &Order) {
        let streams: Vec<_> = lock(&self.streams).values().cloned().collect();
        for mailbox in self.shard_mailboxes.iter().chain(&streams) {
            mailbox.order(order.clone());
        }
    }

    /// Lists a stream's mailbox for orders. `None` when we are stopping.
    fn register(self: &Arc<Self>, mailbox: &Arc<Mailbox>) -> Option<Registration> {
        lock(&self.streams).insert(Arc::as_ptr(mailbox).addr(), Arc::clone(mailbox));
        let registration = Registration { shared: Arc::clone(self), mailbox: Arc::clone(mailbox) };
        (!self.stopping.load(Ordering::SeqCst)).then_some(registration)
    }
}

/// Keeps a stream listed while its task lives.
struct Registration {
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        lock(&self.shared.streams).remove(&Arc::as_ptr(&self.mailbox).addr());
    }
}

/// Asks the kernel what it can do, and logs it.
fn probe(socket: std::os::fd::BorrowedFd<'_>) -> bool {
    let gso = sys::supports_gso(socket);
    let gro = sys::enable_gro(socket).is_ok();
    tracing::info!(gso, gro, "UDP batching of this kernel");
    gso
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Only whole values are stored under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "batching_tests.rs"]
mod batching;

#[cfg(test)]
#[path = "lanes_tests.rs"]
mod lanes_over_sockets;
