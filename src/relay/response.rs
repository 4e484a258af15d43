//! The replies: error codes and how a reply is closed.

use super::budget::PACKET_HEADERS;
use super::event::ReplyBytes;
use super::framing::padded;
use super::nonce::NONCE;
use super::stun::{ATTRIBUTE_HEADER, Builder, Class, HEADER, Integrity, Message, TransactionId, attr};
use crate::credentials::turn::LongTermKey;

/// The error codes we send (RFC 8489 section 14.8, RFC 8656 section 19, RFC 6062 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorCode {
    BadRequest = 400,
    Unauthenticated = 401,
    Forbidden = 403,
    UnknownAttribute = 420,
    AllocationMismatch = 437,
    StaleNonce = 438,
    AddressFamilyNotSupported = 440,
    WrongCredentials = 441,
    UnsupportedTransportProtocol = 442,
    PeerAddressFamilyMismatch = 443,
    ConnectionAlreadyExists = 446,
    ConnectionFailure = 447,
    AllocationQuotaReached = 486,
    InsufficientCapacity = 508,
}

impl ErrorCode {
    pub(super) fn number(self) -> u16 {
        self as u16
    }

    /// The RFC's phrase, for authenticated clients only: before that every byte is amplification.
    fn reason(self) -> &'static str {
        match self {
            Self::BadRequest => "Bad Request",
            Self::Unauthenticated => "Unauthenticated",
            Self::Forbidden => "Forbidden",
            Self::UnknownAttribute => "Unknown Attribute",
            Self::AllocationMismatch => "Allocation Mismatch",
            Self::StaleNonce => "Stale Nonce",
            Self::AddressFamilyNotSupported => "Address Family not Supported",
            Self::WrongCredentials => "Wrong Credentials",
            Self::UnsupportedTransportProtocol => "Unsupported Transport Protocol",
            Self::PeerAddressFamilyMismatch => "Peer Address Family Mismatch",
            Self::ConnectionAlreadyExists => "Connection Already Exists",
            Self::ConnectionFailure => "Connection Timeout or Failure",
            Self::AllocationQuotaReached => "Allocation Quota Reached",
            Self::InsufficientCapacity => "Insufficient Capacity",
        }
    }

    /// Class and number as the attribute wants them, followed by `reason`.
    fn write(self, builder: &mut Builder, reason: &str) {
        let mut value = [0; 64];
        let text = reason.as_bytes();
        let end = (4 + text.len()).min(value.len());
        value[2] = (self.number() / 100) as u8;
        value[3] = (self.number() % 100) as u8;
        value[4..end].copy_from_slice(&text[..end - 4]);
        builder.attribute(attr::ERROR_CODE, &value[..end]);
    }
}

/// Unknown comprehension-required attributes, without repetition; more than these are not listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct UnknownKinds {
    kinds: [u16; Self::LISTED],
    len: usize,
}

impl UnknownKinds {
    const LISTED: usize = 32;

    pub(super) fn add(&mut self, kind: u16) {
        if self.kinds[..self.len].contains(&kind) {
            return;
        }
        if let Some(free) = self.kinds.get_mut(self.len) {
            *free = kind;
            self.len += 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn write(&self, builder: &mut Builder) {
        let mut value = [0; 2 * Self::LISTED];
        for (bytes, kind) in value.chunks_exact_mut(2).zip(&self.kinds[..self.len]) {
            bytes.copy_from_slice(&kind.to_be_bytes());
        }
        builder.attribute(attr::UNKNOWN_ATTRIBUTES, &value[..2 * self.len]);
    }
}

/// A request answered with an error: `?` in a procedure means "answer with this".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Code(ErrorCode),
    Unknown(UnknownKinds),
}

impl Refusal {
    pub(super) fn code(&self) -> ErrorCode {
        match self {
            Self::Code(code) => *code,
            Self::Unknown(_) => ErrorCode::UnknownAttribute,
        }
    }
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self::Code(code)
    }
}

/// What of a request its reply repeats.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) method: u16,
    pub(super) transaction: TransactionId,
    pub(super) has_fingerprint: bool,
}

impl Asked {
    pub(super) fn of(message: &Message<'_>) -> Self {
        Self { method: message.method, transaction: message.transaction, has_fingerprint: message.has_fingerprint }
    }

    pub(super) fn success(&self) -> Builder {
        Builder::new(Class::Success, self.method, self.transaction)
    }

    fn error(&self) -> Builder {
        Builder::new(Class::Error, self.method, self.transaction)
    }
}

/// How an authenticated exchange is protected.
#[derive(Clone, Copy)]
pub(super) struct Seal<'a> {
    pub(super) integrity: Integrity,
    pub(super) key: &'a LongTermKey,
    pub(super) software: &'a str,
}

/// Closes a reply: SOFTWARE and integrity only for the authenticated, FINGERPRINT where the request had it.
pub(super) fn close(asked: &Asked, mut builder: Builder, seal: Option<Seal<'_>>) -> Option<ReplyBytes> {
    if let Some(seal) = seal {
        if !seal.software.is_empty() {
            builder.attribute(attr::SOFTWARE, seal.software.as_bytes());
        }
        builder.integrity(seal.integrity, seal.key);
    }
    if asked.has_fingerprint {
        builder.fingerprint();
    }
    builder.finish()
}

/// An error reply.
pub(super) fn refusal(asked: &Asked, refusal: &Refusal, seal: Option<Seal<'_>>) -> Option<ReplyBytes> {
    let mut builder = asked.error();
    let code = refusal.code();
    code.write(&mut builder, if seal.is_some() { code.reason() } else { "" });
    if let Refusal::Unknown(kinds) = refusal {
        kinds.write(&mut builder);
    }
    close(asked, builder, seal)
}

/// RFC 8489 section 14.11: SHA-256 (0x0002) before MD5 (0x0001), both without parameters.
pub(super) const ALGORITHMS_OFFERED: [u8; 8] = [0, 2, 0, 0, 0, 1, 0, 0];

/// The largest challenge that is at most twice the smallest request counted, of 40 bytes, in whole packets.
const LARGEST_CHALLENGE: usize = 2 * (40 + PACKET_HEADERS) - PACKET_HEADERS;

/// Whether a challenge of `realm` has room for PASSWORD-ALGORITHMS and the longer nonce that goes with it. Browsers read
/// past both, so nothing but the bound on amplification speaks against them.
pub(super) fn has_room_for_algorithms(realm: &str) -> bool {
    let values = [4, realm.len(), NONCE, ALGORITHMS_OFFERED.len(), 4];
    HEADER + values.iter().map(|value| ATTRIBUTE_HEADER + padded(*value)).sum::<usize>() <= LARGEST_CHALLENGE
}

/// 401 or 438: both browsers give up unless REALM and NONCE are there (RFC 8489 section 9.2.4).
pub(super) fn challenge(asked: &Asked, code: ErrorCode, challenge: &Challenge<'_>) -> Option<ReplyBytes> {
    let mut builder = asked.error();
    code.write(&mut builder, "");
    builder.attribute(attr::REALM, challenge.realm.as_bytes()).attribute(attr::NONCE, challenge.nonce);
    if challenge.offers_algorithms {
        builder.attribute(attr::PASSWORD_ALGORITHMS, &ALGORITHMS_OFFERED);
    }
    close(asked, builder, None)
}

/// What a client needs to authenticate itself.
pub(super) struct Challenge<'a> {
    pub(super) realm: &'a str,
    pub(super) nonce: &'a [u8],
    pub(super) offers_algorithms: bool,
}
