use super::*;

const ID: TransactionId = *b"abcdefghijkl";

#[test]
fn message_types_of_every_class_and_method_survive() {
    for method in 0..0x1000 {
        for class in [Class::Request, Class::Indication, Class::Success, Class::Error] {
            let kind = join_type(class, method);
            assert_eq!(kind & 0xc000, 0);
            assert_eq!(split_type(kind), (class, method));
        }
    }
    assert_eq!(join_type(Class::Request, method::BINDING), 0x0001);
    assert_eq!(join_type(Class::Error, method::ALLOCATE), 0x0113);
    assert_eq!(join_type(Class::Indication, method::DATA), 0x0017);
}

#[test]
fn addresses_survive() {
    for text in ["192.0.2.1:32853", "[2001:db8:1234:5678:11:2233:4455:6677]:32853", "0.0.0.0:0", "[::]:65535"] {
        let address: SocketAddr = text.parse().unwrap();
        let (value, length) = write_xor_address(address, &ID);
        assert_eq!(read_xor_address(&value[..length], &ID), Some(address));
        assert_eq!(read_xor_address(&value[..length - 1], &ID), None);
    }
    assert_eq!(read_xor_address(&[0, 3, 0, 0, 1, 2, 3, 4], &ID), None, "no such family");
    assert_eq!(read_xor_address(&[], &ID), None);
}

fn signed(integrity: Integrity) -> ReplyBytes {
    let mut builder = Builder::new(Class::Request, method::ALLOCATE, ID);
    builder.attribute(attr::USERNAME, b"alice").integrity(integrity, b"key").fingerprint();
    builder.finish().unwrap()
}

#[test]
fn what_is_built_is_read() {
    for integrity in [Integrity::Sha1, Integrity::Sha256] {
        let bytes = signed(integrity);
        let message = Message::parse(&bytes).unwrap();
        assert_eq!((message.class, message.method, message.transaction), (Class::Request, method::ALLOCATE, ID));
        assert!(message.has_fingerprint);
        assert_eq!(message.integrity(), Some(integrity));
        assert!(message.is_signed_with(b"key"));
        assert!(!message.is_signed_with(b"kex"));
        assert_eq!(message.get(attr::USERNAME), Some(&b"alice"[..]));
        assert_eq!(message.attributes().count(), 1);
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let bytes = signed(Integrity::Sha1);
    // All but FINGERPRINT itself, which the integrity does not cover.
    for at in 0..bytes.len() - 8 {
        for bit in 0..8 {
            let mut copy = bytes.to_vec();
            copy[at] ^= 1 << bit;
            let is_accepted = Message::parse(&copy).is_ok_and(|message| message.is_signed_with(b"key"));
            assert!(!is_accepted, "byte {at} bit {bit}");
        }
    }
}

#[test]
fn every_truncation_is_refused() {
    let bytes = signed(Integrity::Sha256);
    for end in 0..bytes.len() {
        assert!(Message::parse(&bytes[..end]).is_err());
    }
}

#[test]
fn attributes_behind_the_integrity_do_not_count() {
    let mut builder = Builder::new(Class::Request, method::REFRESH, ID);
    builder.attribute(attr::USERNAME, b"alice").integrity(Integrity::Sha1, b"key");
    builder.attribute(attr::LIFETIME, &[0; 4]).integrity(Integrity::Sha256, b"key").fingerprint();
    let bytes = builder.finish().unwrap();
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.get(attr::LIFETIME), None);
    assert_eq!(message.get(attr::USERNAME), Some(&b"alice"[..]));
    assert_eq!(message.integrity(), Some(Integrity::Sha256), "it may follow MESSAGE-INTEGRITY");
}

#[test]
fn the_first_of_two_integrity_attributes_counts() {
    for (integrity, kind, len) in
        [(Integrity::Sha1, attr::MESSAGE_INTEGRITY, 20), (Integrity::Sha256, attr::MESSAGE_INTEGRITY_SHA256, 32)]
    {
        let mut builder = Builder::new(Class::Request, method::REFRESH, ID);
        builder.integrity(integrity, b"key").attribute(kind, &vec![0; len]);
        let bytes = builder.finish().unwrap();
        let message = Message::parse(&bytes).unwrap();
        assert!(message.integrity() == Some(integrity) && message.is_signed_with(b"key"));
    }
}

#[test]
fn each_part_of_the_header_is_looked_at() {
    let bytes = header(Class::Request, method::BINDING, &ID, 0);
    assert!(Message::parse(&bytes).is_ok());
    for (at, value) in [(0, 0x40), (0, 0x80), (3, 4), (4, 0x20), (7, 0x43)] {
        let mut other = bytes;
        other[at] = value;
        assert_eq!(Message::parse(&other).unwrap_err(), Malformed, "byte {at}");
    }
}

#[test]
fn fingerprint_must_be_last() {
    let mut builder = Builder::new(Class::Request, method::BINDING, ID);
    builder.fingerprint().attribute(attr::LIFETIME, &[0; 4]);
    assert!(Message::parse(&builder.finish().unwrap()).is_err());
}

#[test]
fn attribute_lengths_are_checked() {
    let mut bytes = header(Class::Request, method::BINDING, &ID, 8).to_vec();
    bytes.extend([0x80, 0x22, 0x00, 0x05, 1, 2, 3, 4]);
    assert_eq!(Message::parse(&bytes).unwrap_err(), Malformed);
    bytes[23] = 3;
    assert_eq!(Message::parse(&bytes).unwrap().get(attr::SOFTWARE), Some(&[1, 2, 3][..]));
}

#[test]
fn what_does_not_fit_is_not_sent() {
    let mut builder = Builder::new(Class::Error, method::ALLOCATE, ID);
    builder.attribute(attr::REALM, &[b'r'; REPLY_CAPACITY]);
    assert!(builder.finish().is_none());
}

#[test]
fn arbitrary_bytes_never_panic() {
    let mut state = 0x9e37_79b9_u64;
    for round in 0..20_000_usize {
        let mut bytes: Vec<u8> = (0..round % 96)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        if bytes.len() >= HEADER {
            let length = (bytes.len() - HEADER) as u16;
            bytes[..8].copy_from_slice(&header(Class::Request, method::ALLOCATE, &ID, length)[..8]);
        }
        if let Ok(message) = Message::parse(&bytes) {
            let _ = message.is_signed_with(b"key");
            assert!(message.attributes().count() <= bytes.len() / 4);
        }
    }
}
