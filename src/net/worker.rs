//! Buffers for stream tasks, borrowed for one turn: as many exist as turns run at once, not as there are clients.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use super::backlog::Frames;
use super::forward::Forwarder;
use super::hairpin::Directory;
use super::mailbox::Packets;
use super::sys::RECEIVE_BATCH;
use super::udp::Arena;

/// Bytes read from a stream per turn: many frames per system call, and room for the largest one (65,540 bytes) at least.
const INPUT: usize = 256 << 10;
/// Room beyond a partial frame: whatever is there, the next read can complete the largest frame.
const FRAME: usize = 68 << 10;

/// What one turn of a stream task needs.
pub(super) struct Worker {
    pub input: Vec<u8>,
    pub arena: Arena,
    pub gather: Vec<u8>,
    pub inbox: Packets,
    pub out: Out,
}

/// Where a turn puts what leaves: packets to peers and to other owners, frames to the client.
pub(super) struct Out {
    pub forwarder: Forwarder,
    pub frames: Frames,
}

impl Worker {
    /// Makes the read buffer large enough behind `partial` bytes.
    pub(super) fn size_input(&mut self, partial: usize) {
        let size = INPUT.max(partial + FRAME);
        if self.input.len() < size {
            self.input.resize(size, 0);
        }
    }
}

/// The workers at rest.
pub(super) struct Workers {
    directory: Arc<Directory>,
    gso: bool,
    resting: Mutex<Vec<Worker>>,
}

impl Workers {
    pub(super) fn new(directory: Arc<Directory>, gso: bool) -> Self {
        Self { directory, gso, resting: Mutex::default() }
    }

    /// A worker for one turn; it goes back to rest when the guard is dropped.
    pub(super) fn borrow(&self) -> Borrowed<'_> {
        let resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let worker = resting.unwrap_or_else(|| Worker {
            input: Vec::new(),
            arena: Arena::new(RECEIVE_BATCH),
            gather: Vec::new(),
            inbox: Packets::default(),
            out: Out { forwarder: Forwarder::new(Arc::clone(&self.directory), self.gso), frames: Frames::default() },
        });
        Borrowed { workers: self, worker: Some(worker) }
    }
}

/// A worker in use.
pub(super) struct Borrowed<'a> {
    workers: &'a Workers,
    worker: Option<Worker>,
}

impl Deref for Borrowed<'_> {
    type Target = Worker;

    fn deref(&self) -> &Worker {
        self.worker.as_ref().expect("present until the drop")
    }
}

impl DerefMut for Borrowed<'_> {
    fn deref_mut(&mut self) -> &mut Worker {
        self.worker.as_mut().expect("present until the drop")
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        // Nothing of one client may reach the next one, whatever way the turn ended.
        if let Some(mut worker) = self.worker.take()
            && !std::thread::panicking()
        {
            worker.out.frames.clear();
            worker.inbox.clear();
            worker.arena.reset();
            self.workers.resting.lock().unwrap_or_else(PoisonError::into_inner).push(worker);
        }
    }
}
