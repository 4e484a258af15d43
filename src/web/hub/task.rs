//! The task that owns the hub.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::queue::Queue;
use super::{Drop, Figures, MAX_QUEUED_BYTES, SLOTS, sleep};
use crate::clock;
use crate::signaling::{
    Command, Fault, Hub, HubLimits, LinkId, Notice, Output, Pass, PeerId, PeerInfo, RoomKey, Stats, Survey,
};

/// Who has locked a room when that was no host of it; shorter than the id of any peer.
const ADMINISTRATOR: &str = "admin";

/// What the task is told and asked.
pub(super) enum Input {
    Open { connection: u64, queue: Arc<Queue> },
    Command { link: LinkId, command: Command, _large: Option<OwnedSemaphorePermit> },
    Close { connection: u64 },
    Stats(oneshot::Sender<Stats>),
    Peer { peer: PeerId, reply: oneshot::Sender<Option<PeerInfo>> },
    Survey { text: String, limit: usize, reply: oneshot::Sender<Survey> },
    Lock { room: RoomKey, locked: bool, reply: oneshot::Sender<bool> },
    Kick { peer: PeerId, reply: oneshot::Sender<bool> },
    CloseRoom { room: RoomKey, reply: oneshot::Sender<bool> },
    Revoked { token: String },
    Limits(Box<HubLimits>),
    Drain { seconds: u64 },
    Shutdown(oneshot::Sender<()>),
}

/// Told of everything that happens in the rooms.
type Watch = Box<dyn FnMut(&Notice) + Send>;

/// Why who came by this pass does not get in any more.
pub(super) type Bar = Box<dyn Fn(&Pass) -> Option<Fault> + Send>;

pub(super) struct Task {
    hub: Hub,
    queues: HashMap<u64, Arc<Queue>>,
    /// Of connections that were let go and are not over yet: what they write still counts.
    leaving: HashMap<u64, Arc<Queue>>,
    /// Bytes of all queues.
    queued: Arc<AtomicUsize>,
    figures: Arc<Figures>,
    bar: Bar,
    watch: Watch,
}

impl Task {
    pub(super) fn new(
        limits: HubLimits,
        queued: Arc<AtomicUsize>,
        figures: Arc<Figures>,
        bar: Bar,
        watch: Watch,
    ) -> Self {
        Self { hub: Hub::new(limits), queues: HashMap::new(), leaving: HashMap::new(), queued, figures, bar, watch }
    }

    pub(super) async fn run(mut self, mut inputs: mpsc::Receiver<Input>) {
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
            Input::Command { link, mut command, _large } => {
                // The pass was good when it was shown. A Socket.IO page may ask for a room long after, and a token may
                // be revoked while a join waits here.
                if let Command::Join(join) = &mut command {
                    join.refused = join.refused.or_else(|| (self.bar)(&join.pass));
                }
                // After a connection was let go, what it had sent before is of no interest.
                if self.queues.contains_key(&link.connection) {
                    self.hub.handle_command(now, link, command);
                }
            }
            Input::Close { connection } => {
                self.leaving.remove(&connection);
                self.queues.remove(&connection);
                self.lose(connection);
            }
            Input::Stats(reply) => {
                let _ = reply.send(self.hub.stats());
            }
            Input::Peer { peer, reply } => {
                let _ = reply.send(self.hub.peer(&peer));
            }
            Input::Survey { text, limit, reply } => {
                let _ = reply.send(self.hub.survey(&text, limit));
            }
            Input::Lock { room, locked, reply } => {
                let _ = reply.send(self.hub.handle_lock(now, &room, locked, &PeerId::from(ADMINISTRATOR)));
            }
            Input::Kick { peer, reply } => {
                let _ = reply.send(self.hub.handle_kick(now, &peer));
            }
            Input::CloseRoom { room, reply } => {
                let _ = reply.send(self.hub.handle_close(now, &room));
            }
            Input::Revoked { token } => self.hub.handle_revoked(now, &token),
            Input::Limits(limits) => self.hub.set_limits(*limits),
            Input::Drain { seconds } => self.hub.handle_drain(seconds),
            Input::Shutdown(done) => {
                self.hub.handle_shutdown();
                self.drain();
                for (_, queue) in self.queues.drain() {
                    queue.close(true);
                }
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
                        self.let_go(link.connection);
                    } else if self.queued.load(Ordering::Relaxed) > MAX_QUEUED_BYTES {
                        self.relieve();
                    }
                }
                Output::Notice(notice) => self.note(&notice),
            }
        }
    }

    /// Tells the log and whoever watches. Names are the peers' own and stay out of the log. Rooms are texts there, which
    /// are quoted: a page may call one what looks like another field.
    fn note(&mut self, notice: &Notice) {
        match notice {
            // By-id sockets come and go with every page.
            Notice::Joined { room: RoomKey::Direct, .. } | Notice::Left { room: RoomKey::Direct, .. } => {}
            Notice::Joined { room, peer, role, .. } => {
                tracing::info!(room = room.to_string(), %peer, role = role.as_str(), "peer joined");
            }
            Notice::Left { room, peer, reason, .. } => {
                tracing::info!(room = room.to_string(), %peer, reason = reason.as_str(), "peer left");
            }
            Notice::Locked { room, by, locked } => {
                tracing::info!(room = room.to_string(), %by, locked, "room locked or unlocked");
            }
            Notice::RoomClosed { room } => tracing::info!(room = room.to_string(), "room closed"),
        }
        (self.watch)(notice);
    }

    /// Ends a connection that reads too slowly. It is told why, if it reads that.
    fn let_go(&mut self, connection: u64) {
        let Some(queue) = self.queues.remove(&connection) else { return };
        self.figures.count_drop(Drop::Slow);
        self.log_slow(connection, queue.held());
        queue.close(false);
        self.leaving.insert(connection, queue);
        self.lose(connection);
    }

    /// All queues together hold too much: the largest go, until there is some air.
    fn relieve(&mut self) {
        let held = |(connection, queue): (&u64, &Arc<Queue>)| (queue.held(), *connection);
        let mut queues: Vec<(usize, u64)> = self.queues.iter().chain(&self.leaving).map(held).collect();
        queues.sort_unstable();
        while self.queued.load(Ordering::Relaxed) > MAX_QUEUED_BYTES - MAX_QUEUED_BYTES / 8 {
            let Some((held @ 1.., connection)) = queues.pop() else { break };
            if let Some(queue) = self.leaving.remove(&connection) {
                queue.cut();
            }
            if let Some(queue) = self.queues.remove(&connection) {
                self.figures.count_drop(Drop::Cut);
                self.log_slow(connection, held);
                queue.cut();
                self.lose(connection);
            }
        }
    }

    fn lose(&mut self, connection: u64) {
        for slot in 0..SLOTS {
            self.hub.handle_lost(clock::now().mono, LinkId { connection, slot });
        }
    }

    fn log_slow(&self, connection: u64, bytes: usize) {
        for slot in 0..SLOTS {
            if let Some((room, peer)) = self.hub.place_of(LinkId { connection, slot }) {
                let (room, reason) = (room.to_string(), Fault::SlowReader.code());
                tracing::info!(room, %peer, bytes, reason, "connection let go");
            }
        }
    }
}
