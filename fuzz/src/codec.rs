//! The STUN codec, beside two independent ones: the `stun` and the `stun-types` crate; and stream framing.

use relais::credentials::turn;
use relais::relay::framing::{BadFrame, next_frame};
use relais::relay::stun::{
    Builder, Class, HEADER, Integrity, Message, attr, header, read_xor_address, write_xor_address,
};
use stun::message::Setter;
use stun_types::attribute::{
    Attribute as _, AttributeStaticType, Fingerprint, MessageIntegrity, MessageIntegritySha256, RawAttribute,
};
use stun_types::message::{
    IntegrityAlgorithm, LongTermKeyCredentials, MessageClass, MessageIntegrityCredentials, MessageType, MessageWrite,
    MessageWriteExt, MessageWriteVec, Method,
};

use super::Steps;

/// Three parsers take the same bytes for STUN and read the same in them, but where RFC 8489 tells us to be stricter.
pub fn stun_parse(data: &[u8]) {
    let ours = Message::parse(data);
    let mut stun = stun::message::Message::new();
    let by_stun = stun.unmarshal_binary(data);
    let by_types = stun_types::message::Message::from_bytes(data);
    let Ok(message) = ours else {
        // What `stun-types` takes and `stun` does not lies behind an integrity attribute, where it does not look.
        assert!(by_stun.is_err() || refused_for_a_reason(data, &stun), "only we refuse it: {data:02x?}");
        return;
    };
    assert!(by_stun.is_ok(), "only we take it for STUN: {by_stun:?}");
    reads_the_same(&message, data, &stun);
    let theirs = by_types.expect("only we take it for STUN");
    assert_eq!(u128::from(theirs.transaction_id()).to_be_bytes()[4..], message.transaction);
    assert_eq!((class_of(theirs.class()), theirs.method().value()), (message.class, message.method));
    let ending = [MessageIntegrity::TYPE, MessageIntegritySha256::TYPE, Fingerprint::TYPE];
    let visible = theirs.iter_attributes().take_while(|(_, attribute)| !ending.contains(&attribute.get_type()));
    let visible: Vec<_> = visible.map(|(_, found)| (found.get_type().value(), found.value.to_vec())).collect();
    let here: Vec<_> = message.attributes().map(|found| (found.kind, found.value.to_vec())).collect();
    assert_eq!(here, visible);
    assert!(!message.is_signed_with(b"no key that anybody has"));
}

/// Where we are stricter than the `stun` crate, in its own words: RFC 8489 section 5 (the two highest bits, a length in
/// words, nothing behind the message) and section 14.7 (FINGERPRINT is right and the last).
fn refused_for_a_reason(data: &[u8], theirs: &stun::message::Message) -> bool {
    let length = theirs.length as usize;
    let fingerprints = |number: usize| theirs.attributes.0[number].typ.value() == attr::FINGERPRINT;
    let count = theirs.attributes.0.len();
    let has_bad_fingerprint = (0..count).filter(|number| fingerprints(*number)).any(|number| {
        number + 1 != count
            || theirs.attributes.0[number].value.len() != 4
            || stun::fingerprint::FINGERPRINT.check(theirs).is_err()
    });
    data[0] & 0xc0 != 0 || !length.is_multiple_of(4) || data.len() != HEADER + length || has_bad_fingerprint
}

fn reads_the_same(message: &Message<'_>, data: &[u8], other: &stun::message::Message) {
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
}

fn class_of(class: MessageClass) -> Class {
    match class {
        MessageClass::Request => Class::Request,
        MessageClass::Indication => Class::Indication,
        MessageClass::Success => Class::Success,
        MessageClass::Error => Class::Error,
    }
}

/// A message that any of the three has made and signed is right for the other two.
pub fn stun_build(data: &[u8]) {
    let mut steps = Steps::new(data);
    let plan = Plan::read(&mut steps);
    let by_us = plan.by_us();
    if let Some(bytes) = &by_us {
        plan.is_right(bytes);
    }
    // A message larger than any of ours is theirs alone.
    let by_types = plan.by_types();
    plan.is_right(&by_types);
    if plan.integrity == Integrity::Sha1 {
        let by_stun = plan.by_stun();
        plan.is_right(&by_stun);
        assert!(by_us.is_none_or(|bytes| bytes == by_stun), "the same bytes");
    }
}

/// What a message shall hold.
struct Plan {
    method: u16,
    class: Class,
    id: [u8; 12],
    attributes: Vec<(u16, Vec<u8>)>,
    integrity: Integrity,
    fingerprint: bool,
    user: String,
    password: String,
}

const REALM: &str = "relais";

impl Plan {
    fn read(steps: &mut Steps<'_>) -> Self {
        let flags = steps.byte();
        let class = [Class::Request, Class::Indication, Class::Success, Class::Error][usize::from(flags & 3)];
        let integrity = if flags & 4 == 0 { Integrity::Sha1 } else { Integrity::Sha256 };
        let word =
            |steps: &mut Steps<'_>| steps.bytes().iter().take(40).map(|byte| char::from(b'a' + byte % 26)).collect();
        let (method, user, password) = (steps.number() & 0x0fff, word(steps), word(steps));
        let mut attributes = Vec::new();
        for _ in 0..flags >> 4 {
            let (kind, value) = (steps.number(), steps.bytes());
            let is_ending =
                matches!(kind, attr::MESSAGE_INTEGRITY | attr::MESSAGE_INTEGRITY_SHA256 | attr::FINGERPRINT | 0x8020);
            if !is_ending {
                attributes.push((kind, value[..value.len().min(1_000)].to_vec()));
            }
        }
        Self { method, class, id: [flags; 12], attributes, integrity, fingerprint: flags & 8 != 0, user, password }
    }

    fn key(&self) -> turn::LongTermKey {
        // `stun-types` ties the password algorithm to the integrity attribute.
        let algorithm = match self.integrity {
            Integrity::Sha1 => turn::Algorithm::Md5,
            Integrity::Sha256 => turn::Algorithm::Sha256,
        };
        turn::long_term_key_with(algorithm, &self.user, REALM, &self.password)
    }

    fn by_us(&self) -> Option<Vec<u8>> {
        let mut builder = Builder::new(self.class, self.method, self.id);
        for (kind, value) in &self.attributes {
            builder.attribute(*kind, value);
        }
        builder.integrity(self.integrity, &self.key());
        if self.fingerprint {
            builder.fingerprint();
        }
        builder.finish().map(|bytes| bytes.to_vec())
    }

    fn by_stun(&self) -> Vec<u8> {
        let mut message = stun::message::Message::new();
        message.transaction_id.0 = self.id;
        let [high, low, ..] = header(self.class, self.method, &self.id, 0);
        message.typ.read_value(u16::from_be_bytes([high, low]));
        message.write_header();
        for (kind, value) in &self.attributes {
            message.add(stun::attributes::AttrType(*kind), value);
        }
        stun::integrity::MessageIntegrity(self.key().to_vec()).add_to(&mut message).expect("room");
        if self.fingerprint {
            stun::fingerprint::FINGERPRINT.add_to(&mut message).expect("room");
        }
        message.write_length();
        message.raw
    }

    fn by_types(&self) -> Vec<u8> {
        let class = match self.class {
            Class::Request => MessageClass::Request,
            Class::Indication => MessageClass::Indication,
            Class::Success => MessageClass::Success,
            Class::Error => MessageClass::Error,
        };
        let mut id = [0; 16];
        id[4..].copy_from_slice(&self.id);
        let kind = MessageType::from_class_method(class, Method::new(self.method));
        let mut message =
            stun_types::message::Message::builder(kind, u128::from_be_bytes(id).into(), MessageWriteVec::new());
        for (kind, value) in &self.attributes {
            message.add_attribute(&RawAttribute::new((*kind).into(), value)).expect("room");
        }
        message.add_message_integrity(&self.credentials(), self.algorithm()).expect("room");
        if self.fingerprint {
            message.add_fingerprint().expect("room");
        }
        message.finish()
    }

    fn credentials(&self) -> MessageIntegrityCredentials {
        LongTermKeyCredentials::new(self.user.clone(), self.password.clone(), REALM.into()).into()
    }

    fn algorithm(&self) -> IntegrityAlgorithm {
        match self.integrity {
            Integrity::Sha1 => IntegrityAlgorithm::Sha1,
            Integrity::Sha256 => IntegrityAlgorithm::Sha256,
        }
    }

    /// All three find in `bytes` what was to be there, and the integrity right with this key and with no other.
    fn is_right(&self, bytes: &[u8]) {
        stun_parse(bytes);
        let message = Message::parse(bytes).expect("we read it");
        assert_eq!((message.class, message.method, message.transaction), (self.class, self.method, self.id));
        assert_eq!((message.integrity(), message.has_fingerprint), (Some(self.integrity), self.fingerprint));
        assert!(
            message.attributes().map(|found| (found.kind, found.value.to_vec())).eq(self.attributes.iter().cloned())
        );
        assert!(message.is_signed_with(&self.key()) && !message.is_signed_with(b"another key"));
        let theirs = stun_types::message::Message::from_bytes(bytes).expect("stun-types reads it");
        assert_eq!(theirs.validate_integrity(&self.credentials()).ok(), Some(self.algorithm()));
        let mut theirs = stun::message::Message::new();
        theirs.unmarshal_binary(bytes).expect("stun reads it");
        if self.integrity == Integrity::Sha1 {
            stun::integrity::MessageIntegrity(self.key().to_vec()).check(&mut theirs).expect("the same integrity");
        }
        if self.fingerprint {
            stun::fingerprint::FINGERPRINT.check(&theirs).expect("the same fingerprint");
        }
    }
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
