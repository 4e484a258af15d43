//! Connection state recovery: a private id for each socket, and an offset behind each event.
//!
//! The client of version 4.6 and later brings both along when it connects again. What it missed waits in the hub, in the
//! session that a join opens; each join of a socket has its own, so that an offset of one room means nothing in the next.

use std::fmt;

use super::limits::MAX_PID;
use crate::signaling::{Random, Resume, Secret};

/// The id that a socket is known by when its connection is lost. Who knows it is that socket.
#[derive(Clone, Debug)]
pub(super) struct Pid(String);

impl Pid {
    pub(super) fn random<R: Random + ?Sized>(random: &R) -> Self {
        Self(Secret::random(random).as_str().to_owned())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The hub's name for the session of the namespace in `slot` since its `epoch`th join.
    pub(super) fn secret(&self, slot: u8, epoch: u64) -> Secret {
        Secret::from(format!("{}.{slot}.{epoch}", self.0).as_str())
    }
}

/// The last that a client has got: which join of its socket, and which message since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offset {
    pub(super) epoch: u64,
    pub(super) seq: u64,
}

impl Offset {
    fn parse(text: &str) -> Option<Self> {
        let (epoch, seq) = text.split_once('.')?;
        Some(Self { epoch: epoch.parse().ok()?, seq: seq.parse().ok()? })
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.epoch, self.seq)
    }
}

/// What a client that comes back shows.
#[derive(Clone, Debug)]
pub(super) struct Return {
    pub(super) pid: Pid,
    pub(super) offset: Offset,
}

impl Return {
    /// `None`: not something that we gave.
    pub(super) fn parse((pid, offset): &(String, String)) -> Option<Self> {
        let offset = Offset::parse(offset)?;
        (pid.len() <= MAX_PID).then(|| Self { pid: Pid(pid.clone()), offset })
    }

    pub(super) fn resume(&self, slot: u8) -> Resume {
        Resume { secret: self.pid.secret(slot, self.offset.epoch), seq: Some(self.offset.seq) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_there_and_back() {
        let offset = Offset { epoch: 3, seq: 17 };
        assert_eq!(Offset::parse(&offset.to_string()), Some(offset));
        for text in ["", "3", "3.", ".1", "a.b", "3.-1", "99999999999999999999.1"] {
            assert_eq!(Offset::parse(text), None, "{text}");
        }
        assert!(Return::parse(&("x".repeat(MAX_PID + 1), "1.1".into())).is_none());
    }
}
