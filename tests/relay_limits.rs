//! Bandwidth limits, and ICMP errors told to the client.

mod relay_common;

use relais::relay::{DropReason, Event, FiveTuple, IcmpError, Limits, RelayId, Settings, Traffic};
use relay_common::*;

const CLIENT: &str = "198.51.100.7:4000";

fn limited(limits: Limits) -> World {
    World::new(Settings { limits, ..settings() })
}

fn last_drop(world: &World) -> Option<DropReason> {
    world.events.iter().rev().find_map(|event| match event {
        Event::Dropped(reason) => Some(*reason),
        _ => None,
    })
}

/// A client with PEER on a channel and OTHER_PEER permitted.
fn ready(world: &mut World, address: &str) -> (Client, RelayId) {
    let (client, relay) = world.allocated(address, "p.1");
    assert_eq!(world.bind(&client, 0x4000, PEER), None);
    world.permit(&client, OTHER_PEER);
    (client, relay)
}

/// How many of 1000 packets of 1000 bytes (972 of payload) go each way: by channel, by Send, and back by both.
fn carried(world: &mut World, client: &Client, relay: RelayId) -> [usize; 2] {
    let payload = [7; 972];
    let sent = (0..1000).filter(|turn| match turn % 2 {
        0 => world.channel_data(client, 0x4000, &payload).is_some(),
        _ => world.send_to(client, OTHER_PEER, &payload).is_some(),
    });
    let sent = sent.count();
    let peers = [PEER, OTHER_PEER];
    let received = (0..1000).filter(|turn| world.peer(relay, peers[turn % 2], payload.len()).is_some()).count();
    [sent, received]
}

#[test]
fn an_allocation_keeps_its_rate_each_way() {
    let mut world = limited(Limits { bandwidth: Some(100_000), ..Limits::default() });
    let (client, relay) = ready(&mut world, CLIENT);
    assert_eq!(carried(&mut world, &client, relay), [100, 100], "a second's worth at once");
    assert_eq!(last_drop(&world), Some(DropReason::Bandwidth));
    world.pass(1);
    assert_eq!(carried(&mut world, &client, relay), [100, 100]);

    let (other, other_relay) = ready(&mut world, "198.51.100.8:4000");
    assert_eq!(carried(&mut world, &other, other_relay), [100, 100], "each has its own");
    let refresh = Ask::request(REFRESH, 7).lifetime(0).signed(&client);
    assert_eq!(world.ask(&client, refresh).code(), None, "control goes through");
    let traffic = world.events.iter().rev().find_map(|event| match event {
        Event::Deleted { traffic, .. } => Some(*traffic),
        _ => None,
    });
    let (bytes, packets) = (200 * 972, 200);
    let counted =
        Traffic { to_peer_bytes: bytes, to_peer_packets: packets, to_client_bytes: bytes, to_client_packets: packets };
    assert_eq!(traffic, Some(counted), "what was dropped was not relayed");
}

#[test]
fn the_total_holds_for_all_cores() {
    let settings = Settings { limits: Limits { total_bandwidth: Some(150_000), ..Limits::default() }, ..settings() };
    let shared = std::sync::Arc::new(relais::relay::Shared::new(settings.clone()));
    let mut carried_by_all = [0; 2];
    for address in [CLIENT, "198.51.100.8:4000", "198.51.100.9:4000"] {
        let mut world = World::new(settings.clone());
        world.relay.set_shared(shared.clone());
        let (client, relay) = ready(&mut world, address);
        let [sent, received] = carried(&mut world, &client, relay);
        carried_by_all = [carried_by_all[0] + sent, carried_by_all[1] + received];
    }
    assert_eq!(carried_by_all, [150, 150]);
}

#[test]
fn a_small_rate_lets_the_largest_packet_through() {
    let mut world = limited(Limits { bandwidth: Some(1000), ..Limits::default() });
    let (client, relay) = ready(&mut world, CLIENT);
    assert!(world.channel_data(&client, 0x4000, &[7; 65_507]).is_some());
    assert!(world.channel_data(&client, 0x4000, &[]).is_none(), "an empty packet costs its headers");
    assert!(world.peer(relay, PEER, 65_507).is_some());
}

#[test]
fn no_limit_is_the_default() {
    let mut world = limited(Limits::default());
    let (client, relay) = ready(&mut world, CLIENT);
    assert_eq!(carried(&mut world, &client, relay), [1000, 1000]);
}

/// The Data indication of an ICMP error, read by the `stun` crate.
fn told(world: &mut World, relay: RelayId, peer: &str, error: IcmpError) -> Option<(FiveTuple, Reply)> {
    world.relay.handle_peer_icmp(world.now, relay, addr(peer), error);
    world.drain();
    world.replies.pop()
}

#[test]
fn icmp_errors_are_told() {
    for (family, peer, errors) in [
        (
            1,
            PEER,
            // type, code, reported MTU, and the attribute's sixteen bits and data.
            [(3, 3, 0, 0x0603, 0), (3, 4, 1280, 0x0604, 1280), (11, 0, 9, 0x1600, 0), (3, 1, 1500, 0x0601, 0)],
        ),
        (2, PEER_V6, [(1, 4, 0, 0x0204, 0), (2, 0, 1280, 0x0400, 1280), (3, 0, 9, 0x0600, 0), (1, 0, 1500, 0x0200, 0)]),
    ] {
        let mut world = limited(Limits::default());
        let client = world.client(CLIENT, "p.1");
        let allocate = Ask::request(ALLOCATE, 1).transport(17).family(family).signed(&client);
        assert_eq!(world.ask(&client, allocate).code(), None);
        let relay = world.opened[0];
        assert_eq!(world.bind(&client, 0x4000, peer), None);
        for (kind, code, mtu, bits, data) in errors {
            let (tuple, indication) = told(&mut world, relay, peer, IcmpError { kind, code, mtu }).expect("told");
            assert_eq!((tuple, indication.message.typ.value()), (client.tuple, 0x0017));
            assert_eq!(indication.address(0x0012), Some(addr(peer)));
            let value = u64::from_be_bytes(indication.get(0x8004).unwrap().try_into().unwrap());
            assert_eq!(value, u64::from(bits as u32) << 32 | data, "{kind} {code}");
            assert_eq!(indication.message.attributes.0.len(), 2, "no DATA");
        }
    }
}

#[test]
fn other_icmp_messages_are_not_told() {
    let unreachable = IcmpError { kind: 3, code: 3, mtu: 0 };
    let mut world = limited(Limits::default());
    let (client, relay) = ready(&mut world, CLIENT);
    for kind in (0..=255).filter(|kind| ![3, 11].contains(kind)) {
        assert!(told(&mut world, relay, PEER, IcmpError { kind, ..unreachable }).is_none(), "type {kind}");
    }
    assert_eq!(last_drop(&world), Some(DropReason::Malformed));
    assert!(told(&mut world, relay, PEER_V6, IcmpError { kind: 1, ..unreachable }).is_none(), "the other family");
    assert!(told(&mut world, relay, "8.8.8.8:0", unreachable).is_none(), "port 0");
    assert!(told(&mut world, relay, "9.9.9.9:5000", unreachable).is_none(), "no permission");
    assert_eq!(last_drop(&world), Some(DropReason::NoPermission));
    assert!(told(&mut world, relay, "[::ffff:8.8.8.8]:5000", unreachable).is_some(), "one form per peer");
    world.pass_without_timer(std::time::Duration::from_secs(301));
    assert!(told(&mut world, relay, PEER, unreachable).is_none(), "the permission is over");
    world.pass(300);
    assert!(told(&mut world, relay, PEER, unreachable).is_none(), "the allocation is over");
    assert_eq!(last_drop(&world), Some(DropReason::NoAllocation));
    assert_eq!(world.closed, [relay]);
    drop(client);
}
