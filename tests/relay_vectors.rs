//! Known answers: the RFC 5769 test vectors, and time-limited credentials made by other programs.

use relais::credentials::turn;
use relais::relay::stun::{Builder, Class, Integrity, Message, attr, method, read_xor_address, write_xor_address};

/// RFC 5769 section 2.1: a request with the short-term key "VOkJxbRl1RmTxUk/WvJxBt".
const REQUEST: &str = "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e7400240004\
    6e0001ff80290008932ff9b151263b36000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2\
    80280004e57a3bcf";

/// RFC 5769 section 2.2: an IPv4 response.
const RESPONSE_V4: &str = "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f722000200008\
    0001a147e112a643000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96";

/// RFC 5769 section 2.3: an IPv6 response.
const RESPONSE_V6: &str = "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f722000200014\
    0002a1470113a9faa5d3f179bc25f4b5bed2b9d900080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c";

/// RFC 5769 section 2.4: a request with long-term authentication.
const LONG_TERM: &str = "000100602112a44278ad3433c6ad72c029da412e00060012e3839ee38388e383aae38383e382afe382b9\
    00000015001c662f2f3439396b39353464364f4c33346f4c394653547679363473410014000b6578616d706c652e6f726700\
    00080014f67024656dd64a3e02b8e0712e85c9a28ca89666";

/// RFC 8489 appendix B.1, as corrected by erratum 6268: PASSWORD-ALGORITHM SHA-256, USERHASH, MESSAGE-INTEGRITY-SHA256.
const SHA256: &str = "000100902112a44278ad3433c6ad72c029da412e001e00204a3cf38fef6992bda952c6780417da0f24819415569e60b2\
    05c46e41407f170400150029\
    6f624d61744a6f73324141414366\
    2f2f3439396b39353464364f4c33346f4c394653547679363473410000000014000b6578616d706c652e6f726700\
    001d000400020000001c0020b5c7bf005b6c52a21c51c5e892f81924136296cb927c43149309278cc6518e65";

const SHORT_TERM_KEY: &[u8] = b"VOkJxbRl1RmTxUk/WvJxBt";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[test]
fn rfc_5769_request() {
    let bytes = bytes(REQUEST);
    let message = Message::parse(&bytes).unwrap();
    assert_eq!((message.class, message.method), (Class::Request, method::BINDING));
    assert!(message.has_fingerprint);
    assert_eq!(message.get(attr::USERNAME), Some(&b"evtj:h6vY"[..]));
    assert_eq!(message.get(attr::SOFTWARE), Some(&b"STUN test client"[..]));
    assert!(message.is_signed_with(SHORT_TERM_KEY));
    assert!(!message.is_signed_with(b"VOkJxbRl1RmTxUk/WvJxBT"));
}

#[test]
fn rfc_5769_responses() {
    for (hex, address) in
        [(RESPONSE_V4, "192.0.2.1:32853"), (RESPONSE_V6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853")]
    {
        let bytes = bytes(hex);
        let message = Message::parse(&bytes).unwrap();
        assert_eq!((message.class, message.method), (Class::Success, method::BINDING));
        let value = message.get(attr::XOR_MAPPED_ADDRESS).unwrap();
        let address = address.parse().unwrap();
        assert_eq!(read_xor_address(value, &message.transaction), Some(address));
        let (written, length) = write_xor_address(address, &message.transaction);
        assert_eq!(&written[..length], value);
        assert!(message.is_signed_with(SHORT_TERM_KEY) && message.has_fingerprint);
    }
}

#[test]
fn rfc_5769_long_term_request() {
    let bytes = bytes(LONG_TERM);
    let message = Message::parse(&bytes).unwrap();
    let username = std::str::from_utf8(message.get(attr::USERNAME).unwrap()).unwrap();
    assert_eq!(username, "\u{30DE}\u{30C8}\u{30EA}\u{30C3}\u{30AF}\u{30B9}");
    assert_eq!(message.get(attr::REALM), Some(&b"example.org"[..]));
    assert_eq!(message.get(attr::NONCE), Some(&b"f//499k954d6OL34oL9FSTvy64sA"[..]));
    // The password after SASLprep.
    let key = turn::long_term_key(username, "example.org", "TheMatrIX");
    assert!(message.is_signed_with(&key));
    assert!(!message.is_signed_with(&turn::long_term_key(username, "example.org", "TheMatrix")));
}

#[test]
fn rfc_8489_request_with_sha_256() {
    let bytes = bytes(SHA256);
    let message = Message::parse(&bytes).unwrap();
    let (username, realm) = ("\u{30DE}\u{30C8}\u{30EA}\u{30C3}\u{30AF}\u{30B9}", "example.org");
    assert_eq!(message.get(attr::USERHASH), Some(&turn::userhash(username, realm)[..]));
    assert_eq!(message.get(attr::NONCE), Some(&b"obMatJos2AAACf//499k954d6OL34oL9FSTvy64sA"[..]));
    assert_eq!(message.get(attr::PASSWORD_ALGORITHM), Some(&[0, 2, 0, 0][..]));
    assert_eq!(message.integrity(), Some(Integrity::Sha256));
    let key = turn::long_term_key_with(turn::Algorithm::Sha256, username, realm, "TheMatrIX");
    assert!(message.is_signed_with(&key));
    assert!(!message.is_signed_with(&turn::long_term_key(username, realm, "TheMatrIX")));

    let mut builder = Builder::new(Class::Request, method::BINDING, message.transaction);
    for attribute in message.attributes() {
        builder.attribute(attribute.kind, attribute.value);
    }
    builder.integrity(Integrity::Sha256, &key);
    assert_eq!(*builder.finish().unwrap(), *bytes);
}

/// Its padding is zero, like ours (the padding of section 2.1 is a space).
#[test]
fn the_builder_repeats_the_long_term_request() {
    let wanted = bytes(LONG_TERM);
    let parsed = Message::parse(&wanted).unwrap();
    let mut builder = Builder::new(Class::Request, method::BINDING, parsed.transaction);
    for attribute in parsed.attributes() {
        builder.attribute(attribute.kind, attribute.value);
    }
    let username = std::str::from_utf8(parsed.get(attr::USERNAME).unwrap()).unwrap();
    builder.integrity(Integrity::Sha1, &turn::long_term_key(username, "example.org", "TheMatrIX"));
    assert_eq!(&builder.finish().unwrap()[..], wanted);
}

/// Computed with `printf NAME | openssl dgst -sha1 -hmac SECRET -binary | base64`.
#[test]
fn time_limited_credentials_match_openssl() {
    for (secret, username, password) in [
        ("my_secret", "1433895918:peer", "jpQ8e9OL2UWBwIYWCBweiIMtAe0="),
        ("north", "1800000000:p.1", PASSWORD_NORTH),
        ("a secret longer than the sixty-four bytes of a SHA-1 block, so it is hashed first", "1", PASSWORD_LONG),
    ] {
        assert_eq!(turn::password(secret.as_bytes(), username), password);
    }
}

const PASSWORD_NORTH: &str = "R7lIMUPZ87f7YsYrLQjIlq1ZDvM=";
const PASSWORD_LONG: &str = "Uhh1lSRpN/Te2r6+CRGO2dcHOtI=";
