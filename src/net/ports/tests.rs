use std::cell::Cell;
use std::collections::BTreeSet;

use super::*;

const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// Numbers that visit everything, the same in every run.
fn numbers() -> impl Fn() -> u32 {
    let state = Cell::new(1u32);
    move || {
        state.set(state.get().wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
        state.get() >> 8
    }
}

#[test]
fn every_port_of_the_range_is_given_once_and_again_after_it_came_back() {
    let mut ports = Ports::new((49_152, 49_161));
    let random = numbers();
    let taken: BTreeSet<u16> = (0..10).map(|_| ports.pick(Mono(0), IP, Wish::Any, &random).unwrap().port()).collect();
    assert_eq!(taken, (49_152..=49_161).collect());
    assert_eq!(ports.pick(Mono(0), IP, Wish::Any, &random), None);
    ports.give_back(SocketAddr::new(IP, 49_155));
    assert_eq!(ports.pick(Mono(0), IP, Wish::Any, &random).unwrap().port(), 49_155);
}

#[test]
fn addresses_have_ports_of_their_own() {
    let mut ports = Ports::new((50_000, 50_000));
    let other = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);
    assert!(ports.pick(Mono(0), IP, Wish::Any, numbers()).is_some());
    assert!(ports.pick(Mono(0), other, Wish::Any, numbers()).is_some());
    assert!(ports.pick(Mono(0), IP, Wish::Any, numbers()).is_none());
    ports.give_back(SocketAddr::new(IP, 50_000));
    ports.give_back(SocketAddr::new(other, 50_000));
    assert!(ports.pools.is_empty(), "an address without ports in use costs nothing");
}

#[test]
fn even_ports_and_pairs() {
    let mut ports = Ports::new((50_001, 50_006));
    let random = numbers();
    let pair = ports.pick(Mono(0), IP, Wish::Pair, &random).unwrap().port();
    assert!([50_002, 50_004].contains(&pair), "the range ends behind 50006: {pair}");
    let evens = [(); 2].map(|()| ports.pick(Mono(0), IP, Wish::Even, &random).unwrap().port());
    assert!(evens.iter().all(|port| port.is_multiple_of(2) && *port != pair), "{evens:?}");
    assert_eq!(ports.pick(Mono(0), IP, Wish::Pair, &random), None);
    assert_eq!(ports.pick(Mono(0), IP, Wish::Even, &random), None);
    let odd = ports.pick(Mono(0), IP, Wish::Any, &random).unwrap().port();
    assert!(!odd.is_multiple_of(2) && odd != pair + 1);
}

#[test]
fn a_foreign_port_is_tried_again_later() {
    let mut ports = Ports::new((50_000, 50_000));
    let address = ports.pick(Mono(0), IP, Wish::Any, numbers()).unwrap();
    ports.set_foreign(Mono(0), address);
    assert_eq!(ports.pick(Mono(9_999), IP, Wish::Any, numbers()), None);
    assert_eq!(ports.pick(Mono(10_000), IP, Wish::Any, numbers()), Some(address));
}

#[test]
fn the_last_free_port_of_a_full_range_is_found() {
    let mut ports = Ports::new((49_152, 65_535));
    let random = numbers();
    let count = usize::from(65_535u16 - 49_152) + 1;
    let all: BTreeSet<u16> = (0..count).map(|_| ports.pick(Mono(0), IP, Wish::Any, &random).unwrap().port()).collect();
    assert_eq!(all.len(), count);
    assert_eq!(ports.pick(Mono(0), IP, Wish::Any, &random), None);
}
