//! RFC 8489: messages, Binding, the long-term credential mechanism.

use stun::message::{CLASS_ERROR_RESPONSE, CLASS_INDICATION, CLASS_SUCCESS_RESPONSE, METHOD_DATA};

use super::relay_common::*;
use super::{Expected::*, Row, Stage::*, alice, allocate, expired, of_south, request, row, subject};

pub fn binding() -> Vec<Row> {
    vec![
        row("8489 7.3", "Binding over IPv4", Challenged, |_| request(BINDING), Success).check(|client, reply| {
            assert_eq!(reply.address(0x0020), Some(client.tuple.client));
            assert_eq!(reply.message.attributes.0.len(), 1, "nothing but XOR-MAPPED-ADDRESS");
        }),
        row("8489 7.3", "Binding over IPv6", ChallengedV6, |_| request(BINDING), Success)
            .check(|client, reply| assert_eq!(reply.address(0x0020), Some(client.tuple.client))),
        row("8489 14.7", "Binding with FINGERPRINT", Challenged, |_| request(BINDING).fingerprint(), Success)
            .check(|_, reply| assert!(reply.has_right_fingerprint())),
        row("8489 14.7", "Binding without FINGERPRINT", Challenged, |_| request(BINDING), Success)
            .check(|_, reply| assert_eq!(reply.get(0x8028), None)),
        row("8489 14.7", "wrong FINGERPRINT", Challenged, |_| request(BINDING).attr(0x8028, &[1, 2, 3, 4]), Silence),
        row(
            "8489 14.7",
            "FINGERPRINT not last",
            Challenged,
            |_| request(BINDING).fingerprint().attr(0x8022, b"late"),
            Silence,
        ),
        row("8489 9.2", "Binding with credentials", Challenged, |c| request(BINDING).signed(c), Success),
        row(
            "8489 9.2",
            "Binding with a wrong nonce",
            Challenged,
            |c| request(BINDING).signed(&Client { nonce: b"x".to_vec(), ..c.clone() }),
            Success,
        ),
        row(
            "8489 6.3.1",
            "unknown required attribute",
            Challenged,
            |_| request(BINDING).attr(0x7fff, &[]).attr(0x0003, &[0; 4]).attr(0x7fff, &[]),
            Error(420),
        )
        .check(|_, reply| assert_eq!(reply.get(0x000a), Some(vec![0x7f, 0xff, 0x00, 0x03]))),
        row(
            "8489 6.3.1",
            "unknown optional attribute",
            Challenged,
            |_| request(BINDING).attr(0xff05, b"log id"),
            Success,
        ),
        row("8489 6.3.2", "Binding indication", Challenged, |_| Ask::indication(BINDING), Silence),
        row("8489 6.3.2", "Allocate indication", Challenged, |c| Ask::indication(ALLOCATE).signed(c), Silence),
        row(
            "8489 6.3.2",
            "Data indication from a client",
            Permitted,
            |_| Ask::new(METHOD_DATA, CLASS_INDICATION, 1).peer(PEER).data(b"x"),
            Silence,
        ),
        row("8489 6.3", "a method we do not serve", Challenged, |_| request(SEND), Silence),
        row("8489 6.3.3", "success response", Challenged, |_| Ask::new(BINDING, CLASS_SUCCESS_RESPONSE, 1), Silence),
        row("8489 6.3.4", "error response", Challenged, |_| Ask::new(ALLOCATE, CLASS_ERROR_RESPONSE, 1), Silence),
    ]
}

pub fn authentication() -> Vec<Row> {
    vec![
        row("8489 9.2.4", "Allocate without integrity", Challenged, |_| allocate(), Error(401))
            .check(|_, reply| assert_eq!(reply.get(0x0014), Some(b"relais".to_vec()))),
        row("8489 9.2.4", "Refresh without integrity", Allocated, |_| request(REFRESH), Error(401)),
        row(
            "8489 9.2.4",
            "CreatePermission without integrity",
            Allocated,
            |_| request(CREATE_PERMISSION).peer(PEER),
            Error(401),
        ),
        row(
            "8489 9.2.4",
            "ChannelBind without integrity",
            Allocated,
            |_| request(CHANNEL_BIND).channel(0x4000).peer(PEER),
            Error(401),
        ),
        row(
            "8489 9.2.4",
            "integrity without USERNAME",
            Challenged,
            |c| allocate().attr(0x0014, b"relais").attr(0x0015, &c.nonce).integrity(c),
            Error(400),
        ),
        row(
            "8489 9.2.4",
            "integrity without REALM",
            Challenged,
            |c| allocate().attr(0x0006, c.username.as_bytes()).attr(0x0015, &c.nonce).integrity(c),
            Error(400),
        ),
        row(
            "8489 9.2.4",
            "integrity without NONCE",
            Challenged,
            |c| allocate().attr(0x0006, c.username.as_bytes()).attr(0x0014, b"relais").integrity(c),
            Error(400),
        ),
        row(
            "8489 9.2.4",
            "USERNAME behind the integrity",
            Challenged,
            |c| allocate().attr(0x0014, b"relais").attr(0x0015, &c.nonce).integrity(c).attr(0x0006, b"alice"),
            Error(400),
        ),
        row(
            "8489 9.2.4",
            "a nonce that is not ours",
            Challenged,
            |c| allocate().signed(&Client { nonce: b"0123456789abcdef".to_vec(), ..c.clone() }),
            Error(438),
        ),
        row(
            "8489 9.2.4",
            "an empty nonce",
            Challenged,
            |c| allocate().signed(&Client { nonce: Vec::new(), ..c.clone() }),
            Error(438),
        ),
        row("8489 9.2.4", "an old nonce on Allocate, 24 h", Challenged, |c| allocate().signed(c), Success)
            .world(|world| world.now.unix += 86_399),
        row("8489 9.2.4", "an old nonce on Allocate, over 24 h", Challenged, |c| allocate().signed(c), Error(438))
            .world(|world| world.now.unix += 86_401),
        row("8489 9.2.4", "an old nonce on Refresh, 1 h", Allocated, |c| request(REFRESH).signed(c), Success)
            .world(|world| world.now.unix += 3600),
        row("8489 9.2.4", "an old nonce on Refresh, over 1 h", Allocated, |c| request(REFRESH).signed(c), Error(438))
            .world(|world| world.now.unix += 3601),
        row(
            "8489 9.2.4",
            "an old nonce on CreatePermission",
            Allocated,
            |c| request(CREATE_PERMISSION).peer(PEER).signed(c),
            Error(438),
        )
        .world(|world| world.now.unix += 3601),
        row(
            "8489 9.2.4",
            "an old nonce on ChannelBind",
            Allocated,
            |c| request(CHANNEL_BIND).channel(0x4000).peer(PEER).signed(c),
            Error(438),
        )
        .world(|world| world.now.unix += 3601),
        row("8489 9.2", "a nonce of the key before", Challenged, |c| allocate().signed(c), Success)
            .world(|world| reload(world, |settings| settings.nonce_secrets = keys(&["next", "nonce key"]))),
        row("8489 9.2", "a nonce of the key before, on Refresh", Allocated, |c| request(REFRESH).signed(c), Success)
            .world(|world| reload(world, |settings| settings.nonce_secrets = keys(&["next", "nonce key"]))),
        row("8489 9.2", "a nonce of the key before that", Allocated, |c| request(REFRESH).signed(c), Error(438))
            .world(|world| reload(world, |settings| settings.nonce_secrets = keys(&["last", "next"]))),
        row("REST draft", "another secret in front", Allocated, |c| request(REFRESH).signed(c), Success)
            .world(|world| reload(world, |settings| settings.turn_secrets = keys(&["newest", "north"]))),
        row("REST draft", "its secret taken out meanwhile", Allocated, |c| request(REFRESH).signed(c), Error(401))
            .world(|world| reload(world, |settings| settings.turn_secrets = keys(&["newest"]))),
        row("8489 9.2.4", "an empty secret is none", Challenged, |c| allocate().signed(&of_nobody(c)), Error(401))
            .settings(|settings| settings.turn_secrets.push(Vec::new())),
        row(
            "8489 9.2.4",
            "wrong password",
            Challenged,
            |c| allocate().signed(&Client { password: "guess".into(), ..c.clone() }),
            Error(401),
        ),
        row(
            "8489 9.2.4",
            "wrong password on Refresh",
            Allocated,
            |c| request(REFRESH).signed(&Client { password: "guess".into(), ..c.clone() }),
            Error(401),
        ),
        row(
            "8489 9.2.4",
            "unknown username",
            Challenged,
            |c| allocate().signed(&Client { username: "nobody".into(), ..c.clone() }),
            Error(401),
        ),
        row(
            "8489 9.2.4",
            "a username that is not UTF-8",
            Challenged,
            |c| allocate().attr(0x0006, &[0xff]).attr(0x0014, b"relais").attr(0x0015, &c.nonce).integrity(c),
            Error(401),
        ),
        row(
            "8489 14.3",
            "a username of 509 bytes",
            Challenged,
            |c| {
                let username = format!("1900000000:{}", "x".repeat(498));
                let password = relais::credentials::turn::password(SECRET, &username);
                allocate().signed(&Client { username, password, ..c.clone() })
            },
            Error(401),
        ),
        row(
            "8489 14.5",
            "MESSAGE-INTEGRITY of 16 bytes",
            Challenged,
            |c| {
                allocate()
                    .attr(0x0006, c.username.as_bytes())
                    .attr(0x0014, b"relais")
                    .attr(0x0015, &c.nonce)
                    .attr(0x0008, &[0; 16])
            },
            Error(401),
        ),
        row(
            "8489 14.5",
            "LIFETIME 0 appended behind the integrity",
            Allocated,
            |c| request(REFRESH).signed(c).lifetime(0),
            Success,
        )
        .check(|_, reply| assert_eq!(reply.lifetime(), Some(600))),
        row(
            "8489 14.5",
            "a peer appended behind the integrity",
            Allocated,
            |c| request(CREATE_PERMISSION).signed(c).peer(PEER),
            Error(400),
        ),
        row(
            "8489 9.2.4",
            "signed reply has a fingerprint when asked",
            Challenged,
            |c| allocate().signed(c).fingerprint(),
            Success,
        )
        .check(|_, reply| assert!(reply.has_right_fingerprint())),
        row(
            "8489 6.3.1",
            "unknown required attribute, authenticated",
            Challenged,
            |c| allocate().attr(0x0010, &[0; 4]).signed(c),
            Error(420),
        )
        .check(|_, reply| {
            assert_eq!(reply.get(0x000a), Some(vec![0x00, 0x10]));
            assert!(reply.get(0x0008).is_some());
        }),
        row(
            "8489 6.3.1",
            "unknown required attribute, unauthenticated",
            Challenged,
            |_| allocate().attr(0x0010, &[0; 4]),
            Error(401),
        ),
        row("REST draft", "an expired credential", Challenged, |c| allocate().signed(&expired(c)), Error(401)),
        row(
            "REST draft",
            "a secret that was taken out",
            Challenged,
            |c| {
                let credential = relais::credentials::turn::mint(b"south", "p.1", UNIX + 60);
                allocate().signed(&Client { username: credential.username, password: credential.password, ..c.clone() })
            },
            Error(401),
        )
        .settings(|settings| settings.turn_secrets.truncate(1)),
        row("REST draft", "the older of two secrets", Challenged, |c| allocate().signed(&of_south(c)), Success),
        row("8489 9.2.4", "a static user", Challenged, |c| allocate().signed(&alice(c)), Success),
        row(
            "8489 9.2.4",
            "a static user with a wrong password",
            Challenged,
            |c| allocate().signed(&Client { password: "Wonderland".into(), ..alice(c) }),
            Error(401),
        ),
        row(
            "8656 5",
            "another subject on Refresh",
            Allocated,
            |c| request(REFRESH).signed(&subject(c, "p.2")),
            Error(441),
        ),
        row(
            "8656 5",
            "another subject on CreatePermission",
            Allocated,
            |c| request(CREATE_PERMISSION).peer(PEER).signed(&subject(c, "p.2")),
            Error(441),
        ),
        row(
            "8656 5",
            "another subject on ChannelBind",
            Allocated,
            |c| request(CHANNEL_BIND).channel(0x4000).peer(PEER).signed(&subject(c, "p.2")),
            Error(441),
        ),
    ]
}

fn keys(secrets: &[&str]) -> Vec<Vec<u8>> {
    secrets.iter().map(|secret| secret.as_bytes().to_vec()).collect()
}

/// What a shell does when settings change.
fn reload(world: &mut World, edit: fn(&mut relais::relay::Settings)) {
    let mut settings = settings();
    edit(&mut settings);
    world.relay.set_shared(std::sync::Arc::new(relais::relay::Shared::new(settings)));
}

/// With a credential that an empty secret would have made.
fn of_nobody(client: &Client) -> Client {
    let credential = relais::credentials::turn::mint(b"", "p.1", UNIX + 60);
    Client { username: credential.username, password: credential.password, ..client.clone() }
}
