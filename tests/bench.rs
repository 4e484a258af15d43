//! `relais bench` against our own server: plausible figures of every kind of load, refused targets, bounds.

mod common;

use common::{Output, Server};
use serde_json::Value;

/// A server that relays to sockets of this machine.
fn serve() -> Server {
    Server::start(&["--allow-peer", "127.0.0.0/8"])
}

/// Runs `relais bench` against `server` for half a second.
fn bench(server: &Server, port: u16, extra: &[&str]) -> Value {
    let target = format!("localhost:{port}");
    let pid = server.pid().to_string();
    let mut arguments = vec!["bench", &target, "--json", "--pid", &pid, "--allocations", "4"];
    if !extra.contains(&"--seconds") {
        arguments.extend(["--seconds", "0.5"]);
    }
    arguments.extend(extra);
    let output = server.place.run(&arguments);
    serde_json::from_str(output.success()).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn number(object: &Value, path: &str) -> f64 {
    object.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {path} in {object:#}"))
}

/// What holds of every run at a rate that any machine carries.
fn assert_plausible(object: &Value, ways: &[&str], offered: f64) {
    for way in ways {
        let offered_here = number(object, &format!("/run/{way}/offered"));
        let share = offered / ways.len() as f64;
        assert!((offered_here - share).abs() <= share * 0.2 + 24.0, "{way}: {offered_here} of {share}");
        assert!(number(object, &format!("/run/{way}/loss")) < 0.5, "{object:#}");
        assert!(number(object, &format!("/run/{way}/delivered")) > 0.0, "{object:#}");
        let [p50, p99, most] =
            ["p50", "p99", "max"].map(|name| number(object, &format!("/run/{way}/latency_us/{name}")));
        assert!(0.0 < p50 && p50 <= p99 && p99 <= most, "{object:#}");
    }
    assert!(number(object, "/run/server_cpu_ns_per_packet") > 0.0, "{object:#}");
    assert!(number(object, "/run/server_memory_bytes") > 1e6, "{object:#}");
}

const BOTH: &[&str] = &["to_peer", "to_client"];

#[test]
fn every_kind_of_load_arrives() {
    let server = serve();
    let port = server.udp[0].port();
    let runs: &[(&[&str], &[&str])] = &[
        (&["--rate", "2400"], BOTH),
        (&["--rate", "2400", "--no-gso", "--no-gro", "--indications"], BOTH),
        (&["--profile", "audio", "--rate", "1000", "--indications"], BOTH),
        (&["--profile", "audio", "--rate", "1000", "--peer", "allocation"], BOTH),
        (&["--rate", "1200", "--ways", "to-client", "--size", "333", "--burst", "5"], &["to_client"]),
        (&["--rate", "1200", "--ways", "to-peer", "--size", "16"], &["to_peer"]),
    ];
    for (arguments, ways) in runs {
        let object = bench(&server, port, arguments);
        let rate: f64 = arguments[arguments.iter().position(|word| *word == "--rate").expect("given") + 1]
            .parse()
            .expect("a number");
        assert_plausible(&object, ways, rate / 2.0);
        assert_eq!(object["allocations"], 4);
    }
}

#[test]
fn streams_carry_the_load() {
    let server = serve();
    let port = server.tcp[0].port();
    for transport in ["tcp", "tls"] {
        for extra in [&[][..], &["--indications", "--size", "501"]] {
            let object = bench(&server, port, &[&["--transport", transport, "--rate", "2400"], extra].concat());
            assert_plausible(&object, BOTH, 1200.0);
            assert_eq!(object["transport"], transport);
        }
    }
}

#[test]
fn a_search_finds_a_rate_and_hot_allocations_count_apart() {
    let server = serve();
    let port = server.udp[0].port();
    // The loss allowed is what any machine keeps, so that the bound is what ends the search.
    let arguments = ["--search", "--rate", "1500000", "--seconds", "0.1", "--loss", "50", "--burst", "512"];
    let object = bench(&server, port, &arguments);
    assert!(object.get("highest").is_some() && object["is_lower_bound"].is_boolean(), "{object:#}");
    let object = bench(&server, port, &["--rate", "1200", "--hot", "2400"]);
    assert_plausible(&object, BOTH, 600.0);
    assert!(number(&object, "/run/hot/delivered") > 0.0, "{object:#}");
}

#[test]
fn the_control_plane_is_measured_and_leaves_nothing() {
    let server = serve();
    let object = bench(&server, server.udp[0].port(), &["--control", "--parallel", "8"]);
    assert!(number(&object, "/control/operations") > 0.0, "{object:#}");
    assert_eq!(number(&object, "/control/failed"), 0.0, "{object:#}");
    assert!(number(&object, "/control/server_cpu_ns_per_operation") > 1000.0, "{object:#}");
    assert!(number(&object, "/control/latency_us/p50") > 0.0, "{object:#}");
    let start = relais::clock::stopwatch();
    loop {
        let status = server.place.run(&["status", "--json"]);
        let status: Value = serde_json::from_str(status.success()).expect("JSON");
        if number(&status, "/allocations") == 0.0 {
            return;
        }
        assert!(start.elapsed() < common::PATIENCE, "allocations stay behind: {status:#}");
    }
}

#[test]
fn a_table_is_printed_for_people() {
    let server = serve();
    let target = format!("localhost:{}", server.udp[0].port());
    let pid = server.pid().to_string();
    let output = server.place.run(&["bench", &target, "--seconds", "0.3", "--allocations", "2", "--pid", &pid]);
    for word in ["offered", "p99.9", "CPU/packet", "to peers", "to clients", "Mbit/s", "MiB resident"] {
        assert!(output.success().contains(word), "{word} is missing: {output:?}");
    }
    let output = server.place.run(&["bench", &target, "--control", "--seconds", "0.2", "--pid", &pid]);
    assert!(output.success().contains("operations/s"), "{output:?}");
}

#[test]
fn strangers_are_no_targets() {
    let place = common::Place::new();
    let run = |arguments: &[&str]| -> Output { place.run(&[&["bench"], arguments].concat()) };
    run(&["203.0.113.5"]).failure(2, &["203.0.113.5", "--secret-file"]);
    run(&["turn:[2001:db8::1]:3478"]).failure(2, &["2001:db8::1", "credentials"]);
    // With credentials the rate is bounded.
    let given = ["203.0.113.5", "--user", "a", "--password", "b"];
    run(&[&given[..], &["--rate", "60000"]].concat()).failure(2, &["--rate", "50000"]);
}

#[test]
fn bounds_are_kept() {
    let place = common::Place::new();
    for (name, value) in [
        ("--rate", "9000000"),
        ("--rate", "0"),
        ("--seconds", "901"),
        ("--allocations", "20001"),
        ("--allocations", "0"),
        ("--size", "15"),
        ("--size", "65500"),
        ("--burst", "513"),
        ("--parallel", "5000"),
        ("--rate", "NaN"),
    ] {
        place.run(&["bench", "localhost:1", "--user", "a", "--password", "b", name, value]).failure(2, &[name]);
    }
    let one = ["bench", "localhost:1", "--user", "a", "--password", "b"];
    place.run(&[&one[..], &["--peer", "allocation", "--allocations", "1"]].concat()).failure(2, &["two allocations"]);
    place.run(&[&one[..], &["--control"]].concat()).failure(2, &["quota"]);
    place.run(&[&one[..], &["--pid", "4294967295"]].concat()).failure(2, &["--pid"]);
}
