//! Which private networks a relay carries its users into. A refused ChannelBind sends nothing to anybody, and so does
//! one that is granted; only the server's own loopback addresses get a packet, a Binding request to the server itself.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use stun::agent::TransactionId;
use stun::fingerprint::FINGERPRINT;
use stun::message::BINDING_REQUEST;

use super::cause::{Cause, Fault};
use super::open::Opener;
use super::probe;
use super::relay::Login;
use super::report::Finding;
use super::session::Session;
use super::target::Transport;

/// How long the server may take to answer itself.
const OWN_ANSWER: Duration = Duration::from_millis(500);
/// A port of peers that are only asked about.
const ANY_PORT: u16 = 443;

/// An address that no stranger should reach, and what is there.
struct Private {
    address: &'static str,
    what: &'static str,
    /// The server itself answers there.
    is_own: bool,
}

const fn private(address: &'static str, what: &'static str, is_own: bool) -> Private {
    Private { address, what, is_own }
}

const IPV4: &[Private] = &[
    private("127.0.0.1", "the server's own loopback services", true),
    private("0.0.0.0", "the server's own loopback services under another name", true),
    private("10.0.0.1", "private networks (10/8)", false),
    private("172.16.0.1", "private networks (172.16/12)", false),
    private("192.168.0.1", "private networks (192.168/16)", false),
    private("100.64.0.1", "shared address space (100.64/10)", false),
    private("169.254.169.254", "the cloud's metadata service, which hands out credentials", false),
];

const IPV6: &[Private] = &[
    private("::1", "the server's own loopback services", true),
    private("::ffff:127.0.0.1", "the server's own loopback services under another name", true),
    private("fd00::1", "private networks (fc00::/7)", false),
    private("fe80::1", "the server's link (fe80::/10)", false),
];

/// Asks for channels to private addresses of both families.
pub async fn check(opener: &Opener, transport: Transport, server: SocketAddr, login: &Login) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (candidates, wants_ipv6) in [(IPV4, false), (IPV6, true)] {
        let session = match Session::allocate(opener, transport, server, login, wants_ipv6).await {
            Ok(session) if session.relayed.is_ipv6() == wants_ipv6 => session,
            // The server relays no such family, so nothing is exposed over it.
            Ok(session) => {
                session.close().await;
                continue;
            }
            Err(_) if wants_ipv6 => continue,
            Err(fault) => {
                findings.push(Finding::note("peers", format!("private peers were not tested: {}", fault.text)));
                continue;
            }
        };
        findings.push(family(session, candidates, server).await.at(server));
    }
    findings
}

async fn family(mut session: Session, candidates: &[Private], server: SocketAddr) -> Finding {
    let mut exposed = Vec::new();
    for candidate in candidates {
        let Ok(ip) = candidate.address.parse::<IpAddr>() else { continue };
        let peer = SocketAddr::new(ip, if candidate.is_own { server.port() } else { ANY_PORT });
        match session.bind(peer).await {
            Ok(Ok(_)) => {
                let is_proven = candidate.is_own && answers(&session, peer).await;
                let proof = if is_proven { ", and it answered there" } else { "" };
                exposed.push(format!("{}: {}{proof}", candidate.address, candidate.what));
            }
            Ok(Err(_)) => {}
            Err(fault) => {
                session.close().await;
                return Finding::note("peers", format!("private peers were not all tested: {}", fault.text));
            }
        }
    }
    let is_ipv6 = session.relayed.is_ipv6();
    session.close().await;
    let name = if is_ipv6 { "IPv6" } else { "IPv4" };
    if exposed.is_empty() {
        return Finding::good(
            "peers",
            format!("no private {name} address is accepted as a peer ({} tried)", candidates.len()),
        );
    }
    let text = format!(
        "whoever has credentials sends packets from inside the server's network, past its firewall, to {}",
        exposed.join("; ")
    );
    Finding::warning("peers", Fault::new(Cause::PrivatePeers, text))
}

/// True when the server answers a Binding request that its own relay brings it at `peer`.
async fn answers(session: &Session, peer: SocketAddr) -> bool {
    let parts: [Box<dyn stun::message::Setter>; 3] =
        [Box::new(TransactionId::new()), Box::new(BINDING_REQUEST), Box::new(FINGERPRINT)];
    let Ok(request) = probe::build(&parts) else { return false };
    if session.send(peer, &request.raw).await.is_err() {
        return false;
    }
    let answer = async {
        while let Ok((_, payload)) = session.receive().await {
            // The answer bears the request's transaction.
            if payload.get(8..20) == request.raw.get(8..20) {
                return true;
            }
        }
        false
    };
    tokio::time::timeout(OWN_ANSWER, answer).await.unwrap_or(false)
}
