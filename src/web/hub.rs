//! The hub's task: owns the sans-IO `signaling::Hub`, feeds it, and hands its outputs to the connections' queues.
//!
//! Nothing a client does can hold the task up: what it sends waits in that client's own task, and what it does not
//! read runs over its own queue and closes its own connection.

mod figures;
mod queue;
mod task;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::config::Limits;
use crate::signaling::{
    Command, Delivery, Fault, HubLimits, LinkId, Notice, Pass, PeerId, PeerInfo, RoomKey, Stats, Survey,
};
pub use figures::{Drop, Figures, Speech};
use queue::Queue;
use task::{Input, Task};

/// Commands that wait for the hub; a client whose command finds no place waits.
const HUB_QUEUE: usize = 4096;

/// A command of more bytes than this takes its part of [`HUB_QUEUE_KIB`].
const LARGE_COMMAND: usize = 16 << 10;

/// KiB of large commands that wait for the hub together.
const HUB_QUEUE_KIB: usize = 64 << 10;

/// Bytes that wait for one client, in messages of the greatest size.
const CLIENT_QUEUE_MESSAGES: usize = 4;

/// Bytes that wait for all clients together. When they are more, whoever holds most of them is let go: a thousand pages
/// that do not read are not the end of the others.
pub const MAX_QUEUED_BYTES: usize = 256 << 20;

/// Connections in all: at some 20 KiB each a gigabyte.
const MAX_CONNECTIONS: usize = 50_000;

/// Connections of one client address (IPv6: of one /64); a household or an office behind one address has room.
const MAX_CONNECTIONS_PER_CLIENT: usize = 1_000;

/// Of these and of lost connections that may come back together: who joins room after room and goes would hold them all.
const MAX_HELD_PER_CLIENT: usize = 2 * MAX_CONNECTIONS_PER_CLIENT;

/// Namespaces of one connection: LinkId slots.
pub(super) const SLOTS: u8 = 2;

/// Sends to the hub's task; cheap to clone.
#[derive(Clone)]
pub struct HubHandle {
    shared: Arc<Shared>,
}

struct Shared {
    inputs: mpsc::Sender<Input>,
    next_connection: AtomicU64,
    closing: AtomicBool,
    clients: Mutex<HashMap<IpAddr, Held>>,
    connections: AtomicUsize,
    /// Bytes that wait for all clients.
    queued: Arc<AtomicUsize>,
    /// KiB of large commands that may still wait for the hub.
    large: Arc<Semaphore>,
    limits: RwLock<Arc<Limits>>,
    figures: Arc<Figures>,
}

/// What one client address holds.
#[derive(Default)]
struct Held {
    connected: usize,
    /// Lost connections whose sessions may come back.
    waiting: usize,
}

impl HubHandle {
    /// Spawns the hub's task. `bar` says why a pass opens no room any more; `watch` is called with everything that
    /// happens in the rooms. Neither may block.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(
        limits: &Limits,
        resume: Duration,
        bar: impl Fn(&Pass) -> Option<Fault> + Send + 'static,
        watch: impl FnMut(&Notice) + Send + 'static,
    ) -> Self {
        let (inputs, receiver) = mpsc::channel(HUB_QUEUE);
        let queued = Arc::<AtomicUsize>::default();
        let figures = Arc::<Figures>::default();
        let hub_limits = hub_limits(limits, resume);
        let task = Task::new(hub_limits, Arc::clone(&queued), Arc::clone(&figures), Box::new(bar), Box::new(watch));
        tokio::spawn(task.run(receiver));
        Self {
            shared: Arc::new(Shared {
                inputs,
                next_connection: AtomicU64::new(1),
                closing: AtomicBool::new(false),
                clients: Mutex::new(HashMap::new()),
                connections: AtomicUsize::new(0),
                queued,
                large: Arc::new(Semaphore::new(HUB_QUEUE_KIB)),
                limits: RwLock::new(Arc::new(limits.clone())),
                figures,
            }),
        }
    }

    /// Takes other limits into use: for the next connection, room and message.
    pub async fn set_limits(&self, limits: &Limits, resume: Duration) {
        *self.shared.limits.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(limits.clone());
        let _ = self.shared.inputs.send(Input::Limits(Box::new(hub_limits(limits, resume)))).await;
    }

    /// Tells every page that the server will stop in `seconds` at most. Nobody comes into a room from now on.
    pub async fn drain(&self, seconds: u64) {
        let _ = self.shared.inputs.send(Input::Drain { seconds }).await;
    }

    /// Tells every client that the server stops and closes their connections. Returns when all were told.
    pub async fn shutdown(&self) {
        self.shared.closing.store(true, Ordering::Relaxed);
        let (done, told) = oneshot::channel();
        if self.shared.inputs.send(Input::Shutdown(done)).await.is_ok() {
            let _ = told.await;
        }
    }

    /// How much is going on in the rooms.
    pub async fn stats(&self) -> Stats {
        self.ask(Input::Stats).await.unwrap_or_default()
    }

    /// True when the hub's task has answered.
    pub async fn answers(&self) -> bool {
        self.ask(Input::Stats).await.is_some()
    }

    /// What is known of a peer; `None` when there is nobody of that id.
    pub async fn peer(&self, peer: PeerId) -> Option<PeerInfo> {
        self.ask(|reply| Input::Peer { peer, reply }).await.flatten()
    }

    /// Peers and rooms that `text` (in lower case) occurs in, `limit` of each at most.
    pub async fn survey(&self, text: &str, limit: usize) -> Survey {
        let text = text.to_owned();
        self.ask(|reply| Input::Survey { text, limit, reply }).await.unwrap_or_default()
    }

    /// Locks a call room or unlocks it. False: there is none of that name.
    pub async fn lock_room(&self, room: RoomKey, locked: bool) -> bool {
        self.ask(|reply| Input::Lock { room, locked, reply }).await.unwrap_or_default()
    }

    /// Removes a peer from its room, as a host of it could. False: there is nobody of that id.
    pub async fn kick(&self, peer: PeerId) -> bool {
        self.ask(|reply| Input::Kick { peer, reply }).await.unwrap_or_default()
    }

    /// Ends a room with everybody in it. False: there is none of that name.
    pub async fn close_room(&self, room: RoomKey) -> bool {
        self.ask(|reply| Input::CloseRoom { room, reply }).await.unwrap_or_default()
    }

    /// The token of this id was revoked: whoever came in by it is shut out (`token-revoked`).
    pub async fn token_revoked(&self, token: String) {
        let _ = self.shared.inputs.send(Input::Revoked { token }).await;
    }

    /// `None`: the hub has stopped.
    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Input) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.shared.inputs.send(question(reply)).await.ok()?;
        answer.await.ok()
    }

    /// Signaling connections, those in no room included.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Bytes that wait for all signaling connections together, [`MAX_QUEUED_BYTES`] at most.
    pub fn queued_bytes(&self) -> usize {
        self.shared.queued.load(Ordering::Relaxed)
    }

    /// What was counted since the start.
    pub fn figures(&self) -> &Figures {
        &self.shared.figures
    }

    /// True once the server stops.
    pub(in crate::web) fn is_closing(&self) -> bool {
        self.shared.closing.load(Ordering::Relaxed)
    }

    pub(super) fn limits(&self) -> Arc<Limits> {
        Arc::clone(&self.shared.limits.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes a place for a connection of `client`; `None` when there is none left.
    pub(super) fn admit(&self, client: IpAddr) -> Option<Place> {
        let client = household(client);
        let mut clients = self.shared.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_closing() || self.connections() >= MAX_CONNECTIONS {
            self.figures().count_drop(Drop::Refused);
            return None;
        }
        let held = clients.entry(client).or_default();
        if held.connected >= MAX_CONNECTIONS_PER_CLIENT || held.connected + held.waiting >= MAX_HELD_PER_CLIENT {
            self.figures().count_drop(Drop::Refused);
            return None;
        }
        held.connected += 1;
        self.shared.connections.fetch_add(1, Ordering::Relaxed);
        Some(Place { hub: self.clone(), client })
    }

    fn change(&self, client: IpAddr, change: impl FnOnce(&mut Held)) {
        let mut clients = self.shared.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let held = clients.entry(client).or_default();
        change(held);
        if held.connected == 0 && held.waiting == 0 {
            clients.remove(&client);
        }
    }

    /// Opens a connection to the hub. `None` when the hub has stopped.
    pub(super) async fn open(&self, place: Place, speech: Speech) -> Option<Port> {
        let connection = self.shared.next_connection.fetch_add(1, Ordering::Relaxed);
        let queue_bytes = self.limits().message_bytes.saturating_mul(CLIENT_QUEUE_MESSAGES).max(1 << 20);
        let queue = Arc::new(Queue::new(queue_bytes, &self.shared.queued));
        self.shared.inputs.send(Input::Open { connection, queue: Arc::clone(&queue) }).await.ok()?;
        Some(Port { place, connection, queue, speech })
    }
}

/// One of the limited number of connections; given back when dropped.
pub(super) struct Place {
    hub: HubHandle,
    client: IpAddr,
}

impl Place {
    /// The connection is gone, its session waits for `resume`: so long it counts for its client.
    pub(super) fn wait(self, resume: Duration) {
        let (hub, client) = (self.hub.clone(), self.client);
        hub.change(client, |held| held.waiting += 1);
        drop(self);
        tokio::spawn(async move {
            tokio::time::sleep(resume).await;
            hub.change(client, |held| held.waiting -= 1);
        });
    }
}

impl std::ops::Drop for Place {
    fn drop(&mut self) {
        self.hub.change(self.client, |held| held.connected -= 1);
        self.hub.shared.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection's way to the hub and back.
pub(super) struct Port {
    place: Place,
    connection: u64,
    queue: Arc<Queue>,
    speech: Speech,
}

impl Port {
    /// Waits for a place in the hub's queue.
    pub(super) async fn send(&self, slot: u8, command: Command) {
        let link = LinkId { connection: self.connection, slot };
        let shared = &self.place.hub.shared;
        if !matches!(command, Command::Alive) {
            shared.figures.count_received(self.speech);
        }
        let size = command.size();
        let kib = u32::try_from(size >> 10).unwrap_or(u32::MAX).min(HUB_QUEUE_KIB as u32);
        let large =
            if size > LARGE_COMMAND { Arc::clone(&shared.large).acquire_many_owned(kib).await.ok() } else { None };
        let _ = shared.inputs.send(Input::Command { link, command, _large: large }).await;
    }

    /// The next delivery and the slot it is for; what was received before is taken as written to the client. `None`:
    /// the hub has let go of this connection, because it reads too slowly or because the server stops
    /// ([`HubHandle::is_closing`]).
    pub(super) async fn receive(&mut self) -> Option<(u8, Delivery)> {
        self.queue.take().await.map(|next| self.counted(next))
    }

    /// One more of the same batch, without waiting.
    pub(super) fn try_receive(&mut self) -> Option<(u8, Delivery)> {
        self.queue.take_more().map(|next| self.counted(next))
    }

    fn counted(&self, (link, delivery): (LinkId, Delivery)) -> (u8, Delivery) {
        self.hub().figures().count_sent(self.speech);
        (link.slot, delivery)
    }

    /// Completes when what waits for this connection is needed by others: it must end at once, without a word.
    pub(super) fn cut(&self) -> impl Future<Output = ()> + Send + use<> {
        let queue = Arc::clone(&self.queue);
        async move { queue.is_cut().await }
    }

    /// Says that the connection is over. Must be called at the end of every connection that was opened and not cut.
    /// What is given back counts as a connection until it is dropped.
    pub(super) async fn close(self) -> Place {
        let _ = self.place.hub.shared.inputs.send(Input::Close { connection: self.connection }).await;
        self.place
    }

    pub(super) fn hub(&self) -> &HubHandle {
        &self.place.hub
    }
}

fn hub_limits(limits: &Limits, resume: Duration) -> HubLimits {
    HubLimits {
        rooms: limits.rooms,
        peers_per_room: limits.peers_per_room,
        resume,
        // One message of the greatest size and the small ones around it.
        replay_bytes: limits.message_bytes.saturating_add(64 * 1024),
        ..HubLimits::default()
    }
}

/// What connections are counted by: an IPv4 address, or the /64 that one IPv6 subscriber has at least.
fn household(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
    }
}

/// Sleeps for `due`, or for ever.
pub(super) async fn sleep(due: Option<Duration>) {
    match due {
        Some(due) => tokio::time::sleep(due).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
