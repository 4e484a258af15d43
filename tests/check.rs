//! `relais check` against staged faults: each run is real processes in two network namespaces, the server's and a
//! visitor's, and the check must name the cause that was staged, and no other.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{Output, Place, Server, finish};
use relais::credentials::turn;
use serde_json::Value;

/// The server's address and the visitor's: ordinary public ones, which no peer policy denies, and which lead nowhere
/// but between the two namespaces.
const SERVER: &str = "5.0.0.1";

/// Namespaces `near`, where the test and the server run, and `far`, one hop away.
const SETUP: &str = "set -e
mount -t tmpfs none /run && mkdir /run/netns
ip link set lo up
ip netns add far
ip link add eth0 type veth peer name eth0 netns far
ip address add 5.0.0.1/24 dev eth0
ip -6 address add 2a0f:1::1/64 dev eth0 nodad
ip link set eth0 up
ip route add default via 5.0.0.2
ip -n far address add 5.0.0.2/24 dev eth0
ip -n far -6 address add 2a0f:1::2/64 dev eth0 nodad
ip -n far link set eth0 up
ip -n far link set lo up
exec \"$0\" \"$@\"";

/// True within the namespaces.
fn is_inside(name: &str) -> bool {
    common::is_inside(name, &["--mount"], SETUP)
}

/// A server on its usual port, with `extra` arguments.
fn serve(extra: &[&str]) -> Server {
    let udp = format!("{SERVER}:3478");
    Server::start_in(Place::new(), &[&["--udp", &udp, "--tcp", &udp], extra].concat())
}

/// Drops what matches `rule` when it comes to the server.
fn firewall(rule: &str) {
    let table = format!("table inet t {{ chain in {{ type filter hook input priority 0; {rule}; }}; }}");
    let status = Command::new("nft").arg(&table).status().expect("nftables");
    assert!(status.success(), "{table}");
}

/// What the check says from `far`, with the secrets of `place`.
fn check(place: &Place, arguments: &[&str]) -> (i32, Value) {
    let all = [&["check", "--json", "--timeout", "2"], arguments].concat();
    let inner = place.command(&all);
    let mut command = Command::new("nsenter");
    command.arg("--net=/run/netns/far").arg(inner.get_program()).args(inner.get_args()).current_dir(place.path());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Output { code, stdout, stderr } = finish(&mut command, &all);
    let report = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}"));
    (code.expect("an exit code"), report)
}

/// The names of the causes, failures first.
fn causes(report: &Value) -> Vec<&str> {
    let causes = report["causes"].as_array().expect("a list");
    causes.iter().map(|cause| cause["cause"].as_str().expect("a name")).collect()
}

/// The finding of a test, the last if there are several.
fn finding<'r>(report: &'r Value, test: &str) -> &'r Value {
    let findings = report["findings"].as_array().expect("a list");
    findings.iter().rfind(|finding| finding["test"] == test).unwrap_or_else(|| panic!("no {test} in {report:#}"))
}

/// Runs the check with the server's own secrets; it must end with `code` and name `expected`.
#[track_caller]
fn named(server: &Server, arguments: &[&str], code: i32, expected: &[&str]) -> Value {
    let state = server.place.state_dir();
    let state = state.to_str().expect("UTF-8");
    let (ended, report) = check(&server.place, &[&[SERVER, "--state-dir", state], arguments].concat());
    assert_eq!((ended, causes(&report)), (code, expected.to_vec()), "{report:#}");
    report
}

#[test]
fn nothing_is_wrong_with_a_good_server() {
    if !is_inside("nothing_is_wrong_with_a_good_server") {
        return;
    }
    let server = serve(&["--tcp", &format!("{SERVER}:8443")]);
    let report = named(&server, &[], 0, &[]);
    assert_eq!(report["verdict"], "Good: everything that was tested works.");
    for (test, words) in [
        ("certificate", "5.0.0.1"),
        ("clock", "differs from ours by"),
        ("turn", "0 of 50 packets lost"),
        ("address", "packets from outside reach 5.0.0.1:"),
        ("peers", "no private"),
        ("nat", "no NAT"),
    ] {
        let finding = finding(&report, test);
        assert!(finding["text"].as_str().expect("text").contains(words), "{words:?} is missing in {finding}");
    }
    let transports = report["findings"].as_array().expect("a list").iter().filter(|finding| finding["test"] == "turn");
    assert_eq!(transports.count(), 3, "{report:#}");

    // The same from what the server offers, by its invite; a stranger has to name the authority.
    let stranger = Place::new();
    let link = format!("https://{SERVER}:3478/#t={}", server.invite);
    let authority = server.ca.clone().expect("a local CA");
    let authority = authority.to_str().expect("UTF-8");
    let (code, report) = check(&stranger, &[&link, "--ca-file", authority]);
    assert_eq!((code, causes(&report)), (0, Vec::new()), "{report:#}");
    assert!(finding(&report, "ice")["text"].as_str().expect("text").contains("transports offered"), "{report:#}");
    assert_eq!(finding(&report, "turn")["received"], 50, "{report:#}");
    let tls = report["findings"].as_array().expect("a list").iter();
    let tls = tls.filter(|finding| finding["test"] == "turn" && finding["transport"] == "tls");
    let tls: Vec<_> = tls.map(|finding| finding["server"].as_str().expect("an address")).collect();
    assert_eq!(tls, [format!("{SERVER}:3478"), format!("{SERVER}:8443")], "every port that is offered");
    let (code, report) = check(&stranger, &[&format!("https://{SERVER}:3478/#t=x.y.z"), "--ca", authority]);
    assert_eq!((code, causes(&report)), (2, vec!["token-refused"]), "{report:#}");
}

#[test]
fn ipv6_is_tested_in_the_same_way() {
    if !is_inside("ipv6_is_tested_in_the_same_way") {
        return;
    }
    let address = "[2a0f:1::1]:3478";
    let server = Server::start_in(Place::new(), &["--udp", address, "--tcp", address, "--allow-peer", "fd00::/8"]);
    let state = server.place.state_dir();
    let state = state.to_str().expect("UTF-8");
    let (code, report) = check(&server.place, &["2a0f:1::1", "--state-dir", state]);
    assert_eq!((code, causes(&report)), (1, vec!["private-peers"]), "{report:#}");
    let text = |test| finding(&report, test)["text"].as_str().expect("text");
    assert!(text("address").contains("packets from outside reach [2a0f:1::1]:"), "{report:#}");
    assert!(text("peers").contains("fd00::1") && !text("peers").contains("127.0.0.1"), "{report:#}");
    assert!(report["verdict"].as_str().expect("text").contains("TLS over IPv6"), "{report:#}");
}

#[test]
fn blocked_udp_is_told_from_a_dead_server() {
    if !is_inside("blocked_udp_is_told_from_a_dead_server") {
        return;
    }
    let server = serve(&[]);
    firewall("udp dport 3478 drop");
    let report = named(&server, &[], 1, &["udp-blocked"]);
    assert_eq!(finding(&report, "turn")["received"], 50, "TCP and TLS still relay: {report:#}");
    firewall("tcp dport 3478 drop");
    named(&server, &[], 2, &["no-answer"]);
}

#[test]
fn a_closed_port_is_told_from_a_silent_one() {
    if !is_inside("a_closed_port_is_told_from_a_silent_one") {
        return;
    }
    let udp = format!("{SERVER}:3478");
    let elsewhere = format!("{SERVER}:8443");
    let server = Server::start_in(Place::new(), &["--udp", &udp, "--tcp", &elsewhere]);
    let report = named(&server, &["--tls-port", "8443"], 1, &["port-closed"]);
    let closed =
        report["findings"].as_array().expect("a list").iter().find(|finding| finding["cause"] == "port-closed");
    assert_eq!(closed.expect("found")["transport"], "tcp", "{report:#}");
    server.stop();
    let (code, report) = check(&Place::new(), &[SERVER]);
    assert_eq!((code, causes(&report)), (2, vec!["port-closed"]), "{report:#}");
}

#[test]
fn a_wrong_public_address_is_found() {
    if !is_inside("a_wrong_public_address_is_found") {
        return;
    }
    let server = serve(&["--public-ip", "5.0.0.99/5.0.0.1"]);
    let report = named(&server, &["--transport", "udp"], 1, &["wrong-public-address"]);
    let text = finding(&report, "address")["text"].as_str().expect("text");
    assert!(text.contains("gives out 5.0.0.99") && text.contains("come from 5.0.0.1"), "{text}");
}

#[test]
fn an_expired_credential_is_told_from_a_wrong_one() {
    if !is_inside("an_expired_credential_is_told_from_a_wrong_one") {
        return;
    }
    let server = serve(&[]);
    let secret = server.place.state_file("turn-secret");
    let now = relais::clock::now().unix;
    for (secret, expiry, cause) in [
        (secret.as_str(), now - 60, "credential-expired"),
        ("another secret, of good length", now + 600, "credential-wrong"),
    ] {
        let credential = turn::mint(secret.as_bytes(), "c.check", expiry);
        let login = ["--user", &credential.username, "--password", &credential.password];
        named(&server, &login, 2, &[cause]);
    }
}

#[test]
fn an_untrusted_certificate_fails_tls_alone() {
    if !is_inside("an_untrusted_certificate_fails_tls_alone") {
        return;
    }
    let server = serve(&[]);
    let stranger = Place::new();
    let file = stranger.write("secret", &server.place.state_file("turn-secret"));
    let login = ["--secret-file", file.to_str().expect("UTF-8")];
    let (code, report) = check(&stranger, &[&[SERVER], &login[..]].concat());
    assert_eq!((code, causes(&report)), (1, vec!["certificate-untrusted"]), "{report:#}");
    assert!(report["verdict"].as_str().expect("text").contains("relaying works with UDP, TCP"), "{report:#}");
    let (code, report) = check(&stranger, &[&[SERVER, "--insecure"], &login[..]].concat());
    assert_eq!((code, causes(&report)), (0, Vec::new()), "{report:#}");
}

#[test]
fn a_firewalled_relay_range_is_found_though_calls_within_work() {
    if !is_inside("a_firewalled_relay_range_is_found_though_calls_within_work") {
        return;
    }
    let server = serve(&[]);
    firewall("udp dport 49152-65535 drop");
    let report = named(&server, &["--transport", "udp"], 1, &["relay-range-firewalled"]);
    assert_eq!(finding(&report, "turn")["received"], 50, "handed over inside the server: {report:#}");
}

#[test]
fn private_peers_of_our_own_server_are_found_where_they_were_opened() {
    if !is_inside("private_peers_of_our_own_server_are_found_where_they_were_opened") {
        return;
    }
    let server = serve(&["--allow-peer", "10.0.0.0/8"]);
    let report = named(&server, &["--transport", "udp"], 1, &["private-peers"]);
    let findings = report["findings"].as_array().expect("a list");
    let peers = findings.iter().find(|finding| finding["test"] == "peers" && finding["level"] == "warning");
    let text = peers.expect("a warning")["text"].as_str().expect("text");
    assert!(text.contains("10.0.0.1") && !text.contains("192.168"), "{text}");
}

/// coturn with nothing but an address and a user; it ends with the value.
struct Coturn(Child);

impl Drop for Coturn {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn coturn_with_its_defaults_exposes_private_networks() {
    if !is_inside("coturn_with_its_defaults_exposes_private_networks") {
        return;
    }
    let place = Place::new();
    let child = Command::new(coturn())
        .args(["-n", "--listening-ip", SERVER, "--lt-cred-mech", "--user", "ada:analytical", "--realm", "example.org"])
        .arg("--pidfile")
        .arg(place.path().join("pid"))
        .args(["--log-file", "stdout", "--simple-log"])
        .current_dir(place.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("coturn");
    let _coturn = Coturn(child);
    let login = [SERVER, "--transport", "udp", "--user", "ada", "--password", "analytical"];
    let deadline = common::deadline();
    let (code, report) = loop {
        let (code, report) = check(&place, &login);
        if finding(&report, "stun")["ok"] == true {
            break (code, report);
        }
        assert!(common::now() < deadline, "coturn does not answer: {report:#}");
        std::thread::park_timeout(Duration::from_millis(100));
    };
    assert_eq!(code, 1, "{report:#}");
    assert_eq!(causes(&report), ["private-peers"], "{report:#}");
    let text = finding(&report, "peers")["text"].as_str().expect("text");
    for network in ["10.0.0.1", "192.168.0.1", "169.254.169.254"] {
        assert!(text.contains(network), "{network} is missing in {text}");
    }
}

/// coturn's server, as `tests/tools/coturn` unpacks it.
fn coturn() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let named = std::env::var_os("RELAIS_COTURN_BIN").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = named.into_iter().chain([target.join("tools/coturn/bin")]).chain(std::env::split_paths(&path));
    let mut programs = places.map(|place| place.join("turnserver"));
    programs.find(|program| program.is_file()).expect("tests/tools/coturn unpacks coturn, tests/run does so first")
}
