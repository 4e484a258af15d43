//! The hub's task: owns the sans-IO `signaling::Hub`, feeds it, and hands its outputs to the connections' queues.
//!
//! Nothing a client does can hold the task up: what it sends waits in that client's own task, and what it does not
//! read runs over its own queue and closes its own connection.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::socketio::Sessions;
use crate::clock;
use crate::config::Limits;
use crate::signaling::{Command, Delivery, Hub, HubLimits, LinkId, Notice, Output, PeerId, PeerInfo, RoomKey, Stats};

/// Commands that wait for the hub; a client whose command finds no place waits.
const HUB_QUEUE: usize = 4096;

/// Messages that wait for one client. A streamer that comes back is told of its viewers one by one.
const CLIENT_QUEUE: usize = 1024;

/// Bytes that wait for one client, in messages of the greatest size.
const CLIENT_QUEUE_MESSAGES: usize = 4;

/// Connections in all: at some 20 KiB each a gigabyte.
const MAX_CONNECTIONS: usize = 50_000;

/// Connections of one client address; a household or an office behind one address has room.
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
    sessions: Sessions,
    queue_bytes: usize,
    limits: Limits,
}

/// What one client address holds.
#[derive(Default)]
struct Held {
    connected: usize,
    /// Lost connections whose sessions may come back.
    waiting: usize,
}

enum Input {
    Open { connection: u64, queue: Queue },
    Command { link: LinkId, command: Command },
    Close { connection: u64 },
    Stats(oneshot::Sender<Stats>),
    Peer { peer: PeerId, reply: oneshot::Sender<Option<PeerInfo>> },
    Kick { peer: PeerId, reply: oneshot::Sender<bool> },
    CloseRoom { room: RoomKey, reply: oneshot::Sender<bool> },
    Revoked { token: String },
    Shutdown(oneshot::Sender<()>),
}

/// The hub's end of a client's queue.
struct Queue {
    deliveries: mpsc::Sender<(LinkId, Delivery)>,
    bytes: Arc<AtomicUsize>,
    max_bytes: usize,
}

impl Queue {
    fn push(&self, link: LinkId, delivery: Delivery) -> bool {
        let size = delivery.event.size();
        if self.bytes.fetch_add(size, Ordering::Relaxed) + size > self.max_bytes {
            return false;
        }
        self.deliveries.try_send((link, delivery)).is_ok()
    }
}

impl HubHandle {
    /// Spawns the hub's task. `watch` is called with everything that happens in the rooms; it must not block.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(limits: &Limits, resume: Duration, watch: impl FnMut(&Notice) + Send + 'static) -> Self {
        let (inputs, receiver) = mpsc::channel(HUB_QUEUE);
        let hub_limits = HubLimits {
            rooms: limits.rooms,
            peers_per_room: limits.peers_per_room,
            resume,
            // One message of the greatest size and the small ones around it.
            replay_bytes: limits.message_bytes.saturating_add(64 * 1024),
            ..HubLimits::default()
        };
        let task = Task { hub: Hub::new(hub_limits), queues: HashMap::new(), watch: Box::new(watch) };
        tokio::spawn(task.run(receiver));
        Self {
            shared: Arc::new(Shared {
                inputs,
                next_connection: AtomicU64::new(1),
                closing: AtomicBool::new(false),
                clients: Mutex::new(HashMap::new()),
                connections: AtomicUsize::new(0),
                sessions: Sessions::default(),
                queue_bytes: limits.message_bytes.saturating_mul(CLIENT_QUEUE_MESSAGES).max(1 << 20),
                limits: limits.clone(),
            }),
        }
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

    /// What is known of a peer; `None` when there is nobody of that id.
    pub async fn peer(&self, peer: PeerId) -> Option<PeerInfo> {
        self.ask(|reply| Input::Peer { peer, reply }).await.flatten()
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

    /// True once the server stops.
    pub(super) fn is_closing(&self) -> bool {
        self.shared.closing.load(Ordering::Relaxed)
    }

    pub(super) fn sessions(&self) -> &Sessions {
        &self.shared.sessions
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// Takes a place for a connection of `client`; `None` when there is none left.
    pub(super) fn admit(&self, client: IpAddr) -> Option<Place> {
        let mut clients = self.shared.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_closing() || self.connections() >= MAX_CONNECTIONS {
            return None;
        }
        let held = clients.entry(client).or_default();
        if held.connected >= MAX_CONNECTIONS_PER_CLIENT || held.connected + held.waiting >= MAX_HELD_PER_CLIENT {
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
    pub(super) async fn open(&self, place: Place) -> Option<Port> {
        let connection = self.shared.next_connection.fetch_add(1, Ordering::Relaxed);
        let (sender, deliveries) = mpsc::channel(CLIENT_QUEUE);
        let bytes = Arc::new(AtomicUsize::new(0));
        let queue = Queue { deliveries: sender, bytes: bytes.clone(), max_bytes: self.shared.queue_bytes };
        self.shared.inputs.send(Input::Open { connection, queue }).await.ok()?;
        Some(Port { place, connection, deliveries, bytes })
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

impl Drop for Place {
    fn drop(&mut self) {
        self.hub.change(self.client, |held| held.connected -= 1);
        self.hub.shared.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection's way to the hub and back.
pub(super) struct Port {
    place: Place,
    connection: u64,
    deliveries: mpsc::Receiver<(LinkId, Delivery)>,
    bytes: Arc<AtomicUsize>,
}

impl Port {
    /// Waits for a place in the hub's queue.
    pub(super) async fn send(&self, slot: u8, command: Command) {
        let link = LinkId { connection: self.connection, slot };
        let _ = self.place.hub.shared.inputs.send(Input::Command { link, command }).await;
    }

    /// The next delivery and the slot it is for. `None`: the hub has let go of this connection, because it reads too
    /// slowly or because the server stops ([`HubHandle::is_closing`]).
    pub(super) async fn receive(&mut self) -> Option<(u8, Delivery)> {
        let (link, delivery) = self.deliveries.recv().await?;
        self.bytes.fetch_sub(delivery.event.size(), Ordering::Relaxed);
        Some((link.slot, delivery))
    }

    /// The same without waiting.
    pub(super) fn try_receive(&mut self) -> Option<(u8, Delivery)> {
        let (link, delivery) = self.deliveries.try_recv().ok()?;
        self.bytes.fetch_sub(delivery.event.size(), Ordering::Relaxed);
        Some((link.slot, delivery))
    }

    /// Says that the connection is over. Must be called at the end of every connection that was opened. What is given
    /// back counts as a connection until it is dropped.
    pub(super) async fn close(self) -> Place {
        let _ = self.place.hub.shared.inputs.send(Input::Close { connection: self.connection }).await;
        self.place
    }

    pub(super) fn hub(&self) -> &HubHandle {
        &self.place.hub
    }
}

struct Task {
    hub: Hub,
    queues: HashMap<u64, Queue>,
    watch: Box<dyn FnMut(&Notice) + Send>,
}

impl Task {
    async fn run(mut self, mut inputs: mpsc::Receiver<Input>) {
        loop {
            let due = self.hub.poll_timeout().map(|due| due - clock::now().mono);
            tokio::select! {
                input = inputs.recv() => {
                    let Some(input) = input else { break };
                    self.handle(input);
                }
                () = sleep(due) => self.hub.handle_timeout(clock::now().mono),
            }
            self.drain();
        }
    }

    fn handle(&mut self, input: Input) {
        let now = clock::now().mono;
        match input {
            Input::Open { connection, queue } => {
                self.queues.insert(connection, queue);
            }
            Input::Command { link, command } => {
                // After a connection was let go, what it had sent before is of no interest.
                if self.queues.contains_key(&link.connection) {
                    self.hub.handle_command(now, link, command);
                }
            }
            Input::Close { connection } => self.let_go(connection),
            Input::Stats(reply) => {
                let _ = reply.send(self.hub.stats());
            }
            Input::Peer { peer, reply } => {
                let _ = reply.send(self.hub.peer(&peer));
            }
            Input::Kick { peer, reply } => {
                let _ = reply.send(self.hub.handle_kick(now, &peer));
            }
            Input::CloseRoom { room, reply } => {
                let _ = reply.send(self.hub.handle_close(now, &room));
            }
            Input::Revoked { token } => self.hub.handle_revoked(now, &token),
            Input::Shutdown(done) => {
                self.hub.handle_shutdown();
                self.drain();
                self.queues.clear();
                let _ = done.send(());
            }
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.hub.poll_output() {
            match output {
                Output::Deliver { link, delivery } => {
                    let Some(queue) = self.queues.get(&link.connection) else { continue };
                    if !queue.push(link, delivery) {
                        tracing::debug!(connection = link.connection, "a slow reader is let go");
                        self.let_go(link.connection);
                    }
                }
                Output::Notice(notice) => self.note(&notice),
            }
        }
    }

    /// Tells the log and whoever watches. Names are the peers' own and stay out of the log.
    fn note(&mut self, notice: &Notice) {
        match notice {
            Notice::Joined { room, peer, role, .. } => {
                tracing::info!(%room, %peer, role = role.as_str(), "peer joined");
            }
            Notice::Left { room, peer, reason, .. } => {
                tracing::info!(%room, %peer, reason = reason.as_str(), "peer left");
            }
            Notice::RoomClosed { room } => tracing::info!(%room, "room closed"),
        }
        (self.watch)(notice);
    }

    fn let_go(&mut self, connection: u64) {
        if self.queues.remove(&connection).is_some() {
            for slot in 0..SLOTS {
                self.hub.handle_lost(clock::now().mono, LinkId { connection, slot });
            }
        }
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
