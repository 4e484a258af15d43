//! The kind of NAT between here and the server: how our address looks to two destinations, and, where the server
//! offers a second address (RFC 5780), what comes in from strangers.

use std::net::SocketAddr;
use std::time::Duration;

use stun::agent::TransactionId;
use stun::attributes::{ATTR_CHANGE_REQUEST, ATTR_OTHER_ADDRESS, ATTR_XORMAPPED_ADDRESS};
use stun::fingerprint::FINGERPRINT;
use stun::message::{BINDING_REQUEST, CLASS_SUCCESS_RESPONSE, Message, Setter};
use tokio::net::UdpSocket;

use super::open::any;
use super::probe;
use super::report::Finding;
use super::session::address;
use crate::net;

const TRIES: u32 = 4;
const WAIT: Duration = Duration::from_millis(250);
/// Flags of CHANGE-REQUEST (RFC 5780 section 7.2).
const CHANGE_PORT: u32 = 2;
const CHANGE_BOTH: u32 = 6;

/// One socket of ours as two destinations see it, the second another port of the same address at least.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub first: SocketAddr,
    pub second: SocketAddr,
}

/// Which parts of the destination our outer address depends on (RFC 4787 section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mapping {
    None,
    EndpointIndependent,
    /// The same for two ports of one address; a second address was not there to ask.
    SameForPorts,
    AddressDependent,
    AddressAndPortDependent,
    Unknown,
}

/// Which strangers our NAT lets in (RFC 4787 section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filtering {
    EndpointIndependent,
    AddressDependent,
    AddressAndPortDependent,
}

/// Our address as the server sees it over `socket`.
pub async fn mapped(socket: &UdpSocket, server: SocketAddr) -> Option<SocketAddr> {
    address(&ask(socket, server, 0).await?, ATTR_XORMAPPED_ADDRESS)
}

/// Finds the kind of NAT; `seen` is what the relay saw, if it was asked.
pub async fn check(server: SocketAddr, seen: Option<Seen>) -> Option<Finding> {
    let socket = UdpSocket::bind(any(server)).await.ok()?;
    let answer = ask(&socket, server, 0).await?;
    let first = address(&answer, ATTR_XORMAPPED_ADDRESS)?;
    let other = plain_address(&answer).filter(|other| other.ip() != server.ip() && other.port() != server.port());
    let is_direct = is_ours(&socket, first);
    let mapping = match other {
        _ if is_direct => Mapping::None,
        Some(other) => by_discovery(&socket, server, other, first).await,
        None => seen.map_or(Mapping::Unknown, by_relay),
    };
    let filtering = match other {
        Some(_) => Some(filtering(server).await),
        None => None,
    };
    Some(Finding { mapped: Some(first), ..Finding::note("nat", words(mapping, filtering, first)) }.at(server))
}

/// RFC 5780 section 4.3.
async fn by_discovery(socket: &UdpSocket, server: SocketAddr, other: SocketAddr, first: SocketAddr) -> Mapping {
    let Some(second) = mapped(socket, SocketAddr::new(other.ip(), server.port())).await else {
        return Mapping::Unknown;
    };
    if second == first {
        return Mapping::EndpointIndependent;
    }
    match mapped(socket, other).await {
        Some(third) if third == second => Mapping::AddressDependent,
        Some(_) => Mapping::AddressAndPortDependent,
        None => Mapping::Unknown,
    }
}

fn by_relay(seen: Seen) -> Mapping {
    if seen.first == seen.second { Mapping::SameForPorts } else { Mapping::AddressAndPortDependent }
}

/// RFC 5780 section 4.4, with a socket that has spoken to nobody else.
async fn filtering(server: SocketAddr) -> Filtering {
    let Ok(socket) = UdpSocket::bind(any(server)).await else { return Filtering::AddressAndPortDependent };
    if ask(&socket, server, CHANGE_BOTH).await.is_some() {
        Filtering::EndpointIndependent
    } else if ask(&socket, server, CHANGE_PORT).await.is_some() {
        Filtering::AddressDependent
    } else {
        Filtering::AddressAndPortDependent
    }
}

/// True when `mapped` is an address of this machine with the socket's own port.
fn is_ours(socket: &UdpSocket, mapped: SocketAddr) -> bool {
    let same_port = socket.local_addr().is_ok_and(|local| local.port() == mapped.port());
    same_port && net::interface_addresses().contains(&mapped.ip())
}

fn words(mapping: Mapping, filtering: Option<Filtering>, mapped: SocketAddr) -> String {
    let mapping = match mapping {
        Mapping::None => "no NAT: the server sees this machine's own address".to_owned(),
        Mapping::EndpointIndependent => {
            format!("NAT with one outer address for all destinations ({}): direct calls work", mapped.ip())
        }
        Mapping::SameForPorts => format!(
            "NAT with one outer address for two ports of the server ({}): direct calls likely work",
            mapped.ip()
        ),
        Mapping::AddressDependent => {
            format!("NAT with another outer port for each address ({}): calls often need the relay", mapped.ip())
        }
        Mapping::AddressAndPortDependent => {
            format!("symmetric NAT, another outer port for each destination ({}): calls need the relay", mapped.ip())
        }
        Mapping::Unknown => format!("NAT ({}); the server offers no second address to tell its kind", mapped.ip()),
    };
    let filtering = match filtering {
        Some(Filtering::EndpointIndependent) => "; packets of anybody come in",
        Some(Filtering::AddressDependent) => "; packets come in from addresses that were sent to",
        Some(Filtering::AddressAndPortDependent) => "; packets come in from addresses and ports that were sent to",
        None => "",
    };
    mapping + filtering
}

/// A Binding over an open socket; its answer may come from anywhere.
async fn ask(socket: &UdpSocket, server: SocketAddr, change: u32) -> Option<Message> {
    let mut parts: Vec<Box<dyn Setter>> = vec![Box::new(TransactionId::new()), Box::new(BINDING_REQUEST)];
    if change != 0 {
        parts.push(Box::new(ChangeRequest(change)));
    }
    parts.push(Box::new(FINGERPRINT));
    let request = probe::build(&parts).ok()?;
    for _ in 0..TRIES {
        socket.send_to(&request.raw, server).await.ok()?;
        if let Ok(Some(answer)) = tokio::time::timeout(WAIT, receive(socket, &request)).await {
            return Some(answer);
        }
    }
    None
}

async fn receive(socket: &UdpSocket, request: &Message) -> Option<Message> {
    let mut buffer = [0; 2048];
    loop {
        let (length, _) = socket.recv_from(&mut buffer).await.ok()?;
        let mut answer = Message::new();
        answer.raw = buffer[..length].to_vec();
        if answer.decode().is_ok() && answer.transaction_id == request.transaction_id {
            return (answer.typ.class == CLASS_SUCCESS_RESPONSE).then_some(answer);
        }
    }
}

/// CHANGE-REQUEST with these flags.
struct ChangeRequest(u32);

impl Setter for ChangeRequest {
    fn add_to(&self, message: &mut Message) -> Result<(), stun::Error> {
        message.add(ATTR_CHANGE_REQUEST, &self.0.to_be_bytes());
        Ok(())
    }
}

/// OTHER-ADDRESS, which is not masked.
fn plain_address(message: &Message) -> Option<SocketAddr> {
    let mut address = stun::addr::MappedAddress::default();
    address.get_from_as(message, ATTR_OTHER_ADDRESS).ok()?;
    Some(SocketAddr::new(address.ip, address.port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_relay_tells_a_symmetric_nat() {
        let address = |text: &str| text.parse::<SocketAddr>().expect("literal");
        let first = address("198.51.100.1:1000");
        let seen = |second| Seen { first, second };
        assert_eq!(by_relay(seen(first)), Mapping::SameForPorts);
        assert_eq!(by_relay(seen(address("198.51.100.1:1001"))), Mapping::AddressAndPortDependent);
        let text = words(Mapping::AddressAndPortDependent, Some(Filtering::AddressDependent), first);
        assert!(text.contains("symmetric") && text.contains("addresses that were sent to"), "{text}");
    }
}
