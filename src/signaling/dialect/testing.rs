//! What the dialects' unit tests share: a shell of fixed answers.

use std::cell::Cell;

use serde_json::value::RawValue;

use super::socketio::{Terms, Timing};
use super::{Ice, Invitation, Permit, Services};
use crate::signaling::{Body, Fault, Invite, Pass, PeerId, Random, Role};

/// A shell where the token `good` opens everything, `room r` opens r, `viewer` only watches.
pub(super) struct Shell {
    counter: Cell<u8>,
    /// No token is needed.
    pub(super) is_open: bool,
    /// Seconds that an ICE configuration is good for.
    pub(super) ttl: u64,
}

impl Shell {
    pub(super) fn open() -> Self {
        Self { counter: Cell::new(0), is_open: true, ttl: 1000 }
    }

    pub(super) fn by_invitation() -> Self {
        Self { is_open: false, ..Self::open() }
    }
}

impl Random for Shell {
    fn fill(&self, bytes: &mut [u8]) {
        self.counter.set(self.counter.get() + 1);
        bytes.fill(self.counter.get());
    }
}

impl Services for Shell {
    fn authorize(&self, token: Option<&str>) -> Result<Permit, Fault> {
        let permit = |room: Option<&str>, role| Permit {
            room: room.map(str::to_owned),
            role,
            name: None,
            pass: Pass::default(),
        };
        match token {
            Some("good") => Ok(permit(None, Role::Host)),
            Some("viewer") => Ok(permit(None, Role::Viewer)),
            Some("expired") => Err(Fault::TokenExpired),
            Some(token) => token.strip_prefix("room ").map_or(Err(Fault::TokenInvalid), |room| {
                Ok(Permit { name: Some("Minted".into()), ..permit(Some(room), Role::Member) })
            }),
            None if self.is_open => Ok(permit(None, Role::Member)),
            None => Err(Fault::TokenMissing),
        }
    }

    fn ice(&self, peer: &PeerId) -> Result<Ice, Fault> {
        Ok(Ice { json: json(&format!(r#"{{"for":"{peer}"}}"#)), ttl: self.ttl })
    }

    fn invite(&self, room: &str, invite: &Invite, until: Option<u64>) -> Result<Invitation, Fault> {
        let expires_at = invite.ttl.unwrap_or(60).min(until.unwrap_or(u64::MAX));
        if expires_at == 0 {
            return Err(Fault::TokenExpired);
        }
        Ok(Invitation { token: format!("{} {room}", invite.role.as_str()), expires_at })
    }
}

pub(super) fn json(text: &str) -> Body {
    RawValue::from_string(text.to_owned()).expect("JSON").into()
}

/// What a Socket.IO connection may do: little.
pub(super) fn terms() -> Terms {
    Terms {
        timing: Timing::default(),
        max_payload: 1000,
        packets_per_second: 20,
        bytes_per_second: 2000,
        bytes_burst: 2000,
    }
}
