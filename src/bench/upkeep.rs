//! Keeps allocations alive in a long run: each is refreshed in its turn, at even distances.

use std::net::SocketAddr;

use super::link::Link;
use super::packet::Framing;
use super::session::{Session, Verdict, reach};
use crate::relay::ReplyBytes;
use crate::relay::stun::method;

/// Each allocation is refreshed this often, in nanoseconds: a permission lasts 5 minutes (RFC 8656 section 9).
const PERIOD: u64 = 120_000_000_000;

/// Whose turn it is, and when.
#[derive(Debug, Default)]
pub struct Upkeep {
    next: usize,
    due: u64,
}

impl Upkeep {
    /// Refreshes the next of `sessions` if its time has come; each gives its requests to `send`.
    pub fn tick(
        &mut self,
        now: u64,
        sessions: &mut [Session],
        (framing, reaches): (Framing, &[SocketAddr]),
        mut send: impl FnMut(usize, &[u8]),
    ) {
        if sessions.is_empty() {
            return;
        }
        if self.due == 0 {
            self.due = now + PERIOD;
        }
        if now < self.due {
            return;
        }
        let index = self.next;
        self.next = (self.next + 1) % sessions.len();
        self.due = now.max(self.due) + PERIOD / sessions.len() as u64;
        let (Some(session), Some(peer)) = (sessions.get_mut(index), reaches.get(index)) else { return };
        for request in requests(session, framing, *peer) {
            send(index, &request);
        }
    }
}

/// Takes the answer to one of these requests; with a new nonce they are made again.
pub fn answered(session: &mut Session, answer: &[u8], framing: Framing, peer: SocketAddr) -> Vec<ReplyBytes> {
    if session.judge(answer) == Verdict::Again { requests(session, framing, peer) } else { Vec::new() }
}

fn requests(session: &mut Session, framing: Framing, peer: SocketAddr) -> Vec<ReplyBytes> {
    let (method, fill) = reach(framing, peer);
    let refresh = session.request(method::REFRESH, |_| {});
    [refresh, session.request(method, fill)].into_iter().flatten().map(|(request, _)| request).collect()
}

/// Sends a request, without waiting; one that is lost is made up for by the next round.
pub fn send(link: &mut Link, request: &[u8]) {
    match link {
        Link::Udp(socket) => drop(socket.send(request)),
        Link::Stream(stream) => drop(stream.send(request)),
    }
}
