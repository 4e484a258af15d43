//! A load generator for TURN servers, ours and others: `relais bench`, and what `benches/compare` is made of.
//!
//! The load is an open loop: packets are due at fixed moments, a late answer does not hold up the next packet, and latency
//! counts from the moment a packet was due. Everything is bounded by the named limits here.

mod beat;
mod control;
mod drops;
mod figures;
pub mod forwarder;
mod histogram;
pub(crate) mod link;
mod load;
mod outbox;
pub(crate) mod packet;
mod process;
mod search;
pub(crate) mod session;
mod setup;
mod upkeep;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

pub use beat::Step;
pub use control::{ControlFigures, run as run_control, suits as suits_control};
pub use figures::{Figures, WayFigures, micros};
pub use histogram::Histogram;
pub use link::Tls;
pub use load::Engine;
pub use packet::{Framing, STAMP, Way};
pub use process::Process;
pub use search::{Found, search};
pub use session::Login;
pub use setup::{Field, Peers, Plan};

/// Allocations at once.
pub const MAX_ALLOCATIONS: usize = 20_000;
/// Packets per second, both ways together.
pub const MAX_RATE: f64 = 2_000_000.0;
/// The same to a server that is neither on this machine nor in a private network: more than any call needs, and no flood.
pub const MAX_RATE_OUTSIDE: f64 = 50_000.0;
/// How long one step lasts, and with it a run at one rate.
pub const MAX_TIME: Duration = Duration::from_secs(900);
/// Payload bytes: what fits one UDP datagram with the largest header of ours.
pub const MAX_SIZE: usize = 65_400;
/// Packets due at the same moment on one flow.
pub const MAX_BURST: usize = 512;
/// Operations of the control plane at once.
pub const MAX_PARALLEL: usize = 4_096;

/// Whether `ip` is this machine or in a network that no stranger is in: there a wrong address floods nobody.
pub fn is_near(ip: IpAddr, own: &[IpAddr]) -> bool {
    let ip = ip.to_canonical();
    let is_private = match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
    };
    ip.is_loopback() || is_private || own.contains(&ip)
}

/// Whether this kernel cuts large sends into datagrams.
pub fn has_gso(server: SocketAddr) -> bool {
    use std::os::fd::AsFd;
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    std::net::UdpSocket::bind(any).is_ok_and(|socket| crate::net::sys::supports_gso(socket.as_fd()))
}

/// Sets up what `plan` says, and tells what an allocation took of the server's memory.
pub fn set_up(plan: &Plan, process: Option<&Process>) -> io::Result<(Engine, Option<f64>)> {
    let before = process.and_then(Process::memory);
    let field = Field::new(plan)?;
    let after = process.and_then(Process::memory);
    let each = before.zip(after).map(|(before, after)| after.saturating_sub(before) as f64 / plan.allocations as f64);
    Ok((Engine::new(plan, field)?, each))
}

/// Ends the allocations of `field`; the server would keep them for ten minutes.
pub fn tear_down(field: Field) {
    let Field { links, sessions, .. } = field;
    for (mut link, mut session) in links.into_iter().zip(sessions) {
        if let Ok((request, _)) = session.request(crate::relay::stun::method::REFRESH, session::release) {
            upkeep::send(&mut link, &request);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_and_far() {
        let own = ["203.0.113.9".parse().expect("an address")];
        for ip in ["127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "::1", "fd00::1", "fe80::1", "203.0.113.9"] {
            assert!(is_near(ip.parse().expect("an address"), &own), "{ip}");
        }
        for ip in ["8.8.8.8", "203.0.113.10", "2001:db8::1", "172.32.0.1", "::ffff:8.8.8.8"] {
            assert!(!is_near(ip.parse().expect("an address"), &own), "{ip}");
        }
    }
}
