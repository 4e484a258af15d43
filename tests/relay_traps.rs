//! `tests/TRAPS.md` names tests that are there, and the traps that had no test elsewhere.

mod relay_common;

use std::path::Path;

use relais::relay::Transport;
use relay_common::*;

#[test]
fn every_trap_is_listed_and_every_test_named_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let traps = std::fs::read_to_string(root.join("tests/TRAPS.md")).unwrap();
    let rows: Vec<&str> = traps.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert_eq!(rows.len(), 44);
    let mut missing = Vec::new();
    let mut named = 0;
    for (number, row) in rows.iter().enumerate() {
        assert!(row.starts_with(&format!("| {}. ", number + 1)), "{row}");
        for quoted in row.split('`').skip(1).step_by(2).filter(|quoted| quoted.contains('/')) {
            let (file, name) = quoted.split_once(": ").unwrap_or((quoted, ""));
            let text = std::fs::read_to_string(root.join(file)).unwrap_or_default();
            let is_there = text.contains(&format!("fn {name}(")) || text.contains(&format!("\"{name}\""));
            if text.is_empty() || !name.is_empty() && !is_there {
                missing.push(quoted);
            }
            named += usize::from(!name.is_empty());
        }
    }
    assert!(missing.is_empty(), "not there: {missing:#?}");
    assert!(named >= 60, "{named} tests");
}

#[test]
fn another_server_address_or_transport_is_another_client() {
    let mut world = World::new(settings());
    let (client, _) = world.allocated("198.51.100.7:4000", "p.1");
    let mut others = [client.clone(), client.clone(), client.clone()];
    others[0].tuple.server = addr("192.0.2.1:443");
    others[1].tuple.server = addr("192.0.2.2:3478");
    others[2].tuple.transport = Transport::Tcp;
    for (number, other) in others.iter().enumerate() {
        let refresh = Ask::request(REFRESH, 5).signed(other);
        assert_eq!(world.ask(other, refresh).code(), Some(437), "other {number}");
        let allocate = Ask::request(ALLOCATE, 6).transport(17).signed(other);
        assert_eq!(world.ask(other, allocate).code(), None, "other {number}");
        assert_eq!(world.relay.allocations(), number + 2);
    }
    world.permit(&client, PEER);
    assert!(world.send_to(&client, PEER, b"x").is_some());
    assert!(world.send_to(&others[0], PEER, b"x").is_none(), "its permissions are its own");
}
