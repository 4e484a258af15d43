//! RFC 8656 sections 7 and 8: Allocate and Refresh.

use relais::relay::OpenError;

use super::relay_common::*;
use super::{Expected::*, Row, Stage::*, allocate, expired, request, row, subject};

pub fn allocation() -> Vec<Row> {
    vec![
        row("8656 7.2", "as libwebrtc asks", Challenged, |c| allocate().signed(c), Success).check(|client, reply| {
            assert_eq!(reply.relayed().ip(), addr("192.0.2.1:1").ip());
            assert_eq!(reply.address(0x0020), Some(client.tuple.client));
            assert_eq!(reply.lifetime(), Some(600));
        }),
        row("8656 7.2", "LIFETIME 3600, as Firefox asks", Challenged, |c| allocate().lifetime(3600).signed(c), Success)
            .check(|_, reply| assert_eq!(reply.lifetime(), Some(3600))),
        row("8656 7.2", "LIFETIME above the maximum", Challenged, |c| allocate().lifetime(u32::MAX).signed(c), Success)
            .check(|_, reply| assert_eq!(reply.lifetime(), Some(3600))),
        row("8656 7.2", "LIFETIME below the default", Challenged, |c| allocate().lifetime(1).signed(c), Success)
            .check(|_, reply| assert_eq!(reply.lifetime(), Some(600))),
        row("8656 7.2", "LIFETIME 0", Challenged, |c| allocate().lifetime(0).signed(c), Success)
            .check(|_, reply| assert_eq!(reply.lifetime(), Some(600))),
        row("8656 7.2", "LIFETIME of 2 bytes", Challenged, |c| allocate().attr(0x000d, &[0, 9]).signed(c), Error(400)),
        row("8656 7.2", "1:1 NAT", Challenged, |c| allocate().signed(c), Success)
            .settings(|settings| {
                let public = "203.0.113.77".parse().unwrap();
                settings.public_ips = vec![relais::config::PublicIp { public, bound: None }];
            })
            .check(|_, reply| assert_eq!(reply.relayed(), addr("203.0.113.77:50002"))),
        row("8656 7.2.2", "a second Allocate with another id", Allocated, |c| allocate().signed(c), Error(437)),
        row("8656 7.2.2", "another id while the first is pending", Pending, |c| allocate().signed(c), Error(437)),
        row(
            "8656 7.2.2",
            "the same id while it is pending",
            Pending,
            |c| Ask::request(ALLOCATE, 1).transport(17).signed(c),
            Silence,
        ),
        row(
            "8656 7.2.2",
            "a retransmission",
            Allocated,
            |c| Ask::request(ALLOCATE, 1).transport(17).signed(c),
            Success,
        )
        .check(|_, reply| assert_eq!(reply.relayed().port(), 50_002)),
        row(
            "8656 7.2.2",
            "the same id from another subject",
            Allocated,
            |c| Ask::request(ALLOCATE, 1).transport(17).signed(&subject(c, "p.2")),
            Error(437),
        ),
        row("8656 7.2.3", "no REQUESTED-TRANSPORT", Challenged, |c| request(ALLOCATE).signed(c), Error(400)),
        row(
            "8656 7.2.3",
            "REQUESTED-TRANSPORT of 1 byte",
            Challenged,
            |c| request(ALLOCATE).attr(0x0019, &[17]).signed(c),
            Error(400),
        ),
        row(
            "8656 7.2.3",
            "REQUESTED-TRANSPORT SCTP",
            Challenged,
            |c| request(ALLOCATE).transport(132).signed(c),
            Error(442),
        ),
        row(
            "8656 7.2.3",
            "REQUESTED-TRANSPORT 0",
            Challenged,
            |c| request(ALLOCATE).transport(0).signed(c),
            Error(442),
        ),
        row("8656 7.2.4", "DONT-FRAGMENT", Challenged, |c| allocate().attr(0x001a, &[]).signed(c), Success),
        row(
            "8656 7.2.5",
            "RESERVATION-TOKEN with EVEN-PORT",
            Challenged,
            |c| allocate().attr(0x0022, &[0; 8]).attr(0x0018, &[0]).signed(c),
            Error(400),
        ),
        row(
            "8656 7.2.5",
            "RESERVATION-TOKEN with REQUESTED-ADDRESS-FAMILY",
            Challenged,
            |c| allocate().attr(0x0022, &[0; 8]).family(1).signed(c),
            Error(400),
        ),
        row(
            "8656 7.2.5",
            "RESERVATION-TOKEN with ADDITIONAL-ADDRESS-FAMILY",
            Challenged,
            |c| allocate().attr(0x0022, &[0; 8]).additional_family(2).signed(c),
            Error(400),
        ),
        row(
            "8656 7.2.5",
            "RESERVATION-TOKEN of 7 bytes",
            Challenged,
            |c| allocate().attr(0x0022, &[0; 7]).signed(c),
            Error(400),
        ),
        row(
            "8656 7.2.5",
            "a RESERVATION-TOKEN nobody holds",
            Challenged,
            |c| allocate().attr(0x0022, &[0; 8]).signed(c),
            Error(508),
        )
        .world(|world| world.shell = Shell::Refuses(OpenError::Capacity)),
        row(
            "8656 7.2.6",
            "both family attributes",
            Challenged,
            |c| allocate().family(1).additional_family(2).signed(c),
            Error(400),
        ),
        row("8656 7.2.7", "REQUESTED-ADDRESS-FAMILY IPv4", ChallengedV6, |c| allocate().family(1).signed(c), Success)
            .check(|_, reply| assert!(reply.relayed().is_ipv4())),
        row("8656 7.2.7", "REQUESTED-ADDRESS-FAMILY IPv6", Challenged, |c| allocate().family(2).signed(c), Success)
            .check(|_, reply| assert!(reply.relayed().is_ipv6())),
        row("8656 7.2.7", "REQUESTED-ADDRESS-FAMILY 3", Challenged, |c| allocate().family(3).signed(c), Error(440)),
        row(
            "8656 7.2.7",
            "REQUESTED-ADDRESS-FAMILY of 1 byte",
            Challenged,
            |c| allocate().attr(0x0017, &[1]).signed(c),
            Error(400),
        ),
        row("8656 7.2.7", "a family that is not bound", Challenged, |c| allocate().family(2).signed(c), Error(440))
            .world(|world| world.shell = Shell::Refuses(OpenError::Family)),
        row("8656 7.2.7", "no family on an IPv6 listener", ChallengedV6, |c| allocate().signed(c), Success)
            .check(|_, reply| assert!(reply.relayed().is_ipv4())),
        row("8656 7.2.7", "no family, and no IPv4 relay address", ChallengedV6, |c| allocate().signed(c), Success)
            .world(|world| world.shell = Shell::OnlyV6)
            .check(|_, reply| assert!(reply.relayed().is_ipv6())),
        row(
            "8656 7.2.7",
            "no family over IPv4, and no IPv4 relay address",
            Challenged,
            |c| allocate().signed(c),
            Error(440),
        )
        .world(|world| world.shell = Shell::OnlyV6),
        row("8656 7.2.7", "no family, no IPv4, strict", ChallengedV6, |c| allocate().signed(c), Error(440))
            .settings(|settings| settings.strict_family = true)
            .world(|world| world.shell = Shell::OnlyV6),
        row("8656 7.2.7", "IPv4 by name, and none there", ChallengedV6, |c| allocate().family(1).signed(c), Error(440))
            .world(|world| world.shell = Shell::OnlyV6),
        row("8656 7.2.7", "no family on an IPv6 listener, strict", ChallengedV6, |c| allocate().signed(c), Success)
            .settings(|settings| settings.strict_family = true)
            .check(|_, reply| assert!(reply.relayed().is_ipv4())),
        row(
            "8656 7.2.8",
            "EVEN-PORT, R=1, no family, no IPv4",
            ChallengedV6,
            |c| allocate().attr(0x0018, &[0x80]).signed(c),
            Success,
        )
        .world(|world| world.shell = Shell::OnlyV6)
        .check(|_, reply| {
            assert!(reply.relayed().is_ipv6());
            assert_eq!(reply.get(0x0022).map(|token| token[0] & 1), Some(1), "the token is for IPv6");
        }),
        row("8656 7.2.7", "no family, and the quota is used up", ChallengedV6, |c| allocate().signed(c), Error(486))
            .world(|world| world.shell = Shell::Refuses(OpenError::Quota)),
        row("8656 7.2.8", "EVEN-PORT, R=0", Challenged, |c| allocate().attr(0x0018, &[0]).signed(c), Success)
            .check(|_, reply| assert_eq!(reply.get(0x0022), None)),
        row("8656 7.2.8", "EVEN-PORT, R=1", Challenged, |c| allocate().attr(0x0018, &[0x80]).signed(c), Success)
            .check(|_, reply| assert_eq!(reply.get(0x0022).map(|token| token.len()), Some(8))),
        row(
            "8656 7.2.8",
            "EVEN-PORT R=1 with ADDITIONAL-ADDRESS-FAMILY",
            Challenged,
            |c| allocate().attr(0x0018, &[0x80]).additional_family(2).signed(c),
            Error(400),
        ),
        row(
            "8656 7.2.8",
            "EVEN-PORT of 4 bytes",
            Challenged,
            |c| allocate().attr(0x0018, &[0; 4]).signed(c),
            Error(400),
        ),
        row(
            "8656 7.2.9",
            "ADDITIONAL-ADDRESS-FAMILY IPv6",
            Challenged,
            |c| allocate().additional_family(2).signed(c),
            Success,
        )
        .check(|_, reply| {
            let kinds = reply.message.attributes.0.iter().filter(|attribute| attribute.typ.value() == 0x0016);
            assert_eq!(kinds.count(), 2);
        }),
        row(
            "8656 7.2.9",
            "ADDITIONAL-ADDRESS-FAMILY IPv6 on an IPv6 listener",
            ChallengedV6,
            |c| allocate().additional_family(2).signed(c),
            Success,
        )
        .check(|_, reply| assert!(reply.relayed().is_ipv4(), "IPv4 first")),
        row(
            "8656 7.2.9",
            "ADDITIONAL-ADDRESS-FAMILY IPv4",
            Challenged,
            |c| allocate().additional_family(1).signed(c),
            Error(400),
        ),
        row(
            "8656 7.2.9",
            "ADDITIONAL-ADDRESS-FAMILY 9",
            Challenged,
            |c| allocate().additional_family(9).signed(c),
            Error(400),
        ),
        row("8656 7.2.10", "the subject has its allocations", Challenged, |c| allocate().signed(c), Error(486))
            .world(|world| world.shell = Shell::Refuses(OpenError::Quota)),
        row("8656 7.2", "no port left", Challenged, |c| allocate().signed(c), Error(508))
            .world(|world| world.shell = Shell::Refuses(OpenError::Capacity)),
        row("DESIGN 5", "a revoked subject", Challenged, |c| allocate().signed(c), Error(401))
            .world(|world| world.shell = Shell::Refuses(OpenError::Revoked)),
    ]
}

pub fn refresh() -> Vec<Row> {
    vec![
        row("8656 8.2", "no allocation", Challenged, |c| request(REFRESH).signed(c), Error(437)),
        row("8656 8.2", "a pending allocation", Pending, |c| request(REFRESH).signed(c), Error(437)),
        row("8656 8.2", "no LIFETIME", Allocated, |c| request(REFRESH).signed(c), Success)
            .check(|_, reply| assert_eq!(reply.lifetime(), Some(600))),
        row("8656 8.2", "LIFETIME 0", Allocated, |c| request(REFRESH).lifetime(0).signed(c), Success)
            .check(|_, reply| assert_eq!(reply.lifetime(), Some(0))),
        row("8656 8.2", "LIFETIME 1", Allocated, |c| request(REFRESH).lifetime(1).signed(c), Success)
            .check(|_, reply| assert_eq!(reply.lifetime(), Some(600))),
        row("8656 8.2", "LIFETIME 1800", Allocated, |c| request(REFRESH).lifetime(1800).signed(c), Success)
            .check(|_, reply| assert_eq!(reply.lifetime(), Some(1800))),
        row(
            "8656 8.2",
            "LIFETIME above the maximum",
            Allocated,
            |c| request(REFRESH).lifetime(1_000_000).signed(c),
            Success,
        )
        .check(|_, reply| assert_eq!(reply.lifetime(), Some(3600))),
        row(
            "8656 8.2",
            "LIFETIME of 8 bytes",
            Allocated,
            |c| request(REFRESH).attr(0x000d, &[0; 8]).signed(c),
            Error(400),
        ),
        row("8656 8.2", "its own family", Allocated, |c| request(REFRESH).family(1).signed(c), Success),
        row("8656 8.2", "the family it has not", Allocated, |c| request(REFRESH).family(2).signed(c), Error(443)),
        row("8656 8.2", "a family nobody knows", Allocated, |c| request(REFRESH).family(7).signed(c), Error(443)),
        row("8656 8.2", "one of two families", Dual, |c| request(REFRESH).family(2).signed(c), Success),
        row(
            "8656 8.2",
            "an unknown required attribute",
            Allocated,
            |c| request(REFRESH).attr(0x0033, &[]).signed(c),
            Error(420),
        ),
        row(
            "REST draft",
            "an expired credential of the subject",
            Allocated,
            |c| request(REFRESH).signed(&expired(c)),
            Success,
        ),
        row(
            "REST draft",
            "an expired credential, strict",
            Allocated,
            |c| request(REFRESH).signed(&expired(c)),
            Error(401),
        )
        .settings(|settings| settings.strict_expiry = true),
    ]
}
