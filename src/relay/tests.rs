//! Random lifecycles: after each input every index agrees with every other.

use std::net::SocketAddr;

use super::stun::{Builder, Integrity, attr};
use super::*;
use crate::config::StaticUser;
use crate::credentials::turn::long_term_key;

const USERS: [&str; 3] = ["ann", "ben", "cleo"];

pub(super) fn settings() -> Settings {
    let users = USERS.iter().map(|name| StaticUser { name: (*name).into(), password: "password".into() });
    Settings {
        realm: "realm".into(),
        software: String::new(),
        turn_secrets: Vec::new(),
        users: users.collect(),
        nonce_secrets: vec![b"key".to_vec()],
        own_ips: Vec::new(),
        service_ports: Vec::new(),
        public_ips: Vec::new(),
        alternate: None,
        allow_peers: Vec::new(),
        deny_peers: Vec::new(),
        permissions: 3,
        channels: 2,
        tcp_connections: 4,
        legacy_channels: false,
        strict_family: false,
        strict_expiry: false,
        password_algorithms: true,
        limits: Limits::default(),
    }
}

fn relay() -> Relay {
    Relay::new(Arc::new(Shared::new(settings())), 1)
}

struct Dice(Rng);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0.next() % sides
    }
}

/// A signed request of a random kind from a random client.
fn request(relay: &Relay, now: Now, dice: &mut Dice) -> (FiveTuple, ReplyBytes) {
    let who = dice.roll(6);
    let client: SocketAddr = format!("198.51.100.{who}:4000").parse().unwrap();
    let server = "192.0.2.1:3478".parse().unwrap();
    let tuple = FiveTuple { client, server, transport: Transport::Udp };
    let method = [method::ALLOCATE, method::REFRESH, method::CREATE_PERMISSION, method::CHANNEL_BIND];
    let method = method[dice.roll(4) as usize];
    let mut transaction = [0; 12];
    transaction[0] = dice.roll(2) as u8;
    let mut builder = Builder::new(Class::Request, method, transaction);
    let peer = SocketAddr::new([8, 8, 8, dice.roll(5) as u8].into(), 1000 + dice.roll(2) as u16);
    builder
        .attribute(attr::REQUESTED_TRANSPORT, &[17, 0, 0, 0])
        .attribute(attr::CHANNEL_NUMBER, &[0x40, dice.roll(3) as u8, 0, 0])
        .xor_address(attr::XOR_PEER_ADDRESS, peer);
    if method == method::REFRESH {
        builder.attribute(attr::LIFETIME, &(dice.roll(3) as u32 * 700).to_be_bytes());
    }
    if dice.roll(4) == 0 {
        builder.attribute(attr::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0]);
    }
    let user = USERS[dice.roll(20) as usize / 8];
    builder
        .attribute(attr::USERNAME, user.as_bytes())
        .attribute(attr::REALM, b"realm")
        .attribute(attr::NONCE, &relay.shared.keychain.nonces.mint(now.unix, client, Default::default()))
        .integrity(Integrity::Sha256, &long_term_key(user, "realm", "password"));
    (tuple, builder.finish().unwrap())
}

#[test]
fn indexes_agree_after_every_input() {
    let mut relay = relay();
    let mut dice = Dice(Rng { state: 42 });
    let mut now = Now { mono: Mono(0), unix: 1_800_000_000 };
    let mut waiting: Vec<OpenRelay> = Vec::new();
    let mut most = 0;
    for _ in 0..20_000 {
        match dice.roll(12) {
            0 => {
                now = now + std::time::Duration::from_secs(dice.roll(200));
                relay.handle_timeout(now);
            }
            1 if dice.roll(20) == 0 => relay.revoke(now, &format!("u.{}", USERS[dice.roll(3) as usize])),
            2 if dice.roll(100) == 0 => relay.close(now),
            3..6 if !waiting.is_empty() => {
                let open = waiting.swap_remove(dice.roll(waiting.len() as u64) as usize);
                let bound = if open.family == Family::V4 { "192.0.2.1:50000" } else { "[2001:db8::1]:50000" };
                let outcome = if dice.roll(4) == 0 { Err(OpenError::Quota) } else { Ok(bound.parse().unwrap()) };
                relay.relay_opened(now, open.relay, outcome);
            }
            _ => {
                let (tuple, bytes) = request(&relay, now, &mut dice);
                assert_eq!(relay.handle_client(now, &tuple, &bytes), None);
            }
        }
        while let Some(output) = relay.poll_output() {
            if let Output::OpenRelay(open) = output {
                waiting.push(open);
            }
        }
        relay.table.check();
        relay.table.each_live().for_each(|allocation| allocation.check(3));
        most = most.max(relay.allocations());
    }
    assert!(most >= 4, "the dice made at most {most} allocations");
}

#[test]
fn ids_of_one_seed_do_not_repeat() {
    let mut rng = Rng { state: 3 };
    let ids: std::collections::HashSet<TransactionId> = (0..10_000).map(|_| rng.transaction()).collect();
    assert_eq!(ids.len(), 10_000);
}

/// Vigna's reference implementation gives these for seed 0.
#[test]
fn random_numbers_are_split_mix_64() {
    let mut rng = Rng { state: 0 };
    assert_eq!(
        [rng.next(), rng.next(), rng.next()],
        [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]
    );
}
