//! Replies to sources that have proven nothing: how large they are, and how many.

mod relay_common;

use relais::relay::{Alternate, DropReason, Event, Limits, Rate, Settings, Transport};
use relay_common::*;

const CLIENT: &str = "198.51.100.7:4000";

/// IPv4 and UDP headers.
const HEADERS: usize = 28;

fn drops(world: &mut World) -> usize {
    world.events.drain(..).filter(|event| *event == Event::Dropped(DropReason::Budget)).count()
}

/// How many of `times` requests from `client` are answered.
fn answered(world: &mut World, client: &Client, ask: &Ask, times: usize) -> usize {
    let answers = (0..times).filter(|_| world.try_ask(client, ask.clone()).is_some()).count();
    assert_eq!(drops(world), times - answers, "what is not answered is counted");
    answers
}

fn first_allocate() -> Ask {
    Ask::request(ALLOCATE, 1).transport(17)
}

/// Pads a request to at least 40 bytes with an attribute that may be ignored.
fn forty(ask: Ask) -> Ask {
    let missing = 40_usize.saturating_sub(ask.clone().bytes().len());
    if missing == 0 { ask } else { ask.attr(0xff05, &vec![0; missing.saturating_sub(4)]) }
}

#[test]
fn no_reply_to_a_stranger_is_twice_its_request() {
    let forged = |client: &Client| Client { nonce: b"0123456789abcdef".to_vec(), ..client.clone() };
    let unknown = |count: u16| (0..count).fold(Ask::request(BINDING, 1), |ask, n| ask.attr(0x7000 + n, &[]));
    for realm in ["relais", "turn.example.org", "a realm of just forty-six bytes, padding and a"] {
        let mut world = World::new(Settings { realm: realm.into(), ..settings() });
        for address in [CLIENT, "[2606:4700::7]:4000"] {
            let client = Client::new(tuple(address), "p.1");
            let asks = [
                (None, Ask::request(BINDING, 1)),
                (Some(401), first_allocate()),
                (Some(401), Ask::request(REFRESH, 1)),
                (Some(438), first_allocate().signed(&forged(&client))),
                (Some(400), first_allocate().integrity(&client)),
                (Some(420), unknown(5)),
                (Some(420), unknown(40)),
            ];
            for (code, ask) in asks.into_iter().flat_map(|(code, ask)| [(code, ask.clone()), (code, ask.fingerprint())])
            {
                // A fingerprint comes last, so a short request is padded before it is asked for.
                let ask = if ask.clone().bytes().len() < 40 { forty(ask) } else { ask };
                let request = ask.clone().bytes();
                let Some(reply) = world.try_ask(&client, ask) else { continue };
                assert_eq!(reply.code(), code);
                let (asked, sent) = (request.len() + HEADERS, reply.message.raw.len() + HEADERS);
                assert!(request.len() >= 40 && sent <= 2 * asked, "{code:?} {realm}: {sent} bytes for {asked}");
            }
        }
        let exposure = world.relay.exposure();
        assert!(exposure.replies >= 20 && exposure.sent <= 2 * exposure.received, "{exposure:?}");
    }
}

#[test]
fn nat_discovery_is_within_the_budget_and_not_amplified() {
    let [first, other] = ["192.0.2.1:3478", "192.0.2.2:3479"].map(addr);
    let [first_v6, other_v6] = ["[2001:db8::1]:3478", "[2001:db8::2]:3479"].map(addr);
    let padded = |len: usize| Ask::request(BINDING, 1).attr(0x0026, &vec![0; len]);
    for (address, alternate) in
        [(CLIENT, Alternate { first, other }), ("[2606:4700::7]:4000", Alternate { first: first_v6, other: other_v6 })]
    {
        let world = || World::new(Settings { alternate: Some(alternate), ..settings() });
        let client = Client::new(tuple(address), "p.1");
        for ask in [forty(Ask::request(BINDING, 1).attr(0x0003, &[0; 4])), padded(16), padded(1_400), padded(40_000)] {
            let request = ask.clone().bytes().len();
            let mut world = world();
            assert!(world.send(&client.tuple, &ask.bytes()).is_none());
            let (_, reply) = world.replies.pop().expect("an answer");
            assert!(request >= 40 && reply.message.raw.len() + HEADERS <= 2 * (request + HEADERS));
            let exposure = world.relay.exposure();
            assert_eq!((exposure.replies, exposure.sent), (1, (reply.message.raw.len() + HEADERS) as u64));
        }
        let burst = Limits::default().strangers_per_prefix.burst as usize;
        let count = |ask: &Ask, prove: bool| {
            let mut world = world();
            let nonce = if prove { world.client(address, "p.1").nonce } else { Vec::new() };
            let bytes = ask.clone().attr(0x0015, &nonce).bytes();
            for _ in 0..2 * burst {
                world.send(&client.tuple, &bytes);
            }
            world.replies.len()
        };
        assert_eq!(count(&Ask::request(BINDING, 1), false), burst);
        assert_eq!(count(&Ask::request(BINDING, 1), true), 2 * burst, "whoever echoes a nonce is exempt");
        let elsewhere = Ask::request(BINDING, 1).attr(0x0027, &[9, 9, 0, 0]);
        assert_eq!(count(&elsewhere, true), burst - 1, "but not for another port than it proved");
        assert_eq!(count(&padded(1_400), false), burst / 11, "a large answer counts for many");
    }
}

/// What libwebrtc begins with is shorter than the requests that the bound is for, and keeps to it as well.
#[test]
fn a_browsers_first_allocate_is_answered_with_its_double_at_most() {
    let mut world = World::new(settings());
    let client = Client::new(tuple(CLIENT), "p.1");
    for ask in [first_allocate(), first_allocate().fingerprint()] {
        let asked = ask.clone().bytes().len() + HEADERS;
        let reply = world.ask(&client, ask);
        assert!(reply.get(0x8002).is_some(), "with the password algorithms");
        assert!(reply.message.raw.len() + HEADERS <= 2 * asked);
    }
}

#[test]
fn a_prefix_has_its_burst_and_then_its_rate() {
    let mut world = World::new(settings());
    let [one, neighbour, other, six, six_too] =
        [CLIENT, "198.51.100.200:9", "198.51.101.7:4000", "[2606:4700:0:1::7]:4000", "[2606:4700:0:2::8]:4000"]
            .map(|address| Client::new(tuple(address), "p.1"));
    let ask = first_allocate();
    assert_eq!(answered(&mut world, &one, &ask, 500), 200);
    assert_eq!(answered(&mut world, &neighbour, &Ask::request(BINDING, 1), 10), 0, "the same /24");
    assert_eq!(answered(&mut world, &other, &ask, 10), 10);
    assert_eq!(answered(&mut world, &six, &ask, 500), 200);
    assert_eq!(answered(&mut world, &six_too, &ask, 10), 0, "the same /56");
    world.pass(1);
    assert_eq!(answered(&mut world, &one, &ask, 500), 50);
    let exposure = world.relay.exposure();
    assert_eq!(exposure.replies, 200 + 10 + 200 + 50);
    assert_eq!(exposure.received, exposure.replies * 56);
}

#[test]
fn the_total_is_bounded() {
    let limits = Limits { strangers: Rate { per_second: 100, burst: 300 }, ..Limits::default() };
    let mut world = World::new(Settings { limits, ..settings() });
    let mut answers = 0;
    for prefix in 0..100 {
        let client = Client::new(tuple(&format!("198.51.{prefix}.7:4000")), "p.1");
        answers += answered(&mut world, &client, &first_allocate(), 10);
    }
    assert_eq!(answers, 300);
}

#[test]
fn who_has_proven_its_address_is_exempt() {
    let nothing = Rate { per_second: 0, burst: 0 };
    let spent = Limits { strangers_per_prefix: nothing, strangers: nothing, ..Limits::default() };
    let mut world = World::new(settings());
    let client = world.client(CLIENT, "p.1");
    let (owner, _) = world.allocated("198.51.100.8:4000", "p.1");
    let shared = relais::relay::Shared::new(Settings { limits: spent, ..settings() });
    world.relay.set_shared(std::sync::Arc::new(shared));

    let stranger = Client { tuple: tuple("198.51.100.9:4000"), ..client.clone() };
    assert_eq!(answered(&mut world, &stranger, &first_allocate(), 1), 0);
    assert_eq!(answered(&mut world, &stranger, &first_allocate().signed(&stranger), 1), 0, "another's nonce: no 438");
    assert_eq!(answered(&mut world, &stranger, &Ask::request(BINDING, 1), 1), 0);

    let guess = Client { password: "guess".into(), ..client.clone() };
    let wrong = world.ask(&client, first_allocate().signed(&guess));
    assert_eq!(wrong.code(), Some(401), "a right nonce");
    let without_integrity = first_allocate().attr(0x0015, &client.nonce);
    assert_eq!(world.ask(&client, without_integrity).code(), Some(401));
    assert_eq!(world.ask(&owner, Ask::request(BINDING, 9)).code(), None, "an allocation");
    assert_eq!(world.ask(&owner, Ask::request(REFRESH, 9)).code(), Some(401));
    world.now.unix += 2 * 3600;
    assert_eq!(world.ask(&client, Ask::request(REFRESH, 9).signed(&client)).code(), Some(438), "an old nonce");
    for transport in [Transport::Tcp, Transport::Tls] {
        let mut stream = stranger.clone();
        stream.tuple.transport = transport;
        assert_eq!(world.ask(&stream, first_allocate()).code(), Some(401), "{transport:?}");
    }
    assert_eq!(world.relay.exposure().replies, 2, "the two challenges before the budget was spent");
}
