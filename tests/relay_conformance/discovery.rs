//! RFC 5780: NAT behaviour discovery.

use relais::relay::{Alternate, Settings};

use super::relay_common::*;
use super::{Expected::*, Row, Stage::*, request, row};

const CHANGE_REQUEST: u16 = 0x0003;
const PADDING: u16 = 0x0026;
const RESPONSE_PORT: u16 = 0x0027;
const RESPONSE_ORIGIN: u16 = 0x802b;
const OTHER_ADDRESS: u16 = 0x802c;

fn two_addresses(settings: &mut Settings) {
    settings.alternate = Some(Alternate { first: addr("192.0.2.1:3478"), other: addr("192.0.2.2:3479") });
}

fn two_addresses_v6(settings: &mut Settings) {
    settings.alternate = Some(Alternate { first: addr("[2001:db8::1]:3478"), other: addr("[2001:db8::2]:3479") });
}

fn change(flags: u8) -> Ask {
    request(BINDING).attr(CHANGE_REQUEST, &[0, 0, 0, flags])
}

/// The value of an IPv4 address attribute.
fn v4(address: [u8; 4], port: u16) -> Option<Vec<u8>> {
    let [high, low] = port.to_be_bytes();
    Some([&[0, 1, high, low][..], &address].concat())
}

pub fn discovery() -> Vec<Row> {
    vec![
        row("5780 6.1", "Binding, two addresses", Challenged, |_| request(BINDING), Success)
            .settings(two_addresses)
            .check(|client, reply| {
                assert_eq!(reply.address(0x0020), Some(client.tuple.client));
                assert_eq!(reply.get(0x0001), v4([198, 51, 100, 7], 4000), "MAPPED-ADDRESS");
                assert_eq!(reply.get(RESPONSE_ORIGIN), v4([192, 0, 2, 1], 3478));
                assert_eq!(reply.get(OTHER_ADDRESS), v4([192, 0, 2, 2], 3479));
            }),
        row("5780 6.1", "Binding, one address", Challenged, |_| request(BINDING), Success).check(|_, reply| {
            assert_eq!((reply.get(RESPONSE_ORIGIN), reply.get(OTHER_ADDRESS)), (None, None));
        }),
        row("5780 6.1", "Binding over the other family", ChallengedV6, |_| request(BINDING), Success)
            .settings(two_addresses)
            .check(|_, reply| assert_eq!(reply.get(OTHER_ADDRESS), None)),
        row(
            "5780 6.1",
            "Binding of 44 bytes over IPv6",
            ChallengedV6,
            |_| request(BINDING).attr(0xff05, &[0; 20]),
            Success,
        )
        .settings(two_addresses_v6)
        .check(|_, reply| {
            assert!(reply.get(0x0001).is_some() && reply.get(OTHER_ADDRESS).unwrap().len() == 20);
        }),
        row("5780 6.1", "a bare Binding over IPv6", ChallengedV6, |_| request(BINDING), Success)
            .settings(two_addresses_v6)
            .check(|_, reply| assert_eq!(reply.get(0x0001), None, "the bound on amplification goes first")),
        row("5780 7.2", "CHANGE-REQUEST, one address", Challenged, |_| change(6), Error(420))
            .check(|_, reply| assert_eq!(reply.get(0x000a), Some(vec![0, 3]))),
        row("5780 7.2", "change nothing", Challenged, |_| change(0), Success)
            .settings(two_addresses)
            .check(|_, reply| assert_eq!(reply.get(RESPONSE_ORIGIN), v4([192, 0, 2, 1], 3478))),
        row("5780 7.2", "change port", Challenged, |_| change(2), Success)
            .settings(two_addresses)
            .check(|_, reply| assert_eq!(reply.get(RESPONSE_ORIGIN), v4([192, 0, 2, 1], 3479))),
        row("5780 7.2", "change IP", Challenged, |_| change(4), Success)
            .settings(two_addresses)
            .check(|_, reply| assert_eq!(reply.get(RESPONSE_ORIGIN), v4([192, 0, 2, 2], 3478))),
        row("5780 7.2", "change IP and port", Challenged, |_| change(6), Success).settings(two_addresses).check(
            |_, reply| {
                assert_eq!(reply.get(RESPONSE_ORIGIN), v4([192, 0, 2, 2], 3479));
                assert_eq!(reply.get(OTHER_ADDRESS), v4([192, 0, 2, 2], 3479), "whatever was asked for");
            },
        ),
        row(
            "5780 7.2",
            "CHANGE-REQUEST of 2 bytes",
            Challenged,
            |_| request(BINDING).attr(CHANGE_REQUEST, &[0, 6]),
            Error(400),
        )
        .settings(two_addresses),
        row(
            "5780 7.2",
            "CHANGE-REQUEST with an unknown attribute",
            Challenged,
            |_| change(6).attr(0x7ffe, &[]),
            Error(420),
        )
        .settings(two_addresses)
        .check(|_, reply| assert_eq!(reply.get(0x000a), Some(vec![0x7f, 0xfe]))),
        row(
            "5780 7.2",
            "CHANGE-REQUEST on Allocate",
            Challenged,
            |c| super::allocate().attr(CHANGE_REQUEST, &[0; 4]).signed(c),
            Error(420),
        )
        .settings(two_addresses),
        row("5780 7.6", "PADDING", Challenged, |_| request(BINDING).attr(PADDING, &[0; 600]), Success)
            .settings(two_addresses)
            .check(|_, reply| assert_eq!(reply.get(PADDING), Some(vec![0; 600]))),
        row(
            "5780 7.6",
            "PADDING with FINGERPRINT",
            Challenged,
            |_| request(BINDING).attr(PADDING, &[0; 33]).fingerprint(),
            Success,
        )
        .settings(two_addresses)
        .check(|_, reply| assert!(reply.has_right_fingerprint() && reply.get(PADDING) == Some(vec![0; 33]))),
        row(
            "5780 7.6",
            "PADDING of 30,000 bytes",
            Challenged,
            |_| request(BINDING).attr(PADDING, &[0; 30_000]),
            Success,
        )
        .settings(two_addresses)
        .check(|_, reply| assert_eq!(reply.get(PADDING).unwrap().len(), 1500, "one MTU is enough")),
        row("5780 7.6", "PADDING, one address", Challenged, |_| request(BINDING).attr(PADDING, &[0; 8]), Error(420)),
        row(
            "5780 7.5",
            "RESPONSE-PORT, one address",
            Challenged,
            |_| request(BINDING).attr(RESPONSE_PORT, &[9, 9, 0, 0]),
            Error(420),
        ),
        row("5780 7.5", "RESPONSE-PORT", Challenged, |_| request(BINDING).attr(RESPONSE_PORT, &[9, 9, 0, 0]), Success)
            .settings(two_addresses)
            .check(|client, reply| assert_eq!(reply.address(0x0020), Some(client.tuple.client))),
        row("5780 7.5", "RESPONSE-PORT 0", Challenged, |_| request(BINDING).attr(RESPONSE_PORT, &[0; 4]), Error(400))
            .settings(two_addresses),
        row(
            "5780 7.5",
            "RESPONSE-PORT of 3 bytes",
            Challenged,
            |_| request(BINDING).attr(RESPONSE_PORT, &[9, 9, 0]),
            Error(400),
        )
        .settings(two_addresses),
        row(
            "5780 6.1",
            "RESPONSE-PORT with PADDING",
            Challenged,
            |_| request(BINDING).attr(RESPONSE_PORT, &[9, 9, 0, 0]).attr(PADDING, &[0; 8]),
            Error(400),
        )
        .settings(two_addresses),
    ]
}
