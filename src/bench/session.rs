//! The signed requests of one client: Allocate, ChannelBind, CreatePermission, Refresh (RFC 8656), on the builder of the
//! relay's own STUN.

use std::io;
use std::net::SocketAddr;

use super::link::{Link, answers};
use super::packet::{CHANNEL, Framing};
use crate::credentials::turn::{self, LongTermKey};
use crate::relay::ReplyBytes;
use crate::relay::stun::{Builder, Class, Integrity, Message, TransactionId, attr, method, read_xor_address};

/// Who asks.
#[derive(Clone)]
pub enum Login {
    User {
        name: String,
        password: String,
    },
    /// A name for each client, made with the shared secret, so that no quota of one subject counts.
    Secret(Vec<u8>),
}

/// The authentication of one client.
pub struct Session {
    username: String,
    password: String,
    realm: Vec<u8>,
    nonce: Vec<u8>,
    key: Option<LongTermKey>,
    counter: u64,
    number: u32,
}

/// What the server says about a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Done,
    /// 401 or 438: realm and nonce are taken, ask again.
    Again,
    Refused(u16),
}

impl Session {
    /// The session of client `number`. `expires`: unix time until which a name made here is good.
    pub fn new(login: &Login, number: u32, expires: u64) -> Self {
        let (username, password) = match login {
            Login::User { name, password } => (name.clone(), password.clone()),
            Login::Secret(secret) => {
                let credential = turn::mint(secret, &format!("c.bench-{number}"), expires);
                (credential.username, credential.password)
            }
        };
        Self { username, password, realm: Vec::new(), nonce: Vec::new(), key: None, counter: 0, number }
    }

    /// Forgets the nonce: the next request is the first of its kind again.
    pub fn forget(&mut self) {
        self.nonce.clear();
    }

    /// A request, signed once the server has given a nonce, with its transaction id.
    pub fn request(&mut self, method: u16, fill: impl Fn(&mut Builder)) -> io::Result<(ReplyBytes, TransactionId)> {
        let transaction = self.transaction();
        let mut request = Builder::new(Class::Request, method, transaction);
        fill(&mut request);
        if let Some(key) = self.key.as_ref().filter(|_| !self.nonce.is_empty()) {
            request.attribute(attr::USERNAME, self.username.as_bytes());
            request.attribute(attr::REALM, &self.realm);
            request.attribute(attr::NONCE, &self.nonce);
            request.integrity(Integrity::Sha1, key);
        }
        let bytes = request.finish().ok_or_else(|| io::Error::other("username, realm and nonce are too long"))?;
        Ok((bytes, transaction))
    }

    /// Takes what an answer says about the session.
    pub fn judge(&mut self, answer: &[u8]) -> Verdict {
        let Ok(answer) = Message::parse(answer) else { return Verdict::Refused(0) };
        if answer.class == Class::Success {
            return Verdict::Done;
        }
        let code = match answer.get(attr::ERROR_CODE) {
            Some(&[_, _, class, number, ..]) => u16::from(class) * 100 + u16::from(number),
            _ => 0,
        };
        let is_first = self.nonce.is_empty();
        match (code, answer.get(attr::REALM), answer.get(attr::NONCE)) {
            (401, Some(realm), Some(nonce)) if is_first => {
                if self.key.is_none() || self.realm != realm {
                    self.realm = realm.to_vec();
                    let realm = String::from_utf8_lossy(realm);
                    self.key = Some(turn::long_term_key(&self.username, &realm, &self.password));
                }
                self.nonce = nonce.to_vec();
                Verdict::Again
            }
            (438, _, Some(nonce)) => {
                self.nonce = nonce.to_vec();
                Verdict::Again
            }
            _ => Verdict::Refused(code),
        }
    }

    /// Asks until the server has decided, and gives its success.
    pub fn ask(&mut self, link: &mut Link, method: u16, fill: impl Fn(&mut Builder)) -> io::Result<Vec<u8>> {
        loop {
            let (request, transaction) = self.request(method, &fill)?;
            let answer = link.ask(&request, |bytes| answers(bytes, &transaction))?;
            match self.judge(&answer) {
                Verdict::Done => return Ok(answer),
                Verdict::Again => {}
                Verdict::Refused(code) => return Err(refusal(method, code)),
            }
        }
    }

    /// Makes an allocation and gives the relayed address.
    pub fn allocate(&mut self, link: &mut Link) -> io::Result<SocketAddr> {
        let answer = self.ask(link, method::ALLOCATE, allocate)?;
        relayed(&answer).ok_or_else(|| io::Error::other("the server's Allocate success has no relayed address"))
    }

    /// Binds the channel to `peer`, or permits its address.
    pub fn reach(&mut self, link: &mut Link, framing: Framing, peer: SocketAddr) -> io::Result<()> {
        let (method, fill) = reach(framing, peer);
        self.ask(link, method, fill).map(drop)
    }

    fn transaction(&mut self) -> TransactionId {
        self.counter += 1;
        let mut id = [0; 12];
        id[..4].copy_from_slice(&self.number.to_be_bytes());
        id[4..].copy_from_slice(&self.counter.to_be_bytes());
        id
    }
}

/// What an Allocate asks for: a UDP relayed address.
pub fn allocate(request: &mut Builder) {
    request.attribute(attr::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
}

/// What a Refresh that ends the allocation asks for.
pub fn release(request: &mut Builder) {
    request.attribute(attr::LIFETIME, &[0; 4]);
}

/// The request that makes `peer` reachable, and what it says.
pub fn reach(framing: Framing, peer: SocketAddr) -> (u16, impl Fn(&mut Builder)) {
    let is_channel = framing == Framing::Channel;
    let fill = move |request: &mut Builder| {
        if is_channel {
            let [high, low] = CHANNEL.to_be_bytes();
            request.attribute(attr::CHANNEL_NUMBER, &[high, low, 0, 0]);
        }
        request.xor_address(attr::XOR_PEER_ADDRESS, peer);
    };
    (if is_channel { method::CHANNEL_BIND } else { method::CREATE_PERMISSION }, fill)
}

/// The relayed address that an Allocate success tells.
pub fn relayed(answer: &[u8]) -> Option<SocketAddr> {
    let answer = Message::parse(answer).ok()?;
    read_xor_address(answer.get(attr::XOR_RELAYED_ADDRESS)?, &answer.transaction)
}

fn refusal(method: u16, code: u16) -> io::Error {
    let what = match method {
        method::ALLOCATE => "Allocate",
        method::CHANNEL_BIND => "ChannelBind",
        method::CREATE_PERMISSION => "CreatePermission",
        _ => "Refresh",
    };
    let hint = match code {
        401 => " (the credentials are wrong)",
        403 => {
            " (the server relays to no such peer; a relais takes --allow-peer 127.0.0.0/8 for peers on this machine)"
        }
        486 => " (the quota of one user: give the shared secret instead, for a name for each allocation)",
        508 => " (the server has no ports, descriptors or quota left)",
        _ => "",
    };
    io::Error::other(format!("the server refused {what} with {code}{hint}"))
}
