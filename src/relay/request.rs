//! Bytes to typed requests: a procedure never sees a missing or malformed attribute.

use std::net::SocketAddr;

use super::policy::canonical;
use super::response::{ErrorCode, Refusal, UnknownKinds};
use super::stun::{Message, attr, read_xor_address};
use super::types::{ChannelNumber, Family};

/// An address family as a request names it: one of the two, or a number nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestedFamily {
    Known(Family),
    Unknown,
}

/// RFC 8656 section 7.2.
#[derive(Clone, Copy, Debug)]
pub(super) struct AllocateRequest {
    /// IP protocol number: 17 is UDP, 6 TCP.
    pub(super) transport: u8,
    pub(super) lifetime: Option<u32>,
    pub(super) family: Option<RequestedFamily>,
    pub(super) additional_family: Option<RequestedFamily>,
    /// EVEN-PORT, with its R bit: reserve the next port too.
    pub(super) even_port: Option<bool>,
    pub(super) reservation: Option<[u8; 8]>,
    pub(super) dont_fragment: bool,
}

/// RFC 8656 section 8.2.
#[derive(Clone, Copy, Debug)]
pub(super) struct RefreshRequest {
    pub(super) lifetime: Option<u32>,
    pub(super) family: Option<RequestedFamily>,
}

/// RFC 8656 section 12.2.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChannelBindRequest {
    pub(super) number: ChannelNumber,
    pub(super) peer: SocketAddr,
}

/// Refuses attributes that must be understood and are not (RFC 8489 section 6.3.1). `beside` are understood as well.
pub(super) fn refuse_unknown(message: &Message<'_>, beside: &[u16]) -> Result<(), Refusal> {
    let mut unknown = UnknownKinds::default();
    let is_unknown = |kind| !is_understood(kind) && !beside.contains(&kind);
    for attribute in message.attributes().filter(|attribute| is_unknown(attribute.kind)) {
        unknown.add(attribute.kind);
    }
    if unknown.is_empty() { Ok(()) } else { Err(Refusal::Unknown(unknown)) }
}

/// Known attributes, and every comprehension-optional one.
pub(super) fn is_understood(kind: u16) -> bool {
    kind >= 0x8000
        || matches!(
            kind,
            attr::MAPPED_ADDRESS
                | attr::USERNAME
                | attr::MESSAGE_INTEGRITY
                | attr::ERROR_CODE
                | attr::UNKNOWN_ATTRIBUTES
                | attr::CHANNEL_NUMBER
                | attr::LIFETIME
                | attr::XOR_PEER_ADDRESS
                | attr::DATA
                | attr::REALM
                | attr::NONCE
                | attr::XOR_RELAYED_ADDRESS
                | attr::REQUESTED_ADDRESS_FAMILY
                | attr::EVEN_PORT
                | attr::REQUESTED_TRANSPORT
                | attr::DONT_FRAGMENT
                | attr::MESSAGE_INTEGRITY_SHA256
                | attr::PASSWORD_ALGORITHM
                | attr::USERHASH
                | attr::XOR_MAPPED_ADDRESS
                | attr::RESERVATION_TOKEN
                | attr::CONNECTION_ID
        )
}

impl AllocateRequest {
    pub(super) fn parse(message: &Message<'_>) -> Result<Self, ErrorCode> {
        let [transport, ..] = fixed::<4>(message, attr::REQUESTED_TRANSPORT)?.ok_or(ErrorCode::BadRequest)?;
        Ok(Self {
            transport,
            lifetime: lifetime(message)?,
            family: family(message, attr::REQUESTED_ADDRESS_FAMILY)?,
            additional_family: family(message, attr::ADDITIONAL_ADDRESS_FAMILY)?,
            even_port: fixed::<1>(message, attr::EVEN_PORT)?.map(|[flags]| flags & 0x80 != 0),
            reservation: fixed(message, attr::RESERVATION_TOKEN)?,
            dont_fragment: message.get(attr::DONT_FRAGMENT).is_some(),
        })
    }
}

impl RefreshRequest {
    pub(super) fn parse(message: &Message<'_>) -> Result<Self, ErrorCode> {
        Ok(Self { lifetime: lifetime(message)?, family: family(message, attr::REQUESTED_ADDRESS_FAMILY)? })
    }
}

impl ChannelBindRequest {
    pub(super) fn parse(message: &Message<'_>) -> Result<Self, ErrorCode> {
        let [high, low, _, _] = fixed(message, attr::CHANNEL_NUMBER)?.ok_or(ErrorCode::BadRequest)?;
        let peer = peers(message).next().ok_or(ErrorCode::BadRequest)??;
        Ok(Self { number: ChannelNumber(u16::from_be_bytes([high, low])), peer })
    }
}

/// The peers a request names, canonical and in order; a malformed one is an error.
pub(super) fn peers(message: &Message<'_>) -> impl Iterator<Item = Result<SocketAddr, ErrorCode>> {
    let transaction = message.transaction;
    message.attributes().filter(|attribute| attribute.kind == attr::XOR_PEER_ADDRESS).map(move |attribute| {
        read_xor_address(attribute.value, &transaction).map(canonical).ok_or(ErrorCode::BadRequest)
    })
}

fn lifetime(message: &Message<'_>) -> Result<Option<u32>, ErrorCode> {
    Ok(fixed(message, attr::LIFETIME)?.map(u32::from_be_bytes))
}

fn family(message: &Message<'_>, kind: u16) -> Result<Option<RequestedFamily>, ErrorCode> {
    Ok(fixed::<4>(message, kind)?.map(|[family, ..]| match family {
        0x01 => RequestedFamily::Known(Family::V4),
        0x02 => RequestedFamily::Known(Family::V6),
        _ => RequestedFamily::Unknown,
    }))
}

/// The value of an attribute whose length the RFC fixes; another length is a bad request.
pub(super) fn fixed<const N: usize>(message: &Message<'_>, kind: u16) -> Result<Option<[u8; N]>, ErrorCode> {
    message.get(kind).map(|value| value.try_into().map_err(|_| ErrorCode::BadRequest)).transpose()
}
