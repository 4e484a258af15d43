//! An allocation request by request, with messages of the independent `stun` crate: where the answers' codes and
//! addresses matter, which the `turn` client keeps to itself.

use std::net::SocketAddr;
use std::time::Duration;

use stun::agent::TransactionId;
use stun::attributes::{
    ATTR_NONCE, ATTR_REALM, ATTR_USERNAME, ATTR_XOR_PEER_ADDRESS, ATTR_XOR_RELAYED_ADDRESS, AttrType,
};
use stun::fingerprint::FINGERPRINT;
use stun::integrity::MessageIntegrity;
use stun::message::{
    CLASS_INDICATION, CLASS_REQUEST, CLASS_SUCCESS_RESPONSE, Getter, METHOD_ALLOCATE, METHOD_CHANNEL_BIND,
    METHOD_CREATE_PERMISSION, METHOD_DATA, METHOD_REFRESH, METHOD_SEND, Message, MessageType, Method, Setter,
};
use stun::textattrs::TextAttribute;
use stun::xoraddr::XorMappedAddress;
use turn::proto::PROTO_UDP;
use turn::proto::chandata::ChannelData;
use turn::proto::channum::ChannelNumber;
use turn::proto::data::Data;
use turn::proto::lifetime::Lifetime;
use turn::proto::reqfamily::{REQUESTED_FAMILY_IPV6, RequestedAddressFamily};
use turn::proto::reqtrans::RequestedTransport;

use super::cause::Fault;
use super::open::{Connection, Opener};
use super::probe;
use super::relay::{self, Login};
use super::target::Transport;

/// Stale nonce (RFC 8489 section 14.8).
const STALE_NONCE: u16 = 438;
/// Largest packet that is received.
const BUFFER: usize = 2048;

/// The answer to a request: its error code and text where it is one.
pub type Answer = Result<Message, (u16, String)>;

/// A live allocation. [`Session::close`] ends it; else the server does when it expires.
pub struct Session {
    connection: Connection,
    transport: Transport,
    server: SocketAddr,
    patience: Duration,
    login: Login,
    realm: String,
    nonce: String,
    /// The relayed address, as the server gives it out.
    pub relayed: SocketAddr,
    /// Peers with a channel; the first has the lowest number.
    channels: Vec<SocketAddr>,
}

/// An attribute of any type.
struct Raw(AttrType, Vec<u8>);

impl Setter for Raw {
    fn add_to(&self, message: &mut Message) -> Result<(), stun::Error> {
        message.add(self.0, &self.1);
        Ok(())
    }
}

/// XOR-PEER-ADDRESS.
struct Peer(SocketAddr);

impl Setter for Peer {
    fn add_to(&self, message: &mut Message) -> Result<(), stun::Error> {
        let address = XorMappedAddress { ip: self.0.ip(), port: self.0.port() };
        address.add_to_as(message, ATTR_XOR_PEER_ADDRESS)
    }
}

impl Session {
    /// Makes an allocation; `wants_ipv6` asks for an IPv6 relayed address, else the server chooses.
    pub async fn allocate(
        opener: &Opener,
        transport: Transport,
        server: SocketAddr,
        login: &Login,
        wants_ipv6: bool,
    ) -> Result<Self, Fault> {
        let connection = opener.open(transport, server).await?;
        let patience = opener.timeout;
        let (realm, nonce) = probe::challenge(&connection, transport, server, patience).await?;
        let relayed = SocketAddr::new(std::net::Ipv4Addr::UNSPECIFIED.into(), 0);
        let (login, channels) = (login.clone(), Vec::new());
        let mut session = Self { connection, transport, server, patience, login, realm, nonce, relayed, channels };
        let answer = session
            .ask(METHOD_ALLOCATE, &|| {
                let mut parts: Vec<Box<dyn Setter>> = vec![Box::new(RequestedTransport { protocol: PROTO_UDP })];
                if wants_ipv6 {
                    parts.push(Box::new(RequestedAddressFamily(REQUESTED_FAMILY_IPV6.0)));
                }
                parts
            })
            .await?
            .map_err(|(code, text)| relay::refusal(&format!("error {code}: {text}"), &session.login))?;
        session.relayed =
            address(&answer, ATTR_XOR_RELAYED_ADDRESS).ok_or_else(|| Fault::other("no relayed address"))?;
        Ok(session)
    }

    /// CreatePermission for the address of `peer`.
    pub async fn permit(&mut self, peer: SocketAddr) -> Result<Answer, Fault> {
        self.ask(METHOD_CREATE_PERMISSION, &|| vec![Box::new(Peer(peer))]).await
    }

    /// ChannelBind of the next channel to `peer`, which permits its address as well.
    pub async fn bind(&mut self, peer: SocketAddr) -> Result<Answer, Fault> {
        let number = 0x4000 + self.channels.len() as u16;
        self.channels.push(peer);
        self.ask(METHOD_CHANNEL_BIND, &|| vec![Box::new(ChannelNumber(number)), Box::new(Peer(peer))]).await
    }

    /// Sends a packet to `peer` through the relay.
    pub async fn send(&self, peer: SocketAddr, payload: &[u8]) -> Result<(), Fault> {
        let message = probe::build(&[
            Box::new(TransactionId::new()),
            Box::new(MessageType::new(METHOD_SEND, CLASS_INDICATION)),
            Box::new(Peer(peer)),
            Box::new(Data(payload.to_vec())),
            Box::new(FINGERPRINT),
        ])?;
        self.connection.send(&message.raw).await.map(drop).map_err(Fault::other)
    }

    /// The next packet of a peer: who sent it, and what.
    pub async fn receive(&self) -> Result<(SocketAddr, Vec<u8>), Fault> {
        let mut buffer = [0; BUFFER];
        loop {
            let length = self.connection.recv(&mut buffer).await.map_err(Fault::other)?;
            if let Some(packet) = self.packet(&buffer[..length]) {
                return Ok(packet);
            }
        }
    }

    fn packet(&self, bytes: &[u8]) -> Option<(SocketAddr, Vec<u8>)> {
        if ChannelData::is_channel_data(bytes) {
            let mut data = ChannelData { raw: bytes.to_vec(), ..ChannelData::default() };
            data.decode().ok()?;
            let peer = self.channels.get(usize::from(data.number.0.checked_sub(0x4000)?))?;
            return Some((*peer, data.data));
        }
        let mut message = Message::new();
        message.raw = bytes.to_vec();
        message.decode().ok()?;
        if message.typ != MessageType::new(METHOD_DATA, CLASS_INDICATION) {
            return None;
        }
        let mut data = Data::default();
        data.get_from(&message).ok()?;
        Some((address(&message, ATTR_XOR_PEER_ADDRESS)?, data.0))
    }

    /// Ends the allocation.
    pub async fn close(mut self) {
        let _ = self.ask(METHOD_REFRESH, &|| vec![Box::new(Lifetime(Duration::ZERO))]).await;
        let _ = self.connection.close().await;
    }

    /// Sends an authenticated request and gives its answer; once more with a new nonce where the server wants that.
    async fn ask(
        &mut self,
        method: Method,
        parts: &(dyn Fn() -> Vec<Box<dyn Setter>> + Sync),
    ) -> Result<Answer, Fault> {
        let mut is_again = false;
        loop {
            let (name, realm) = (self.login.username.clone(), self.realm.clone());
            let mut all: Vec<Box<dyn Setter>> =
                vec![Box::new(TransactionId::new()), Box::new(MessageType::new(method, CLASS_REQUEST))];
            all.extend(parts());
            all.push(Box::new(TextAttribute::new(ATTR_USERNAME, name.clone())));
            all.push(Box::new(TextAttribute::new(ATTR_REALM, realm.clone())));
            all.push(Box::new(Raw(ATTR_NONCE, self.nonce.clone().into_bytes())));
            all.push(Box::new(MessageIntegrity::new_long_term_integrity(name, realm, self.login.password.clone())));
            all.push(Box::new(FINGERPRINT));
            let request = probe::build(&all)?;
            let (answer, _) =
                probe::transact(&self.connection, &request, self.transport, self.server, self.patience).await?;
            if answer.typ.class == CLASS_SUCCESS_RESPONSE {
                return Ok(Ok(answer));
            }
            let (code, text) = probe::error_code(&answer);
            let nonce = TextAttribute::get_from_as(&answer, ATTR_NONCE);
            match nonce {
                Ok(nonce) if code == STALE_NONCE && !is_again => self.nonce = nonce.text,
                _ => return Ok(Err((code, text))),
            }
            is_again = true;
        }
    }
}

/// An address attribute of `message`.
pub fn address(message: &Message, attribute: AttrType) -> Option<SocketAddr> {
    let mut address = XorMappedAddress::default();
    address.get_from_as(message, attribute).ok()?;
    Some(SocketAddr::new(address.ip.to_canonical(), address.port))
}
