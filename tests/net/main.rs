//! The shell over real sockets, where it is more than a way to the core: ICMP, several addresses, settings that change.

#[path = "../net_common/mod.rs"]
mod net_common;

mod discovery;
mod families;
mod icmp;
mod reload;
mod snapshot;
