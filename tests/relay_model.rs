//! Random operations on the core and on a small reference model of it (`relay_common/model.rs`). After each: no packet
//! passes without a live permission in either direction, replies are what the model says, sockets open are sockets the
//! model knows, and the timer is never in the past.

mod relay_common;

use proptest::prelude::*;
use relais::relay::Family;
use relay_common::model::{CLIENTS, NUMBERS, PEERS, Pair, Step};
use relay_common::*;

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS.len();
    let peer = 0..PEERS.len();
    let number = 0..NUMBERS.len();
    prop_oneof![
        3 => (client.clone(), 0_u32..3, any::<bool>()).prop_map(|(client, id, dual)| Step::Allocate { client, id, dual }),
        2 => (client.clone(), prop_oneof![Just(0), Just(600), Just(1200), Just(9999)], family())
            .prop_map(|(client, lifetime, family)| Step::Refresh { client, lifetime, family }),
        3 => (client.clone(), prop::collection::vec(peer.clone(), 0..4))
            .prop_map(|(client, peers)| Step::Permit { client, peers }),
        3 => (client.clone(), number.clone(), peer.clone())
            .prop_map(|(client, number, peer)| Step::Bind { client, number, peer }),
        4 => (client.clone(), peer.clone()).prop_map(|(client, peer)| Step::Send { client, peer }),
        4 => (client.clone(), number).prop_map(|(client, number)| Step::ChannelData { client, number }),
        4 => (client.clone(), peer).prop_map(|(client, peer)| Step::FromPeer { client, peer }),
        1 => client.clone().prop_map(|client| Step::Revoke { client }),
        4 => (prop_oneof![Just(1), Just(120), Just(299), Just(300), Just(301), Just(600)], any::<bool>())
            .prop_map(|(seconds, timer)| Step::Pass { seconds, timer }),
        1 => (client, prop::collection::vec(any::<u8>(), 0..64))
            .prop_map(|(client, bytes)| Step::Garbage { client, bytes }),
    ]
}

fn family() -> impl Strategy<Value = Option<Family>> {
    prop_oneof![3 => Just(None), 1 => Just(Some(Family::V4)), 1 => Just(Some(Family::V6))]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_core_does_what_the_model_says(steps in prop::collection::vec(step(), 1..80)) {
        let mut pair = Pair::new();
        for (number, step) in steps.iter().enumerate() {
            pair.run(step);
            if number % 8 == 0 {
                pair.observe();
            }
        }
        pair.finish();
    }

    #[test]
    fn arbitrary_datagrams_never_panic_and_leave_nothing(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut world = World::new(settings());
        prop_assert!(world.send(&tuple(CLIENTS[0]), &bytes).is_none());
        prop_assert_eq!(world.relay.allocations(), 0);
        prop_assert_eq!(world.relay.poll_timeout(), None);
    }

    /// A good request with bytes changed: it may be refused or dropped, never half-done.
    #[test]
    fn damaged_requests_change_nothing(
        at in prop::collection::vec((0_usize..140, any::<u8>()), 1..4),
        method in prop::sample::select(vec![ALLOCATE, REFRESH, CREATE_PERMISSION, CHANNEL_BIND]),
    ) {
        let mut world = World::new(settings());
        let (client, _) = world.allocated(CLIENTS[0], "p.1");
        let good = Ask::request(method, 9).transport(17).channel(0x4000).peer(PEER).lifetime(0).signed(&client).bytes();
        let mut bad = good.clone();
        for (index, byte) in at {
            let length = bad.len();
            bad[index % length] = byte;
        }
        prop_assume!(bad != good);
        world.send(&client.tuple, &bad);
        prop_assert_eq!(world.relay.allocations(), 1);
        prop_assert!(world.send_to(&client, PEER, b"x").is_none());
    }

    #[test]
    fn frames_of_a_stream_are_what_was_put_in(
        payloads in prop::collection::vec((0x4000_u16..0x8000, prop::collection::vec(any::<u8>(), 0..40)), 0..12),
        chunk in 1_usize..64,
    ) {
        let mut stream = Vec::new();
        for (number, payload) in &payloads {
            stream.extend(channel_data(*number, payload));
            stream.resize(stream.len().next_multiple_of(4), 0);
        }
        let (mut buffered, mut frames) = (Vec::new(), Vec::new());
        for piece in stream.chunks(chunk) {
            buffered.extend_from_slice(piece);
            while let Some((frame, advance)) = relais::relay::framing::next_frame(&buffered).unwrap() {
                frames.push(buffered[..frame].to_vec());
                buffered.drain(..advance);
            }
        }
        let wanted: Vec<Vec<u8>> = payloads.iter().map(|(number, payload)| channel_data(*number, payload)).collect();
        prop_assert_eq!(frames, wanted);
        prop_assert!(buffered.is_empty());
    }
}
