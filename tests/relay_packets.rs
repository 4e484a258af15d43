//! Packets: what is forwarded where, in what form, and what is dropped by what name.

mod relay_common;

use std::sync::Arc;

use relais::relay::{DropReason, Event, Limits, Output, Rate, Relay, Route, Settings, Shared, Transport};
use relay_common::*;

const CLIENT: &str = "198.51.100.7:4000";

fn world() -> World {
    World::new(settings())
}

fn last_drop(world: &World) -> Option<DropReason> {
    world.events.iter().rev().find_map(|event| match event {
        Event::Dropped(reason) => Some(*reason),
        _ => None,
    })
}

/// The Data indication, read by the `stun` crate.
#[test]
fn a_data_indication_is_well_formed() {
    for (peer, family) in [(PEER, 1), (PEER_V6, 2)] {
        let mut world = world();
        let client = world.client(CLIENT, "p.1");
        let reply = world.ask(&client, Ask::request(ALLOCATE, 1).transport(17).family(family).signed(&client));
        assert_eq!(reply.code(), None);
        let relay = world.opened[0];
        world.permit(&client, peer);
        let payload = b"seven b";
        let data = world.peer(relay, peer, payload.len()).unwrap();
        let mut bytes = data.head().to_vec();
        bytes.extend(payload);
        bytes.extend(vec![0; data.padding.into()]);
        let indication = Reply::parse(&bytes);
        assert_eq!(indication.message.typ.value(), 0x0017);
        assert_eq!(indication.address(0x0012), Some(addr(peer)));
        assert_eq!(indication.get(0x0013).as_deref(), Some(&payload[..]));
        let again = world.peer(relay, peer, payload.len()).unwrap();
        assert_ne!(data.head()[8..20], again.head()[8..20], "transaction ids differ");
    }
}

#[test]
fn the_send_payload_is_where_it_says() {
    let mut world = world();
    let (client, _) = world.allocated(CLIENT, "p.1");
    world.permit(&client, PEER);
    let bytes = Ask::indication(SEND).attr(0x001a, &[]).peer(PEER).data(b"payload").bytes();
    let sent = world.send(&client.tuple, &bytes).unwrap();
    assert_eq!(&bytes[sent.start..sent.start + sent.len], b"payload");
    assert!(sent.dont_fragment);
}

#[test]
fn own_addresses_are_routed_inside() {
    let own = |allow: &[&str]| {
        let allow_peers = allow.iter().map(|text| cidr(text)).collect();
        let mut world = World::new(Settings { allow_peers, ..settings() });
        let (client, _) = world.allocated(CLIENT, "p.1");
        world.permit(&client, "192.0.2.1:1");
        assert_eq!(world.bind(&client, 0x4000, "192.0.2.1:50001"), None);
        let by_channel = world.channel_data(&client, 0x4000, b"x").unwrap().route;
        assert_eq!(world.send_to(&client, "192.0.2.1:50001", b"x").unwrap().route, by_channel);
        assert_eq!(world.send_to(&client, "192.0.2.1:3478", b"x"), None, "never a service port");
        assert_eq!(last_drop(&world), Some(DropReason::PeerDenied));
        by_channel
    };
    assert_eq!(own(&[]), Route::Own { else_network: false });
    assert_eq!(own(&["192.0.2.0/24"]), Route::Own { else_network: true });
}

#[test]
fn streams_pad_channel_data_and_datagrams_do_not() {
    for (transport, padding) in [(Transport::Udp, 0), (Transport::Tcp, 3), (Transport::Tls, 3)] {
        let mut world = world();
        let mut client = Client::new(tuple(CLIENT), "p.1");
        client.tuple.transport = transport;
        world.challenge(&mut client);
        assert_eq!(world.ask(&client, Ask::request(ALLOCATE, 1).transport(17).signed(&client)).code(), None);
        assert_eq!(world.bind(&client, 0x4000, PEER), None);
        let relay = world.opened[0];
        assert_eq!(world.peer(relay, PEER, 5).unwrap().padding, padding);
        assert_eq!(world.peer(relay, PEER, 0).unwrap().head(), [0x40, 0, 0, 0]);
    }
}

#[test]
fn odd_packets_are_dropped_by_name() {
    let mut world = world();
    let (client, relay) = world.allocated(CLIENT, "p.1");
    assert_eq!(world.bind(&client, 0x4000, PEER), None);
    let from_client: [(&[u8], DropReason); 7] = [
        (&[], DropReason::Malformed),
        (&[0x80, 1, 2, 3], DropReason::Malformed),
        (&[0x00, 0x01], DropReason::Malformed),
        (&[0x40], DropReason::Malformed),
        (&[0x40, 0x00, 0x00, 0x05, 1, 2, 3, 4], DropReason::Malformed),
        (&[0x40, 0x01, 0x00, 0x00], DropReason::UnknownChannel),
        (&[0x7f, 0xff, 0x00, 0x00], DropReason::UnknownChannel),
    ];
    for (bytes, reason) in from_client {
        assert_eq!(world.send(&client.tuple, bytes), None);
        assert_eq!(last_drop(&world), Some(reason), "{bytes:?}");
    }
    let mut trailing = channel_data(0x4000, b"abc");
    trailing.push(0);
    assert_eq!(world.send(&client.tuple, &trailing).unwrap().len, 3, "padding over UDP is not required, but allowed");
    assert_eq!(world.send(&tuple("198.51.100.99:1"), &channel_data(0x4000, b"abc")), None);
    assert_eq!(last_drop(&world), Some(DropReason::NoAllocation));
    assert_eq!(world.peer(relay, "8.8.8.8:0", 1), None);
    assert_eq!(last_drop(&world), Some(DropReason::SourcePortZero));
    assert_eq!(world.peer(relay, "[::ffff:8.8.8.8]:5000", 1).unwrap().head().len(), 4, "one form per peer");
    assert_eq!(world.peer(relay, PEER, 65_536), None);
    assert_eq!(world.peer(relay, PEER_TOO, 65_536), None);
    assert_eq!(world.peer(relay, PEER_TOO, 65_500).unwrap().head().len(), 36);
    assert!(world.replies.is_empty());
}

#[test]
fn the_unauthenticated_leave_nothing_behind_and_are_not_amplified() {
    let mut world = world();
    for port in 1..2000 {
        let tuple = tuple(&format!("198.51.{}.7:{port}", port % 250));
        let ask = Ask::request(ALLOCATE, 1).transport(17).fingerprint().bytes();
        world.send(&tuple, &ask);
        let (_, reply) = world.replies.pop().unwrap();
        assert_eq!(reply.code(), Some(401));
        let packets = (reply.message.raw.len() + 28, ask.len() + 28);
        assert!(packets.0 <= 2 * packets.1, "{packets:?} bytes with headers");
    }
    assert_eq!((world.relay.allocations(), world.relay.poll_timeout()), (0, None));
}

/// The contract is to drain after every input; a shell that does not must not grow the queue for ever.
#[test]
fn the_output_queue_is_bounded() {
    let plenty = Rate { per_second: 10_000, burst: 10_000 };
    let limits = Limits { strangers_per_prefix: plenty, ..Limits::default() };
    let mut relay = Relay::new(Arc::new(Shared::new(Settings { limits, ..settings() })), 1);
    let now = relais::time::Now::default();
    for _ in 0..10_000 {
        relay.handle_client(now, &tuple(CLIENT), &Ask::request(BINDING, 1).bytes());
    }
    let mut outputs = 0;
    while let Some(output) = relay.poll_output() {
        assert!(matches!(output, Output::ToClient { .. }));
        outputs += 1;
    }
    assert_eq!(outputs, 1024);
}
