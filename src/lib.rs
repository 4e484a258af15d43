//! Relais: a STUN/TURN server, a WebRTC signaling relay and an HTTPS server in one process.
//!
//! The map, from the inside out:
//!
//! * [`relay`] and [`signaling`] are sans-IO: they are fed time, bytes and randomness, and hold no socket,
//!   lock, clock or task. `tests/architecture.rs` keeps it so.
//! * [`net`] is the shell of `relay`, [`web`] the shell of `signaling` and the HTTP surface.
//! * [`qr`] draws links for phones.
//! * [`webhooks`] tells back ends what happens.
//! * [`config`], [`credentials`], [`metrics`], [`state`], [`time`] are used by all; [`app`] binds everything together and
//!   [`cli`] is what the command line runs.

pub mod app;
pub mod bench;
pub mod cli;
pub mod clock;
pub mod config;
pub mod credentials;
pub mod logging;
pub mod metrics;
pub mod net;
pub mod qr;
pub mod relay;
pub mod signaling;
pub mod state;
pub mod systemd;
pub mod time;
pub mod web;
pub mod webhooks;
