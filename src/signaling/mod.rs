//! Sans-IO signaling: rooms, peers and the dialects that speak to them.
//!
//! A [`dialect`] turns what one client says into [`Command`]s and what the [`Hub`] tells it back into that client's
//! messages. The hub knows no dialect: descriptions and candidates are opaque JSON that it never reads. Nothing here
//! holds a socket, a clock, a lock or a source of randomness; time and random bytes are passed in.
//!
//! Every part has the same verbs: `handle_*`, `poll_output`, `poll_timeout`, `handle_timeout`; drain the outputs
//! before the next input.

mod body;
pub mod dialect;
mod fault;
mod hub;
mod limits;
mod message;
mod peer;
mod room;

pub use body::Body;
pub use fault::Fault;
pub use hub::{Hub, Output, PeerInfo, RoomInfo, Stats, Survey};
pub use limits::{HubLimits, REPLAY_FLOOR, Rate};
pub use message::{
    Alias, Command, Delivery, Event, Invite, Join, Joined, Kind, LeaveReason, LinkId, Notice, Pass, PeerId, PeerView,
    Random, Resume, RoomKey, Secret, SessionRequest, To,
};

pub use crate::credentials::token::Role;
