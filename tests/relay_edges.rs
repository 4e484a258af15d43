//! Edges that a small mistake in the core would move: each was found by a mutant that no other test had noticed
//! (`tests/MUTANTS.md`).

mod relay_common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use relais::relay::{
    Alternate, Contacts, DropReason, EndReason, Event, Exposure, Family, Relay, Revoked, Settings, Shared, Transport,
};
use relay_common::*;

const CLIENT: &str = "198.51.100.7:4000";
const CLIENT_V6: &str = "[2001:db8::7]:4000";

#[test]
fn refusals_are_told_with_method_and_code() {
    let mut world = World::new(settings());
    let mut client = world.client(CLIENT, "p.1");
    client.password = "wrong".into();
    world.events.clear();
    assert_eq!(world.ask(&client, Ask::request(ALLOCATE, 1).transport(17).signed(&client)).code(), Some(401));
    let (client, _) = world.allocated("198.51.100.8:4000", "p.2");
    assert_eq!(world.bind(&client, 0x4000, PRIVATE_PEER), Some(403));
    let told = world.events.iter().filter_map(|event| match event {
        Event::Refused { method, code, .. } => Some((*method, *code)),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), [(3, 401), (3, 401), (9, 403)], "the second is the newcomer's challenge");
}

/// The lowest bit of a token says which family it is good for; all else of it is unpredictable.
#[test]
fn reservation_tokens_name_their_family_and_nothing_else() {
    for (address, family) in [(CLIENT, 0_u8), (CLIENT_V6, 1)] {
        let mut world = World::new(settings());
        let mut tokens = std::collections::BTreeSet::new();
        for number in 0..40 {
            let client = world.client(&address.replace("4000", &(4000 + number).to_string()), "p.1");
            let ask = Ask::request(ALLOCATE, number).transport(17).family(family + 1).attr(0x0018, &[0x80]);
            let token = world.ask(&client, ask.signed(&client)).get(0x0022).expect("RESERVATION-TOKEN");
            assert_eq!(token[0] & 1, family);
            tokens.insert(token);
        }
        let first: std::collections::BTreeSet<u8> = tokens.iter().map(|token| token[0]).collect();
        assert_eq!(tokens.len(), 40);
        assert!(first.len() > 20, "{} first bytes of 40", first.len());
    }
}

#[test]
fn an_owners_key_proves_no_other_name() {
    let mut world = World::new(settings());
    let (owner, _) = world.allocated(CLIENT, "p.1");
    let other = Client::new(tuple(CLIENT), "p.2");
    let ask = Ask::request(REFRESH, 5)
        .attr(0x0006, other.username.as_bytes())
        .attr(0x0014, REALM.as_bytes())
        .attr(0x0015, &owner.nonce)
        .integrity(&owner);
    assert_eq!(world.ask(&owner, ask).code(), Some(401));
}

#[test]
fn an_owners_key_is_good_for_its_own_algorithm_only() {
    let mut world = World::new(settings());
    let (owner, _) = world.allocated(CLIENT, "p.1");
    let challenge = world.ask(&owner, Ask::request(ALLOCATE, 6).transport(17));
    let offered = challenge.get(0x8002).expect("PASSWORD-ALGORITHMS");
    // SHA-256 is named, and the MD5 key signs.
    let ask = Ask::request(REFRESH, 7).attr(0x8002, &offered).attr(0x001d, &[0, 2, 0, 0]).signed(&owner);
    assert_eq!(world.ask(&owner, ask).code(), Some(401));
    let ask = Ask::request(REFRESH, 8).attr(0x8002, &offered).attr(0x001d, &[0, 1, 0, 0]).signed(&owner);
    assert_eq!(world.ask(&owner, ask).code(), None);
}

#[test]
fn a_static_user_owns_what_it_made() {
    let mut world = World::new(settings());
    let mut alice = Client::new(tuple(CLIENT), "p.1");
    (alice.username, alice.password) = ("alice".into(), "wonderland".into());
    world.challenge(&mut alice);
    assert_eq!(world.ask(&alice, Ask::request(ALLOCATE, 1).transport(17).signed(&alice)).code(), None);
    assert_eq!(world.ask(&alice, Ask::request(REFRESH, 2).signed(&alice)).code(), None);
    let mut other = Client::new(tuple(CLIENT), "p.1");
    other.nonce = alice.nonce.clone();
    assert_eq!(world.ask(&other, Ask::request(REFRESH, 3).signed(&other)).code(), Some(441));
}

#[test]
fn a_full_list_of_channels_takes_its_own_back_and_new_ones_when_old_ones_are_over() {
    let mut world = World::new(settings());
    let (mut client, _) = world.allocated(CLIENT, "p.1");
    let channels = settings().channels as u16;
    for number in 0..channels {
        assert_eq!(world.bind(&client, 0x4000 + number, &format!("8.8.8.8:{}", 5000 + number)), None);
    }
    assert_eq!(world.bind(&client, 0x4fff, "8.8.8.8:6000"), Some(508));
    assert_eq!(world.bind(&client, 0x4000, "8.8.8.8:5000"), None, "one that is there is refreshed");
    let hour = Ask::request(REFRESH, 9).lifetime(3600).signed(&client);
    assert_eq!(world.ask(&client, hour).code(), None);
    // 600 s of life and 300 s of reservation.
    world.pass(899);
    assert_eq!(world.bind(&client, 0x4fff, "8.8.8.8:6000"), Some(508));
    world.pass(2);
    world.challenge(&mut client);
    assert_eq!(world.bind(&client, 0x4fff, "8.8.8.8:6000"), None);
}

#[test]
fn one_familys_end_leaves_the_others_channels() {
    let mut world = World::new(settings());
    let client = world.client(CLIENT, "p.1");
    let both = Ask::request(ALLOCATE, 1).transport(17).additional_family(2).signed(&client);
    assert_eq!(world.ask(&client, both).code(), None);
    let relays = world.opened.clone();
    assert_eq!((world.bind(&client, 0x4000, PEER), world.bind(&client, 0x4001, PEER_V6)), (None, None));
    let end = Ask::request(REFRESH, 2).lifetime(0).family(2).signed(&client);
    assert_eq!(world.ask(&client, end).code(), None);
    assert!(world.channel_data(&client, 0x4001, b"x").is_none());
    assert!(world.channel_data(&client, 0x4000, b"x").is_some());
    for relay in relays {
        let v4 = relay.family == relais::relay::Family::V4;
        let got = world.peer(relay, if v4 { PEER } else { PEER_V6 }, 1);
        assert_eq!(got.map(|got| got.head().len()), v4.then_some(4));
    }
    // The number and the peer are free again as far as that family goes, which is not at all.
    assert_eq!(world.bind(&client, 0x4001, PEER_TOO), None);
}

#[test]
fn what_strangers_cost_is_counted_in_whole_packets() {
    let mut world = World::new(settings());
    let client = Client::new(tuple(CLIENT), "p.1");
    let (mut received, mut sent) = (0, 0);
    for number in 0..5 {
        let ask = Ask::request(BINDING, number).attr(0x8022, &vec![b'x'; number as usize * 20]);
        received += ask.clone().bytes().len() as u64 + 28;
        sent += world.ask(&client, ask).message.raw.len() as u64 + 28;
        assert_eq!(world.relay.exposure(), Exposure { replies: u64::from(number) + 1, received, sent });
    }
}

/// A table that says of everybody what the test wants.
#[derive(Default)]
struct Everybody(AtomicBool);

impl Revoked for Everybody {
    fn is_revoked(&self, _: u64, _: &str) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[test]
fn the_revoked_are_challenged_like_strangers() {
    let everybody = Arc::new(Everybody::default());
    let mut world = World::new(settings());
    let revoked = Arc::clone(&everybody) as Arc<dyn Revoked>;
    world.relay = Relay::new(Arc::new(Shared::with_revoked(settings(), revoked)), 7);
    let (client, _) = world.allocated(CLIENT, "p.1");
    assert_eq!(world.ask(&client, Ask::request(REFRESH, 1).signed(&client)).code(), None);
    everybody.0.store(true, Ordering::Relaxed);
    for (method, id) in [(REFRESH, 2), (ALLOCATE, 3)] {
        let reply = world.ask(&client, Ask::request(method, id).transport(17).signed(&client));
        assert_eq!(reply.code(), Some(401));
        assert!(reply.get(0x0014).is_some() && reply.get(0x0015).is_some(), "realm and nonce, or browsers give up");
        assert!(!reply.is_signed_by(&client), "its key is none any more");
    }
    assert_eq!((world.relay.allocations(), world.opened.len()), (0, world.closed.len()));
    assert!(world.events.iter().any(|event| matches!(event, Event::Deleted { reason: EndReason::Revoked, .. })));
}

#[test]
fn who_is_revoked_while_the_socket_opens_gets_none() {
    let everybody = Arc::new(Everybody::default());
    let mut world = World::new(settings());
    let revoked = Arc::clone(&everybody) as Arc<dyn Revoked>;
    world.relay = Relay::new(Arc::new(Shared::with_revoked(settings(), revoked)), 7);
    let client = world.client(CLIENT, "p.1");
    world.shell = Shell::Waits;
    let ask = Ask::request(ALLOCATE, 1).transport(17).additional_family(2).signed(&client);
    assert!(world.try_ask(&client, ask).is_none());
    everybody.0.store(true, Ordering::Relaxed);
    for open in std::mem::take(&mut world.asked) {
        let bound = world.bound(&open);
        world.grant(&open, Ok(bound));
    }
    let (_, reply) = world.replies.pop().expect("an answer");
    assert_eq!((reply.code(), world.relay.allocations()), (Some(401), 0));
    assert_eq!((world.opened.len(), world.closed.len()), (2, 2), "both sockets are closed, once");
}

#[test]
fn traffic_is_counted_for_the_core_too_and_outlives_its_allocation() {
    let mut world = World::new(settings());
    let (client, relay) = world.allocated(CLIENT, "p.1");
    world.permit(&client, PEER);
    assert!(world.send_to(&client, PEER, &[1; 100]).is_some());
    assert!(world.peer(relay, PEER, 70).is_some() && world.peer(relay, PEER, 7).is_some());
    let traffic = world.relay.traffic();
    assert_eq!(world.ask(&client, Ask::request(REFRESH, 9).lifetime(0).signed(&client)).code(), None);
    let told = world.events.iter().find_map(|event| match event {
        Event::Deleted { traffic, .. } => Some(*traffic),
        _ => None,
    });
    assert_eq!((Some(traffic), world.relay.traffic()), (told, traffic));
    assert_ne!(traffic, relais::relay::Traffic::default());
}

#[test]
fn the_first_of_two_data_attributes_counts() {
    let mut world = World::new(settings());
    let (client, _) = world.allocated(CLIENT, "p.1");
    world.permit(&client, PEER);
    let ask = Ask::indication(SEND).peer(PEER).data(b"first").data(b"the second").bytes();
    let sent = world.send(&client.tuple, &ask).expect("it goes to the peer");
    assert_eq!(&ask[sent.start..sent.start + sent.len], b"first");
}

/// Each kind ends at the moment it was granted until, whether the timer has fired or not.
#[test]
fn usage_counts_what_lives_and_nothing_more() {
    let mut world = World::new(settings());
    world.allocated("198.51.100.8:4000", "p.2");
    let client = world.client(CLIENT, "p.1");
    let ask = Ask::request(ALLOCATE, 1).transport(17).additional_family(2).signed(&client);
    assert_eq!(world.ask(&client, ask).code(), None);
    assert_eq!(world.bind(&client, 0x4000, PEER), None);
    world.permit(&client, "8.8.4.4:9");
    let used = |world: &mut World, limit: usize| -> Vec<_> {
        let usage = world.relay.usage(world.now.mono, |subject| subject == "p.1", limit).into_iter();
        let seconds = |time: Duration| time.as_secs();
        usage
            .map(|one| (one.relay.family, one.permissions, one.channels, seconds(one.age), seconds(one.expires_in)))
            .collect()
    };
    assert_eq!(used(&mut world, 9), [(Family::V4, 2, 1, 0, 600), (Family::V6, 2, 1, 0, 600)]);
    assert_eq!((used(&mut world, 1).len(), used(&mut world, 0).len()), (1, 0));
    world.pass_without_timer(Duration::from_secs(299));
    assert_eq!(used(&mut world, 1), [(Family::V4, 2, 1, 299, 301)]);
    world.pass_without_timer(Duration::from_secs(1));
    assert_eq!(used(&mut world, 1), [(Family::V4, 0, 1, 300, 300)]);
    assert_eq!(world.ask(&client, Ask::request(REFRESH, 5).family(1).lifetime(600).signed(&client)).code(), None);
    world.pass_without_timer(Duration::from_secs(300));
    assert_eq!(used(&mut world, 9), [(Family::V4, 0, 0, 600, 300)]);
}

#[test]
fn peers_of_other_hosts_are_told_from_denied_ones_and_ourselves() {
    let shared = Shared::new(settings());
    let may = |peer: &str| shared.may_be_peer(addr(peer).ip());
    assert_eq!([PEER, PRIVATE_PEER, "192.0.2.1:9"].map(may), [true, false, false]);
}

#[test]
fn usage_tells_what_kinds_of_peer_there_are_while_they_are_permitted() {
    let none = Contacts::default();
    let kinds = [
        (PEER, Contacts { public_v4: true, ..none }),
        (PEER_V6, Contacts { public_v6: true, ..none }),
        (PRIVATE_PEER, Contacts { private: true, ..none }),
        ("100.64.0.1:9", Contacts { private: true, ..none }),
        ("[fd00::1]:9", Contacts { private: true, ..none }),
        ("192.0.2.1:9", Contacts { relay: true, ..none }),
    ];
    for (peer, wanted) in kinds {
        let mut world = World::new(Settings {
            allow_peers: ["10.0.0.0/8", "100.64.0.0/10", "fd00::/8"].map(cidr).into(),
            ..settings()
        });
        let client = world.client(CLIENT, "p.1");
        let ask = Ask::request(ALLOCATE, 1).transport(17).additional_family(2).signed(&client);
        assert_eq!(world.ask(&client, ask).code(), None);
        world.permit(&client, peer);
        for (seconds, wanted) in [(299, wanted), (1, none)] {
            world.pass_without_timer(Duration::from_secs(seconds));
            let usage = world.relay.usage(world.now.mono, |_| true, 9);
            assert_eq!(usage.iter().map(|one| one.contacts).collect::<Vec<_>>(), [wanted; 2], "{peer}");
        }
    }
}

#[test]
fn addresses_of_local_networks_are_told_from_all_others() {
    let is_private = |text: &&str| relais::relay::is_private(text.parse().unwrap());
    let local = ["10.1.2.3", "127.0.0.1", "169.254.1.1", "100.64.0.0", "100.127.255.255", "::1", "fd00::1", "fe80::1"];
    assert!(local.iter().all(is_private));
    let others = ["100.63.255.255", "100.128.0.0", "101.64.0.1", "8.8.8.8", "2606:4700::1"];
    assert!(!others.iter().any(is_private));
}

/// Metrics and the admin page tell them apart by these.
#[test]
fn names_are_words_and_no_two_are_the_same() {
    let kinds: [Vec<&str>; 4] = [
        EndReason::ALL.map(EndReason::name).into(),
        DropReason::ALL.map(DropReason::name).into(),
        Transport::ALL.map(Transport::name).into(),
        [Family::V4, Family::V6].map(Family::name).into(),
    ];
    for names in kinds {
        let distinct: std::collections::BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(distinct.len(), names.len(), "{names:?}");
        assert!(names.iter().all(|name| !name.is_empty()));
    }
}

#[test]
fn who_has_proven_itself_reads_the_phrase_of_the_rfc() {
    let mut world = World::new(settings());
    let (client, _) = world.allocated(CLIENT, "p.1");
    let refusals = [
        (Ask::request(ALLOCATE, 2).transport(17), 437, "Allocation Mismatch"),
        (Ask::request(CHANNEL_BIND, 3).channel(0x4000).peer(PRIVATE_PEER), 403, "Forbidden"),
        (Ask::request(CREATE_PERMISSION, 4), 400, "Bad Request"),
    ];
    for (ask, code, phrase) in refusals {
        let reply = world.ask(&client, ask.signed(&client));
        assert_eq!((reply.code(), reply.reason().as_str()), (Some(code), phrase));
    }
}

#[test]
fn settings_that_would_let_anybody_in_are_refused() {
    type Change = fn(&mut Settings);
    let good: [Change; 4] = [
        |_| {},
        |settings| settings.users.clear(),
        |settings| settings.turn_secrets.clear(),
        |settings| settings.realm = "r".repeat(48),
    ];
    let bad: [(Change, &str); 5] = [
        (|settings| settings.turn_secrets.push(Vec::new()), "a shared secret is empty"),
        (|settings| (settings.users, settings.turn_secrets) = Default::default(), "nobody could authenticate"),
        (|settings| settings.nonce_secrets.clear(), "anybody could make nonces"),
        (|settings| settings.nonce_secrets.push(Vec::new()), "anybody could make nonces"),
        (|settings| settings.realm = "r".repeat(49), "the realm has 49 bytes"),
    ];
    let check = |change: Change| {
        let mut settings = settings();
        change(&mut settings);
        settings.check()
    };
    assert_eq!(good.map(check), [const { Ok(()) }; 4]);
    for (change, why) in bad {
        let error = check(change).expect_err(why);
        assert!(error.contains(why), "{error}");
    }
}

/// The slot is the next one's by then; the address is not.
#[test]
fn an_address_that_comes_too_late_is_closed() {
    let mut world = World::new(settings());
    let (first, second) = (world.client(CLIENT, "p.1"), world.client("198.51.100.8:4000", "p.2"));
    world.shell = Shell::Waits;
    assert!(world.try_ask(&first, Ask::request(ALLOCATE, 1).transport(17).signed(&first)).is_none());
    let late = world.asked.pop().expect("the shell is asked");
    world.pass(10);
    world.replies.clear();
    assert!(world.try_ask(&second, Ask::request(ALLOCATE, 2).transport(17).signed(&second)).is_none());
    let next = world.asked.pop().expect("the shell is asked");
    assert_eq!(late.relay.slot, next.relay.slot);
    let bound = world.bound(&late);
    world.grant(&late, Ok(bound));
    assert_eq!((world.replies.len(), world.relay.allocations(), &world.closed[..]), (0, 0, &[late.relay][..]));
    let bound = world.bound(&next);
    world.grant(&next, Ok(bound));
    let (_, reply) = world.replies.pop().expect("an answer");
    assert_eq!((reply.relayed(), world.relay.allocations()), (bound, 1));
}

#[test]
fn no_more_than_so_many_allocations_wait_for_the_shell() {
    let mut world = World::new(settings());
    world.shell = Shell::Waits;
    let ask = |world: &mut World, number: u32| {
        // As many networks: no budget for strangers runs out.
        let client = world.client(&format!("11.{}.{}.7:4000", number / 256, number % 256), "p.1");
        let reply = world.try_ask(&client, Ask::request(ALLOCATE, number).transport(17).signed(&client));
        reply.map(|reply| reply.code())
    };
    for number in 0..1024 {
        assert_eq!(ask(&mut world, number), None, "{number}");
    }
    assert_eq!(ask(&mut world, 1024), Some(Some(508)));
    let open = world.asked.pop().expect("the shell is asked");
    let bound = world.bound(&open);
    world.grant(&open, Ok(bound));
    world.replies.clear();
    assert_eq!(ask(&mut world, 1025), None);
}

fn discovery() -> World {
    let pair = |first: &str, other: &str| Some(Alternate { first: addr(first), other: addr(other) });
    World::new(Settings { alternate: pair("192.0.2.1:3478", "192.0.2.2:3479"), ..settings() })
}

#[test]
fn answers_of_discovery_leave_from_and_go_to_where_they_were_asked_to() {
    let mut world = discovery();
    let client = tuple(CLIENT);
    for (kind, value, to, from) in [
        (0x0027, [9, 9, 0, 0], "198.51.100.7:2313", "192.0.2.1:3478"),
        (0x0003, [0, 0, 0, 6], CLIENT, "192.0.2.2:3479"),
    ] {
        assert_eq!(world.send(&client, &Ask::request(BINDING, 1).attr(kind, &value).bytes()), None);
        let (tuple, _) = world.replies.pop().expect("an answer");
        assert_eq!((tuple.client, tuple.server), (addr(to), addr(from)));
    }
}

/// The answer takes what the bound on amplification leaves, and not a byte less: twice the request, in whole packets.
#[test]
fn padding_fills_the_room_that_there_is() {
    let ask = |len: usize| Ask::request(BINDING, 1).attr(0x0026, &vec![0; len]);
    let mut world = discovery();
    let reply = world.ask(&Client::new(tuple(CLIENT), "p.1"), ask(8));
    assert_eq!((reply.get(0x0026).map(|got| got.len()), reply.get(0x0001).map(|got| got.len())), (Some(8), Some(8)));
    let alternate = Alternate { first: addr("[2001:db8::1]:3478"), other: addr("[2001:db8::2]:3479") };
    let mut world = World::new(Settings { alternate: Some(alternate), ..settings() });
    let client = Client::new(tuple(CLIENT_V6), "p.1");
    for (ask, request, padding) in [(ask(16), 40, 12), (ask(8).fingerprint(), 40, 4)] {
        assert_eq!(ask.clone().bytes().len(), request);
        let reply = world.ask(&client, ask);
        assert_eq!(reply.get(0x0026).map(|got| got.len()), Some(padding));
        assert_eq!(reply.message.raw.len() + 28, 2 * (request + 28));
    }
}
