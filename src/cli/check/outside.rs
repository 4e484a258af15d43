//! The relayed address from outside: a socket of ours is the peer, so that packets really cross the server's firewall
//! and NAT. Where they come from tells the server's true address, where they are lost which side is closed.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::UdpSocket;

use super::cause::{Cause, Fault};
use super::nat;
use super::open::{Opener, any};
use super::relay::Login;
use super::report::{Finding, is_private};
use super::session::Session;
use super::target::Transport;
use crate::net;

const ROUNDS: u32 = 8;
const ROUND: Duration = Duration::from_millis(150);
const TO_PEER: &[u8] = b"relais check: from the relay";
const TO_RELAY: &[u8] = b"relais check: from a peer";

/// What was seen of the way between a relayed address and a peer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Passing {
    /// Where packets of the relay came from, as the peer sees it.
    pub source: Option<SocketAddr>,
    /// The peer's address as the relay sees it.
    pub seen: Option<SocketAddr>,
}

/// Exchanges packets between the relay and a socket of ours; gives the peer's address as the relay sees it as well.
pub async fn check(
    opener: &Opener,
    transport: Transport,
    server: SocketAddr,
    udp: SocketAddr,
    login: &Login,
) -> (Finding, Option<nat::Seen>) {
    let note = |text: String| (Finding::note("address", format!("the way from outside was not tested: {text}")), None);
    if net::interface_addresses().contains(&udp.ip()) {
        return note("the server is this machine; run the check from another one".into());
    }
    let peer = match UdpSocket::bind(any(udp)).await {
        Ok(peer) => peer,
        Err(error) => return note(error.to_string()),
    };
    let Some(mapped) = nat::mapped(&peer, udp).await else { return note("no UDP answer from the server".into()) };
    let mut session = match Session::allocate(opener, transport, server, login, mapped.is_ipv6()).await {
        Ok(session) => session,
        Err(fault) => return note(fault.text),
    };
    let relayed = session.relayed;
    if relayed.is_ipv4() != mapped.is_ipv4() {
        session.close().await;
        return note(format!("the relayed address {relayed} is of another family than ours"));
    }
    match session.permit(mapped).await {
        Ok(Ok(_)) => {}
        Ok(Err((_, text))) => {
            session.close().await;
            let why = if is_private(mapped.ip()) { ", as it should for a private one" } else { "" };
            return note(format!("the server refuses our address {} as a peer{why} ({text})", mapped.ip()));
        }
        Err(fault) => return note(fault.text),
    }
    let passing = exchange(&session, &peer, mapped).await;
    session.close().await;
    let seen = passing.seen.map(|seen| nat::Seen { first: mapped, second: seen });
    (Finding { relayed: Some(relayed), ..judge(relayed, udp, passing) }, seen)
}

/// Sends both ways until each has come through, or the rounds are over.
async fn exchange(session: &Session, peer: &UdpSocket, mapped: SocketAddr) -> Passing {
    let mut passing = Passing::default();
    let mut buffer = [0; 2048];
    for _ in 0..ROUNDS {
        // The first packet opens our own NAT for the relay's. A send that fails says the same as one that is lost.
        let _ = peer.send_to(TO_RELAY, session.relayed).await;
        let _ = session.send(passing.seen.unwrap_or(mapped), TO_PEER).await;
        let round = async {
            while passing.source.is_none() || passing.seen.is_none() {
                tokio::select! {
                    Ok((length, from)) = peer.recv_from(&mut buffer) => {
                        if &buffer[..length] == TO_PEER {
                            passing.source = Some(SocketAddr::new(from.ip().to_canonical(), from.port()));
                        }
                    }
                    Ok((from, payload)) = session.receive() => {
                        if payload == TO_RELAY {
                            passing.seen = Some(from);
                        }
                    }
                    else => break,
                }
            }
        };
        let _ = tokio::time::timeout(ROUND, round).await;
        if passing.source.is_some() && passing.seen.is_some() {
            break;
        }
    }
    passing
}

/// What the packets say of the relayed address; `server` is where the client reaches the server.
fn judge(relayed: SocketAddr, server: SocketAddr, passing: Passing) -> Finding {
    let failed = |cause, text: String| Finding::failed("address", Fault::new(cause, text));
    let is_foreign = relayed.ip() != server.ip();
    match (passing.source, passing.seen) {
        (Some(source), _) if source.ip() != relayed.ip() => failed(
            Cause::WrongPublicAddress,
            format!(
                "the server gives out {} as relayed address, but its packets come from {}",
                relayed.ip(),
                source.ip()
            ),
        ),
        (Some(_), Some(_)) => {
            let text = format!("packets from outside reach {relayed}, and its packets come from there");
            Finding::good("address", text)
        }
        (None, None) if is_foreign || is_private(relayed.ip()) && !is_private(server.ip()) => failed(
            Cause::WrongPublicAddress,
            format!("the server at {} gives out {} as relayed address, which leads nowhere", server.ip(), relayed.ip()),
        ),
        (Some(_), None) => failed(
            Cause::RelayRangeFirewalled,
            format!("packets from outside do not reach {relayed}, while its own come out: its port is closed"),
        ),
        (None, None) => failed(
            Cause::RelayRangeFirewalled,
            format!("no packet passes {relayed}, neither in nor out: a firewall closes its port"),
        ),
        (None, Some(_)) => failed(
            Cause::RelayRangeFirewalled,
            format!("packets reach {relayed}, but its own do not come out: a firewall on the way drops them"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_names_the_cause() {
        let address = |text: &str| text.parse::<SocketAddr>().expect("literal");
        let (server, relayed, peer) = (address("8.8.8.8:3478"), address("8.8.8.8:50000"), address("9.9.9.9:1"));
        let cause = |relayed, source, seen| judge(relayed, server, Passing { source, seen }).cause;
        assert_eq!(cause(relayed, Some(relayed), Some(peer)), None);
        assert_eq!(cause(relayed, Some(relayed), None), Some(Cause::RelayRangeFirewalled));
        assert_eq!(cause(relayed, None, Some(peer)), Some(Cause::RelayRangeFirewalled));
        assert_eq!(cause(relayed, None, None), Some(Cause::RelayRangeFirewalled));
        let elsewhere = address("8.8.4.4:50000");
        assert_eq!(cause(elsewhere, Some(relayed), None), Some(Cause::WrongPublicAddress));
        assert_eq!(cause(elsewhere, None, None), Some(Cause::WrongPublicAddress));
        assert_eq!(cause(elsewhere, Some(elsewhere), Some(peer)), None, "a relay address of its own is fine");
    }
}
