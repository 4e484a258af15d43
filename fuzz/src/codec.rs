//! The STUN codec and stream framing.

use relais::relay::framing::{BadFrame, next_frame};
use relais::relay::stun::{HEADER, Message, attr, header, read_xor_address, write_xor_address};

/// What the parser takes is in order, and the independent `stun` crate reads the same in it.
pub fn stun_parse(data: &[u8]) {
    let Ok(message) = Message::parse(data) else { return };
    let mut other = stun::message::Message::new();
    let parsed = other.unmarshal_binary(data);
    assert!(parsed.is_ok(), "only we take it for STUN: {parsed:?}");
    assert_eq!(other.transaction_id.0, message.transaction);
    let length = (data.len() - HEADER) as u16;
    assert_eq!(header(message.class, message.method, &message.transaction, length), data[..HEADER]);
    let mut end = HEADER;
    for (number, attribute) in message.attributes().enumerate() {
        let theirs = &other.attributes.0[number];
        // It takes an early draft's number of XOR-MAPPED-ADDRESS for the final one.
        let kind = if attribute.kind == 0x8020 { attr::XOR_MAPPED_ADDRESS } else { attribute.kind };
        assert_eq!((theirs.typ.value(), &theirs.value[..]), (kind, attribute.value));
        assert!(attribute.start >= end && attribute.start + attribute.value.len() <= data.len());
        assert_eq!(&data[attribute.start..attribute.start + attribute.value.len()], attribute.value);
        end = attribute.start + attribute.value.len();
        assert!(message.get(attribute.kind).is_some());
        if let Some(address) = read_xor_address(attribute.value, &message.transaction) {
            let (written, length) = write_xor_address(address, &message.transaction);
            assert_eq!(attribute.value.get(1..), written.get(1..length), "the first byte means nothing");
        }
    }
    assert!(!message.is_signed_with(b"no key that anybody has"));
}

/// Frames lie one behind the other, and it makes no difference where the stream was cut.
pub fn stream_framing(data: &[u8]) {
    let mut rest = data;
    let outcome = loop {
        match next_frame(rest) {
            Ok(Some((frame, advance))) => {
                assert!(frame >= 4 && frame <= advance && advance <= rest.len() && advance <= 65_556);
                // A frame is whole with its last byte, not before.
                for end in [0, 1, 3, 4, 5, advance / 2, advance - 1] {
                    assert_eq!(next_frame(&rest[..end.min(advance - 1)]), Ok(None));
                }
                assert_eq!(next_frame(&rest[..advance]), Ok(Some((frame, advance))));
                rest = &rest[advance..];
            }
            Ok(None) => break Ok(()),
            Err(BadFrame) => break Err(BadFrame),
        }
    };
    if outcome.is_ok() {
        assert!(rest.len() < 65_556, "the largest frame is there and nobody took it");
    }
}
