//! What the generator sends: payloads that tell where they belong and when they were due, and the headers before them.

use std::net::SocketAddr;

use crate::relay::framing::padded;
use crate::relay::stun::{ATTRIBUTE_HEADER, Class, HEADER, attr, header, method, write_xor_address};

/// Bytes of a [`Stamp`]: the smallest payload.
pub const STAMP: usize = 16;
/// The first byte of every payload: neither STUN nor ChannelData.
const MARK: u8 = 0xa5;
/// The channel that every client binds.
pub const CHANNEL: u16 = 0x4000;

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    ToPeer = 0,
    ToClient = 1,
}

/// What stands at the start of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub way: Way,
    pub flow: u32,
    /// When the packet was due, in nanoseconds since the start of the run.
    pub due: u64,
}

impl Stamp {
    /// Writes the stamp to the start of `payload`, which has room for it.
    pub fn write(self, payload: &mut [u8]) {
        if let Some(place) = payload.first_chunk_mut::<STAMP>() {
            place[..4].copy_from_slice(&[MARK, self.way as u8, 0, 0]);
            place[4..8].copy_from_slice(&self.flow.to_be_bytes());
            place[8..].copy_from_slice(&self.due.to_be_bytes());
        }
    }

    /// Reads the stamp of a payload; `None` when it is none of ours.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let &[mark, way, z0, z1, f0, f1, f2, f3, ref due @ ..] = payload.first_chunk::<STAMP>()?;
        let way = match (mark, way, z0, z1) {
            (MARK, 0, 0, 0) => Way::ToPeer,
            (MARK, 1, 0, 0) => Way::ToClient,
            _ => return None,
        };
        Some(Self { way, flow: u32::from_be_bytes([f0, f1, f2, f3]), due: u64::from_be_bytes(*due) })
    }
}

/// How payloads travel between client and server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Channel,
    /// Send and Data indications.
    Indication,
    /// Nothing before the payload: for the bare forwarder ([`super::forwarder`]).
    Bare,
}

/// What stands before and behind each payload of one sender.
#[derive(Clone, Debug, Default)]
pub struct Envelope {
    pub head: Vec<u8>,
    /// Zero bytes behind the payload.
    pub padding: usize,
}

impl Envelope {
    /// Around payloads of `size` bytes that a client sends to `peer`.
    pub fn new(framing: Framing, size: usize, peer: SocketAddr, is_stream: bool) -> Self {
        let padding = padded(size) - size;
        match framing {
            Framing::Bare => Self::default(),
            Framing::Channel => {
                let head = [CHANNEL.to_be_bytes(), (size as u16).to_be_bytes()].concat();
                Self { head, padding: if is_stream { padding } else { 0 } }
            }
            Framing::Indication => {
                // Nobody answers an indication, so that one id does for all.
                let transaction = [0x55; 12];
                let (address, length) = write_xor_address(peer, &transaction);
                let attributes = 2 * ATTRIBUTE_HEADER + length + padded(size);
                let mut head = header(Class::Indication, method::SEND, &transaction, attributes as u16).to_vec();
                head.extend(attr::XOR_PEER_ADDRESS.to_be_bytes());
                head.extend((length as u16).to_be_bytes());
                head.extend(&address[..length]);
                head.extend(attr::DATA.to_be_bytes());
                head.extend((size as u16).to_be_bytes());
                Self { head, padding }
            }
        }
    }
}

/// What a packet is that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    Payload(&'a [u8]),
    /// The answer to a request.
    Answer(&'a [u8]),
    Other,
}

/// Takes the header off a datagram or frame.
pub fn open(bytes: &[u8]) -> Incoming<'_> {
    match bytes {
        [MARK, ..] => Incoming::Payload(bytes),
        &[0x40..=0x4f, _, high, low, ref rest @ ..] => {
            let length = usize::from(u16::from_be_bytes([high, low]));
            rest.get(..length).map_or(Incoming::Other, Incoming::Payload)
        }
        // A Data indication's type; then only the place of DATA is of interest.
        [0x00, 0x17, ..] => data(bytes).map_or(Incoming::Other, Incoming::Payload),
        [0x01, ..] => Incoming::Answer(bytes),
        _ => Incoming::Other,
    }
}

fn data(message: &[u8]) -> Option<&[u8]> {
    let mut at = HEADER;
    loop {
        let &[k0, k1, l0, l1] = message.get(at..)?.first_chunk()?;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let start = at + ATTRIBUTE_HEADER;
        if u16::from_be_bytes([k0, k1]) == attr::DATA {
            return message.get(start..start + length);
        }
        at = start + padded(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::framing::CHANNEL_HEADER;
    use crate::relay::stun::{Message, read_xor_address};

    fn payload(size: usize) -> (Stamp, Vec<u8>) {
        let stamp = Stamp { way: Way::ToClient, flow: 70_000, due: 1 << 40 };
        let mut bytes = vec![0; size];
        stamp.write(&mut bytes);
        (stamp, bytes)
    }

    #[test]
    fn stamps_come_back() {
        let (stamp, bytes) = payload(STAMP);
        assert_eq!(Stamp::read(&bytes), Some(stamp));
        assert_eq!(Stamp::read(&bytes[1..]), None);
        assert_eq!(Stamp::read(&[0; STAMP]), None);
    }

    #[test]
    fn send_indications_are_what_the_server_reads() {
        let (_, bytes) = payload(21);
        for peer in ["127.0.0.1:9", "[2001:db8::1]:9"] {
            let peer = peer.parse().expect("an address");
            let envelope = Envelope::new(Framing::Indication, bytes.len(), peer, false);
            let whole = [&envelope.head[..], &bytes, &[0; 3][..envelope.padding]].concat();
            let message = Message::parse(&whole).expect("well-formed");
            assert_eq!((message.class, message.method), (Class::Indication, method::SEND));
            let address = message.get(attr::XOR_PEER_ADDRESS).expect("there");
            assert_eq!(read_xor_address(address, &message.transaction), Some(peer));
            assert_eq!(message.get(attr::DATA), Some(&bytes[..]));
            // What comes back differs in the method alone.
            let mut data = whole.clone();
            data[1] = 0x17;
            assert_eq!(open(&data), Incoming::Payload(&bytes));
        }
    }

    #[test]
    fn channel_data_is_padded_on_streams_only() {
        let (stamp, bytes) = payload(17);
        let peer = "127.0.0.1:9".parse().expect("an address");
        let envelope = Envelope::new(Framing::Channel, 17, peer, true);
        let whole = [&envelope.head[..], &bytes, &[0; 3][..envelope.padding]].concat();
        assert_eq!(whole.len(), CHANNEL_HEADER + 20);
        let Incoming::Payload(found) = open(&whole) else { panic!("ChannelData") };
        assert_eq!(Stamp::read(found), Some(stamp));
        assert_eq!(Envelope::new(Framing::Channel, 17, peer, false).padding, 0);
        assert_eq!(open(&whole[..10]), Incoming::Other);
        assert_eq!(open(&[]), Incoming::Other);
    }
}
