//! The sans-IO STUN/TURN server: bytes and time in, outputs out.
//!
//! The contract is the same as everywhere in this code base: *one input, then drain `poll_output` to `None`, then the
//! next input*. The return value of [`Relay::handle_client`] and [`Relay::handle_peer`] is the hot path (where a
//! payload goes, without copying it); everything else is queued as [`Output`].

pub mod event;
pub mod types;

pub use event::{DropReason, EndReason, Event, OpenError, OpenRelay, Output, ReplyBytes, ToClient, ToPeer, Traffic};
pub use types::{ChannelNumber, Family, FiveTuple, RelayId, Transport};
