//! Lifecycles on a simulated clock.

mod relay_common;

use std::sync::Arc;
use std::time::Duration;

use relais::credentials::turn;
use relais::relay::{DropReason, EndReason, Event, Family, OpenError, RelayId, Route, Settings, Shared, Traffic};
use relay_common::*;

const CLIENT: &str = "198.51.100.7:4000";

fn world() -> World {
    World::new(settings())
}

fn refresh(world: &mut World, client: &Client, lifetime: u32) -> Option<u16> {
    world.ask(client, Ask::request(REFRESH, 4).lifetime(lifetime).signed(client)).code()
}

fn deleted(world: &World) -> Vec<EndReason> {
    let reason = |event: &Event| match event {
        Event::Deleted { reason, .. } => Some(*reason),
        _ => None,
    };
    world.events.iter().filter_map(reason).collect()
}

fn last_drop(world: &World) -> Option<DropReason> {
    world.events.iter().rev().find_map(|event| match event {
        Event::Dropped(reason) => Some(*reason),
        _ => None,
    })
}

#[test]
fn a_call_from_allocate_to_release() {
    let mut world = world();
    let (client, relay) = world.allocated(CLIENT, "p.1");
    assert_eq!(world.relay.allocations(), 1);
    world.permit(&client, PEER);
    let sent = world.send_to(&client, PEER, b"hello").unwrap();
    assert_eq!((sent.relay, sent.peer, sent.route, sent.dont_fragment), (relay, addr(PEER), Route::Network, false));

    let data = world.peer(relay, PEER, 5).unwrap();
    assert_eq!((data.tuple, data.head().len(), data.padding), (client.tuple, 36, 3));
    assert_eq!(world.bind(&client, 0x4001, PEER), None);
    let sent = world.channel_data(&client, 0x4001, b"hello!").unwrap();
    assert_eq!((sent.peer, sent.start, sent.len), (addr(PEER), 4, 6));
    let data = world.peer(relay, PEER, 6).unwrap();
    assert_eq!((data.head(), data.padding), (&[0x40, 0x01, 0x00, 0x06][..], 0));
    assert_eq!(world.peer(relay, PEER_TOO, 6).unwrap().head().len(), 36, "the channel is for one port");

    assert_eq!(refresh(&mut world, &client, 0), None);
    assert_eq!((world.relay.allocations(), world.relay.poll_timeout()), (0, None));
    assert_eq!(world.closed, [relay]);
    let traffic = Traffic { to_peer_bytes: 11, to_peer_packets: 2, to_client_bytes: 17, to_client_packets: 3 };
    let subject = Arc::from("p.1");
    let is_it = |event: &&Event| matches!(event, Event::Deleted { relay: ended, .. } if *ended == relay);
    let Some(Event::Deleted { relayed, .. }) = world.events.iter().find(is_it) else { panic!("{:?}", world.events) };
    let (relayed, reason) = (*relayed, EndReason::Released);
    let ended = Event::Deleted { relay, tuple: client.tuple, subject, relayed, reason, traffic };
    assert!(world.events.contains(&ended));
    assert_eq!(refresh(&mut world, &client, 0), Some(437), "a retransmitted release");
    assert_eq!(world.peer(relay, PEER, 6), None);
}

#[test]
fn an_allocation_ends_to_the_second() {
    let mut world = world();
    let (_, relay) = world.allocated(CLIENT, "p.1");
    assert_eq!(world.relay.poll_timeout(), Some(world.now.mono + Duration::from_secs(600)));
    world.pass(599);
    assert_eq!(world.relay.allocations(), 1);
    world.pass(1);
    assert_eq!((world.relay.allocations(), deleted(&world)), (0, vec![EndReason::Expired]));
    assert_eq!(world.closed, [relay]);
    assert_eq!(world.relay.poll_timeout(), None);
}

#[test]
fn an_overdue_allocation_is_gone_before_the_timer_fires() {
    let mut world = world();
    let (client, relay) = world.allocated(CLIENT, "p.1");
    world.permit(&client, PEER);
    world.pass_without_timer(Duration::from_secs(300));
    world.permit(&client, PEER);
    world.pass_without_timer(Duration::from_millis(299_999));
    assert!(world.send_to(&client, PEER, b"x").is_some());
    assert!(world.peer(relay, PEER, 1).is_some());
    world.permit(&client, PEER);
    world.pass_without_timer(Duration::from_millis(1));
    assert_eq!(world.send_to(&client, PEER, b"x"), None);
    assert_eq!(world.peer(relay, PEER, 1), None);
    assert_eq!(refresh(&mut world, &client, 600), Some(437));
    assert_eq!(world.closed, [relay]);
}

#[test]
fn refresh_prolongs() {
    let mut world = world();
    let (client, relay) = world.allocated(CLIENT, "p.1");
    world.pass(540);
    assert_eq!(refresh(&mut world, &client, 1200), None);
    assert!(world.events.contains(&Event::Refreshed { relay, lifetime: 1200 }));
    world.pass(1199);
    assert_eq!(world.relay.allocations(), 1);
    world.pass(1);
    assert_eq!(world.relay.allocations(), 0);
}

#[test]
fn a_permission_lives_300_seconds_and_traffic_does_not_prolong_it() {
    let mut world = world();
    let (client, relay) = world.allocated(CLIENT, "p.1");
    world.permit(&client, PEER);
    world.pass(299);
    assert!(world.send_to(&client, PEER, b"x").is_some());
    assert!(world.peer(relay, PEER, 1).is_some());
    world.pass(1);
    assert_eq!(world.send_to(&client, PEER, b"x"), None);
    assert_eq!(last_drop(&world), Some(DropReason::NoPermission));
    assert_eq!(world.peer(relay, PEER, 1), None);
    world.permit(&client, PEER);
    assert!(world.peer(relay, PEER, 1).is_some());
}

#[test]
fn a_channel_lives_600_seconds_and_its_permission_300() {
    let mut world = world();
    let (client, relay) = world.allocated(CLIENT, "p.1");
    assert_eq!(refresh(&mut world, &client, 3600), None);
    assert_eq!(world.bind(&client, 0x4000, PEER), None);
    world.pass(300);
    assert_eq!(world.channel_data(&client, 0x4000, b"x"), None, "its permission is over");
    assert_eq!(world.peer(relay, PEER, 1), None);
    world.permit(&client, PEER);
    assert!(world.channel_data(&client, 0x4000, b"x").is_some());
    world.pass(299);
    world.permit(&client, PEER);
    assert_eq!(world.peer(relay, PEER, 1).unwrap().head().len(), 4);
    world.pass(1);
    assert_eq!(world.channel_data(&client, 0x4000, b"x"), None);
    assert_eq!(last_drop(&world), Some(DropReason::UnknownChannel));
    assert_eq!(world.peer(relay, PEER, 1).unwrap().head().len(), 36, "a Data indication again");
}

#[test]
fn channel_bind_refreshes_channel_and_permission() {
    let mut world = world();
    let (client, _) = world.allocated(CLIENT, "p.1");
    assert_eq!(refresh(&mut world, &client, 3600), None);
    for _ in 0..10 {
        assert_eq!(world.bind(&client, 0x4000, PEER), None);
        world.pass(240);
        assert!(world.channel_data(&client, 0x4000, b"x").is_some());
    }
}

#[test]
fn an_expired_channel_is_reserved_for_its_pair_for_300_seconds() {
    let mut world = world();
    let (client, relay) = world.allocated(CLIENT, "p.1");
    assert_eq!(refresh(&mut world, &client, 3600), None);
    assert_eq!(world.bind(&client, 0x4000, PEER), None);
    world.pass(899);
    assert_eq!(world.bind(&client, 0x4000, OTHER_PEER), Some(400));
    assert_eq!(world.bind(&client, 0x4001, PEER), Some(400));
    assert_eq!(world.bind(&client, 0x4000, PEER), None, "the same pair comes back");
    assert!(world.channel_data(&client, 0x4000, b"x").is_some());
    assert_eq!(world.peer(relay, PEER, 1).unwrap().head().len(), 4);
    world.pass(900);
    assert_eq!(world.bind(&client, 0x4000, OTHER_PEER), None, "free again");
    assert_eq!(world.bind(&client, 0x4001, PEER), None);
    assert_eq!(world.channel_data(&client, 0x4000, b"x").unwrap().peer, addr(OTHER_PEER));
    assert_eq!(world.peer(relay, PEER, 1).unwrap().head(), [0x40, 0x01, 0, 1]);
}

#[test]
fn create_permission_installs_all_or_none() {
    let mut world = world();
    let (client, _) = world.allocated(CLIENT, "p.1");
    for bad in [PRIVATE_PEER, PEER_V6] {
        let ask = Ask::request(CREATE_PERMISSION, 2).peer(PEER).peer(OTHER_PEER).peer(bad).signed(&client);
        assert!(matches!(world.ask(&client, ask).code(), Some(403 | 443)));
        assert_eq!(world.send_to(&client, PEER, b"x"), None);
    }
    assert!(world.events.iter().any(|event| matches!(event, Event::PermissionDenied { .. })));
    let ask = Ask::request(CREATE_PERMISSION, 2).peer(PEER).peer(OTHER_PEER).signed(&client);
    assert_eq!(world.ask(&client, ask).code(), None);
    assert!(world.send_to(&client, PEER, b"x").is_some());
    assert!(world.send_to(&client, OTHER_PEER, b"x").is_some());
}

#[test]
fn a_refused_channel_bind_leaves_no_permission() {
    let mut world = World::new(Settings { channels: 1, ..settings() });
    let (client, _) = world.allocated(CLIENT, "p.1");
    assert_eq!(world.bind(&client, 0x4000, PEER), None);
    assert_eq!(world.bind(&client, 0x4001, OTHER_PEER), Some(508));
    assert_eq!(world.send_to(&client, OTHER_PEER, b"x"), None);
}

#[test]
fn dead_permissions_make_room() {
    let mut world = World::new(Settings { permissions: 1, ..settings() });
    let (client, _) = world.allocated(CLIENT, "p.1");
    world.permit(&client, PEER);
    world.pass(300);
    world.permit(&client, OTHER_PEER);
    assert!(world.send_to(&client, OTHER_PEER, b"x").is_some());
}

#[test]
fn retransmissions_get_the_same_answer() {
    let mut world = world();
    let client = world.client(CLIENT, "p.1");
    let bytes = Ask::request(ALLOCATE, 1).transport(17).attr(0x0018, &[0x80]).lifetime(900).signed(&client);
    let bytes = bytes.fingerprint().bytes();
    let mut answers = Vec::new();
    for _ in 0..3 {
        world.send(&client.tuple, &bytes);
        answers.push(world.replies.pop().unwrap().1.message.raw);
        world.pass(1);
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
    assert_eq!((world.opened.len(), world.relay.allocations()), (1, 1));
}

#[test]
fn a_retransmission_while_pending_waits_and_asks_once() {
    let mut world = world();
    let client = world.client(CLIENT, "p.1");
    world.shell = Shell::Waits;
    let allocate = Ask::request(ALLOCATE, 1).transport(17).signed(&client);
    for _ in 0..3 {
        assert!(world.try_ask(&client, allocate.clone()).is_none());
    }
    assert_eq!((world.asked.len(), world.relay.allocations()), (1, 0));
    let open = world.asked.remove(0);
    assert_eq!((open.tuple, &*open.subject), (client.tuple, "p.1"));
    let bound = world.bound(&open);
    world.grant(&open, Ok(bound));
    assert_eq!(world.replies.pop().unwrap().1.relayed(), bound);
    assert_eq!(world.relay.allocations(), 1);
}

#[test]
fn a_shell_that_never_answers_is_not_waited_for_ever() {
    let mut world = world();
    let client = world.client(CLIENT, "p.1");
    world.shell = Shell::Waits;
    assert!(world.try_ask(&client, Ask::request(ALLOCATE, 1).transport(17).signed(&client)).is_none());
    world.pass(10);
    assert_eq!(world.replies.pop().unwrap().1.code(), Some(508));
    assert_eq!(world.relay.poll_timeout(), None);
    let open = world.asked.remove(0);
    let bound = world.bound(&open);
    world.grant(&open, Ok(bound));
    assert_eq!(world.closed, [open.relay], "too late: the socket goes back");
    assert_eq!(world.relay.allocations(), 0);
    world.grant(&open, Err(OpenError::Capacity));
    assert_eq!(world.closed.len(), 1, "nothing was opened, so nothing is closed");
}

#[test]
fn failures_of_the_second_phase() {
    for (error, code) in
        [(OpenError::Capacity, 508), (OpenError::Quota, 486), (OpenError::Family, 440), (OpenError::Revoked, 401)]
    {
        let mut world = world();
        let client = world.client(CLIENT, "p.1");
        world.shell = Shell::Refuses(error);
        let reply = world.ask(&client, Ask::request(ALLOCATE, 1).transport(17).signed(&client));
        assert_eq!(reply.code(), Some(code));
        assert_eq!((world.relay.allocations(), world.relay.poll_timeout()), (0, None));
        world.shell = Shell::Grants;
        let reply = world.ask(&client, Ask::request(ALLOCATE, 1).transport(17).signed(&client));
        assert_eq!(reply.code(), None, "the retransmission may succeed");
    }
}

#[test]
fn revocation_ends_live_and_pending_allocations_of_the_subject_only() {
    let mut world = world();
    let (_, relay) = world.allocated(CLIENT, "p.1");
    world.allocated("198.51.100.8:4000", "p.2");
    let client = world.client("198.51.100.9:4000", "p.1");
    world.shell = Shell::Waits;
    assert!(world.try_ask(&client, Ask::request(ALLOCATE, 1).transport(17).signed(&client)).is_none());

    world.relay.revoke(world.now, "p.1");
    world.drain();
    assert_eq!((world.relay.allocations(), deleted(&world)), (1, vec![EndReason::Revoked]));
    assert_eq!(world.closed, [relay]);
    assert_eq!(world.replies.pop().unwrap().1.code(), Some(401));
    let open = world.asked.remove(0);
    let bound = world.bound(&open);
    world.grant(&open, Ok(bound));
    assert_eq!(world.closed, [relay, open.relay], "granted too late");
    assert_eq!(world.relay.allocations(), 1);
    world.relay.revoke(world.now, "nobody");
    assert!(world.relay.poll_output().is_none());
}

#[test]
fn closing_ends_everything_without_a_word() {
    let mut world = world();
    world.allocated(CLIENT, "p.1");
    let client = world.client("198.51.100.9:4000", "p.1");
    world.shell = Shell::Waits;
    assert!(world.try_ask(&client, Ask::request(ALLOCATE, 1).transport(17).signed(&client)).is_none());
    world.relay.close(world.now);
    world.drain();
    assert_eq!((world.relay.allocations(), deleted(&world)), (0, vec![EndReason::Closed]));
    assert!(world.replies.is_empty());
    assert_eq!(world.relay.poll_timeout(), None);
}

#[test]
fn ids_of_ended_allocations_reach_nobody() {
    let mut world = world();
    let (client, old) = world.allocated(CLIENT, "p.1");
    assert_eq!(refresh(&mut world, &client, 0), None);
    let (client, new) = world.allocated("198.51.100.8:4000", "p.2");
    assert_eq!((old.slot, old.generation + 1), (new.slot, new.generation));
    world.permit(&client, PEER);
    assert_eq!(world.peer(old, PEER, 1), None);
    assert!(world.peer(new, PEER, 1).is_some());
    assert_eq!(world.peer(RelayId { family: Family::V6, ..new }, PEER, 1), None);
    assert_eq!(world.peer(RelayId { slot: 9, ..new }, PEER, 1), None);
}

#[test]
fn a_stale_nonce_is_replaced_and_the_call_goes_on() {
    let mut world = world();
    let (mut client, _) = world.allocated(CLIENT, "p.1");
    assert_eq!(refresh(&mut world, &client, 3600), None);
    world.pass(3500);
    assert_eq!(refresh(&mut world, &client, 3600), None);
    world.pass(101);
    let reply = world.ask(&client, Ask::request(REFRESH, 5).lifetime(3600).signed(&client));
    assert_eq!(reply.code(), Some(438));
    client.nonce = reply.get(0x0015).unwrap();
    assert_eq!(refresh(&mut world, &client, 3600), None);
}

#[test]
fn a_credential_that_expires_during_the_call() {
    let mut world = world();
    let mut client = world.client(CLIENT, "p.1");
    let credential = turn::mint(SECRET, "p.1", UNIX + 60);
    (client.username, client.password) = (credential.username, credential.password);
    assert_eq!(world.ask(&client, Ask::request(ALLOCATE, 1).transport(17).signed(&client)).code(), None);
    world.pass(300);
    world.permit(&client, PEER);
    assert_eq!(refresh(&mut world, &client, 600), None, "the call goes on");
    let fresh = Client { nonce: client.nonce.clone(), ..Client::new(client.tuple, "p.1") };
    assert_eq!(refresh(&mut world, &fresh, 600), None, "a fresh credential of the same subject");
    assert_eq!(refresh(&mut world, &client, 600), None, "and the old one again");
    let other = Client { nonce: client.nonce.clone(), ..Client::new(client.tuple, "p.2") };
    assert_eq!(refresh(&mut world, &other, 600), Some(441));
    assert_eq!(refresh(&mut world, &client, 0), None);
    assert_eq!(world.ask(&client, Ask::request(ALLOCATE, 6).transport(17).signed(&client)).code(), Some(401));
}

#[test]
fn static_users_have_their_own_subject() {
    let mut world = world();
    let mut client = world.client(CLIENT, "unused");
    (client.username, client.password) = ("alice".into(), "wonderland".into());
    world.shell = Shell::Waits;
    assert!(world.try_ask(&client, Ask::request(ALLOCATE, 1).transport(17).signed(&client)).is_none());
    assert_eq!(&*world.asked[0].subject, "u.alice");
}

#[test]
fn a_reload_replaces_secrets_and_policy_and_keeps_the_allocation() {
    let mut world = world();
    let (client, _) = world.allocated(CLIENT, "p.1");
    world.permit(&client, PEER);
    assert_eq!(world.bind(&client, 0x4000, OTHER_PEER), None);
    let denying = Settings { deny_peers: vec![cidr("8.8.8.0/24")], ..settings() };
    world.relay.set_shared(Arc::new(Shared::new(denying)));
    assert_eq!(world.send_to(&client, PEER, b"x"), None);
    assert!(world.channel_data(&client, 0x4000, b"x").is_some());
    assert_eq!(refresh(&mut world, &client, 600), None);

    let rotated = Settings {
        turn_secrets: vec![b"east".to_vec()],
        nonce_secrets: vec![b"new".to_vec(), b"nonce key".to_vec()],
        ..settings()
    };
    world.relay.set_shared(Arc::new(Shared::new(rotated)));
    assert_eq!(refresh(&mut world, &client, 600), Some(401), "its secret is gone, its nonce is still good");
    assert_eq!(world.relay.allocations(), 1);
}

#[test]
fn dual_allocations_live_and_end_by_family() {
    let mut world = world();
    let client = world.client(CLIENT, "p.1");
    let allocate = Ask::request(ALLOCATE, 1).transport(17).additional_family(2).signed(&client);
    assert_eq!(world.ask(&client, allocate).code(), None);
    assert_eq!((world.relay.allocations(), world.opened.len()), (1, 2));
    world.permit(&client, PEER);
    world.permit(&client, PEER_V6);
    assert_eq!(world.send_to(&client, PEER, b"x").unwrap().relay.family, Family::V4);
    assert_eq!(world.send_to(&client, PEER_V6, b"x").unwrap().relay.family, Family::V6);
    let release = Ask::request(REFRESH, 4).family(1).lifetime(0).signed(&client);
    assert_eq!(world.ask(&client, release).code(), None);
    assert_eq!((world.relay.allocations(), world.closed.len()), (1, 1));
    assert_eq!(world.send_to(&client, PEER, b"x"), None);
    assert!(world.send_to(&client, PEER_V6, b"x").is_some());
    let prolong = Ask::request(REFRESH, 5).lifetime(1200).signed(&client);
    assert_eq!(world.ask(&client, prolong).code(), None);
    world.pass(1200);
    assert_eq!((world.relay.allocations(), world.closed.len()), (0, 2));
}

#[test]
fn one_of_two_families_may_fail() {
    let mut world = world();
    let client = world.client(CLIENT, "p.1");
    world.shell = Shell::Waits;
    let allocate = Ask::request(ALLOCATE, 1).transport(17).additional_family(2).signed(&client);
    assert!(world.try_ask(&client, allocate.clone()).is_none());
    let opens = std::mem::take(&mut world.asked);
    world.grant(&opens[1], Err(OpenError::Family));
    assert!(world.replies.is_empty(), "the other family is still out");
    let bound = world.bound(&opens[0]);
    world.grant(&opens[0], Ok(bound));
    for _ in 0..2 {
        let (_, reply) = world.replies.pop().unwrap();
        assert_eq!((reply.code(), reply.relayed()), (None, bound));
        assert_eq!(reply.get(0x8001), Some(vec![2, 0, 4, 40]));
        world.send(&client.tuple, &allocate.clone().bytes());
    }
}

#[test]
fn a_revocation_between_the_families_closes_the_first() {
    let mut world = world();
    let client = world.client(CLIENT, "p.1");
    world.shell = Shell::Waits;
    let allocate = Ask::request(ALLOCATE, 1).transport(17).additional_family(2).signed(&client);
    assert!(world.try_ask(&client, allocate).is_none());
    let opens = std::mem::take(&mut world.asked);
    let bound = world.bound(&opens[0]);
    world.grant(&opens[0], Ok(bound));
    world.grant(&opens[1], Err(OpenError::Revoked));
    assert_eq!(world.replies.pop().unwrap().1.code(), Some(401));
    assert_eq!((world.closed.as_slice(), world.relay.allocations()), (&[opens[0].relay][..], 0));
}

#[test]
fn reservation_tokens_remember_their_family() {
    let mut world = world();
    for (port, family) in [(1, 1), (2, 2)] {
        let client = world.client(&format!("198.51.100.7:{port}"), "p.1");
        let allocate = Ask::request(ALLOCATE, 1).transport(17).family(family).attr(0x0018, &[0x80]);
        let token = world.ask(&client, allocate.signed(&client)).get(0x0022).unwrap();
        let client = world.client(&format!("198.51.100.8:{port}"), "p.1");
        let allocate = Ask::request(ALLOCATE, 1).transport(17).attr(0x0022, &token);
        let reply = world.ask(&client, allocate.signed(&client));
        assert_eq!(reply.relayed().is_ipv6(), family == 2);
    }
}

#[test]
fn an_address_of_the_wrong_family_is_given_back() {
    let mut world = world();
    let client = world.client(CLIENT, "p.1");
    world.shell = Shell::Waits;
    assert!(world.try_ask(&client, Ask::request(ALLOCATE, 1).transport(17).signed(&client)).is_none());
    let open = world.asked.remove(0);
    world.grant(&open, Ok(addr("[2001:db8::1]:50000")));
    assert_eq!(world.replies.pop().unwrap().1.code(), Some(508));
    assert_eq!(world.closed, [open.relay]);
}
