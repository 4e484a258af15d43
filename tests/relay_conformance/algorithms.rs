//! RFC 8489: password algorithms, the nonce cookie, MESSAGE-INTEGRITY-SHA256 and USERHASH. Keys and codes are computed
//! here from the hash functions alone.

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;

use super::relay_common::*;
use super::{Expected::*, Row, Stage::*, alice, allocate, request, row};

const OFFERED: &[u8] = &[0, 2, 0, 0, 0, 1, 0, 0];
const ONLY_MD5: &[u8] = &[0, 1, 0, 0];
const MD5: &[u8] = &[0, 1, 0, 0];
const SHA256: &[u8] = &[0, 2, 0, 0];

/// How a request is signed with MESSAGE-INTEGRITY-SHA256.
#[derive(Clone, Copy)]
struct Signature {
    list: Option<&'static [u8]>,
    chosen: Option<&'static [u8]>,
    key: fn(&Client) -> Vec<u8>,
    length: usize,
    name: fn(&Client, Ask) -> Ask,
}

const PLAIN: Signature =
    Signature { list: Some(OFFERED), chosen: Some(SHA256), key: sha256_key, length: 32, name: by_name };

fn credential(client: &Client) -> String {
    format!("{}:{REALM}:{}", client.username, client.password)
}

fn sha256_key(client: &Client) -> Vec<u8> {
    Sha256::digest(credential(client)).to_vec()
}

fn md5_key(client: &Client) -> Vec<u8> {
    Md5::digest(credential(client)).to_vec()
}

fn by_name(client: &Client, ask: Ask) -> Ask {
    ask.attr(0x0006, client.username.as_bytes())
}

fn by_hash(client: &Client, ask: Ask) -> Ask {
    ask.attr(0x001e, &Sha256::digest(format!("{}:{REALM}", client.username)))
}

/// The code over `before`, as if an attribute of `length` bytes followed.
fn code(before: &[u8], length: usize, key: &[u8]) -> Vec<u8> {
    let mut bytes = before.to_vec();
    bytes[2..4].copy_from_slice(&((before.len() + 4 + length - 20) as u16).to_be_bytes());
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(&bytes);
    mac.finalize().into_bytes()[..length].to_vec()
}

impl Signature {
    fn sign(self, ask: Ask, client: &Client) -> Ask {
        let mut ask = (self.name)(client, ask).attr(0x0014, REALM.as_bytes()).attr(0x0015, &client.nonce);
        for (kind, value) in [(0x8002, self.list), (0x001d, self.chosen)] {
            ask = value.into_iter().fold(ask, |ask, value| ask.attr(kind, value));
        }
        let value = code(&ask.clone().bytes(), self.length, &(self.key)(client));
        ask.attr(0x001c, &value)
    }
}

/// Whether MESSAGE-INTEGRITY-SHA256 of a reply is right for one of the client's keys.
pub fn is_signed_by(reply: &Reply, client: &Client) -> bool {
    let Some(value) = reply.get(0x001c) else { return false };
    // The attribute is the last one, as no row here asks for a fingerprint.
    let before = &reply.message.raw[..reply.message.raw.len() - 36];
    [sha256_key(client), md5_key(client)].iter().any(|key| code(before, 32, key) == value)
}

fn signed_with(reply: &Reply, kind: u16) {
    assert!(reply.get(kind).is_some(), "attribute {kind:#06x}");
    assert!(reply.get(0x0008).is_some() != reply.get(0x001c).is_some(), "one integrity attribute");
}

pub fn offers() -> Vec<Row> {
    vec![
        row("8489 9.2.1", "a 401 offers the algorithms", Challenged, |_| allocate(), Error(401)).check(|_, reply| {
            assert_eq!(reply.get(0x8002).as_deref(), Some(OFFERED));
            let nonce = reply.get(0x0015).unwrap();
            assert!(nonce.starts_with(b"obMatJos2gAAA") && nonce.len() == 28, "{nonce:?}");
        }),
        row(
            "8489 9.2.1",
            "a 438 offers the algorithms",
            Challenged,
            |c| allocate().signed(&Client { nonce: b"x".to_vec(), ..c.clone() }),
            Error(438),
        )
        .check(|_, reply| assert_eq!(reply.get(0x8002).as_deref(), Some(OFFERED))),
        row("8489 9.2.1", "algorithms switched off", Challenged, |_| allocate(), Error(401))
            .settings(|settings| settings.password_algorithms = false)
            .check(|_, reply| assert_eq!((reply.get(0x8002), reply.get(0x0015).unwrap().len()), (None, 15))),
        row("8489 9.2.1", "a realm that leaves no room", Challenged, |_| allocate(), Error(401))
            .settings(|settings| settings.realm = "turn.eu-west.example.community".into())
            .check(|_, reply| assert_eq!((reply.get(0x8002), reply.get(0x0015).unwrap().len()), (None, 15))),
        row("8489 9.2.1", "static users only", Challenged, |_| allocate(), Error(401))
            .settings(|settings| settings.turn_secrets.clear())
            .check(|_, reply| assert!(reply.get(0x0015).unwrap().starts_with(b"obMatJos2wAAA"))),
        row("8489 9.2.1", "static users only, no algorithms", Challenged, |_| allocate(), Error(401))
            .settings(|settings| {
                settings.turn_secrets.clear();
                settings.password_algorithms = false;
            })
            .check(|_, reply| assert!(reply.get(0x0015).unwrap().starts_with(b"obMatJos2QAAA"))),
    ]
}

pub fn algorithms() -> Vec<Row> {
    vec![
        row("8489 9.2.4", "SHA-256", Challenged, |c| PLAIN.sign(allocate(), c), Success)
            .check(|_, reply| signed_with(reply, 0x001c)),
        row(
            "8489 9.2.4",
            "MD5 by name",
            Challenged,
            |c| Signature { chosen: Some(MD5), key: md5_key, ..PLAIN }.sign(allocate(), c),
            Success,
        )
        .check(|_, reply| signed_with(reply, 0x001c)),
        row(
            "8489 9.2.4",
            "MD5 by name, MESSAGE-INTEGRITY",
            Challenged,
            |c| allocate().attr(0x8002, OFFERED).attr(0x001d, MD5).signed(c),
            Success,
        )
        .check(|_, reply| signed_with(reply, 0x001c)),
        row("8489 9.2.4", "no algorithm named", Challenged, |c| allocate().signed(c), Success)
            .check(|_, reply| signed_with(reply, 0x0008)),
        row(
            "8489 9.2.4",
            "no algorithm named, SHA-256 key",
            Challenged,
            |c| Signature { list: None, chosen: None, ..PLAIN }.sign(allocate(), c),
            Error(401),
        ),
        row(
            "8489 9.2.4",
            "SHA-256 named, MD5 key",
            Challenged,
            |c| Signature { key: md5_key, ..PLAIN }.sign(allocate(), c),
            Error(401),
        ),
        row(
            "8489 9.2.4",
            "PASSWORD-ALGORITHM without the list",
            Challenged,
            |c| Signature { list: None, ..PLAIN }.sign(allocate(), c),
            Error(400),
        ),
        row(
            "8489 9.2.4",
            "the list without PASSWORD-ALGORITHM",
            Challenged,
            |c| Signature { chosen: None, ..PLAIN }.sign(allocate(), c),
            Error(400),
        ),
        row(
            "8489 9.2.4",
            "bid down: SHA-256 taken off the list",
            Challenged,
            |c| Signature { list: Some(ONLY_MD5), chosen: Some(MD5), key: md5_key, ..PLAIN }.sign(allocate(), c),
            Error(400),
        ),
        row(
            "8489 9.2.4",
            "bid down: the list in another order",
            Challenged,
            |c| {
                let list = Some(&[0, 1, 0, 0, 0, 2, 0, 0][..]);
                Signature { list, chosen: Some(MD5), key: md5_key, ..PLAIN }.sign(allocate(), c)
            },
            Error(400),
        ),
        row(
            "8489 9.2.4",
            "bid down: the cookie taken off the nonce",
            Challenged,
            |c| allocate().signed(&Client { nonce: c.nonce[13..].to_vec(), ..c.clone() }),
            Error(438),
        ),
        row(
            "8489 9.2.4",
            "bid down: another feature in the nonce",
            Challenged,
            |c| allocate().signed(&Client { nonce: [b"obMatJos2QAAA", &c.nonce[13..]].concat(), ..c.clone() }),
            Error(438),
        ),
        row(
            "8489 9.2.4",
            "an algorithm off the list",
            Challenged,
            |c| Signature { chosen: Some(&[0, 3, 0, 0]), ..PLAIN }.sign(allocate(), c),
            Error(400),
        ),
        row(
            "8489 14.12",
            "SHA-256 with parameters",
            Challenged,
            |c| Signature { chosen: Some(&[0, 2, 0, 4, 1, 2, 3, 4]), ..PLAIN }.sign(allocate(), c),
            Error(400),
        ),
        row("8489 9.2.4", "SHA-256 that was not offered", Challenged, |c| PLAIN.sign(allocate(), c), Error(400))
            .settings(|settings| settings.password_algorithms = false),
        row(
            "8489 9.2.4",
            "SHA-256 after an Allocate with MD5",
            Allocated,
            |c| PLAIN.sign(request(REFRESH), c),
            Success,
        )
        .check(|_, reply| signed_with(reply, 0x001c)),
        row("8489 9.2.4", "SHA-256, a static user", Challenged, |c| PLAIN.sign(allocate(), &alice(c)), Success),
        row(
            "8489 9.2.4",
            "SHA-256, a wrong password",
            Challenged,
            |c| PLAIN.sign(allocate(), &Client { password: "guess".into(), ..c.clone() }),
            Error(401),
        ),
        row(
            "8489 6.3.1",
            "SHA-256, an unknown attribute",
            Challenged,
            |c| PLAIN.sign(allocate().attr(0x7fff, &[]), c),
            Error(420),
        )
        .check(|_, reply| signed_with(reply, 0x001c)),
    ]
}

pub fn integrity() -> Vec<Row> {
    vec![
        row(
            "8489 14.6",
            "MESSAGE-INTEGRITY-SHA256 without algorithms",
            Challenged,
            |c| Signature { list: None, chosen: None, key: md5_key, ..PLAIN }.sign(allocate(), c),
            Success,
        )
        .check(|_, reply| signed_with(reply, 0x001c)),
        row(
            "8489 14.6",
            "truncated to 16 bytes",
            Challenged,
            |c| Signature { length: 16, ..PLAIN }.sign(allocate(), c),
            Error(401),
        ),
        row(
            "8489 14.6",
            "truncated to 28 bytes",
            Challenged,
            |c| Signature { length: 28, ..PLAIN }.sign(allocate(), c),
            Error(401),
        ),
        row(
            "8489 14.6",
            "truncated to nothing",
            Challenged,
            |c| Signature { length: 0, ..PLAIN }.sign(allocate(), c),
            Error(401),
        ),
        row(
            "8489 14.6",
            "a right MESSAGE-INTEGRITY and a wrong SHA-256 one",
            Challenged,
            |c| allocate().signed(c).attr(0x001c, &[7; 32]),
            Error(401),
        ),
        row(
            "8489 14.6",
            "LIFETIME 0 appended behind the integrity",
            Allocated,
            |c| PLAIN.sign(request(REFRESH), c).lifetime(0),
            Success,
        )
        .check(|_, reply| assert_eq!(reply.lifetime(), Some(600))),
    ]
}

pub fn userhash() -> Vec<Row> {
    const HASHED: Signature = Signature { name: by_hash, ..PLAIN };
    vec![
        row("8489 9.2.4", "USERHASH of a static user", Challenged, |c| HASHED.sign(allocate(), &alice(c)), Success),
        row(
            "8489 9.2.4",
            "USERHASH and MD5",
            Challenged,
            |c| {
                let hashed = Signature { list: None, chosen: None, key: md5_key, ..HASHED };
                hashed.sign(allocate(), &alice(c))
            },
            Success,
        ),
        row(
            "8489 9.2.4",
            "USERHASH, wrong password",
            Challenged,
            |c| HASHED.sign(allocate(), &Client { password: "guess".into(), ..alice(c) }),
            Error(401),
        ),
        row(
            "8489 9.2.4",
            "USERHASH of nobody",
            Challenged,
            |c| HASHED.sign(allocate(), &Client { username: "bob".into(), ..alice(c) }),
            Error(401),
        ),
        row(
            "8489 9.2.4",
            "USERHASH of a time-limited username",
            Challenged,
            |c| HASHED.sign(allocate(), c),
            Error(401),
        ),
        row(
            "8489 14.4",
            "USERHASH of 31 bytes",
            Challenged,
            |c| Signature { name: |_, ask| ask.attr(0x001e, &[7; 31]), ..PLAIN }.sign(allocate(), c),
            Error(401),
        ),
        row(
            "8489 9.2.4",
            "USERHASH and USERNAME",
            Challenged,
            |c| Signature { name: |c, ask| by_name(c, by_hash(c, ask)), ..PLAIN }.sign(allocate(), &alice(c)),
            Error(400),
        ),
        row(
            "8489 9.2.4",
            "neither USERHASH nor USERNAME",
            Challenged,
            |c| Signature { name: |_, ask| ask, ..PLAIN }.sign(allocate(), c),
            Error(400),
        ),
    ]
}
