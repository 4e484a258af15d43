#![allow(clippy::unwrap_used)]

mod races;

use super::*;
use crate::clock;
use crate::config::Limits;
use crate::relay::{self, RelayId, Settings, Transport};

/// Secret of the time-limited credentials.
const SECRET: &[u8] = b"north";

fn grants(per_subject: usize) -> Arc<Grants> {
    parts(&Limits { allocations_per_subject: per_subject, ..Limits::default() }, Arc::default()).0
}

/// Grants, and what the cores share, that ask the same `revoked`.
fn parts(limits: &Limits, revoked: Arc<Revocations>) -> (Arc<Grants>, Arc<relay::Shared>) {
    let relay_ips = vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
    let config = Config { relay_ips, limits: limits.clone(), ..Config::default() };
    let settings = Settings {
        realm: "relais".into(),
        software: String::new(),
        turn_secrets: vec![SECRET.to_vec()],
        users: Vec::new(),
        nonce_secrets: vec![b"nonce".to_vec()],
        own_ips: Vec::new(),
        service_ports: Vec::new(),
        public_ips: Vec::new(),
        alternate: None,
        allow_peers: Vec::new(),
        deny_peers: Vec::new(),
        permissions: 1,
        channels: 1,
        tcp_connections: 4,
        legacy_channels: false,
        strict_family: false,
        strict_expiry: false,
        password_algorithms: true,
        limits: crate::relay::settings::Limits::default(),
    };
    let current = Arc::new(Current::of(settings, Vec::new(), Arc::clone(&revoked) as _).unwrap());
    let shared = current.get();
    (Arc::new(Grants::new(&config, current, revoked)), shared)
}

fn asked(subject: &str, family: Family) -> OpenRelay {
    let address: SocketAddr = "127.0.0.1:3478".parse().unwrap();
    OpenRelay {
        tcp: false,
        relay: RelayId { slot: 0, generation: 0, family },
        tuple: FiveTuple { client: address, server: address, transport: Transport::Udp },
        family,
        even_port: false,
        reserve: None,
        reservation: None,
        subject: subject.into(),
    }
}

fn open(grants: &Arc<Grants>, subject: &str) -> Result<Granted, OpenError> {
    grants.open(clock::now(), &asked(subject, Family::V4), None)
}

#[test]
fn the_random_part_of_a_fetched_credential_is_no_account() {
    assert_eq!(account("t.Ab-_9.0011aabb"), "t.Ab-_9");
    assert_eq!(account("t.open-4-c00002.0011aabb"), "t.open-4-c00002");
    for whole in ["p.x7Hq", "a.key.ada", "a.key.ada.b", "c.ada", "u.ada", "t.ada", "t.", "t", "", "tt.a.b", "ada.t.x"] {
        assert_eq!(account(whole), whole);
    }
    assert_eq!(account("t..x"), "t.");
}

#[test]
fn fetching_credentials_again_yields_no_new_quota() {
    let grants = grants(2);
    let first = open(&grants, "t.token.1").unwrap();
    let _second = open(&grants, "t.token.2").unwrap();
    assert_eq!(open(&grants, "t.token.3").err(), Some(OpenError::Quota));
    assert!(open(&grants, "t.token2.3").is_ok(), "another token");
    assert!(open(&grants, "p.token.3").is_ok(), "a peer");
    drop(first);
    assert!(open(&grants, "t.token.4").is_ok());
}

#[test]
fn one_of_two_families_released_does_not_give_the_quota_back() {
    let grants = grants(1);
    let v4 = open(&grants, "p.a").unwrap();
    let charge = Arc::clone(v4.lease.charge());
    let v6 = grants.open(clock::now(), &asked("p.a", Family::V6), Some(charge)).unwrap();
    assert_eq!(grants.allocations(), 1);
    drop(v4);
    assert_eq!(open(&grants, "p.a").err(), Some(OpenError::Quota), "the other family still lives");
    drop(v6);
    assert_eq!(grants.allocations(), 0);
    assert!(open(&grants, "p.a").is_ok());
}

#[test]
fn a_reserved_port_counts_for_its_account_and_for_no_other() {
    let grants = grants(2);
    let pair = OpenRelay { even_port: true, reserve: Some([7; 8]), ..asked("t.a.1", Family::V4) };
    let first = grants.open(clock::now(), &pair, None).unwrap();
    assert_eq!(open(&grants, "t.a.2").err(), Some(OpenError::Quota));
    let take = |subject| OpenRelay { reservation: Some([7; 8]), ..asked(subject, Family::V4) };
    assert_eq!(grants.open(clock::now(), &take("t.b.1"), None).err(), Some(OpenError::Capacity));
    let second = grants.open(clock::now(), &take("t.a.2"), None).unwrap();
    assert_eq!(second.bound.port(), first.bound.port() + 1);
    drop((first, second));
    let refused = grants.open(clock::now(), &OpenRelay { subject: "p.x".into(), ..pair.clone() }, None);
    assert!(refused.is_ok(), "two of two");
    let one = self::grants(1);
    assert_eq!(one.open(clock::now(), &pair, None).err(), Some(OpenError::Quota));
    let books = one.lock();
    assert!(books.accounts.is_empty() && books.total == 0, "a refused pair leaves nothing charged");
}
