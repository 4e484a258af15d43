//! STUN messages (RFC 8489): a view that borrows the datagram, and a builder that writes into a fixed buffer. Neither
//! touches the heap.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;

use super::event::{REPLY_CAPACITY, ReplyBytes};
use super::framing::padded;

/// The third word of every STUN message (RFC 8489 section 5).
pub const MAGIC_COOKIE: u32 = 0x2112_a442;

/// Bytes before the first attribute.
pub const HEADER: usize = 20;

/// Bytes before an attribute's value.
pub const ATTRIBUTE_HEADER: usize = 4;

/// What FINGERPRINT's CRC-32 is combined with (RFC 8489 section 14.7).
pub(super) const FINGERPRINT_XOR: u32 = 0x5354_554e;

/// Ties a response to its request.
pub type TransactionId = [u8; 12];

/// The two class bits of a message type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Request,
    Indication,
    Success,
    Error,
}

/// Methods (RFC 8489 section 18.2, RFC 8656 section 17, RFC 6062 section 6.1).
pub mod method {
    pub const BINDING: u16 = 0x001;
    pub const ALLOCATE: u16 = 0x003;
    pub const REFRESH: u16 = 0x004;
    pub const SEND: u16 = 0x006;
    pub const DATA: u16 = 0x007;
    pub const CREATE_PERMISSION: u16 = 0x008;
    pub const CHANNEL_BIND: u16 = 0x009;
    pub const CONNECT: u16 = 0x00a;
    pub const CONNECTION_BIND: u16 = 0x00b;
    pub const CONNECTION_ATTEMPT: u16 = 0x00c;
}

/// Attributes (RFC 8489 section 18.3, RFC 8656 section 18, RFC 5780 section 7). Below 0x8000 an agent must know them.
pub mod attr {
    pub const MAPPED_ADDRESS: u16 = 0x0001;
    pub const CHANGE_REQUEST: u16 = 0x0003;
    pub const USERNAME: u16 = 0x0006;
    pub const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub const ERROR_CODE: u16 = 0x0009;
    pub const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
    pub const CHANNEL_NUMBER: u16 = 0x000c;
    pub const LIFETIME: u16 = 0x000d;
    pub const XOR_PEER_ADDRESS: u16 = 0x0012;
    pub const DATA: u16 = 0x0013;
    pub const REALM: u16 = 0x0014;
    pub const NONCE: u16 = 0x0015;
    pub const XOR_RELAYED_ADDRESS: u16 = 0x0016;
    pub const REQUESTED_ADDRESS_FAMILY: u16 = 0x0017;
    pub const EVEN_PORT: u16 = 0x0018;
    pub const REQUESTED_TRANSPORT: u16 = 0x0019;
    pub const DONT_FRAGMENT: u16 = 0x001a;
    pub const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;
    pub const PASSWORD_ALGORITHM: u16 = 0x001d;
    pub const USERHASH: u16 = 0x001e;
    pub const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub const RESERVATION_TOKEN: u16 = 0x0022;
    pub const PADDING: u16 = 0x0026;
    pub const RESPONSE_PORT: u16 = 0x0027;
    /// RFC 6062 section 6.2.1.
    pub const CONNECTION_ID: u16 = 0x002a;
    pub const ADDITIONAL_ADDRESS_FAMILY: u16 = 0x8000;
    pub const ADDRESS_ERROR_CODE: u16 = 0x8001;
    pub const PASSWORD_ALGORITHMS: u16 = 0x8002;
    pub const ICMP: u16 = 0x8004;
    pub const SOFTWARE: u16 = 0x8022;
    pub const FINGERPRINT: u16 = 0x8028;
    pub const RESPONSE_ORIGIN: u16 = 0x802b;
    pub const OTHER_ADDRESS: u16 = 0x802c;
}

/// Which attribute protects a message (RFC 8489 sections 14.5 and 14.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integrity {
    Sha1,
    Sha256,
}

/// Not a STUN message: dropped without an answer (RFC 8489 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a STUN message")]
pub struct Malformed;

/// One attribute, its value without padding.
#[derive(Clone, Copy, Debug)]
pub struct Attribute<'a> {
    pub kind: u16,
    pub value: &'a [u8],
    /// Where `value` starts within the message.
    pub start: usize,
}

/// A well-formed STUN message, borrowed from its datagram.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub class: Class,
    pub method: u16,
    pub transaction: TransactionId,
    /// FINGERPRINT is present (and right, or `parse` had failed).
    pub has_fingerprint: bool,
    bytes: &'a [u8],
    /// End of the attributes that count: those behind an integrity attribute or FINGERPRINT do not.
    visible_end: usize,
    sha1_at: Option<usize>,
    sha256_at: Option<usize>,
}

impl<'a> Message<'a> {
    /// Reads one whole message: header, attribute lengths, FINGERPRINT when present. Integrity is not checked here.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let header = bytes.first_chunk::<HEADER>().ok_or(Malformed)?;
        let kind = u16::from_be_bytes([header[0], header[1]]);
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let has_cookie = header[4..8] == MAGIC_COOKIE.to_be_bytes();
        if kind & 0xc000 != 0 || !has_cookie || !length.is_multiple_of(4) || bytes.len() != HEADER + length {
            return Err(Malformed);
        }
        let mut transaction = [0; 12];
        transaction.copy_from_slice(&header[8..]);
        let (class, method) = split_type(kind);
        let mut message = Self {
            class,
            method,
            transaction,
            has_fingerprint: false,
            bytes,
            visible_end: bytes.len(),
            sha1_at: None,
            sha256_at: None,
        };
        message.walk()?;
        Ok(message)
    }

    /// Checks every attribute's length and notes where the protecting attributes stand.
    fn walk(&mut self) -> Result<(), Malformed> {
        let mut at = HEADER;
        while at < self.bytes.len() {
            let attribute = attribute_at(self.bytes, at).ok_or(Malformed)?;
            let is_protected = self.sha1_at.is_some() || self.sha256_at.is_some();
            let ends_the_visible = match attribute.kind {
                // The two integrity attributes come in this order; anything else behind the first does not count.
                attr::MESSAGE_INTEGRITY if !is_protected => self.sha1_at.replace(at).is_none(),
                attr::MESSAGE_INTEGRITY_SHA256 if self.sha256_at.is_none() => self.sha256_at.replace(at).is_none(),
                attr::FINGERPRINT if self.fingerprint_is_right(at, attribute.value) => {
                    self.has_fingerprint = true;
                    true
                }
                attr::FINGERPRINT => return Err(Malformed),
                _ => false,
            };
            if ends_the_visible {
                self.visible_end = self.visible_end.min(at);
            }
            at = attribute.start + padded(attribute.value.len());
        }
        Ok(())
    }

    fn fingerprint_is_right(&self, at: usize, value: &[u8]) -> bool {
        // FINGERPRINT is the last attribute, so that the header's length covers it as it was signed.
        let is_last = at + ATTRIBUTE_HEADER + 4 == self.bytes.len();
        let signed = self.bytes.get(..at).unwrap_or_default();
        is_last && *value == (crc32fast::hash(signed) ^ FINGERPRINT_XOR).to_be_bytes()
    }

    /// Bytes of the whole message.
    #[expect(clippy::len_without_is_empty, reason = "no message is empty")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The attributes before the first integrity attribute or FINGERPRINT, in order.
    pub fn attributes(&self) -> impl Iterator<Item = Attribute<'a>> + use<'a> {
        let (bytes, end) = (self.bytes, self.visible_end);
        let mut at = HEADER;
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let attribute = attribute_at(bytes, at)?;
            at = attribute.start + padded(attribute.value.len());
            Some(attribute)
        })
    }

    /// The value of the first attribute of this kind; later ones do not count (RFC 8489 section 14).
    pub fn get(&self, kind: u16) -> Option<&'a [u8]> {
        self.attributes().find(|attribute| attribute.kind == kind).map(|attribute| attribute.value)
    }

    /// Which integrity attribute the message carries; the stronger when both.
    pub fn integrity(&self) -> Option<Integrity> {
        match (self.sha256_at, self.sha1_at) {
            (Some(_), _) => Some(Integrity::Sha256),
            (None, Some(_)) => Some(Integrity::Sha1),
            (None, None) => None,
        }
    }

    /// Whether the integrity attribute (see [`Message::integrity`]) was made with `key`. Constant time in the value.
    pub fn is_signed_with(&self, key: &[u8]) -> bool {
        match (self.sha256_at, self.sha1_at) {
            (Some(at), _) => self.is_signed_sha256(key, at),
            (None, Some(at)) => self.is_signed_sha1(key, at),
            (None, None) => false,
        }
    }

    fn is_signed_sha1(&self, key: &[u8], at: usize) -> bool {
        let Some(attribute) = attribute_at(self.bytes, at).filter(|found| found.value.len() == 20) else {
            return false;
        };
        let Some(mac) = signed_bytes::<Hmac<Sha1>>(self.bytes, at, 20, key) else { return false };
        mac.verify_slice(attribute.value).is_ok()
    }

    fn is_signed_sha256(&self, key: &[u8], at: usize) -> bool {
        // RFC 8489 section 14.6: a truncated value counts only where the usage says so, and TURN does not.
        let Some(attribute) = attribute_at(self.bytes, at).filter(|found| found.value.len() == 32) else {
            return false;
        };
        let Some(mac) = signed_bytes::<Hmac<Sha256>>(self.bytes, at, 32, key) else { return false };
        mac.verify_slice(attribute.value).is_ok()
    }
}

/// The MAC over everything before the integrity attribute at `at`, with the header's length reaching to its end.
fn signed_bytes<M: Mac + KeyInit>(bytes: &[u8], at: usize, value_len: usize, key: &[u8]) -> Option<M> {
    let mut mac = <M as KeyInit>::new_from_slice(key).ok()?;
    let length = u16::try_from(at + ATTRIBUTE_HEADER + value_len - HEADER).ok()?;
    mac.update(bytes.get(..2)?);
    mac.update(&length.to_be_bytes());
    mac.update(bytes.get(4..at)?);
    Some(mac)
}

fn attribute_at(bytes: &[u8], at: usize) -> Option<Attribute<'_>> {
    let &[k0, k1, l0, l1] = bytes.get(at..)?.first_chunk()?;
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    let start = at + ATTRIBUTE_HEADER;
    if start + padded(length) > bytes.len() {
        return None;
    }
    Some(Attribute { kind: u16::from_be_bytes([k0, k1]), value: bytes.get(start..start + length)?, start })
}

/// Takes a message type apart: the class bits sit at 0x0100 and 0x0010, between the method's (RFC 8489 section 5).
fn split_type(kind: u16) -> (Class, u16) {
    let class = match kind & 0x0110 {
        0x0000 => Class::Request,
        0x0010 => Class::Indication,
        0x0100 => Class::Success,
        _ => Class::Error,
    };
    (class, kind & 0x000f | (kind & 0x00e0) >> 1 | (kind & 0x3e00) >> 2)
}

fn join_type(class: Class, method: u16) -> u16 {
    let class = match class {
        Class::Request => 0x0000,
        Class::Indication => 0x0010,
        Class::Success => 0x0100,
        Class::Error => 0x0110,
    };
    class | method & 0x000f | (method & 0x0070) << 1 | (method & 0x0f80) << 2
}

/// The twenty header bytes of a message whose attributes take `length` bytes.
pub fn header(class: Class, method: u16, transaction: &TransactionId, length: u16) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[..2].copy_from_slice(&join_type(class, method).to_be_bytes());
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
    bytes[4..8].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
    bytes[8..].copy_from_slice(transaction);
    bytes
}

/// Reads an XOR-ed address attribute (RFC 8489 section 14.2). `None` when its family or length is wrong.
pub fn read_xor_address(value: &[u8], transaction: &TransactionId) -> Option<SocketAddr> {
    let (&[_, family, p0, p1], address) = value.split_first_chunk()?;
    let port = u16::from_be_bytes([p0, p1]) ^ (MAGIC_COOKIE >> 16) as u16;
    let ip = match family {
        0x01 => IpAddr::from(Ipv4Addr::from(u32::from_be_bytes(address.try_into().ok()?) ^ MAGIC_COOKIE)),
        0x02 => IpAddr::from(Ipv6Addr::from(u128::from_be_bytes(address.try_into().ok()?) ^ mask(transaction))),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// The value of an XOR-ed address attribute and its length: 8 bytes for IPv4, 20 for IPv6.
pub fn write_xor_address(address: SocketAddr, transaction: &TransactionId) -> ([u8; 20], usize) {
    let mut value = [0; 20];
    let port = address.port() ^ (MAGIC_COOKIE >> 16) as u16;
    value[2..4].copy_from_slice(&port.to_be_bytes());
    match address.ip() {
        IpAddr::V4(ip) => {
            value[1] = 0x01;
            value[4..8].copy_from_slice(&(u32::from(ip) ^ MAGIC_COOKIE).to_be_bytes());
            (value, 8)
        }
        IpAddr::V6(ip) => {
            value[1] = 0x02;
            value[4..].copy_from_slice(&(u128::from(ip) ^ mask(transaction)).to_be_bytes());
            (value, 20)
        }
    }
}

/// IPv6 addresses are combined with the cookie and the transaction id.
fn mask(transaction: &TransactionId) -> u128 {
    let mut mask = [0; 16];
    mask[..4].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
    mask[4..].copy_from_slice(transaction);
    u128::from_be_bytes(mask)
}

/// Writes one message of up to [`REPLY_CAPACITY`] bytes. What does not fit makes [`Builder::finish`] say so.
pub struct Builder {
    bytes: [u8; REPLY_CAPACITY],
    len: usize,
    overflowed: bool,
    transaction: TransactionId,
}

impl Builder {
    /// A message without attributes.
    pub fn new(class: Class, method: u16, transaction: TransactionId) -> Self {
        let mut bytes = [0; REPLY_CAPACITY];
        bytes[..HEADER].copy_from_slice(&header(class, method, &transaction, 0));
        Self { bytes, len: HEADER, overflowed: false, transaction }
    }

    /// Appends an attribute, its padding zero.
    pub fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let start = self.len + ATTRIBUTE_HEADER;
        let end = start + padded(value.len());
        let (Some(space), Ok(length)) = (self.bytes.get_mut(self.len..end), u16::try_from(value.len())) else {
            self.overflowed = true;
            return self;
        };
        space[..2].copy_from_slice(&kind.to_be_bytes());
        space[2..4].copy_from_slice(&length.to_be_bytes());
        space[ATTRIBUTE_HEADER..ATTRIBUTE_HEADER + value.len()].copy_from_slice(value);
        self.len = end;
        self.set_length(end);
        self
    }

    /// Appends an XOR-ed address.
    pub fn xor_address(&mut self, kind: u16, address: SocketAddr) -> &mut Self {
        let (value, length) = write_xor_address(address, &self.transaction);
        self.attribute(kind, &value[..length])
    }

    /// Appends an address as it is (RFC 8489 section 14.1).
    pub fn plain_address(&mut self, kind: u16, address: SocketAddr) -> &mut Self {
        let mut value = [0; 20];
        value[2..4].copy_from_slice(&address.port().to_be_bytes());
        let length = match address.ip() {
            IpAddr::V4(ip) => {
                value[1] = 0x01;
                value[4..8].copy_from_slice(&ip.octets());
                8
            }
            IpAddr::V6(ip) => {
                value[1] = 0x02;
                value[4..].copy_from_slice(&ip.octets());
                20
            }
        };
        self.attribute(kind, &value[..length])
    }

    /// Appends the integrity attribute over everything so far.
    pub fn integrity(&mut self, integrity: Integrity, key: &[u8]) -> &mut Self {
        match integrity {
            Integrity::Sha1 => match signed_bytes::<Hmac<Sha1>>(self.written(), self.len, 20, key) {
                Some(mac) => self.attribute(attr::MESSAGE_INTEGRITY, &mac.finalize().into_bytes()),
                None => self,
            },
            Integrity::Sha256 => match signed_bytes::<Hmac<Sha256>>(self.written(), self.len, 32, key) {
                Some(mac) => self.attribute(attr::MESSAGE_INTEGRITY_SHA256, &mac.finalize().into_bytes()),
                None => self,
            },
        }
    }

    /// Appends FINGERPRINT; nothing may follow it.
    pub fn fingerprint(&mut self) -> &mut Self {
        let end = self.len + ATTRIBUTE_HEADER + 4;
        self.set_length(end);
        let value = crc32fast::hash(self.written()) ^ FINGERPRINT_XOR;
        self.attribute(attr::FINGERPRINT, &value.to_be_bytes())
    }

    /// The finished message; `None` when an attribute did not fit.
    pub fn finish(&self) -> Option<ReplyBytes> {
        if self.overflowed { None } else { ReplyBytes::new(self.written()) }
    }

    /// Bytes written so far.
    pub fn size(&self) -> usize {
        self.len
    }

    fn written(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn set_length(&mut self, end: usize) {
        let length = u16::try_from(end - HEADER).unwrap_or_default();
        self.bytes[2..4].copy_from_slice(&length.to_be_bytes());
    }
}

#[cfg(test)]
#[path = "stun_tests.rs"]
mod tests;
