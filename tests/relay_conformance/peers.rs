//! RFC 8656 sections 9 to 12: permissions, Send indications, channels.

use super::relay_common::*;
use super::{Expected::*, Row, Stage::*, request, row};

pub fn permissions() -> Vec<Row> {
    vec![
        row("8656 10.2", "no allocation", Challenged, |c| request(CREATE_PERMISSION).peer(PEER).signed(c), Error(437)),
        row(
            "8656 10.2",
            "a pending allocation",
            Pending,
            |c| request(CREATE_PERMISSION).peer(PEER).signed(c),
            Error(437),
        ),
        row("8656 10.2", "one peer", Allocated, |c| request(CREATE_PERMISSION).peer(PEER).signed(c), Success),
        row(
            "8656 10.2",
            "peers of two addresses",
            Allocated,
            |c| request(CREATE_PERMISSION).peer(PEER).peer(OTHER_PEER).signed(c),
            Success,
        ),
        row(
            "8656 10.2",
            "the same peer twice",
            Permitted,
            |c| request(CREATE_PERMISSION).peer(PEER).peer(PEER_TOO).signed(c),
            Success,
        ),
        row("8656 10.2", "no XOR-PEER-ADDRESS", Allocated, |c| request(CREATE_PERMISSION).signed(c), Error(400)),
        row(
            "8656 10.2",
            "XOR-PEER-ADDRESS of 4 bytes",
            Allocated,
            |c| request(CREATE_PERMISSION).attr(0x0012, &[0, 1, 0, 0]).signed(c),
            Error(400),
        ),
        row(
            "8656 10.2",
            "XOR-PEER-ADDRESS of no known family",
            Allocated,
            |c| request(CREATE_PERMISSION).attr(0x0012, &[0, 3, 0, 0, 1, 2, 3, 4]).signed(c),
            Error(400),
        ),
        row(
            "8656 10.2",
            "a second peer that is malformed",
            Allocated,
            |c| request(CREATE_PERMISSION).peer(PEER).attr(0x0012, &[0, 2, 0, 0, 1, 2, 3, 4]).signed(c),
            Error(400),
        ),
        row(
            "8656 10.2",
            "a peer of the other family",
            Allocated,
            |c| request(CREATE_PERMISSION).peer(PEER_V6).signed(c),
            Error(443),
        ),
        row(
            "8656 10.2",
            "both families on a dual allocation",
            Dual,
            |c| request(CREATE_PERMISSION).peer(PEER_V6).peer(PEER).signed(c),
            Success,
        ),
        row(
            "8656 10.2",
            "a private peer",
            Allocated,
            |c| request(CREATE_PERMISSION).peer(PRIVATE_PEER).signed(c),
            Error(403),
        ),
        row(
            "8656 10.2",
            "a cloud's own service",
            Allocated,
            |c| request(CREATE_PERMISSION).peer("168.63.129.16:80").signed(c),
            Error(403),
        ),
        row(
            "8656 10.2",
            "a cloud's own service on the allow list",
            Allocated,
            |c| request(CREATE_PERMISSION).peer("168.63.129.16:80").signed(c),
            Success,
        )
        .settings(|settings| settings.allow_peers = vec![cidr("168.63.129.16/32")]),
        row(
            "8656 10.2",
            "a 6to4 peer",
            Dual,
            |c| request(CREATE_PERMISSION).peer("[2002:808:808::1]:5000").signed(c),
            Error(403),
        ),
        row(
            "8656 10.2",
            "NAT64 of a network's own",
            Dual,
            |c| request(CREATE_PERMISSION).peer("[64:ff9b:1::8.8.8.8]:5000").signed(c),
            Error(403),
        ),
        row(
            "8656 10.2",
            "NAT64 of a network's own, allowed, to a private peer",
            Dual,
            |c| request(CREATE_PERMISSION).peer("[64:ff9b:1::10.0.0.1]:5000").signed(c),
            Error(403),
        )
        .settings(|settings| settings.allow_peers = vec![cidr("64:ff9b:1::/48")]),
        row(
            "8656 10.2",
            "a private peer behind an allowed one",
            Allocated,
            |c| request(CREATE_PERMISSION).peer(PEER).peer(PRIVATE_PEER).signed(c),
            Error(403),
        ),
        row(
            "8656 10.2",
            "a mapped private peer",
            Allocated,
            |c| request(CREATE_PERMISSION).peer("[::ffff:10.0.0.1]:5000").signed(c),
            Error(403),
        ),
        row(
            "8656 10.2",
            "a mapped public peer",
            Allocated,
            |c| request(CREATE_PERMISSION).peer("[::ffff:8.8.8.8]:5000").signed(c),
            Success,
        ),
        row(
            "8656 10.2",
            "loopback",
            Allocated,
            |c| request(CREATE_PERMISSION).peer("127.0.0.1:5000").signed(c),
            Error(403),
        ),
        row(
            "8656 10.2",
            "the metadata service",
            Allocated,
            |c| request(CREATE_PERMISSION).peer("169.254.169.254:80").signed(c),
            Error(403),
        ),
        row(
            "8656 10.2",
            "NAT64 of a private peer",
            Dual,
            |c| request(CREATE_PERMISSION).peer("[64:ff9b::10.0.0.1]:5000").signed(c),
            Error(403),
        ),
        row(
            "8656 10.2",
            "our own address",
            Allocated,
            |c| request(CREATE_PERMISSION).peer("192.0.2.1:50000").signed(c),
            Success,
        ),
        row(
            "8656 10.2",
            "a private peer on the allow list",
            Allocated,
            |c| request(CREATE_PERMISSION).peer(PRIVATE_PEER).signed(c),
            Success,
        )
        .settings(|settings| settings.allow_peers = vec![cidr("10.0.0.0/8")]),
        row(
            "8656 10.2",
            "a public peer on the deny list",
            Allocated,
            |c| request(CREATE_PERMISSION).peer(PEER).signed(c),
            Error(403),
        )
        .settings(|settings| settings.deny_peers = vec![cidr("8.8.0.0/16")]),
        row(
            "8656 10.2",
            "more peers than fit",
            Permitted,
            |c| request(CREATE_PERMISSION).peer(OTHER_PEER).peer("9.9.9.9:1").signed(c),
            Error(508),
        )
        .settings(|settings| settings.permissions = 2),
        row(
            "8656 10.2",
            "peers that just fit",
            Permitted,
            |c| request(CREATE_PERMISSION).peer(OTHER_PEER).peer(PEER).signed(c),
            Success,
        )
        .settings(|settings| settings.permissions = 2),
    ]
}

pub fn channels() -> Vec<Row> {
    vec![
        row("8656 12.2", "no allocation", Challenged, |c| bind(c, 0x4000, PEER), Error(437)),
        row("8656 12.2", "the first number", Allocated, |c| bind(c, 0x4000, PEER), Success),
        row("8656 12.2", "the last number", Allocated, |c| bind(c, 0x4fff, PEER), Success),
        row("8656 12.2", "the number before the range", Allocated, |c| bind(c, 0x3fff, PEER), Error(400)),
        row("8656 12.2", "a number of RFC 5766", Allocated, |c| bind(c, 0x5000, PEER), Error(400)),
        row("5766 11.2", "a number of RFC 5766, legacy_channels", Allocated, |c| bind(c, 0x7ffe, PEER), Success)
            .settings(|settings| settings.legacy_channels = true),
        row("5766 11.2", "a number beyond, legacy_channels", Allocated, |c| bind(c, 0x8000, PEER), Error(400))
            .settings(|settings| settings.legacy_channels = true),
        row("8656 12.2", "no CHANNEL-NUMBER", Allocated, |c| request(CHANNEL_BIND).peer(PEER).signed(c), Error(400)),
        row(
            "8656 12.2",
            "CHANNEL-NUMBER of 2 bytes",
            Allocated,
            |c| request(CHANNEL_BIND).attr(0x000c, &[0x40, 0]).peer(PEER).signed(c),
            Error(400),
        ),
        row(
            "8656 12.2",
            "no XOR-PEER-ADDRESS",
            Allocated,
            |c| request(CHANNEL_BIND).channel(0x4000).signed(c),
            Error(400),
        ),
        row(
            "8656 12.2",
            "a malformed XOR-PEER-ADDRESS",
            Allocated,
            |c| request(CHANNEL_BIND).channel(0x4000).attr(0x0012, &[]).signed(c),
            Error(400),
        ),
        row("8656 12.2", "a peer of port 0", Allocated, |c| bind(c, 0x4000, "8.8.8.8:0"), Error(400)),
        row("8656 12.2", "the same pair again", Bound, |c| bind(c, 0x4000, PEER), Success),
        row("8656 12.2", "the same number, another peer", Bound, |c| bind(c, 0x4000, PEER_TOO), Error(400)),
        row("8656 12.2", "the same peer, another number", Bound, |c| bind(c, 0x4001, PEER), Error(400)),
        row("8656 12.2", "another pair", Bound, |c| bind(c, 0x4001, PEER_TOO), Success),
        row("8656 12.2", "a peer of the other family", Allocated, |c| bind(c, 0x4000, PEER_V6), Error(443)),
        row("8656 12.2", "the other family on a dual allocation", Dual, |c| bind(c, 0x4000, PEER_V6), Success),
        row("8656 12.2", "a private peer", Allocated, |c| bind(c, 0x4000, PRIVATE_PEER), Error(403)),
        row("8656 12.2", "a service port of ours", Allocated, |c| bind(c, 0x4000, "192.0.2.1:3478"), Error(403)),
        row("8656 12.2", "another port of ours", Allocated, |c| bind(c, 0x4000, "192.0.2.1:50000"), Success),
        row(
            "8656 12.2",
            "a service port of ours, allowed by mistake",
            Allocated,
            |c| bind(c, 0x4000, "192.0.2.1:3478"),
            Error(403),
        )
        .settings(|settings| settings.allow_peers = vec![cidr("0.0.0.0/0")]),
        row("8656 12.2", "one channel too many", Bound, |c| bind(c, 0x4001, PEER_TOO), Error(508))
            .settings(|settings| settings.channels = 1),
        row("8656 12.2", "no room for its permission", Bound, |c| bind(c, 0x4001, OTHER_PEER), Error(508))
            .settings(|settings| settings.permissions = 1),
        row(
            "8656 12.2",
            "an unknown required attribute",
            Allocated,
            |c| request(CHANNEL_BIND).channel(0x4000).peer(PEER).attr(0x0026, &[]).signed(c),
            Error(420),
        ),
    ]
}

fn bind(client: &Client, number: u16, peer: &str) -> Ask {
    request(CHANNEL_BIND).channel(number).peer(peer).signed(client)
}

pub fn indications() -> Vec<Row> {
    vec![
        row("8656 11.2", "a permitted peer", Permitted, |_| Ask::indication(SEND).peer(PEER).data(b"hello"), To(PEER)),
        row(
            "8656 11.2",
            "another port of a permitted peer",
            Permitted,
            |_| Ask::indication(SEND).peer(PEER_TOO).data(b"hello"),
            To(PEER_TOO),
        ),
        row(
            "8656 11.2",
            "DATA before XOR-PEER-ADDRESS",
            Permitted,
            |_| Ask::indication(SEND).data(b"hello").peer(PEER),
            To(PEER),
        ),
        row("8656 11.2", "empty DATA", Permitted, |_| Ask::indication(SEND).peer(PEER).data(b""), To(PEER)),
        row("8656 11.2", "a bound peer", Bound, |_| Ask::indication(SEND).peer(PEER).data(b"hello"), To(PEER)),
        row(
            "8656 11.2",
            "the first of two peers counts",
            Permitted,
            |_| Ask::indication(SEND).peer(PEER).peer(OTHER_PEER).data(b"hello"),
            To(PEER),
        ),
        row("8656 11.2", "no allocation", Challenged, |_| Ask::indication(SEND).peer(PEER).data(b"hello"), Silence),
        row("8656 11.2", "no permission", Permitted, |_| Ask::indication(SEND).peer(OTHER_PEER).data(b"x"), Silence),
        row("8656 11.2", "no DATA", Permitted, |_| Ask::indication(SEND).peer(PEER), Silence),
        row("8656 11.2", "no XOR-PEER-ADDRESS", Permitted, |_| Ask::indication(SEND).data(b"hello"), Silence),
        row(
            "8656 11.2",
            "a malformed XOR-PEER-ADDRESS",
            Permitted,
            |_| Ask::indication(SEND).attr(0x0012, &[0, 1]).data(b"hello"),
            Silence,
        ),
        row(
            "8656 11.2",
            "a peer of port 0",
            Permitted,
            |_| Ask::indication(SEND).peer("8.8.8.8:0").data(b"x"),
            Silence,
        ),
        row(
            "8656 11.2",
            "a peer of the other family",
            Permitted,
            |_| Ask::indication(SEND).peer(PEER_V6).data(b"x"),
            Silence,
        ),
        row(
            "8489 6.3.2",
            "an unknown required attribute",
            Permitted,
            |_| Ask::indication(SEND).peer(PEER).data(b"x").attr(0x0033, &[]),
            Silence,
        ),
        row(
            "8489 6.3.2",
            "an unknown optional attribute",
            Permitted,
            |_| Ask::indication(SEND).attr(0xff05, b"x").peer(PEER).data(b"x"),
            To(PEER),
        ),
        row(
            "8656 11.2",
            "a service port of ours",
            Permitted,
            |_| Ask::indication(SEND).peer("192.0.2.1:3478").data(b"x"),
            Silence,
        )
        .world(|world| {
            let mut client = Client::new(tuple("198.51.100.7:4000"), "p.1");
            world.challenge(&mut client);
            world.permit(&client, "192.0.2.1:1");
        }),
    ]
}
