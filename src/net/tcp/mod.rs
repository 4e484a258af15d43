//! The sockets of TCP allocations (RFC 6062): listening relayed addresses, peer data connections, and the bytes between a
//! peer data connection and its client's.
//!
//! The task of the control connection owns the relayed address and every link of it ([`owner`]). A peer data connection
//! waits in the [`registry`] until its ConnectionBind comes on a connection of its own, whose task takes it out and joins
//! the two ([`pipe`]). What it waits for meanwhile is in the kernel's receive buffer, so that a peer that talks early is
//! held back by TCP itself. When the owner drops its [`registry::Held`], either of them ends.

mod owner;
mod pipe;
mod registry;
mod socket;

pub(super) use owner::Owner;
pub(super) use pipe::join;
pub(super) use registry::{Joined, News, Registry};
pub(super) use socket::listen;
