//! Waiting: epoll for threads, the runtime's for tasks, and a bell for threads.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use libc::c_int;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::check;

/// A descriptor that is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ready {
    /// What [`Poller::add`] was given for it.
    pub token: u64,
    /// It has errors to report, maybe beside input.
    pub has_errors: bool,
}

/// Level-triggered readiness of many descriptors.
pub(crate) struct Poller {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
}

/// Ready descriptors taken per wait; the rest come with the next one.
const EVENTS: usize = 256;

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: takes no pointers; the descriptor it returns is ours alone.
        let epoll = unsafe { OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?) };
        Ok(Self { epoll, events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS] })
    }

    /// Watches `socket` for input until it is closed; `token` comes back from [`Poller::wait`].
    pub(crate) fn add(&self, socket: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token };
        // SAFETY: the event lives through the call; the kernel copies it.
        check(unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, socket.as_raw_fd(), &mut event) })
            .map(drop)
    }

    /// Waits up to `timeout` milliseconds (-1: for ever) and puts what is ready into `ready`.
    pub(crate) fn wait(&mut self, timeout: c_int, ready: &mut Vec<Ready>) -> io::Result<()> {
        ready.clear();
        // SAFETY: the buffer holds `EVENTS` events and outlives the call.
        let count = check(unsafe {
            libc::epoll_wait(self.epoll.as_raw_fd(), self.events.as_mut_ptr(), EVENTS as c_int, timeout)
        })? as usize;
        ready.extend(self.events.iter().take(count).map(|event| {
            let has_errors = event.events & libc::EPOLLERR as u32 != 0;
            Ready { token: event.u64, has_errors }
        }));
        Ok(())
    }
}

/// Lets the sleeps of this thread end on time, instead of with others up to 50 us later. Without it they are longer.
pub(in crate::net) fn sleep_precisely() {
    // SAFETY: takes no pointers, and concerns this thread's timers alone.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_000 as libc::c_ulong) };
}

/// A counter another thread can raise to end a [`Poller::wait`].
pub(in crate::net) struct WakeUp {
    event: OwnedFd,
}

impl WakeUp {
    pub(in crate::net) fn new() -> io::Result<Self> {
        // SAFETY: takes no pointers; the descriptor it returns is ours alone.
        let event = unsafe { OwnedFd::from_raw_fd(check(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))?) };
        Ok(Self { event })
    }

    /// Makes the descriptor readable. It fails only when it already is.
    pub(in crate::net) fn wake(&self) {
        let one = 1u64;
        // SAFETY: writes the eight bytes of `one`.
        unsafe { libc::write(self.event.as_raw_fd(), ptr::from_ref(&one).cast(), size_of::<u64>()) };
    }

    /// Makes it unreadable again.
    pub(in crate::net) fn clear(&self) {
        let mut count = 0u64;
        // SAFETY: reads eight bytes into `count`.
        unsafe { libc::read(self.event.as_raw_fd(), ptr::from_mut(&mut count).cast(), size_of::<u64>()) };
    }
}

impl AsFd for WakeUp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// Watches `socket` for input in the tokio runtime, and for errors that it reports as input (`report_errors`). Not for
/// output: that would wake the runtime for every datagram that leaves.
pub(in crate::net) fn watch_input(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` names the same open descriptor from here until it is dropped, as is asked for.
    unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE | Interest::PRIORITY) }.map_err(io::Error::from)
}
