//! Single STUN transactions: a Binding, and an Allocate without credentials that must be challenged.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use stun::agent::TransactionId;
use stun::attributes::{ATTR_NONCE, ATTR_REALM};
use stun::error_code::ErrorCodeAttribute;
use stun::fingerprint::FINGERPRINT;
use stun::message::{
    BINDING_REQUEST, CLASS_ERROR_RESPONSE, CLASS_REQUEST, CLASS_SUCCESS_RESPONSE, Getter, METHOD_ALLOCATE, Message,
    MessageType, Setter,
};
use stun::textattrs::TextAttribute;
use stun::xoraddr::XorMappedAddress;
use turn::proto::PROTO_UDP;
use turn::proto::reqtrans::RequestedTransport;

use super::cause::{Cause, Fault};
use super::open::{Connection, refused, silent};
use super::target::Transport;
use crate::clock;

/// First wait for an answer before sending again; it doubles (RFC 8489 section 6.2.1).
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// Room for any STUN answer.
const BUFFER: usize = 2048;

/// The answer to a Binding request.
pub struct Binding {
    /// Our address as the server sees it.
    pub mapped: SocketAddr,
    pub round_trip: Duration,
}

/// Asks `server` for our address; an error is the cause in words.
pub async fn binding(
    connection: &Connection,
    transport: Transport,
    server: SocketAddr,
    patience: Duration,
) -> Result<Binding, Fault> {
    let request = build(&[Box::new(TransactionId::new()), Box::new(BINDING_REQUEST), Box::new(FINGERPRINT)])?;
    let (answer, round_trip) = transact(connection, &request, transport, server, patience).await?;
    if answer.typ.class != CLASS_SUCCESS_RESPONSE {
        return Err(Fault::new(Cause::NotStun, format!("the server refuses STUN: {}", error_code(&answer).1)));
    }
    let mut mapped = XorMappedAddress::default();
    mapped.get_from(&answer).map_err(|_| Fault::new(Cause::NotStun, "the answer has no XOR-MAPPED-ADDRESS"))?;
    Ok(Binding { mapped: SocketAddr::new(mapped.ip.to_canonical(), mapped.port), round_trip })
}

/// Sends an Allocate without credentials; gives the realm and the nonce of the challenge.
pub async fn challenge(
    connection: &Connection,
    transport: Transport,
    server: SocketAddr,
    patience: Duration,
) -> Result<(String, String), Fault> {
    let allocate = MessageType::new(METHOD_ALLOCATE, CLASS_REQUEST);
    let request = build(&[
        Box::new(TransactionId::new()),
        Box::new(allocate),
        Box::new(RequestedTransport { protocol: PROTO_UDP }),
        Box::new(FINGERPRINT),
    ])?;
    let (answer, _) = transact(connection, &request, transport, server, patience).await?;
    if answer.typ.class == CLASS_SUCCESS_RESPONSE {
        let text = "the server relays without asking for credentials: anybody can use it";
        return Err(Fault::new(Cause::OpenRelay, text));
    }
    let (code, text) = error_code(&answer);
    if answer.typ.class != CLASS_ERROR_RESPONSE || code != 401 {
        return Err(Fault::new(Cause::NoRelay, format!("the server answers STUN but does not relay: {text}")));
    }
    let realm = TextAttribute::get_from_as(&answer, ATTR_REALM);
    let nonce = TextAttribute::get_from_as(&answer, ATTR_NONCE);
    match (realm, nonce) {
        (Ok(realm), Ok(nonce)) => Ok((realm.text, nonce.text)),
        _ => Err(Fault::new(Cause::NoRelay, "the 401 lacks REALM or NONCE: no client can authenticate here")),
    }
}

/// A message of these parts.
pub fn build(parts: &[Box<dyn Setter>]) -> Result<Message, Fault> {
    let mut message = Message::new();
    message.build(parts).map_err(Fault::other)?;
    Ok(message)
}

/// The code (0: none) of an error answer and its text.
pub fn error_code(answer: &Message) -> (u16, String) {
    let mut code = ErrorCodeAttribute::default();
    match code.get_from(answer) {
        Ok(()) => (code.code.0, format!("{} {}", code.code.0, String::from_utf8_lossy(&code.reason))),
        Err(_) => (0, "an error without a code".into()),
    }
}

/// Sends `request` and waits for its answer, sending again over UDP.
pub async fn transact(
    connection: &Connection,
    request: &Message,
    transport: Transport,
    server: SocketAddr,
    patience: Duration,
) -> Result<(Message, Duration), Fault> {
    let exchange = async {
        let mut wait = FIRST_WAIT;
        loop {
            let sent = clock::stopwatch();
            connection.send(&request.raw).await.map_err(|error| cause(server, &error))?;
            let answer = receive(connection, request, server);
            if transport != Transport::Udp {
                return Ok((answer.await?, sent.elapsed()));
            }
            if let Ok(answer) = tokio::time::timeout(wait, answer).await {
                return Ok((answer?, sent.elapsed()));
            }
            wait *= 2;
        }
    };
    let done = tokio::time::timeout(patience, exchange).await;
    done.unwrap_or_else(|_| Err(silent(transport.name(), server)))
}

async fn receive(connection: &Connection, request: &Message, server: SocketAddr) -> Result<Message, Fault> {
    let mut buffer = [0; BUFFER];
    loop {
        let length = connection.recv(&mut buffer).await.map_err(|error| cause(server, &error))?;
        let mut answer = Message::new();
        answer.raw = buffer[..length].to_vec();
        if answer.decode().is_ok() && answer.transaction_id == request.transaction_id {
            return Ok(answer);
        }
    }
}

fn cause(server: SocketAddr, error: &webrtc_util::Error) -> Fault {
    match error {
        webrtc_util::Error::Io(inner) if inner.0.kind() == io::ErrorKind::UnexpectedEof => {
            Fault::new(Cause::NotStun, "the server closed the connection: it speaks no STUN on this port")
        }
        webrtc_util::Error::Io(inner) if inner.0.kind() == io::ErrorKind::InvalidData => {
            Fault::new(Cause::NotStun, inner.0.to_string())
        }
        webrtc_util::Error::Io(inner) => refused(server, &inner.0),
        _ => Fault::other(error),
    }
}
